//! Names and passwords, API keys, and what a channel knows of its other end: guessed, stolen, or claimed where the
//! channel knows nothing.

use std::os::fd::BorrowedFd;

use visorbus_auth::{AuditKind, Secret};
use visorbus_core::Instant;
use visorbus_core::bus::Credentials;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::{Error, HubLink, LinkOptions, Origin, ReceiveBuffer};
use visorbus_tests::raw_peer::{RawPeer, expect_error};
use visorbus_tests::signalled::Signalled;
use visorbus_unix::FramedStream;

use crate::transports::{Transport, over_every_transport};
use crate::world::{Says, World};

over_every_transport! {
    a_password_and_an_api_key_let_one_in_and_wrong_ones_do_not
    guessing_is_slowed_down_and_locks_nobody_out
    a_login_proves_its_own_name_and_no_other
    what_the_channel_does_not_vouch_for_is_refused
    whoever_is_shut_out_is_told_what_a_guesser_is_told
}

fn a_password_and_an_api_key_let_one_in_and_wrong_ones_do_not<T: Transport>() {
    if T::IS_OPEN {
        return nothing_secret_is_taken_over_an_open_line::<T>();
    }
    let (world, key) = world();
    let mut alice = world.greeted::<T>("alice");
    let mut wrong = key.expose().to_owned();
    for at in [5, 10, 16, 18, wrong.len() - 1] {
        let digit = if &wrong[at..=at] == "0" { "1" } else { "0" };
        wrong.replace_range(at..=at, digit);
        expect_error(alice.show(&Credentials::ApiKey(&wrong)), ErrorKind::Authentication, WRONG);
        wrong = key.expose().to_owned();
    }
    for cut in [0, 4, 5, 17, 18, wrong.len() - 1] {
        expect_error(alice.show(&Credentials::ApiKey(&wrong[..cut])), ErrorKind::Authentication, WRONG);
    }
    for guess in ["", "Open Sesame", "open sesame ", "open sesam"] {
        // From the fourth on one has to wait, whatever it is.
        assert!(alice.show(&password("alice", guess)).is_err(), "{guess}");
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("alice"), WRONG);
    world.is_nobody::<T>(&mut alice);
    alice.show(&Credentials::ApiKey(key.expose())).unwrap();
    assert!(alice.request("vault/open", MessagePayload::Empty).is_ok());
    // By name and password it is the same.
    let (world, _) = self::world();
    let mut alice = world.greeted::<T>("alice");
    alice.show(&password("alice", PASSWORD)).unwrap();
    assert!(alice.request("vault/open", MessagePayload::Empty).is_ok());
    let event = world.audited(|event| {
        event.what == "authenticated" && event.subject == "alice" && event.method == "password"
    });
    assert_eq!(event.transport, T::KIND.as_str());
    world.is_unharmed_after(1);
}

fn guessing_is_slowed_down_and_locks_nobody_out<T: Transport>() {
    if T::IS_OPEN {
        return nothing_secret_is_taken_over_an_open_line::<T>();
    }
    let (world, _) = world();
    // Alice has logged in before, from where she is.
    let mut alice = elsewhere(&world, "alice.phone");
    alice.show(&password("alice", PASSWORD)).unwrap();
    let mut guesser = world.greeted::<T>("alice");
    let slow = |error: &Error| {
        error.kind() == ErrorKind::Message && error.text().contains("too many wrong attempts: try again in")
    };
    let mut guess_until_slow = |names: &mut dyn Iterator<Item = String>| {
        let mut guesses = 0;
        loop {
            let error = guesser.show(&password(&names.next().unwrap(), "12345")).unwrap_err();
            if slow(&error) {
                return guesses;
            }
            expect_error::<()>(Err(error), ErrorKind::Authentication, WRONG);
            guesses += 1;
            assert!(guesses < 20, "nobody is slowed down");
        }
    };
    // A machine that is busy gives some time to guess in: for one more each time, twice as much.
    let begun = std::time::Instant::now();
    let more = || (begun.elapsed().as_secs() + 1).ilog2();
    let of_alice = guess_until_slow(&mut std::iter::repeat_with(|| "alice".to_owned()));
    assert!((3..7 + more()).contains(&of_alice), "{of_alice}");
    // Trying others does not help for long, whether there are such users or not.
    let of_others = guess_until_slow(&mut (0..).map(|number| format!("user{number}")));
    assert!(of_alice + of_others <= 14 + 2 * more(), "{of_alice} and {of_others}");
    // Nor does the right password at last: that would tell.
    let error = guesser.show(&password("bob", PASSWORD)).unwrap_err();
    assert!(slow(&error), "{error}");
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("alice"), "");
    // Meanwhile neither of them is bothered elsewhere.
    alice.show(&password("alice", PASSWORD)).unwrap();
    elsewhere(&world, "bob").show(&password("bob", PASSWORD)).unwrap();
    world.is_unharmed();
}

fn a_login_proves_its_own_name_and_no_other<T: Transport>() {
    if T::IS_OPEN {
        return nothing_secret_is_taken_over_an_open_line::<T>();
    }
    let (world, key) = world();
    let mut thief = world.greeted::<T>("victim");
    for credentials in [password("alice", PASSWORD), Credentials::ApiKey(key.expose())] {
        let text = "'alice' does not prove the name 'victim'";
        expect_error(thief.show(&credentials), ErrorKind::Authentication, text);
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("victim"), "does not prove the name");
    world.is_nobody::<T>(&mut thief);
}

fn what_the_channel_does_not_vouch_for_is_refused<T: Transport>() {
    let (world, _) = world();
    let mut mallory = world.greeted::<T>("mallory");
    let outcome = mallory.show(&Credentials::Certificate);
    expect_error(outcome, ErrorKind::Authentication, "this connection shows no certificate");
    // What a channel tells of its user counts only where the policy maps that user.
    let (kind, text) = match (T::KNOWS_USER, T::HAS_FRAMES) {
        (true, _) => (ErrorKind::Authentication, "the policy knows neither user"),
        (false, true) => (ErrorKind::Authentication, "this connection shows no user"),
        // There are no words for it.
        (false, false) => (ErrorKind::Protocol, "Authenticate"),
    };
    expect_error(mallory.show(&Credentials::Peer), kind, text);
    // Nobody brings them along.
    for claimed in
        [r#"{"certificate": "MIIB"}"#, r#"{"peer": {"uid": 0, "gid": 0}}"#, r#"{"certificate": [48, 130]}"#]
    {
        assert!(
            mallory.request(visorbus_core::bus::AUTHENTICATE, MessagePayload::Json(claimed)).is_err(),
            "{claimed}"
        );
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "prove yourself by something else");
    world.is_nobody::<T>(&mut mallory);
}

fn whoever_is_shut_out_is_told_what_a_guesser_is_told<T: Transport>() {
    if T::IS_OPEN {
        return nothing_secret_is_taken_over_an_open_line::<T>();
    }
    let (world, key) = world();
    world.accounts.store().disable("alice").unwrap();
    let mut alice = world.greeted::<T>("alice");
    expect_error(alice.show(&password("alice", PASSWORD)), ErrorKind::Authentication, WRONG);
    expect_error(alice.show(&password("nobody", PASSWORD)), ErrorKind::Authentication, WRONG);
    // Who has the whole key may know.
    let outcome = alice.show(&Credentials::ApiKey(key.expose()));
    expect_error(outcome, ErrorKind::Authentication, "this API key is stopped");
    // Nor has a link key let in its board.
    world.is_audited::<T>(AuditKind::Refused, "alice?", "stopped");
    world.is_unharmed();
}

/// Right or wrong, whosever it is: it is not even looked at, so that nobody reads along, and nobody guesses.
fn nothing_secret_is_taken_over_an_open_line<T: Transport>() {
    let (world, key) = world();
    let mut alice = world.greeted::<T>("alice");
    let secrets = [
        password("alice", PASSWORD),
        password("alice", "wrong"),
        password("nobody", PASSWORD),
        Credentials::ApiKey(key.expose()),
        Credentials::ApiKey("vbk1."),
    ];
    for credentials in secrets.iter().cycle().take(20) {
        expect_error(alice.show(credentials), ErrorKind::Authentication, "this line has no key");
    }
    world.is_audited::<T>(AuditKind::Refused, "alice?", "this line has no key");
    world.is_nobody::<T>(&mut alice);
}

/// A hub that knows alice, bob, and a key of alice's.
fn world() -> (World, Secret) {
    let world = World::start();
    let scopes = ["request:vault/*".to_owned()];
    for name in ["alice", "bob"] {
        world.accounts.store().add_user(name, &Secret::new(PASSWORD), &scopes).unwrap();
    }
    let key = world.accounts.store().add_api_key("alice", &scopes, None).unwrap();
    (world, key)
}

/// Somebody who has said hello, on a socket of another user.
fn elsewhere(world: &World, name: &str) -> RawPeer {
    let mut peer = RawPeer::attach_by(&world.handle, |inner| Box::new(Elsewhere(inner)));
    peer.hello(name).unwrap();
    peer
}

/// Whoever the bus tells of is named by the hub, and only the bus says which user that is.
#[test]
fn a_program_of_a_desktop_bus_is_who_the_policy_says_of_its_user() {
    let policy = "[[unix]]\nuid = 1000\nsubject = \"panel\"\nscopes = [\"request:vault/*\"]\n\
                  [[unix]]\ngid = 50\nsubject = \"staff\"\nscopes = [\"request:vault/*\"]\n";
    let world = World::with_policy(policy);
    let comes = |uid, gid, name: &str| {
        let origin = Origin::DBus { uid, gid, pid: Some(1), unique_name: format!(":1.{name}") };
        let options = LinkOptions { suffix: Some(name.to_owned()), ..LinkOptions::default() };
        let mut peer =
            RawPeer::attach_by(&world.handle, |inner| Box::new(Signalled::new(inner, origin, options)));
        // What it calls itself is nothing.
        peer.hello("bystander").unwrap();
        peer
    };
    let mut panel = comes(Some(1000), None, "d1");
    panel.show(&Credentials::Peer).unwrap();
    panel.request("vault/open", MessagePayload::Empty).unwrap();
    let event = world.audited(|event| event.subject == "panel.d1" || event.subject == "panel");
    assert_eq!((event.transport.as_str(), event.method.as_str()), ("dbus", "peer"));
    let mut staff = comes(Some(2000), Some(50), "d2");
    staff.show(&Credentials::Peer).unwrap();
    for (uid, gid, text) in [
        (Some(2000), None, "the policy knows neither user 2000"),
        (Some(50), None, "the policy knows neither user 50"),
        (Some(0), None, "the policy knows neither user 0"),
        (Some(0), Some(0), "the policy knows neither user 0"),
        (None, None, "this connection shows no user"),
        (None, Some(50), "this connection shows no user"),
    ] {
        let mut nobody = comes(uid, gid, "d3");
        expect_error(nobody.show(&Credentials::Peer), ErrorKind::Authentication, text);
        let outcome = nobody.request("vault/open", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    world.is_unharmed_after(1);
}

/// A socket of another user.
struct Elsewhere(FramedStream);

impl HubLink for Elsewhere {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.fd()
    }
    fn receive(&mut self, into: &mut ReceiveBuffer) -> std::io::Result<()> {
        self.0.receive(into)
    }
    fn keep(&mut self, rest: &[u8]) {
        self.0.keep(rest);
    }
    fn has_room(&mut self, head: u8, len: usize) -> bool {
        self.0.has_room(head, len)
    }
    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> std::io::Result<()> {
        self.0.send(head, payload, at_once)
    }
    fn flush(&mut self, now: Instant) -> std::io::Result<bool> {
        self.0.flush(now)
    }
    fn origin(&self) -> Origin {
        Origin::Unix { uid: 4242, gid: 4242, pid: 1 }
    }
    fn options(&self) -> LinkOptions {
        self.0.options()
    }
}

/// How the audit names somebody who has not proven anything: on a line with a key, that was proven before.
fn shown<T: Transport>(name: &str) -> String {
    if T::IS_KEYED { name.to_owned() } else { format!("{name}?") }
}

const fn password<'a>(username: &'a str, password: &'a str) -> Credentials<'a> {
    Credentials::UsernamePassword { username, password }
}

const PASSWORD: &str = "open sesame";
const WRONG: &str = "the name or the secret is wrong";
