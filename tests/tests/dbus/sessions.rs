//! Who a program on the bus is to the hub, and for how long.

use std::time::{Duration, Instant};

use dbus::Message;
use visorbus_auth::RevokeAll;
use visorbus_hub::info::PeerInfo;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::ask_until;

use crate::world::{Program, World, call_of, error_of};

#[test]
fn a_program_is_who_the_policy_says_its_user_is() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    assert_eq!(program.call("vault/open", "again").unwrap(), "again");
    let peers = world.peers_of("panel");
    assert_eq!(peers.len(), 1, "one session serves all calls: {peers:?}");
    assert!(peers[0].authenticated);
    world.is_unharmed_after(2);
}

#[test]
fn a_program_whose_user_nobody_knows_reaches_nothing() {
    let bus = DbusDaemon::start();
    let world = World::of_strangers(&bus).named();
    let program = Program::new(&bus);
    for _ in 0..3 {
        let (name, text) = error_of(program.call("vault/open", "sesame"));
        assert_eq!(name, "org.freedesktop.DBus.Error.AuthFailed");
        assert!(text.contains("the policy knows neither user"), "{text}");
    }
    world.is_unharmed_after(0);
}

#[test]
fn a_session_ends_when_its_program_leaves_in_the_middle_of_a_call() {
    leaves_in_the_middle(&DbusDaemon::start());
}

#[test]
fn a_session_ends_when_its_program_leaves_a_broker_in_the_middle_of_a_call() {
    if let Some(bus) = DbusDaemon::broker() {
        leaves_in_the_middle(&bus);
    }
}

fn leaves_in_the_middle(bus: &DbusDaemon) {
    let world = World::start(bus).named();
    world.gate.shut();
    let program = Program::new(bus);
    program.send(call_of("slow/open", "sesame"));
    world.gate.has_waiting(1);
    assert_eq!(world.peers_of("panel").len(), 1);
    drop(program);
    ask_until(|| world.peers_of("panel").len(), |count| *count == 0);
    let statistics = ask_until(|| world.door.statistics(), |statistics| statistics.senders == 0);
    assert_eq!((statistics.sessions, statistics.waiting), (0, 0));
    world.gate.open();
    ask_until(|| world.runs(), |runs| *runs == 1);
    world.is_unharmed_after(1);
    assert_eq!(Program::new(bus).call("vault/open", "who is there?").unwrap(), "who is there?");
}

#[test]
fn a_token_puts_another_session_in_the_place_of_the_first() {
    let bus = DbusDaemon::start();
    let world = World::of_strangers(&bus).named();
    let program = Program::new(&bus);
    assert!(program.call("vault/open", "sesame").is_err());
    let token = world.token("alice", &["request:vault/*"]);
    program.authenticate(token.value.as_str()).unwrap();
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    assert_eq!(world.peers_of("alice").len(), 1);
    let token = world.token("bob", &["request:slow/*"]);
    program.authenticate(token.value.as_str()).unwrap();
    assert!(program.call("vault/open", "sesame").is_err(), "what alice may is not what bob may");
    assert_eq!(program.call("slow/open", "sesame").unwrap(), "sesame");
    ask_until(|| (world.peers_of("alice").len(), world.peers_of("bob").len()), |counts| *counts == (0, 1));
    world.is_unharmed_after(2);
}

#[test]
fn a_token_that_is_refused_leaves_the_session_that_there_is() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    let foreign = visorbus_auth::Accounts::new(
        std::sync::Arc::new(visorbus_auth::Store::in_memory()),
        visorbus_auth::KeyFile::in_memory(1, [8; 32]),
        std::sync::Arc::new(visorbus_auth::Policy::empty()),
    );
    let foreign = foreign.mint(&visorbus_auth::TokenRequest::new("alice", &["*"])).unwrap();
    for token in [foreign.value.as_str(), "vb1.nothing", ""] {
        let (name, text) = error_of(program.authenticate(token));
        assert!(!text.contains(foreign.value.as_str()), "{name}: {text}");
    }
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    assert_eq!(world.peers_of("panel").len(), 1);
    world.is_unharmed_after(2);
}

#[test]
fn one_program_is_nothing_to_another_of_the_same_user() {
    let bus = DbusDaemon::start();
    let world = World::of_strangers(&bus).named();
    let (alice, other) = (Program::new(&bus), Program::new(&bus));
    alice.authenticate(world.token("alice", &["request:vault/*"]).value.as_str()).unwrap();
    assert_eq!(alice.call("vault/open", "sesame").unwrap(), "sesame");
    assert!(other.call("vault/open", "sesame").is_err());
    world.is_unharmed_after(1);
}

#[test]
fn a_token_that_is_taken_back_ends_the_session_and_its_program_is_told() {
    let bus = DbusDaemon::start();
    let world = World::of_strangers(&bus).named();
    let program = Program::new(&bus);
    let token = world.token("alice", &["request:vault/*"]);
    program.authenticate(token.value.as_str()).unwrap();
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    world.handle.revoke_token(token.clone()).unwrap();
    let why: String = program.signal("SessionEnded").read1().unwrap();
    assert!(!why.is_empty() && !why.contains(token.value.as_str()), "{why}");
    assert!(program.call("vault/open", "sesame").is_err());
    assert!(program.authenticate(token.value.as_str()).is_err());
    world.is_unharmed_after(1);
}

#[test]
fn a_token_that_expires_ends_the_session_and_its_program_is_told() {
    let bus = DbusDaemon::start();
    let world = World::of_strangers(&bus).named();
    let program = Program::new(&bus);
    let request = visorbus_auth::TokenRequest::new("alice", &["request:vault/*"]);
    let request = visorbus_auth::TokenRequest { lifetime: std::time::Duration::from_secs(2), ..request };
    let token = world.accounts.mint(&request).unwrap();
    program.authenticate(token.value.as_str()).unwrap();
    let why: String = program.signal("SessionEnded").read1().unwrap();
    assert!(why.contains("expired"), "{why}");
    ask_until(|| world.peers_of("alice").len(), |count| *count == 0);
    assert!(program.call("vault/open", "sesame").is_err());
    world.is_unharmed_after(0);
}

#[test]
fn who_has_shown_a_token_that_allows_less_does_not_have_more_when_it_expires() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    assert_eq!(program.call("vault/open", "as panel").unwrap(), "as panel");
    let request = visorbus_auth::TokenRequest::new("alice", &["request:slow/*"]);
    let request = visorbus_auth::TokenRequest { lifetime: std::time::Duration::from_secs(2), ..request };
    program.authenticate(world.accounts.mint(&request).unwrap().value.as_str()).unwrap();
    assert!(program.call("vault/open", "as alice").is_err());
    let why: String = program.signal("SessionEnded").read1().unwrap();
    assert!(why.contains("expired"), "{why}");
    let (name, text) = error_of(program.call("vault/open", "as panel again?"));
    assert!(
        name == "org.freedesktop.DBus.Error.AuthFailed" && text.contains("show another"),
        "{name}: {text}"
    );
    assert_eq!(world.peers_of("panel").len(), 0);
    // Another token counts, and whoever comes anew is its user.
    program.authenticate(world.token("alice", &["request:vault/*"]).value.as_str()).unwrap();
    assert_eq!(program.call("vault/open", "as alice").unwrap(), "as alice");
    assert_eq!(Program::new(&bus).call("vault/open", "as panel").unwrap(), "as panel");
    world.is_unharmed_after(3);
}

#[test]
fn what_is_published_reaches_who_has_subscribed_and_nobody_else() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let (reader, other) = (Program::new(&bus), Program::new(&bus));
    reader.subscribe("news/**").unwrap();
    assert_eq!(other.call("vault/open", "sesame").unwrap(), "sesame");
    world.publish("news/today", "sunny");
    let (topic, source): (String, String) = reader.signal("Notification").read2().unwrap();
    assert_eq!((topic.as_str(), source.as_str()), ("news/today", "bystander"));
    assert_eq!(other.call("vault/open", "anything else?").unwrap(), "anything else?");
    assert!(
        other.channel.pop_message().is_none_or(|message| message.member().as_deref() == Some("NameAcquired"))
    );
    world.is_unharmed_after(2);
}

#[test]
fn a_session_by_user_that_is_ended_begins_again_with_what_it_was_subscribed_to() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let reader = Program::new(&bus);
    reader.subscribe("news/**").unwrap();
    // A session that ends as soon as it has begun is not begun again by itself.
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_millis(1100) {
        assert_eq!(reader.call("vault/open", "sesame").unwrap(), "sesame");
        calls += 1;
    }
    let before = world.peers_of("panel");
    world.handle.revoke(RevokeAll::Subject("panel".to_owned())).unwrap();
    let is_new = |peers: &Vec<PeerInfo>| peers.len() == 1 && peers[0].name != before[0].name;
    ask_until(|| world.peers_of("panel"), is_new);
    // It hears of it as soon as it is subscribed again.
    let hears = || {
        world.publish("news/today", "sunny");
        let message = reader.channel.blocking_pop_message(Duration::from_millis(10)).unwrap();
        message.and_then(|message| message.member().map(|member| member.to_string()))
    };
    let heard = ask_until(hears, |member| {
        member.as_ref().is_some_and(|member| ["Notification", "SessionEnded"].contains(&member.as_str()))
    });
    assert_eq!(heard.as_deref(), Some("Notification"));
    world.is_unharmed_after(calls);
}

#[test]
fn a_call_whose_session_is_replaced_is_told_that_it_may_have_been_done() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    world.gate.shut();
    let program = Program::new(&bus);
    let serial = program.send(call_of("slow/open", "sesame"));
    world.gate.has_waiting(1);
    program.authenticate(world.token("kiosk", &["request:vault/*"]).value.as_str()).unwrap();
    let mut answer = program.read_where(|message| message.get_reply_serial() == Some(serial));
    let (name, text) = error_of(answer.as_result().map(drop));
    assert_eq!(name, "org.visorbus.Error.Connection");
    assert!(text.contains("it may have been done"), "{text}");
    world.gate.open();
    ask_until(|| world.runs(), |runs| *runs == 1);
}

#[test]
fn a_subject_that_is_short_enough_is_so_for_all_its_sessions() {
    let bus = DbusDaemon::start();
    let world = World::of_strangers(&bus).named();
    let program = Program::new(&bus);
    let longest = "a".repeat(25);
    for _ in 0..4 {
        program.authenticate(world.token(&longest, &["request:vault/*"]).value.as_str()).unwrap();
    }
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    let (_, text) =
        error_of(program.authenticate(world.token(&"a".repeat(26), &["request:vault/*"]).value.as_str()));
    assert!(text.contains("use a subject with a shorter name"), "{text}");
}

#[test]
fn a_component_that_is_not_there_is_an_unknown_object() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    for element in ["nobody", "Nobody", "_"] {
        let path = format!("/org/visorbus/Bus1/components/{element}");
        let describe = ("org.freedesktop.DBus.Introspectable", "Introspect");
        for (interface, member) in [describe, ("org.visorbus.components.Nobody", "Reset")] {
            let call = Message::new_method_call("org.visorbus.Bus1", &*path, interface, member).unwrap();
            let (name, text) = error_of(program.ask(call));
            assert_eq!(name, "org.freedesktop.DBus.Error.UnknownObject", "{path}: {text}");
        }
    }
    world.is_unharmed_after(0);
}
