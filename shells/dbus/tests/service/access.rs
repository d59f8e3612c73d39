//! Who may use what: a stranger, somebody known by their user, somebody with a token, and a peer that is no program.

use visorbus_dbus::MessageItem;

use crate::program::expect_refusal;
use crate::thermostat::NAME;
use crate::world::World;

#[test]
fn a_stranger_uses_what_requires_no_authentication_and_nothing_else() {
    let world = World::with_strangers();
    let stranger = world.program();
    assert_eq!(stranger.call(NAME, "WhoIfAny", &[]), Ok(vec!["nobody".into()]));
    assert_eq!(stranger.get(NAME, "Target"), Ok(0f64.into()));
    let before = world.runs();
    expect_refusal(stranger.call(NAME, "Who", &[]), "AuthFailed", "");
    expect_refusal(stranger.get(NAME, "Code"), "AuthFailed", "");
    expect_refusal(stranger.set(NAME, "Target", 20f64.into()), "AuthFailed", "");
    expect_refusal(stranger.set(NAME, "Pin", 1u32.into()), "AuthFailed", "");
    assert_eq!(world.runs(), before, "nothing of these ran");
    assert_eq!(stranger.all(NAME), Ok(vec!["Target".to_owned()]));
    assert_eq!(stranger.get(NAME, "Target"), Ok(0f64.into()), "it is as it was");
}

#[test]
fn somebody_known_by_their_user_does_what_the_policy_says() {
    let world = World::with_panel("\"request:org.example.thermostat1/who\"");
    let panel = world.program();
    assert_eq!(panel.call(NAME, "Who", &[]), Ok(vec!["panel".into()]));
    assert_eq!(panel.call(NAME, "WhoIfAny", &[]), Ok(vec!["panel".into()]));
    let before = world.runs();
    expect_refusal(panel.call(NAME, "Stuck", &[]), "AccessDenied", "org.example.thermostat1/stuck");
    assert_eq!(world.runs(), before);
}

#[test]
fn a_token_says_who_somebody_is_from_then_on() {
    let world = World::with_strangers();
    let program = world.program();
    expect_refusal(program.call(NAME, "Who", &[]), "AuthFailed", "");
    let known = world.authenticated("alice", &["request:org.example.thermostat1/*"]);
    assert_eq!(known.call(NAME, "Who", &[]), Ok(vec!["alice".into()]));
    expect_refusal(known.set(NAME, "Target", 20f64.into()), "AccessDenied", "prop/target/set");
    expect_refusal(program.call(NAME, "Who", &[]), "AuthFailed", "");
    let text = MessageItem::Str("vb1.AAAA".to_owned());
    expect_refusal(program.call("org.visorbus.Bus1", "Authenticate", &[text]), "AuthFailed", "");
    assert_eq!(known.call(NAME, "Who", &[]), Ok(vec!["alice".into()]), "another's failure is not theirs");
}
