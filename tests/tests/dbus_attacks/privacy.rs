//! What goes to one program reaches no other: not by match rules, not by asking to eavesdrop.

use dbus::MessageType;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::OwnedMessage;
use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::program::Program;
use crate::world::{Setup, World};

/// As the system's bus has it; a session's bus lets programs of the same user listen in, who could also read each other's
/// memory.
const NO_EAVESDROPPING: &str = "<policy context=\"mandatory\">\
    <deny receive_type=\"signal\" eavesdrop=\"true\"/><deny receive_type=\"method_call\" eavesdrop=\"true\"/>\
    <deny receive_type=\"method_return\" eavesdrop=\"true\"/><deny receive_type=\"error\" eavesdrop=\"true\"/></policy>";

#[test]
fn a_notification_is_seen_by_its_subscriber_and_nobody_else() {
    let daemon = Setup::on_a_bus_with(NO_EAVESDROPPING);
    let broker = DbusDaemon::broker().map(|bus| Setup { bus, ..Setup::default() });
    for setup in [Some(daemon), broker].into_iter().flatten() {
        let world = World::of(setup);
        let subscriber = world.authenticated("reader", &["subscribe:vault/**", "request:vault/*"]);
        subscriber.subscribe("vault/**").unwrap();
        let spy = world.program();
        for rule in [
            "type='signal'",
            "type='signal',interface='org.visorbus.Bus1'",
            "type='signal',sender='org.visorbus.Bus1'",
            "eavesdrop='true'",
            "eavesdrop='true',type='signal'",
            "eavesdrop='true',type='method_return'",
            "eavesdrop='true',type='method_call'",
        ] {
            // A bus that refuses a rule is as good.
            let _ = spy.ask_bus("AddMatch", rule);
        }
        let other = world.authenticated("other", &["request:vault/*"]);
        publish(&world, "a secret");
        let heard = subscriber.signal("Notification");
        assert!(format!("{heard:?}").contains("a secret"), "{heard:?}");
        assert_eq!(subscriber.call_address("vault/open", "another secret").as_deref(), Ok("another secret"));
        for program in [&spy, &other] {
            let seen = said(program);
            assert!(!seen.contains("secret"), "{seen}");
        }
        world.is_unharmed_after(1);
    }
}

#[test]
fn what_is_subscribed_to_by_others_or_by_nobody_is_not_sent() {
    let world = World::start();
    let reader = world.authenticated("reader", &["subscribe:vault/news", "request:vault/*"]);
    reader.subscribe("vault/news").unwrap();
    assert!(
        reader.subscribe("vault/**").is_err()
            && reader.subscribe("**").is_err()
            && reader.subscribe("bus/audit").is_err()
    );
    let stranger = world.program();
    assert!(stranger.subscribe("vault/news").is_err());
    let _ = stranger.ask_bus("AddMatch", "type='signal'");
    publish(&world, "for readers");
    assert!(format!("{:?}", reader.signal("Notification")).contains("for readers"));
    assert!(!said(&stranger).contains("for readers"));
    // Another program of the same subject is another program.
    let twin = world.authenticated("reader", &["subscribe:vault/news"]);
    publish(&world, "once more");
    assert!(format!("{:?}", reader.signal("Notification")).contains("once more"));
    assert!(!said(&twin).contains("once more"));
    // Who has left hears nothing, and its name is nobody's.
    drop(reader);
    world.wait_for_peers(|peers| peers.iter().filter(|peer| peer.name.starts_with("reader")).count() == 1);
    world.is_unharmed();
}

/// The registered interface's signals that need authentication.
#[test]
fn signals_of_an_interface_go_to_those_who_may_have_them() {
    let world = World::start();
    let address = "org.example.settings1";
    let scopes = [format!("request:{address}/**"), format!("subscribe:{address}/**")];
    let user = world.authenticated("user", &[&scopes[0], &scopes[1]]);
    user.call(crate::settings::NAME, "Guarded", &["hello".into()]).unwrap();
    let asker = world.authenticated("asker", &[&scopes[0]]);
    asker.call(crate::settings::NAME, "Guarded", &["hello".into()]).unwrap();
    let stranger = world.program();
    let _ = stranger.ask_bus("AddMatch", "type='signal'");
    world.door.emit_signal(crate::settings::NAME, "Private", &["a secret".into()]).unwrap();
    assert_eq!(user.signal("Private"), ["a secret".into()]);
    for program in [&asker, &stranger] {
        let seen = said(program);
        assert!(!seen.contains("a secret"), "{seen}");
    }
    world.is_unharmed_after(2);
}

/// The hub's own handler publishes on `vault/news`.
fn publish(world: &World, text: &str) {
    let news =
        Message::notification(0, Address::literal("vault/news")).with_payload(MessagePayload::String(text));
    world.handle.publish(OwnedMessage::from(&news)).unwrap();
}

/// All that a program has seen so far, but its own calls' answers.
fn said(program: &Program) -> String {
    let seen = program.so_far();
    let seen = seen.iter().filter(|message| message.msg_type() != MessageType::Error);
    seen.map(|message| format!("{:?} {:?}\n", message.member(), message.get_items())).collect()
}
