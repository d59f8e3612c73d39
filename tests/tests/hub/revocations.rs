//! Tokens that are taken back, accounts and policies that change: what lives on them ends at once, and says why.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use visorbus_auth::{Accounts, AuthToken, Denial, KeyFile, Policy, RevokeAll, Store, TokenRequest};
use visorbus_core::auth::{Claims, Operation};
use visorbus_core::bus::{self, Lasting, Revoked, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::limits::MAX_REVOKED;
use visorbus_core::message::MessagePayload;
use visorbus_hub::info::{Ended, Revoke};
use visorbus_hub::{HubConfig, Limits, LinkOptions, Origin, OwnedMessage, OwnedPayload};
use visorbus_tests::patience::CHANCES;
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};

use crate::desk::{Desk, Disguised, Rules, config};
use crate::harness::{Client, TestHub, claims, request, unix_s};

#[test]
fn a_session_whose_token_is_revoked_is_told_and_cut_off_at_once() {
    let (hub, desk, _) = hub();
    let mut innocent = hub.bystander();
    let (mut other, _) = enter(&hub, &desk, "alice.two", &["request:echo/*"]);
    let mut times = (0..CHANCES).map(|_| {
        let (mut alice, token) = enter(&hub, &desk, "alice", &["request:echo/*"]);
        let start = Instant::now();
        let ended = hub.handle.revoke_token(token.clone()).unwrap();
        let said = alice.read_to_end();
        let took = start.elapsed();
        assert_eq!(ended, Ended { sessions: 1, ..Ended::default() });
        let error = said.iter().find_map(OwnedMessage::error).expect("it is told");
        expect_error::<()>(Err(error), ErrorKind::Authentication, "the token was revoked");
        let mut again = hub.greeted("alice");
        let outcome = again.authenticate(&token.value.to_bytes().unwrap());
        expect_error(outcome, ErrorKind::Authentication, "revoked");
        took
    });
    assert!(times.any(|took| took < Duration::from_millis(100)));
    assert!(other.request("echo/ping", MessagePayload::Empty).is_ok(), "its token is another");
    innocent.is_served();
}

#[test]
fn what_a_cut_off_session_was_asked_and_had_asked_ends_with_it() {
    let (hub, desk, _) = hub();
    let (mut owner, token) = enter(&hub, &desk, "owner", &["request:slow/*"]);
    let mut slow = hub.connect("slow", &[]);
    let mut caller = hub.connect("caller", &["request:owner/*"]);
    caller.send(&request(70, "owner/x"));
    owner.read_call();
    owner.send(&request(71, "slow/x"));
    let asked = slow.read_call();
    hub.handle.revoke_token(token).unwrap();
    expect_error(caller.answer_to(70), ErrorKind::Connection, "owner is gone (the token was revoked");
    let cancel: bus::Cancel<'_> = {
        let notice = slow.read_topic(bus::CANCEL);
        let cancelled = notice.payload.borrow().as_bytes().to_vec();
        postcard::from_bytes(Box::leak(cancelled.into_boxed_slice())).unwrap()
    };
    assert_eq!((cancel.id, cancel.source), (asked.id, "owner"));
}

#[test]
fn a_message_that_came_after_the_token_was_revoked_reaches_no_handler() {
    let (hub, desk, _) = hub();
    let (mut alice, token) = enter(&hub, &desk, "alice", &["request:echo/*"]);
    let before = hub.echoed();
    hub.handle.revoke_token(token).unwrap();
    for id in 0..50 {
        if !alice.try_write_bytes(&crate::harness::wire(&request(1_000 + id, "echo/ping"))) {
            break;
        }
    }
    alice.read_to_end();
    assert_eq!(hub.echoed(), before);
}

#[test]
fn all_tokens_of_a_subject_are_taken_back_by_whoever_may_administer_that_and_by_nobody_else() {
    let (hub, desk, _) = hub();
    let mut innocent = hub.bystander();
    let (mut alice, _) = enter(&hub, &desk, "alice", &["request:**"]);
    let (mut bob, _) = enter(&hub, &desk, "bob", &["request:**", "administer:other"]);
    for revoke in [Revoke::Subject("alice".into()), Revoke::KeyEpoch(1)] {
        let outcome = ask(&mut bob, bus::REVOKE, &revoke);
        expect_error(outcome, ErrorKind::Authorization, "'administer'");
    }
    assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok());
    let (mut admin, _) = enter(&hub, &desk, "admin", &["administer:bus/revoke"]);
    ask(&mut admin, bus::REVOKE, &Revoke::Subject("alice".into())).unwrap();
    alice.read_to_end();
    assert!(bob.request("echo/ping", MessagePayload::Empty).is_ok());
    let outcome = admin.request(bus::REVOKE, MessagePayload::Json(r#"{"key_epoch": 1}"#));
    expect_error(outcome, ErrorKind::Message, "epoch");
    innocent.is_served();
}

#[test]
fn a_token_is_taken_back_by_whoever_has_it() {
    let (hub, desk, _) = hub();
    let mut innocent = hub.bystander();
    let (mut thief, stolen) = enter(&hub, &desk, "alice.thief", &["request:echo/*"]);
    let mut finder = hub.connect("finder", &[]);
    let forged = {
        let mut bytes = stolen.value.to_bytes().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        visorbus_auth::TokenText::encode(&bytes).unwrap()
    };
    let outcome = finder.ask_text(bus::REVOKE, forged.as_str());
    expect_error(outcome, ErrorKind::Authentication, "token");
    assert!(thief.request("echo/ping", MessagePayload::Empty).is_ok());
    finder.ask_text(bus::REVOKE, stolen.value.as_str()).unwrap();
    thief.read_to_end();
    innocent.is_served();
}

#[test]
fn a_renewed_token_carries_the_session_on_and_ends_all_that_show_the_old_one() {
    let (hub, desk, _) = hub();
    let mut innocent = hub.bystander();
    let scopes = &["request:echo/*", "subscribe:news/**", "register:radio"];
    let (mut alice, token) = enter(&hub, &desk, "alice", scopes);
    alice.subscribe("news/**", SlowConsumer::default()).unwrap();
    alice.register("radio").unwrap();
    let bytes = token.value.to_bytes().unwrap();
    let mut copy = hub.greeted("alice.copy");
    copy.authenticate(&bytes).unwrap();

    let answer = alice.ask_text(bus::REFRESH, token.value.as_str()).unwrap();
    let new: AuthToken = answer.payload.parse().unwrap();
    assert_eq!(new.scope, token.scope);
    copy.read_to_end();
    assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok());
    let mut sender = hub.connect("sender", &["notify:news/*", "request:radio/*"]);
    sender.notify("news/today", MessagePayload::Empty);
    alice.read_topic("news/today");
    sender.send(&request(70, "radio/on"));
    assert_eq!(alice.read_call().destination, "radio/on");
    let mut again = hub.greeted("alice.again");
    expect_error(again.authenticate(&bytes), ErrorKind::Authentication, "revoked");
    again.authenticate(&new.value.to_bytes().unwrap()).unwrap();
    innocent.is_served();
}

#[test]
fn a_renewed_token_that_is_used_again_ends_all_that_came_of_it() {
    let directory = tempfile::TempDir::new().unwrap();
    let keys = KeyFile::open_or_create(directory.path().join("root.key")).unwrap();
    let policy = Arc::new(Policy::empty());
    let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
    let hub = TestHub::with_config(HubConfig::with_providers(Arc::clone(&accounts) as _, policy));
    let mut times = (0..CHANCES).map(|_| {
        let token = accounts.mint(&TokenRequest::new("alice", &["request:echo/*"])).unwrap();
        let old = token.value.to_bytes().unwrap();
        let mut alice = hub.greeted("alice");
        alice.authenticate(&old).unwrap();
        alice.ask_text(bus::REFRESH, token.value.as_str()).unwrap();
        assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok());
        let mut thief = hub.greeted("alice.thief");
        let start = Instant::now();
        assert!(thief.authenticate(&old).is_err());
        alice.read_to_end();
        start.elapsed()
    });
    assert!(times.any(|took| took < Duration::from_millis(150)));
}

#[test]
fn a_session_cannot_renew_anothers_token() {
    let (hub, desk, _) = hub();
    let (mut alice, token) = enter(&hub, &desk, "alice", &[]);
    let (mut bob, _) = enter(&hub, &desk, "bob", &["*"]);
    let outcome = bob.ask_text(bus::REFRESH, token.value.as_str());
    expect_error(outcome, ErrorKind::Authentication, "a session of 'bob' cannot renew a token of 'alice'");
    for text in ["", "vb1.", "vb1.aaaa", "secret"] {
        let error = bob.ask_text(bus::REFRESH, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(text.len() < 6 || !error.text().contains(text), "{error}");
    }
    assert!(alice.read_so_far().is_empty());
}

#[test]
fn a_policy_that_is_read_again_takes_subscriptions_and_names_away_and_leaves_the_session() {
    let (hub, desk, rules) = hub();
    let mut innocent = hub.bystander();
    let mut admin = hub.connect("admin", &["administer:bus/**"]);
    let scopes = &["subscribe:**", "register:**", "request:**"];
    let (mut alice, _) = enter(&hub, &desk, "alice", scopes);
    alice.subscribe("news/**", SlowConsumer::default()).unwrap();
    alice.subscribe("weather/*", SlowConsumer::default()).unwrap();
    alice.register("radio").unwrap();
    alice.register("lamp").unwrap();

    rules.rewrite(|asked| {
        let taken = ["news/today", "radio"]
            .iter()
            .any(|name| asked.resource.matches(visorbus_core::message::Address::literal(name)));
        taken.then_some(Denial::OtherTransport)
    });
    let answer = admin.request(bus::POLICY_RELOAD, MessagePayload::Json("null")).unwrap();
    assert_eq!(
        answer.payload,
        OwnedPayload::Json(r#"{"sessions":0,"subscriptions":1,"components":1}"#.to_owned())
    );
    let told = [revoked(&mut alice), revoked(&mut alice)];
    assert_eq!(told[0], (Lasting::Subscription, "news/**".to_owned()));
    assert_eq!(told[1], (Lasting::Component, "radio".to_owned()));
    let mut sender = hub.connect("sender", &["notify:**", "request:**"]);
    sender.notify("news/today", MessagePayload::Empty);
    sender.notify("weather/today", MessagePayload::Empty);
    sender.read_so_far();
    let topics: Vec<String> = alice.read_so_far().into_iter().map(|message| message.destination).collect();
    assert_eq!(topics, ["weather/today"]);
    expect_error(
        sender.request("radio/on", MessagePayload::Empty),
        ErrorKind::Message,
        "nobody serves 'radio'",
    );
    let again = alice.subscribe("news/**", SlowConsumer::default());
    expect_error(again, ErrorKind::Authorization, "not allow this over this transport");
    innocent.is_served();
}

#[test]
fn a_policy_with_an_error_changes_nothing_and_says_where_it_is() {
    let (hub, desk, _) = hub();
    let mut admin = hub.connect("admin", &["administer:bus/**"]);
    let (mut alice, _) = enter(&hub, &desk, "alice", &["subscribe:**"]);
    alice.subscribe("news/**", SlowConsumer::default()).unwrap();
    let outcome = admin.request(bus::POLICY_RELOAD, MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Message, "line 3: no such operation 'requst'");
    assert!(hub.handle.reload().is_err());
    let mut sender = hub.connect("sender", &["notify:**"]);
    sender.notify("news/today", MessagePayload::Empty);
    alice.read_topic("news/today");
}

#[test]
fn only_who_may_administer_it_has_accounts_or_policy_read_again() {
    let (hub, _desk, rules) = hub();
    rules.rewrite(|_| Some(Denial::OtherTime));
    let mut peer = hub.connect("peer", &["request:**", "notify:**", "subscribe:**"]);
    for address in [bus::AUTH_RELOAD, bus::POLICY_RELOAD] {
        let outcome = peer.request(address, MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authorization, "'administer'");
    }
    assert!(peer.request("echo/ping", MessagePayload::Empty).is_ok(), "the policy is what it was");
}

#[test]
fn a_subscription_ends_with_its_time_window_though_nothing_is_sent() {
    let desk = Desk::new();
    let rules = Rules::new(|asked| {
        let over = asked.operation == Operation::Subscribe && asked.unix_now >= WINDOW.load(Ordering::SeqCst);
        over.then_some(Denial::OtherTime)
    });
    let end = unix_s() + 2;
    WINDOW.store(end, Ordering::SeqCst);
    rules.changes_at.store(end, Ordering::SeqCst);
    let hub = TestHub::with_config(config(&desk, &rules));
    let (mut alice, _) = enter(&hub, &desk, "alice", &["subscribe:**"]);
    alice.subscribe("news/**", SlowConsumer::default()).unwrap();
    let told = alice.read_topic(bus::REVOKED);
    assert!(unix_s() >= end && unix_s() <= end + 1);
    let told: Revoked<'_> =
        told.payload.borrow().parse().map(|told: Revoked<'_>| Revoked { ..told }).unwrap();
    assert!(told.reason.contains("at this time of day"), "{told:?}");
}

#[test]
fn a_board_whose_token_is_revoked_has_to_say_hello_again() {
    let (hub, desk, _) = hub();
    let mut innocent = hub.bystander();
    let mut board = line(&hub);
    board.hello("imu").unwrap();
    let token = desk.make("imu", &["request:echo/*"]);
    board.authenticate(&token.value.to_bytes().unwrap()).unwrap();
    assert!(board.request("echo/ping", MessagePayload::Empty).is_ok());
    hub.handle.revoke(RevokeAll::Subject("imu".into())).unwrap();
    board.read_topic(bus::GOODBYE);
    let outcome = board.request("echo/ping", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Protocol, "say hello first");
    board.hello("imu").unwrap();
    let outcome = board.authenticate(&token.value.to_bytes().unwrap());
    expect_error(outcome, ErrorKind::Authentication, "revoked");
    innocent.is_served();
}

#[test]
fn a_board_that_checks_tokens_is_told_what_was_taken_back_once_it_knows_the_hub_and_when_more_is() {
    let (hub, desk, _) = hub();
    hub.handle.revoke(RevokeAll::Subject("mallory".into())).unwrap();
    let mut board = hub.attach();
    let capabilities = bus::REQUIRES_AUTHENTICATION;
    board.hello_as(&bus::Identity { capabilities, ..identity("imu") }).unwrap();
    let token = desk.make("imu", &[]);
    board.authenticate(&token.value.to_bytes().unwrap()).unwrap();
    let proof = board.read_where(|message| message.destination == bus::AUTHENTICATE);
    hub.handle.revoke(RevokeAll::Subject("eve".into())).unwrap();
    assert!(board.read_so_far().is_empty(), "it does not know the hub yet");
    let answer = proof.borrow().unwrap().answer(visorbus_core::message::MessageType::Response);
    board.send(&answer);
    let mut told: Vec<String> = (0..2).map(|_| told_revoked(&mut board)).collect();
    told.sort();
    assert_eq!(told, ["eve", "mallory"]);
    hub.handle.revoke(RevokeAll::Subject("trudy".into())).unwrap();
    assert_eq!(told_revoked(&mut board), "trudy");
    hub.handle.reload().unwrap_err();
    assert!(board.read_so_far().is_empty(), "what it knows is not said again");
}

#[test]
fn a_board_is_told_no_more_names_than_it_keeps_however_many_were_revoked() {
    let (hub, desk, _) = hub();
    for number in 0..200 {
        hub.handle.revoke(RevokeAll::Subject(format!("mallory{number}"))).unwrap();
    }
    let mut board = hub.attach();
    let capabilities = bus::REQUIRES_AUTHENTICATION;
    board.hello_as(&bus::Identity { capabilities, ..identity("imu") }).unwrap();
    board.authenticate(&desk.make("imu", &[]).value.to_bytes().unwrap()).unwrap();
    let proof = board.read_where(|message| message.destination == bus::AUTHENTICATE);
    board.send(&proof.borrow().unwrap().answer(visorbus_core::message::MessageType::Response));
    let told = board.read_so_far();
    let told = told.iter().filter(|message| message.destination == bus::REVOKE).count();
    assert!((1..=MAX_REVOKED + 1).contains(&told), "{told}");
    for number in 0..20 {
        hub.handle.revoke(RevokeAll::Subject(format!("eve{number}"))).unwrap();
    }
    let told = board.read_so_far().len();
    assert!(told <= 40, "each, and the moment for what it pushes out: {told}");
}

#[test]
fn one_without_any_right_that_takes_forged_tokens_back_costs_nobody_else_anything() {
    let (hub, desk, rules) = hub();
    let mut innocent = hub.bystander();
    let (mut reader, _) = enter(&hub, &desk, "reader", &["subscribe:**"]);
    for number in 0..50 {
        reader.subscribe(&format!("news{number}/**"), SlowConsumer::default()).unwrap();
    }
    let mut warden = hub.connect("warden", &["subscribe:bus/audit"]);
    warden.subscribe(bus::AUDIT, SlowConsumer::Disconnect).unwrap();
    let forged = {
        let mut bytes = desk.make("reader", &[]).value.to_bytes().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        visorbus_auth::TokenText::encode(&bytes).unwrap()
    };
    let mut mallory = hub.connect("mallory", &[]);
    let (before, start) = (rules.asked(), Instant::now());
    for _ in 0..200 {
        let outcome = mallory.ask_text(bus::REVOKE, forged.as_str());
        expect_error(outcome, ErrorKind::Authentication, "token");
    }
    let asked = rules.asked() - before;
    let told = warden.read_so_far().len();
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!(told <= 10 * seconds, "{told} events in {seconds} s");
    assert!(asked <= 2 * told + 20, "{asked} questions to the policy");
    innocent.is_served();
}

#[test]
fn one_who_renews_and_takes_back_tokens_without_end_has_all_asked_about_now_and_then_only() {
    let (hub, desk, rules) = hub();
    let (mut reader, _) = enter(&hub, &desk, "reader", &["subscribe:**"]);
    for number in 0..50 {
        reader.subscribe(&format!("news{number}/**"), SlowConsumer::default()).unwrap();
    }
    let (mut alice, _) = enter(&hub, &desk, "alice", &[]);
    let (before, start) = (rules.asked(), Instant::now());
    for _ in 0..100 {
        let token = desk.make("alice", &[]);
        alice.ask_text(bus::REVOKE, token.value.as_str()).unwrap();
    }
    let looks = (rules.asked() - before) / 50;
    let allowed = start.elapsed().as_millis() as usize / 20 + 3;
    assert!(looks <= allowed, "{looks} looks at everything, {allowed} allowed");
}

#[test]
fn a_session_whose_token_has_expired_and_was_not_renewed_ends_and_says_why() {
    let (desk, rules) = (Desk::new(), Arc::new(Rules::default()));
    let limits = Limits { expired_s: 1, ..Limits::default() };
    let hub = TestHub::with_config(HubConfig { limits, ..config(&desk, &rules) });
    let until = |seconds| hub.mint(&Claims { subject: "radio", expiry: unix_s() + seconds, ..claims() });
    let mut radio = hub.greeted("radio");
    radio.authenticate(&until(2)).unwrap();
    let mut renewed = hub.greeted("radio.two");
    renewed.authenticate(&until(2)).unwrap();
    let mut board = line(&hub);
    board.hello("radio.board").unwrap();
    board.authenticate(&until(2)).unwrap();
    renewed.authenticate(&hub.token("radio", &["request:echo/*"])).unwrap();
    let start = Instant::now();
    hub.wait_until(|peers| peers.iter().all(|peer| !["radio", "radio.board"].contains(&&*peer.name)));
    assert!(start.elapsed() >= Duration::from_secs(1), "an expired token alone ends nothing");
    let said = radio.read_to_end();
    let error = said.iter().find_map(OwnedMessage::error).expect("it is told");
    expect_error::<()>(Err(error), ErrorKind::Authentication, "has expired and was not renewed");
    board.read_topic(bus::GOODBYE);
    board.hello("radio.board").unwrap();
    assert!(renewed.request("echo/ping", MessagePayload::Empty).is_ok(), "who renews notices nothing");
    hub.connect("radio", &[]);
}

#[test]
fn accounts_that_change_on_disk_reach_the_hub_though_nobody_tells_it() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("accounts.json");
    let keys = || KeyFile::open_or_create(directory.path().join("root.key")).unwrap();
    let policy = Arc::new(Policy::empty());
    let accounts = |store| Arc::new(Accounts::new(Arc::new(store), keys(), Arc::clone(&policy)));
    let own = accounts(Store::open_or_create(&path).unwrap());
    let hub =
        TestHub::with_config(HubConfig::with_providers(Arc::clone(&own) as _, Arc::clone(&policy) as _));
    let token = own.mint(&TokenRequest::new("alice", &[])).unwrap();
    let mut alice = hub.greeted("alice");
    alice.authenticate(&token.value.to_bytes().unwrap()).unwrap();
    let other = accounts(Store::open(&path).unwrap());
    visorbus_auth::AuthenticationProvider::revoke_token(&*other, &token).unwrap();
    hub.wait_until(|peers| peers.is_empty());
    let said = alice.read_to_end();
    let error = said.iter().find_map(OwnedMessage::error).expect("it is told");
    expect_error::<()>(Err(error), ErrorKind::Authentication, "the token was revoked");
}

#[test]
fn a_session_is_told_what_it_may_do() {
    let (hub, desk, _) = hub();
    let (mut alice, _) = enter(&hub, &desk, "alice", &["request:echo/*", "imu.control"]);
    let answer = alice.request(bus::PERMISSIONS, MessagePayload::Json("null")).unwrap();
    let OwnedPayload::Json(text) = &answer.payload else { panic!("{answer:?}") };
    let told: Vec<visorbus_auth::Permission> = serde_json::from_str(text).unwrap();
    let told: Vec<(&str, &str)> = told.iter().map(|p| (p.operation.as_str(), p.resource.as_str())).collect();
    assert_eq!(told, [("request", "echo/*"), ("scope", "imu.control")]);
}

static WINDOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(u64::MAX);

fn hub() -> (TestHub, Arc<Desk>, Arc<Rules>) {
    let (desk, rules) = (Desk::new(), Arc::new(Rules::default()));
    (TestHub::with_config(config(&desk, &rules)), desk, rules)
}

/// Whoever is at the far end of a line.
fn line(hub: &TestHub) -> RawPeer {
    RawPeer::attach_by(&hub.handle, |inner| {
        let options = LinkOptions { lossy: true, ..LinkOptions::default() };
        let origin = Origin::Serial { path: "/dev/test".to_owned() };
        Box::new(Disguised { inner, origin, options, key: Arc::default() })
    })
}

/// A peer with a session by a token of its own, which was made for its name up to the first dot.
fn enter(hub: &TestHub, desk: &Desk, name: &str, scopes: &[&str]) -> (RawPeer, AuthToken) {
    let token = desk.make(name.split('.').next().unwrap(), scopes);
    let mut peer = hub.greeted(name);
    peer.authenticate(&token.value.to_bytes().unwrap()).unwrap();
    (peer, token)
}

fn ask<T: serde::Serialize>(
    peer: &mut RawPeer,
    address: &str,
    value: &T,
) -> Result<OwnedMessage, visorbus_hub::Error> {
    let payload = OwnedPayload::postcard(value).unwrap();
    peer.request(address, payload.borrow())
}

/// Whose tokens the next word to a board takes back.
fn told_revoked(board: &mut RawPeer) -> String {
    let told = board.read_topic(bus::REVOKE);
    let payload = told.payload.borrow();
    payload.parse::<bus::Revoke<'_>>().unwrap().subject.to_owned()
}

/// What the next word on something taken away says.
fn revoked(peer: &mut RawPeer) -> (Lasting, String) {
    let told = peer.read_topic(bus::REVOKED);
    let payload = told.payload.borrow();
    let told: Revoked<'_> = payload.parse().unwrap();
    (told.what, told.name.to_owned())
}
