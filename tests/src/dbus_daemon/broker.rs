//! A dbus-broker without its launcher, which needs systemd's journal: the broker takes a listening socket and a policy from
//! whoever holds its controller socket, and ends with that. Its protocol is D-Bus without a bus in between.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dbus::Message;
use dbus::arg::Variant;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Starts a dbus-broker that listens on `socket`; it ends with the stream at the latest.
pub(super) fn start(socket: &Path, log: Stdio) -> io::Result<(Child, UnixStream)> {
    // What a broker that was killed has left; there may be none.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    let (ours, its) = UnixStream::pair()?;
    let mut command = Command::new("dbus-broker");
    command.args(["--controller", "0", "--machine-id", "0123456789abcdef0123456789abcdef"]);
    command.args([
        "--max-bytes",
        "536870912",
        "--max-fds",
        "4096",
        "--max-matches",
        "100000",
        "--max-objects",
        "100000",
    ]);
    let child = command.stdin(OwnedFd::from(its)).stdout(Stdio::null()).stderr(log).spawn()?;
    Ok((child, introduce(ours, listener.into())?))
}

/// Whether there is one.
pub(super) fn is_installed() -> bool {
    let mut command = Command::new("dbus-broker");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Hands the broker the socket to listen on, and waits until it has taken it.
fn introduce(mut controller: UnixStream, listener: OwnedFd) -> io::Result<UnixStream> {
    controller.set_read_timeout(Some(PATIENCE))?;
    // D-Bus specification, "Authentication Protocol"; the broker answers each line with one.
    controller.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")?;
    let mut answers = Vec::new();
    while !answers.ends_with(b"AGREE_UNIX_FD\r\n") {
        let mut byte = [0];
        controller.read_exact(&mut byte)?;
        answers.push(byte[0]);
    }
    let call = add_listener(listener.try_clone()?.into())?;
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(&controller, &[IoSlice::new(&call)], &mut ancillary, SendFlags::empty())?;
    controller.write_all(&call[sent..])?;
    // D-Bus specification, "Message Format": the second byte says what kind of message it is.
    let mut head = [0; 2];
    controller.read_exact(&mut head)?;
    match head {
        [_, METHOD_RETURN] => Ok(controller),
        _ => Err(io::Error::other(
            "dbus-broker has refused its listener: is its protocol another than that of version 33?",
        )),
    }
}

/// The call that gives a listener to the broker, with the policy that everybody may do everything.
fn add_listener(listener: File) -> io::Result<Vec<u8>> {
    let any: Vec<Transfer> = vec![(true, 1, "", "", "", "", 0, 0, 0, u64::MAX)];
    let everybody: Batch = (true, 1, vec![(true, 1, true, "")], any.clone(), any);
    let groups: Vec<(bool, u32, u32, Batch)> = Vec::new();
    let labels: Vec<(&str, &str)> = Vec::new();
    let policy = (vec![(u32::MAX, everybody)], groups, labels, false, "session");

    let broker = "org.bus1.DBus.Broker";
    let call = Message::new_method_call("org.bus1.DBus", "/org/bus1/DBus/Broker", broker, "AddListener");
    let call = call.map_err(io::Error::other)?;
    let path = dbus::Path::from("/org/bus1/DBus/Listener/0");
    let mut call = call.append3(path, listener, Variant(policy));
    call.set_serial(1);
    let mut bytes = Vec::new();
    call.marshal(|all| bytes.write_all(all))?;
    Ok(bytes)
}

/// Whether a user may connect, own names, send and receive: verdicts, each with its priority.
type Batch = (bool, u64, Vec<Own>, Vec<Transfer>, Vec<Transfer>);
/// Verdict, priority, whether it is a prefix, name.
type Own = (bool, u64, bool, &'static str);
/// Verdict, priority, name, path, interface, member, type, broadcast, and how many descriptors.
type Transfer = (bool, u64, &'static str, &'static str, &'static str, &'static str, u32, u32, u64, u64);

const METHOD_RETURN: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
