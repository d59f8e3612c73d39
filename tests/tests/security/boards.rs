//! A board, and somebody who sits where its hub should: with what the real hub once said to it, and with nothing.

use visorbus_core::auth::{Claims, Key, Scopes};
use visorbus_core::bus::{self, Identity};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::typed::Endpoint;
use visorbus_core::message::{Message, MessageType};
use visorbus_hal::{SerialLink, serial_buffer_len};
use visorbus_hub::{OwnedMessage, OwnedPayload};
use visorbus_imu::messages::SetRate;
use visorbus_mcu::Tty;
use visorbus_tests::pty::Pty;
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};

use crate::node::Node;
use crate::transports::{RAW_FRAME, Transport, Wake, carry, over_every_transport};
use crate::world::{BOOT_ID, KEY_ID, ROOT, World, claims, mint, ring, unix_s};

over_every_transport! {
    what_the_hub_proved_to_one_start_of_a_board_is_refused_by_the_next
}

/// What is recorded is recorded over any transport; the board is on a serial line, as in the field.
fn what_the_hub_proved_to_one_start_of_a_board_is_refused_by_the_next<T: Transport>() {
    // No board has JSON, and the hub proves nothing to whoever has.
    if !T::HAS_FRAMES {
        return;
    }
    let world = World::start();
    let proof = recorded::<T>(&world, 7);
    world.is_unharmed();
    // The same start would take it, and does what the hub may ask for.
    let (_pty, _node, mut hub) = sit_at_a_board(7);
    hub.request(bus::AUTHENTICATE, proof.payload.borrow()).unwrap();
    assert_eq!(set_rate(&mut hub, 200).unwrap().payload, OwnedPayload::postcard(&200_u16).unwrap());
    for boot_id in [8, 6, 0, u64::MAX] {
        let (_pty, _node, mut rogue) = sit_at_a_board(boot_id);
        let outcome = rogue.request(bus::AUTHENTICATE, proof.payload.borrow());
        expect_error(outcome, ErrorKind::Authentication, "");
        expect_error(set_rate(&mut rogue, 400), ErrorKind::Authentication, "");
    }
}

#[test]
fn a_board_takes_nothing_from_a_hub_that_has_not_proven_itself() {
    let (_pty, node, mut rogue) = sit_at_a_board(7);
    expect_error(set_rate(&mut rogue, 400), ErrorKind::Authentication, "");
    let own = Claims { audience: "imu", scopes: Scopes::new(&["*"]), ..claims("bus") };
    let beacon = mint(&ring(), KEY_ID, &Claims { serial: 7, ..own });
    for bit in 0..beacon.len() * 8 {
        let mut forged = beacon.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        expect_error(rogue.authenticate(&forged), ErrorKind::Authentication, "");
    }
    for len in 0..beacon.len() {
        expect_error(rogue.authenticate(&beacon[..len]), ErrorKind::Authentication, "");
    }
    // Of another key, for another board, of the board's own making.
    let others = [
        mint(&ring(), KEY_ID, &Claims { serial: 7, audience: "radio", ..own }),
        mint(&ring(), KEY_ID, &Claims { serial: 7, audience: "bus", ..own }),
        mint(
            &ring(),
            KEY_ID,
            &Claims {
                serial: 7,
                audience: "bus",
                issuer: "imu",
                subject: "imu",
                scopes: Scopes::new(&[]),
                ..own
            },
        ),
    ];
    for other in others {
        expect_error(rogue.authenticate(&other), ErrorKind::Authentication, "");
    }
    // Before the hub's time there is no time, and so no token of anybody else's.
    let user = mint(&ring(), KEY_ID, &Claims { subject: "alice", ..own });
    expect_error(rogue.authenticate(&user), ErrorKind::Authentication, "");
    expect_error(set_rate(&mut rogue, 400), ErrorKind::Authentication, "");
    assert!(!node.events.lock().unwrap().is_empty());
    // The real one is taken, once.
    rogue.authenticate(&beacon).unwrap();
    set_rate(&mut rogue, 400).unwrap();
}

#[test]
fn what_a_board_proves_to_a_rogue_hub_is_worth_nothing_to_the_real_one() {
    let world = World::start();
    // With the time, for without it a board makes no proof.
    let (_pty, _node, mut rogue) =
        sit_at_a_board_and_say(7, unix_s() * 1_000_000, bus::REQUIRES_AUTHENTICATION);
    let shown = rogue.read_where(|message| message.destination == bus::AUTHENTICATE);
    let mut mallory = world.greeted::<crate::transports::Unix>("imu");
    let outcome = mallory.request(bus::AUTHENTICATE, shown.payload.borrow());
    expect_error(outcome, ErrorKind::Authentication, "token not accepted");
    world.is_nobody::<crate::transports::Unix>(&mut mallory);
}

#[test]
fn a_rogue_hub_that_sets_the_clock_of_a_board_back_has_no_expired_token_taken() {
    // A token of alice's for the board, good for an hour, and over since a year.
    let then = unix_s() - 365 * 24 * 3600;
    let old = Claims {
        audience: "imu",
        issued_at: then,
        expiry: then + 3600,
        scopes: Scopes::new(&["*"]),
        ..claims("alice")
    };
    let old = mint(&ring(), KEY_ID, &old);
    for unix_us in [then * 1_000_000 + 1, 0, 1, u64::MAX] {
        let (_pty, _node, mut rogue) = sit_at_a_board_and_say(7, unix_us, 0);
        expect_error(rogue.authenticate(&old), ErrorKind::Authentication, "");
        expect_error(set_rate(&mut rogue, 400), ErrorKind::Authentication, "");
    }
}

/// What the hub shows to a board called `imu` that wants proof and has started as `boot_id`.
fn recorded<T: Transport>(world: &World, boot_id: u64) -> OwnedMessage {
    let mut imu = T::attach(world, "imu");
    let capabilities = bus::REQUIRES_AUTHENTICATION | if T::HANGS_UP { 0 } else { bus::HAS_LANE };
    imu.hello_as(&Identity { boot_id, capabilities, heartbeat_ms: 600_000, ..identity("imu") }).unwrap();
    if !T::IS_KEYED {
        let own = Claims { issuer: "imu", serial: BOOT_ID, scopes: Scopes::new(&[]), ..claims("imu") };
        imu.authenticate(&mint(&ring(), KEY_ID, &own)).unwrap();
    }
    imu.read_where(|message| message.destination == bus::AUTHENTICATE)
}

/// The sensor of the examples with its device key, on a line at whose other end sits the test instead of a hub.
fn sit_at_a_board(boot_id: u64) -> (Pty, Node, RawPeer) {
    sit_at_a_board_and_say(boot_id, 0, 0)
}

/// As [`sit_at_a_board`], with these in its hello.
fn sit_at_a_board_and_say(boot_id: u64, unix_us: u64, capabilities: u32) -> (Pty, Node, RawPeer) {
    let pty = Pty::open().unwrap();
    let tty = Tty::open(pty.path(), 921_600).unwrap();
    let link = SerialLink::<_, { serial_buffer_len(RAW_FRAME) }>::new(tty);
    let mut hub = carry(link, Wake::far(&pty));
    let node = Node::sensor(&pty, boot_id, Key::new(ROOT).derive("imu"));
    let hello = hub.read_where(|message| message.destination == bus::HELLO);
    // It promises that all is well, and asks for no proof.
    let said = Identity { boot_id: 99, heartbeat_ms: 600_000, unix_us, capabilities, ..identity("bus") };
    let said = OwnedPayload::postcard(&said).unwrap();
    let hello = hello.borrow().unwrap();
    hub.send(&hello.answer(MessageType::Response).with_payload(said.borrow()));
    (pty, node, hub)
}

fn set_rate(hub: &mut RawPeer, hz: u16) -> visorbus_hub::Result<OwnedMessage> {
    let id = hub.take_id() + 5000;
    let payload = OwnedPayload::postcard(&hz).unwrap();
    hub.send(&Message::request(id, SetRate::ADDRESS).with_payload(payload.borrow()));
    hub.answer_to(id)
}
