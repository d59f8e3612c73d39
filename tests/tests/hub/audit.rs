//! Who may hear what happens at the door hears it, nobody else does, and none of it is a secret.

use std::sync::Arc;

use visorbus_auth::AuditEvent;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::info::SchemaInfo;
use visorbus_hub::schema::Schemas;
use visorbus_hub::{LinkOptions, Origin, OwnedPayload};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::{Desk, Disguised, Rules, config};
use crate::harness::{Client, TestHub};

#[test]
fn who_may_hear_it_is_told_who_came_who_did_not_and_what_was_refused() {
    let (hub, desk) = hub();
    let mut warden = warden(&hub);
    let mut alice = hub.greeted("alice");
    let wrong = bus::Credentials::UsernamePassword { username: "alice", password: "hunter2" };
    assert!(login(&mut alice, &wrong).is_err());
    let event = next(&mut warden);
    assert_eq!(
        [&*event.what, &*event.subject, &*event.method, &*event.transport],
        ["refused", "alice?", "password", "unix"]
    );
    let right = bus::Credentials::UsernamePassword { username: "alice", password: "open sesame" };
    login(&mut alice, &right).unwrap();
    let event = next(&mut warden);
    assert_eq!([&*event.what, &*event.subject, &*event.method], ["authenticated", "alice", "password"]);
    assert!(event.address.starts_with("uid "));
    assert!(alice.request("other/x", MessagePayload::Empty).is_err());
    let outcome = alice.subscribe("secret/**", SlowConsumer::default());
    expect_error(outcome, ErrorKind::Authorization, "'subscribe'");
    let event = next(&mut warden);
    assert_eq!(
        [&*event.what, &*event.subject, &*event.operation, &*event.resource],
        ["denied", "alice", "subscribe", "secret/**"]
    );
    assert!(event.reason.contains("no permission"));
    let token = desk.make("alice", &[]);
    hub.handle.revoke_token(token).unwrap();
    assert_eq!(next(&mut warden).what, "revoked");
    hub.handle.revoke(visorbus_auth::RevokeAll::Subject("alice".into())).unwrap();
    let (event, end) = (next(&mut warden), next(&mut warden));
    assert_eq!((event.what.as_str(), event.reason.contains("alice")), ("revoked", true));
    assert_eq!((end.what.as_str(), end.subject.as_str()), ("cut_off", "alice"));
    alice.read_to_end();
}

#[test]
fn whoever_may_not_hear_it_does_not() {
    let (hub, _desk) = hub();
    let mut nosy = hub.connect("nosy", &["subscribe:bus/missed", "subscribe:news/**", "request:**"]);
    let outcome = nosy.subscribe(bus::AUDIT, SlowConsumer::default());
    expect_error(outcome, ErrorKind::Authorization, "'subscribe'");
    nosy.subscribe("news/**", SlowConsumer::default()).unwrap();
    drop(hub.connect("alice", &[]));
    assert!(nosy.read_so_far().is_empty());
    let forged = hub.connect("forger", &["notify:**"]).request(bus::AUDIT, MessagePayload::Empty);
    assert!(forged.is_err());
}

#[test]
fn nobody_can_tell_of_events_in_the_hubs_place() {
    let (hub, _desk) = hub();
    let mut warden = warden(&hub);
    let mut forger = hub.connect("forger", &["*"]);
    assert_eq!(next(&mut warden).subject, "forger");
    let event = OwnedPayload::postcard(&AuditEvent::new(visorbus_auth::AuditKind::Authenticated)).unwrap();
    forger.notify(bus::AUDIT, event.borrow());
    forger.read_so_far();
    assert!(warden.read_so_far().is_empty());
}

#[test]
fn a_flood_of_refusals_is_summed_up_also_over_many_connections() {
    let (hub, _desk) = hub();
    let mut warden = warden(&hub);
    let mut flooder = hub.connect("flooder", &[]);
    assert_eq!(next(&mut warden).what, "authenticated");
    for _ in 0..500 {
        assert!(flooder.request("echo/ping", MessagePayload::Empty).is_err());
    }
    drop(flooder);
    for _ in 0..20 {
        hub.wait_until(|peers| peers.len() == 1);
        let mut flooder = hub.connect("flooder", &[]);
        assert!(flooder.request("echo/ping", MessagePayload::Empty).is_err());
    }
    let mut events = Vec::new();
    while !events
        .iter()
        .any(|event: &AuditEvent| event.what == "denied" && event.reason.contains("like this"))
    {
        events.push(next(&mut warden));
    }
    let denied = events.iter().filter(|event| event.what == "denied").count();
    assert!(denied < 60, "{denied} of 520 were told one by one");
}

#[test]
fn the_key_of_a_line_and_a_line_without_one_are_told() {
    let (hub, _desk) = hub();
    let mut warden = warden(&hub);
    let attach = |options, proven: Option<&str>| {
        let key = proven.map(|name| visorbus_hub::Proven { name: name.to_owned(), boot_id: 1 });
        let key = Arc::new(std::sync::Mutex::new(key));
        let origin = Origin::Serial { path: "/dev/test".to_owned() };
        RawPeer::attach_by(&hub.handle, |inner| Box::new(Disguised { inner, origin, options, key }))
    };
    let lossy = LinkOptions { lossy: true, ..LinkOptions::default() };
    let mut keyed = attach(LinkOptions { keyed: true, ..lossy.clone() }, Some("imu"));
    assert!(keyed.hello("camera").is_err());
    keyed.hello("imu").unwrap();
    let mut trusted = attach(LinkOptions { unauthenticated: Some("radio".into()), ..lossy }, None);
    trusted.hello("radio").unwrap();
    let told: Vec<[String; 4]> = (0..4)
        .map(|_| next(&mut warden))
        .map(|event| [event.what, event.subject, event.method, event.transport])
        .collect();
    let told: Vec<[&str; 4]> = told.iter().map(|parts| [0, 1, 2, 3].map(|at| parts[at].as_str())).collect();
    assert_eq!(
        told,
        [
            ["link_up", "imu", "", "serial"],
            ["refused", "serial /dev/test", "link_key", "serial"],
            ["authenticated", "imu", "link_key", "serial"],
            ["trusted", "radio", "trusted", "serial"],
        ]
    );
}

#[test]
fn a_line_whose_key_is_proven_anew_without_end_is_summed_up() {
    let (hub, _desk) = hub();
    let mut warden = warden(&hub);
    let proven = |boot_id| Some(visorbus_hub::Proven { name: "imu".to_owned(), boot_id });
    let key = Arc::new(std::sync::Mutex::new(proven(0)));
    let options = LinkOptions { lossy: true, keyed: true, ..LinkOptions::default() };
    let origin = Origin::Serial { path: "/dev/test".to_owned() };
    let shared = Arc::clone(&key);
    let mut board =
        RawPeer::attach_by(&hub.handle, |inner| Box::new(Disguised { inner, origin, options, key: shared }));
    let start = std::time::Instant::now();
    for boot_id in 1..200 {
        *key.lock().unwrap() = proven(boot_id).filter(|_| boot_id % 2 == 0);
        // Whatever arrives has the hub look.
        let _ = board.request(bus::IDENTITY, MessagePayload::Empty);
    }
    let seconds = start.elapsed().as_secs() as usize + 1;
    let told = warden.read_so_far();
    let of_links = told.iter().map(|event| event.payload.parse::<AuditEvent>().unwrap());
    let of_links = of_links.filter(|event| event.what.starts_with("link_")).count();
    assert!((4..=20 * seconds).contains(&of_links), "{of_links} in {seconds} s");
}

#[test]
fn no_event_has_a_password_a_key_or_a_token_in_it() {
    let (hub, desk) = hub();
    let mut warden = warden(&hub);
    let token = desk.make("alice", &[]);
    let mut alice = hub.greeted("alice");
    for password in ["hunter2", "open sesame"] {
        let _ = login(&mut alice, &bus::Credentials::UsernamePassword { username: "alice", password });
        let _ = login(&mut alice, &bus::Credentials::ApiKey(password));
    }
    let _ = alice.ask_text(bus::REFRESH, token.value.as_str());
    let _ = alice.ask_text(bus::REVOKE, token.value.as_str());
    let _ = alice.ask_text(bus::REVOKE, "hunter2");
    let _ = alice.request("hunter3/x", MessagePayload::String("hunter2"));
    let _ = alice.request(bus::AUTHENTICATE, MessagePayload::Json(r#"{"hunter2": 1}"#));
    let events = warden.read_so_far();
    assert!(events.len() > 5, "{events:?}");
    for event in events {
        let text = format!("{:?}", event.payload.parse::<AuditEvent>().unwrap());
        for secret in ["hunter2", "open sesame", "vb1."] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn the_schema_of_events_is_known_to_who_may_hear_them() {
    let (hub, _desk) = hub();
    let mut warden = warden(&hub);
    let info: SchemaInfo = warden.ask_text(bus::SCHEMA, bus::AUDIT).unwrap().payload.parse().unwrap();
    drop(hub.connect("alice", &[]));
    let event = warden.read_topic(bus::AUDIT);
    let json = Schemas::new(&info).unwrap().decode_request(&event.payload).unwrap();
    assert_eq!((json["what"].as_str(), json["subject"].as_str()), (Some("authenticated"), Some("alice")));
}

fn hub() -> (TestHub, Arc<Desk>) {
    let desk = Desk::new();
    (TestHub::with_config(config(&desk, &Arc::new(Rules::default()))), desk)
}

/// Somebody who hears all events from now on.
fn warden(hub: &TestHub) -> RawPeer {
    let mut warden = hub.connect("warden", &["subscribe:bus/audit"]);
    warden.subscribe(bus::AUDIT, SlowConsumer::Disconnect).unwrap();
    warden
}

fn next(warden: &mut RawPeer) -> AuditEvent {
    warden.read_topic(bus::AUDIT).payload.parse().unwrap()
}

fn login(
    peer: &mut RawPeer,
    credentials: &bus::Credentials<'_>,
) -> Result<visorbus_hub::OwnedMessage, visorbus_hub::Error> {
    let payload = OwnedPayload::postcard(credentials).unwrap();
    peer.request(bus::AUTHENTICATE, payload.borrow())
}
