//! File descriptors where none are taken, over a real bus: passed, and promised without being there, which the library below
//! panics at.

#[allow(dead_code, reason = "an example's main is for cargo run")]
#[path = "../examples/lamp.rs"]
mod lamp;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use dbus::arg::{IterAppend, Variant};
use dbus::channel::Channel;
use dbus::{Message, MessageType};
use visorbus_dbus::{BusAddress, DBusService};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

fn lamp(bus: &DbusDaemon) -> DBusService {
    let service = lamp::serve(BusAddress::Address(bus.address().to_owned()), mpsc::channel().0).unwrap();
    while service.state().is_none_or(|state| !state.owns_name) {
        std::thread::yield_now();
    }
    service
}

fn call(interface: &str, member: &str) -> Message {
    Message::new_method_call("org.example.Lamp", "/org/example/Lamp", interface, member).unwrap()
}

/// How bright the lamp is, as any program may ask.
fn brightness(bus: &DbusDaemon) -> u8 {
    let asked = call(PROPERTIES, "Get").append2("org.example.Lamp1", "Brightness");
    let answer = bus.connect().send_with_reply_and_block(asked, PATIENCE).unwrap();
    answer.read1::<Variant<u8>>().unwrap().0
}

/// A program that writes its messages itself.
struct Raw(UnixStream);

impl Raw {
    fn connect(bus: &DbusDaemon) -> Self {
        let socket = UnixStream::connect(bus.socket()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Self(socket);
        raw.0.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n").unwrap();
        let mut lines = 0;
        while lines < 3 {
            let mut byte = [0];
            raw.0.read_exact(&mut byte).unwrap();
            lines += usize::from(byte == *b"\n");
        }
        let bus_name = "org.freedesktop.DBus";
        let hello = Message::new_method_call(bus_name, "/org/freedesktop/DBus", bus_name, "Hello").unwrap();
        raw.ask(hello, |bytes| bytes).unwrap();
        raw
    }

    /// Sends what `spoil` makes of a message; the answer, or the name of the error.
    fn ask(&mut self, mut message: Message, spoil: impl Fn(Vec<u8>) -> Vec<u8>) -> Result<Message, String> {
        message.set_serial(7);
        let mut bytes = Vec::new();
        let keep = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok::<(), ()>(())
        };
        message.marshal(keep).unwrap();
        self.0.write_all(&spoil(bytes)).unwrap();
        loop {
            let mut answer = vec![0; 16];
            self.0.read_exact(&mut answer).unwrap();
            let len = Message::demarshal_bytes_needed(&answer).unwrap();
            answer.resize(len, 0);
            self.0.read_exact(&mut answer[16..]).unwrap();
            let mut answer = Message::demarshal(&answer).unwrap();
            match (answer.get_reply_serial(), answer.msg_type()) {
                (Some(7), MessageType::Error) => {
                    return Err(answer.as_result().unwrap_err().name().unwrap().to_owned());
                }
                (Some(7), _) => return Ok(answer),
                _ => {}
            }
        }
    }
}

/// Makes a `u32` in a variant, or as the only argument, the index of a descriptor.
fn promised(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.windows(3).rposition(|part| part == [1, b'u', 0]).unwrap();
    bytes[at + 1] = b'h';
    bytes
}

#[test]
fn a_descriptor_that_is_promised_and_not_there_is_refused_and_the_service_goes_on() {
    let bus = DbusDaemon::start();
    let _service = lamp(&bus);
    let mut raw = Raw::connect(&bus);
    for _ in 0..3 {
        let set = call(PROPERTIES, "Set").append3("org.example.Lamp1", "Brightness", Variant(0u32));
        let refused = raw.ask(set, promised).unwrap_err();
        assert_eq!(refused, "org.freedesktop.DBus.Error.InvalidArgs");
        let toggle = call("org.example.Lamp1", "Toggle").append1(0u32);
        let refused = raw.ask(toggle, promised).unwrap_err();
        assert_eq!(refused, "org.freedesktop.DBus.Error.InvalidArgs");
    }
    assert_eq!(brightness(&bus), 50);
}

#[test]
fn a_descriptor_that_is_passed_is_refused_and_none_is_kept() {
    let bus = DbusDaemon::start();
    let _service = lamp(&bus);
    let address = bus.address().to_owned();
    let mut program = Channel::open_private(&address).unwrap();
    program.register().unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(near));
    let mut set = call(PROPERTIES, "Set").append2("org.example.Lamp1", "Brightness");
    IterAppend::new(&mut set).append(Variant(file));
    let refused = program.send_with_reply_and_block(set, PATIENCE).unwrap_err();
    assert_eq!(refused.name(), Some("org.freedesktop.DBus.Error.InvalidArgs"));
    // Nobody holds the other end any more: neither the bus nor the service.
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
    assert_eq!(brightness(&bus), 50);
}
