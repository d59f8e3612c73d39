//! Paths of Unix sockets, and connecting to one. Knows nothing of what is said there.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};

use visorbus_hub::{Error, Result};

use crate::place;

/// The address of the socket at `path`.
///
/// # Errors
/// `Message`: the path is empty, abstract, or longer than the kernel's 107 bytes.
pub(crate) fn address(path: &Path) -> Result<UnixAddr> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Error::Message("the path of the socket is empty: give it one".to_owned()));
    }
    if bytes.contains(&0) {
        return Err(Error::Message(
            "the path of the socket has a NUL byte: abstract sockets have no permissions, give it a file"
                .to_owned(),
        ));
    }
    UnixAddr::new(path).map_err(|_| {
        Error::Message(format!(
            "the socket path '{}' has {} bytes, the kernel takes {MAX_PATH}: choose a shorter one",
            path.display(),
            bytes.len()
        ))
    })
}

/// Connects to the socket at `path`, waiting at most `timeout` for room among those that wait to be accepted.
///
/// # Errors
/// `Connection` says why nobody answers there, `Authorization` that it is not the hub that belongs there.
pub(crate) fn dial(path: &Path, timeout: Duration) -> Result<UnixStream> {
    let address = address(path)?;
    let failed = |error: io::Error| {
        let hint = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ECONNREFUSED) => "start the hub, or correct the path",
            Some(Errno::EACCES) => {
                "run as the user that the hub runs as, or as one of the group that it serves"
            }
            Some(Errno::EAGAIN) => "the hub accepts nobody right now; try again",
            _ => "see that the path leads to the hub's socket",
        };
        Error::Connection(format!("cannot connect to '{}': {error}; {hint}", path.display()))
    };
    let stream = new_socket().map_err(failed)?;
    stream.set_write_timeout(Some(timeout.max(Duration::from_millis(1)))).map_err(failed)?;
    loop {
        match connect(stream.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    place::check(path, &stream)?;
    Ok(stream)
}

/// The process that listens at `path` (SO_PEERCRED of unix(7)): the hub's, or of who has opened the socket for it; `None`
/// where nobody listens, or the kernel does not say. It waits for room among those that wait to be accepted, at most a second.
pub fn listening_process(path: &Path) -> Option<u32> {
    let stream = dial(path, Duration::from_secs(1)).ok()?;
    let pid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.pid();
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// A stream socket that is neither bound nor connected.
pub(crate) fn new_socket() -> io::Result<UnixStream> {
    Ok(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?.into())
}

/// Longest path of a socket, in bytes.
const MAX_PATH: usize = 107;
