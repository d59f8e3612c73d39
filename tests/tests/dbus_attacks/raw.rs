//! A connection to a bus of which every byte is a test's own, and messages that no library would make.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use visorbus_tests::patience::PATIENCE;

use dbus::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::world::{ROOT, SERVICE};

/// A connection that has said hello to the bus.
pub(crate) struct RawBus {
    stream: UnixStream,
    bytes: Vec<u8>,
    serial: u32,
}

impl RawBus {
    /// Somebody on the bus at this socket.
    pub(crate) fn connect(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // D-Bus specification, "Authentication Protocol": the user's number in decimal digits, and these in hexadecimal ones.
        let uid = rustix::process::getuid().as_raw().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        for (said, answer) in
            [(format!("\0AUTH EXTERNAL {uid}\r\n"), "OK "), ("NEGOTIATE_UNIX_FD\r\n".into(), "AGREE")]
        {
            stream.write_all(said.as_bytes()).unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                line.push(byte[0]);
            }
            assert!(line.starts_with(answer.as_bytes()), "{}", String::from_utf8_lossy(&line));
        }
        stream.write_all(b"BEGIN\r\n").unwrap();
        let mut bus = Self { stream, bytes: Vec::new(), serial: 0 };
        let bus_name = "org.freedesktop.DBus";
        let hello = bus.send(&Raw::call("/org/freedesktop/DBus", bus_name, "Hello").to(bus_name));
        bus.answer(hello).expect("the bus stays").expect("a name");
        bus
    }

    /// Sends a message; the number that it got.
    pub(crate) fn send(&mut self, message: &Raw) -> u32 {
        self.serial += 1;
        self.stream.write_all(&message.bytes(self.serial)).unwrap();
        self.serial
    }

    /// As [`RawBus::send`], with a file descriptor beside it.
    pub(crate) fn send_with(&mut self, message: &Raw, descriptor: BorrowedFd<'_>) -> u32 {
        self.serial += 1;
        let bytes = message.bytes(self.serial);
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent =
            sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty()).unwrap();
        self.stream.write_all(&bytes[sent..]).unwrap();
        self.serial
    }

    /// As [`RawBus::send`], in a second at most; `false` when it was not taken, and then nothing more can be said.
    pub(crate) fn try_send(&mut self, message: &Raw) -> bool {
        self.serial += 1;
        self.stream.write_all(&message.bytes(self.serial)).is_ok()
    }

    /// Waits a second at most for the bus to take what is sent from now on.
    pub(crate) fn stop_waiting(&mut self) {
        self.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The answer to a message: its error's name and text, if it is one; `None` when the bus has hung up.
    pub(crate) fn answer(&mut self, serial: u32) -> Option<Result<Message, (String, String)>> {
        loop {
            let mut message = self.next()?;
            if message.get_reply_serial() == Some(serial) {
                return Some(match message.as_result() {
                    Ok(_) => Ok(message),
                    Err(e) => Err((
                        e.name().unwrap_or_default().to_owned(),
                        e.message().unwrap_or_default().to_owned(),
                    )),
                });
            }
        }
    }

    /// The next message; `None` when the bus has hung up.
    pub(crate) fn next(&mut self) -> Option<Message> {
        loop {
            if self.bytes.len() >= 16 {
                let needed = Message::demarshal_bytes_needed(&self.bytes).expect("the bus sends messages");
                if self.bytes.len() >= needed {
                    let message = Message::demarshal(&self.bytes[..needed]).expect("the bus sends messages");
                    self.bytes.drain(..needed);
                    return Some(message);
                }
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("nothing came within {PATIENCE:?}: {e}"),
            }
        }
    }

    /// Whether nothing comes for this long.
    pub(crate) fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut chunk = [0; 4096];
        let quiet = self.stream.read(&mut chunk).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        quiet
    }
}

/// A message as it stands (D-Bus specification, "Message Format"), little-endian.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) fields: Vec<(u8, Field)>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) enum Field {
    Text(char, String),
    Number(u32),
}

impl Raw {
    /// A call of the service's root, at the service's name.
    pub(crate) fn of(interface: &str, member: &str, signature: &str, body: Vec<u8>) -> Self {
        Self { body, ..Self::call(ROOT, interface, member).to(SERVICE).signed(signature) }
    }

    pub(crate) fn call(path: &str, interface: &str, member: &str) -> Self {
        Self::new(CALL).at(path).field(2, 's', interface).field(3, 's', member)
    }

    pub(crate) const fn new(kind: u8) -> Self {
        Self { kind, flags: 0, fields: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn at(self, path: &str) -> Self {
        self.field(1, 'o', path)
    }

    pub(crate) fn to(self, destination: &str) -> Self {
        self.field(6, 's', destination)
    }

    pub(crate) fn from(self, sender: &str) -> Self {
        self.field(7, 's', sender)
    }

    pub(crate) fn signed(self, signature: &str) -> Self {
        if signature.is_empty() { self } else { self.field(8, 'g', signature) }
    }

    pub(crate) fn answers(mut self, serial: u32) -> Self {
        self.fields.push((5, Field::Number(serial)));
        self
    }

    /// Says that so many descriptors come with it.
    pub(crate) fn with_descriptors(mut self, count: u32) -> Self {
        self.fields.push((9, Field::Number(count)));
        self
    }

    pub(crate) fn field(mut self, code: u8, kind: char, text: &str) -> Self {
        self.fields.push((code, Field::Text(kind, text.to_owned())));
        self
    }

    pub(crate) fn bytes(&self, serial: u32) -> Vec<u8> {
        let mut fields = Vec::new();
        for (code, field) in &self.fields {
            pad(&mut fields, 8);
            match field {
                Field::Text(kind @ 'g', text) => {
                    fields.extend([*code, 1, *kind as u8, 0, text.len() as u8]);
                    fields.extend(text.bytes().chain([0]));
                }
                Field::Text(kind, text) => {
                    fields.extend([*code, 1, *kind as u8, 0]);
                    put_text(&mut fields, text);
                }
                Field::Number(number) => {
                    fields.extend([*code, 1, b'u', 0]);
                    fields.extend(number.to_le_bytes());
                }
            }
        }
        let mut bytes = vec![b'l', self.kind, self.flags, 1];
        bytes.extend((self.body.len() as u32).to_le_bytes());
        bytes.extend(serial.to_le_bytes());
        bytes.extend((fields.len() as u32).to_le_bytes());
        bytes.extend(fields);
        pad(&mut bytes, 8);
        bytes.extend(&self.body);
        bytes
    }
}

/// Fills up with zeros to a multiple of `to`.
pub(crate) fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// A text behind its length.
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes().chain([0]));
}

/// The signature of a variant.
pub(crate) fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(signature.len() as u8);
    bytes.extend(signature.bytes().chain([0]));
}

pub(crate) const CALL: u8 = 1;
pub(crate) const RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;
pub(crate) const NO_REPLY: u8 = 1;
