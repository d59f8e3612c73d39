//! What may not be done without having proven to be somebody, over either subprotocol.

use visorbus_core::auth::{Claims, Scopes};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::OwnedPayload;
use visorbus_tests::raw_peer::expect_error;
use visorbus_tests::websocket_peer::WebSocketPeer;
use visorbus_websocket::Subprotocol;

use crate::world::{World, claims, mint, ring, token, unix_s};

#[test]
fn nothing_is_done_for_whoever_has_not_logged_in() {
    let world = World::start();
    for protocol in Subprotocol::ALL {
        is_nobody(&world, world.greeted(protocol, "mallory"));
        // Not even a hello.
        let mut silent = world.open(protocol);
        let refused = silent.request("echo/x", MessagePayload::Empty);
        expect_error(refused, ErrorKind::Protocol, "hello");
        world.is_unharmed();
    }
}

#[test]
fn a_token_that_is_not_good_makes_nobody_somebody() {
    let world = World::start();
    let now = unix_s();
    let open = Scopes::new(&["request:echo/*"]);
    let good = token("mallory", &["request:echo/*"]);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let expired = mint(
        &ring(),
        &Claims { issued_at: now - 7200, expiry: now - 3600, scopes: open, ..claims("mallory") },
    );
    let foreign_hub = mint(&ring(), &Claims { audience: "other", scopes: open, ..claims("mallory") });
    let tokens: [(&str, Vec<u8>); 5] = [
        ("forged", forged),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("expired", expired),
        ("for another hub", foreign_hub),
        ("of somebody else", token("panel", &["request:echo/*"])),
    ];
    for protocol in Subprotocol::ALL {
        for (what, token) in &tokens {
            let mut attacker = world.greeted(protocol, "mallory");
            let refused = attacker.authenticate(token);
            assert!(refused.is_err(), "a token that is {what} over {protocol}: {refused:?}");
            is_nobody(&world, attacker);
        }
    }
}

#[test]
fn a_source_that_is_not_ones_own_is_refused() {
    let world = World::start();
    for protocol in Subprotocol::ALL {
        let mut attacker = world.admitted(protocol, "mallory", &["request:echo/*"]);
        let (id, _) = attacker.request_frame("echo/x", MessagePayload::Empty);
        let source = Some(Address::new("bystander").unwrap());
        let request = Message { source, ..Message::request(id, Address::new("echo/x").unwrap()) };
        let forged = attacker.frame(&request);
        attacker.socket.send(&forged);
        expect_error(attacker.answer_to(id), ErrorKind::Authorization, "source is not this session's own");
        world.is_unharmed();
    }
}

#[test]
fn rights_end_where_the_token_says() {
    let world = World::start();
    for protocol in Subprotocol::ALL {
        let mut attacker = world.admitted(protocol, "mallory", &["request:other/*"]);
        let refused = attacker.request("echo/x", MessagePayload::Empty);
        expect_error(refused, ErrorKind::Authorization, "permission");
        let refused = attacker.subscribe("bystander/**", SlowConsumer::Latest);
        expect_error(refused, ErrorKind::Authorization, "permission");
        world.is_unharmed();
    }
}

/// Nothing that it says is acted on; each time it is told so, and it is counted.
#[track_caller]
fn is_nobody(world: &World, mut attacker: WebSocketPeer) {
    let refused = attacker.request("echo/x", MessagePayload::Empty);
    expect_error(refused, ErrorKind::Authentication, "authenticate");
    let refused = attacker.subscribe("bystander/**", SlowConsumer::Latest);
    expect_error(refused, ErrorKind::Authentication, "authenticate");
    let refused = attacker.request(bus::PEERS, OwnedPayload::Empty.borrow());
    expect_error(refused, ErrorKind::Authentication, "authenticate");
    world.wait_until(|peers| peers.iter().any(|peer| peer.name.starts_with("mallory") && peer.refused >= 3));
    world.is_unharmed();
}
