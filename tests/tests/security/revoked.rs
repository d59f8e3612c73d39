//! What was taken back: tokens, all of a subject's, families of renewed ones. It is over at once, wherever it is used.

use std::time::{Duration, Instant};

use visorbus_auth::{AuditKind, AuthToken, TokenText};
use visorbus_core::bus;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::info::Revoke;
use visorbus_hub::{OwnedMessage, OwnedPayload, Result};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::transports::{Transport, Unix, over_every_transport};
use crate::world::{Says, World, hello};

over_every_transport! {
    a_revoked_token_is_refused_when_it_is_shown_again
    a_revoked_token_is_cut_off_its_live_subscription_at_once
    a_renewed_token_that_is_used_again_ends_all_of_its_family
    whoever_may_not_administer_takes_back_nothing_of_others
}

fn a_revoked_token_is_refused_when_it_is_shown_again<T: Transport>() {
    let world = World::start();
    let token = world.token("mallory", &["request:vault/*"]);
    let mut mallory = world.greeted::<T>("mallory");
    mallory.authenticate(&token).unwrap();
    assert!(mallory.request("vault/open", MessagePayload::Empty).is_ok());
    let mut finder = world.admitted::<Unix>("finder", &[]);
    finder.request(bus::REVOKE, MessagePayload::String(&text(&token))).unwrap();
    let mut again = return_of::<T>(&world, mallory, "mallory", 2);
    for _ in 0..3 {
        expect_error(again.authenticate(&token), ErrorKind::Authentication, "taken back");
    }
    world.is_audited::<T>(AuditKind::CutOff, "mallory", "revoked");
    world.audited(|event| event.what == "revoked" && event.subject == "finder");
    world.is_unharmed_after(1);
    world.is_nobody::<T>(&mut again);
    // Another one of the same subject is good.
    again.authenticate(&world.token("mallory", &[])).unwrap();
}

fn a_revoked_token_is_cut_off_its_live_subscription_at_once<T: Transport>() {
    let world = World::start();
    let mut publisher = world.admitted::<Unix>("publisher", &[]);
    let mut admin = world.admitted::<Unix>("admin", &["administer:bus/revoke"]);
    let mut fastest = Duration::MAX;
    for number in 1..=20 {
        let name = format!("mallory{number}");
        let mut mallory = world.admitted::<T>(&name, &["subscribe:publisher/*"]);
        mallory.subscribe("publisher/*").unwrap();
        publisher.notify("publisher/news", MessagePayload::String("before"));
        mallory.read_topic("publisher/news");
        let began = Instant::now();
        ask(&mut admin, &Revoke::Subject(name.clone())).unwrap();
        // By now it is over, as the hub says itself.
        fastest = fastest.min(began.elapsed());
        assert!(world.handle.peers().unwrap().iter().all(|peer| peer.name != name));
        publisher.notify("publisher/news", MessagePayload::String("after"));
        assert!(publisher.read_so_far().is_empty());
        let heard = if T::HANGS_UP {
            mallory.read_to_end()
        } else {
            hello::<T>(&mut mallory, &name, 2).unwrap();
            mallory.heard()
        };
        assert!(heard.iter().all(|message| message.destination != "publisher/news"), "{heard:?}");
        if T::HANGS_UP {
            let told =
                heard.iter().filter_map(OwnedMessage::error).any(|error| error.text().contains("revoked"));
            assert!(told, "{heard:?}");
        }
        world.is_audited::<T>(AuditKind::CutOff, &name, "revoked");
        // A machine that does much else at the moment gets another chance.
        if fastest < AT_ONCE {
            break;
        }
    }
    assert!(fastest < AT_ONCE, "{fastest:?}");
    world.is_unharmed();
}

fn a_renewed_token_that_is_used_again_ends_all_of_its_family<T: Transport>() {
    let world = World::start();
    let first = world.token("mallory", &["request:vault/*"]);
    let mut owner = world.greeted::<T>("mallory.owner");
    owner.authenticate(&first).unwrap();
    let answer = owner.request(bus::REFRESH, MessagePayload::String(&text(&first))).unwrap();
    let second: AuthToken = answer.payload.parse().unwrap();
    assert!(
        owner.request("vault/open", MessagePayload::Empty).is_ok(),
        "the session goes on by the new token"
    );
    // Somebody has a copy of the first: which of the two is the thief, nobody can tell.
    let mut copy = world.greeted::<Unix>("mallory.copy");
    expect_error(copy.authenticate(&first), ErrorKind::Authentication, "somebody has a copy");
    let second = second.value.to_bytes().unwrap();
    expect_error(copy.authenticate(&second), ErrorKind::Authentication, "taken back");
    // The live session of the family is over at once.
    world.is_audited::<T>(AuditKind::CutOff, "mallory.owner", "revoked");
    let mut again = return_of::<T>(&world, owner, "mallory.owner", 2);
    expect_error(again.authenticate(&second), ErrorKind::Authentication, "taken back");
    world.is_unharmed_after(1);
    world.is_nobody::<T>(&mut again);
}

fn whoever_may_not_administer_takes_back_nothing_of_others<T: Transport>() {
    let world = World::start();
    let mut victim = world.admitted::<Unix>("victim", &["request:vault/*"]);
    let mut mallory = world.admitted::<T>("mallory", &["request:**", "notify:**"]);
    for asked in [Revoke::Subject("victim".into()), Revoke::Subject("bus".into()), Revoke::KeyEpoch(3)] {
        expect_error(ask(&mut mallory, &asked), ErrorKind::Authorization, "'administer'");
    }
    for address in [bus::AUTH_RELOAD, bus::POLICY_RELOAD] {
        let outcome = mallory.request(address, MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authorization, "'administer'");
    }
    // A token that nobody has made, and another's token for a renewal.
    let mut forged = world.token("victim", &["*"]);
    *forged.last_mut().unwrap() ^= 1;
    let outcome = mallory.request(bus::REVOKE, MessagePayload::String(&text(&forged)));
    expect_error(outcome, ErrorKind::Authentication, "token");
    let outcome =
        mallory.request(bus::REFRESH, MessagePayload::String(&text(&world.token("victim", &["*"]))));
    expect_error(outcome, ErrorKind::Authentication, "cannot renew a token of 'victim'");
    world.audited(|event| {
        event.what == "denied" && event.subject == "mallory" && event.operation == "administer"
    });
    assert!(victim.request("vault/open", MessagePayload::Empty).is_ok());
    world.is_unharmed_after(1);
}

/// Somebody whose session is over comes back: on a new connection, or on the same line.
pub(crate) fn return_of<T: Transport>(world: &World, mut peer: RawPeer, name: &str, boot_id: u64) -> RawPeer {
    if !T::HANGS_UP {
        hello::<T>(&mut peer, name, boot_id).unwrap();
        return peer;
    }
    peer.read_to_end();
    world.greeted::<T>(name)
}

fn ask(peer: &mut RawPeer, asked: &Revoke) -> Result<OwnedMessage> {
    peer.request(bus::REVOKE, OwnedPayload::postcard(asked)?.borrow())
}

fn text(token: &[u8]) -> String {
    TokenText::encode(token).unwrap().as_str().to_owned()
}

const AT_ONCE: Duration = Duration::from_millis(100);
