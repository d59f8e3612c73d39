//! Peers of the hub that are no programs of the bus, at an interface's addresses: the handler trusts nobody's payload.

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::{Error, OwnedPayload};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::world::World;

#[test]
fn a_peer_with_the_permission_calls_with_values_as_d_bus_marshals_them() {
    let world = World::with_strangers();
    let mut peer = world.peer("app", &["request:org.example.thermostat1/**"]);
    let sum = ask(&mut peer, "add", &[2i32.into(), 3i32.into()]).unwrap();
    assert_eq!(sum, [5i32.into()]);
    assert_eq!(ask(&mut peer, "who", &[]).unwrap(), ["app".into()]);
    assert_eq!(ask(&mut peer, "prop/target/set", &[20f64.into()]).unwrap(), []);
    assert_eq!(ask(&mut peer, "prop/target", &[]).unwrap(), [20f64.into()]);
    assert_eq!(world.program().get(crate::thermostat::NAME, "Target"), Ok(20f64.into()));
}

#[test]
fn who_lacks_the_permission_reaches_nothing_that_requires_authentication() {
    let world = World::with_strangers();
    let mut peer = world.peer("app", &["request:org.example.thermostat1/who"]);
    for address in ["stuck", "prop/code", "prop/code/set", "prop/pin/set", "prop/pin", "nothing"] {
        expect_error(ask(&mut peer, address, &["x".into()]), ErrorKind::Authorization, address);
    }
    assert_eq!(world.runs(), 0);
}

#[test]
fn no_payload_reaches_a_method_but_values_of_its_signature() {
    let world = World::with_strangers();
    let mut peer = world.peer("app", &["*"]);
    let good = marshalled(&[1u32.into()]);
    let mut refuse = |address: &str, payload: MessagePayload<'_>, text: &str| {
        let address = format!("org.example.thermostat1/{address}");
        expect_error(peer.request(&address, payload), ErrorKind::Serialization, text);
    };
    refuse("add", MessagePayload::Empty, "'ii', not ''");
    refuse("add", MessagePayload::String("1 2"), "not texts");
    refuse("add", MessagePayload::Json("[1, 2]"), "not texts");
    refuse("prop/pin/set", MessagePayload::Empty, "'u', not ''");
    refuse("prop/pin/set", MessagePayload::Binary(&marshalled(&["x".into()])), "'u', not 's'");
    refuse("prop/pin/set", MessagePayload::Binary(&marshalled(&[1u32.into(), 2u32.into()])), "'u', not 'uu'");
    refuse("prop/pin/set", MessagePayload::Binary(&good[..good.len() - 1]), "no values of D-Bus");
    refuse("prop/pin/set", MessagePayload::Binary(&[0xff; 64]), "no values of D-Bus");
    refuse("prop/pin/set", MessagePayload::Binary(&[&good[..], b"more"].concat()), "no values of D-Bus");

    // The place of a descriptor, and no descriptor: the crate underneath panics where it reads such a one.
    let mut of_descriptor = good.clone();
    let signature =
        good.windows(4).position(|bytes| bytes == b"g\0\x01u").expect("the signature's field") + 3;
    of_descriptor[signature] = b'h';
    refuse("prop/pin/set", MessagePayload::Binary(&of_descriptor), "descriptor");
    let mut deep = MessageItem::Byte(1);
    for _ in 0..12 {
        deep = MessageItem::Variant(Box::new(deep));
    }
    refuse("prop/pin/set", MessagePayload::Binary(&marshalled(&[deep])), "variants");
    assert_eq!(world.runs(), 0);
    world.is_unharmed();
}

#[test]
fn a_notification_is_no_call() {
    let world = World::with_strangers();
    let mut peer = world.peer("app", &["*"]);
    peer.notify(
        "org.example.thermostat1/add",
        MessagePayload::Binary(&marshalled(&[1i32.into(), 2i32.into()])),
    );
    let unknown = ask(&mut peer, "nothing", &[]);
    expect_error(unknown, ErrorKind::Message, "no such member");
    assert_eq!(world.runs(), 0);
}

fn ask(peer: &mut RawPeer, address: &str, args: &[MessageItem]) -> Result<Vec<MessageItem>, Error> {
    let address = format!("org.example.thermostat1/{address}");
    let answer = peer.request(&address, MessagePayload::Binary(&marshalled(args)))?;
    let OwnedPayload::Binary(bytes) = answer.payload else { panic!("{:?}", answer.payload) };
    Ok(Message::demarshal(&bytes).unwrap().get_items())
}

fn marshalled(args: &[MessageItem]) -> Vec<u8> {
    let mut message = Message::new_signal("/", "org.example.Carrier", "Values").unwrap();
    message.append_items(args);
    message.set_serial(1);
    let mut bytes = Vec::new();
    let whole = message.marshal::<(), _>(|part| {
        bytes.extend_from_slice(part);
        Ok(())
    });
    assert_eq!(whole, Ok(()));
    bytes
}
