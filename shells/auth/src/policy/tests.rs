//! The decision attacked: what a rule does not say is refused, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use visorbus_core::auth::{
    Access, BUS, Claims, Context, Grant, Key, KeyRing, Operation, Refusal, Scopes, Slot,
};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Pattern;

use super::*;
use crate::Transport;

/// A day's 12:00 UTC.
const NOON: u64 = 20_000 * 86_400 + 12 * 3600;

const POLICY: &str = r#"
[subjects.imu]
scopes = ["sensor", "notify:imu/**"]

[[unix]]
uid = 1000
subject = "panel"
scopes = ["panel"]

[[unix]]
gid = 50
subject = "staff"

[[certificate]]
uri = "visorbus:panel"
subject = "panel"
scopes = ["panel"]

[[rule]]
scope = "panel"
allow = ["request:imu/*", "subscribe:imu/**"]
max_rate = 5
max_payload = 16
transports = ["unix", "spi"]
from = "08:00"
until = "20:00"

[[rule]]
scope = "sensor"
allow = ["request:config/*", "sensor.calibrate"]
"#;

pub(super) fn grant(subject: &str, scopes: &[&str]) -> Grant {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([1; 32]))).unwrap();
    let (issued_at, expiry) = (NOON - 3600, NOON + 86_400);
    let scopes = Scopes::new(scopes);
    let claims =
        Claims { issuer: BUS, subject, audience: BUS, serial: 1, issued_at, expiry, epoch: 0, scopes };
    let mut token = [0; MAX_TOKEN];
    let len = ring.mint(1, &claims, &mut token).unwrap();
    ring.check(&token[..len], &Context::new(BUS, Some(NOON))).unwrap()
}

fn ask<'a>(grant: &'a Grant, operation: Operation, resource: &'a str) -> Asked<'a> {
    Asked {
        grant: Some(grant),
        operation,
        resource: Pattern::new(resource).unwrap(),
        access: Access::Permission,
        transport: Transport::Unix,
        payload_len: 0,
        unix_now: NOON,
        counts: true,
    }
}

fn may(policy: &Policy, subject: &str, scopes: &[&str], operation: Operation, resource: &str) -> bool {
    policy.is_authorized(&ask(&grant(subject, scopes), operation, resource)).is_ok()
}

fn problem(text: &str) -> String {
    Policy::parse(text).unwrap_err().to_string()
}

#[test]
fn what_no_rule_allows_is_refused() {
    let policy = Policy::parse(POLICY).unwrap();
    assert!(may(&policy, "panel", &["panel"], Operation::Request, "imu/info"));
    for (operation, resource) in [
        (Operation::Notify, "imu/info"),
        (Operation::Register, "imu/info"),
        (Operation::Administer, "imu/info"),
        (Operation::Request, "imu"),
        (Operation::Request, "imu/a/b"),
        (Operation::Request, "imu2/info"),
        (Operation::Request, "bus/peers"),
    ] {
        assert!(!may(&policy, "panel", &["panel"], operation, resource), "{operation} {resource}");
    }
    for scopes in [&[][..], &["panels"], &["pane"], &["panel.x"], &["request:panel"]] {
        assert!(!may(&policy, "panel", scopes, Operation::Request, "imu/info"), "{scopes:?}");
    }
    assert!(!may(&Policy::empty(), "panel", &["panel"], Operation::Request, "imu/info"));
}

#[test]
fn nobody_without_a_grant_or_with_an_expired_one_gets_past_anything_but_what_is_open() {
    let policy = Policy::parse("[[rule]]\nscope = \"panel\"\nallow = [\"*\"]\n").unwrap();
    let grant = grant("panel", &["panel", "*"]);
    let asked = ask(&grant, Operation::Request, "imu/info");
    let refused = |asked: &Asked<'_>| match policy.is_authorized(asked) {
        Err(Denial::Refused(refusal)) => refusal == Refusal::NoGrant || refusal == Refusal::Expired,
        _ => false,
    };
    assert!(policy.is_authorized(&asked).is_ok());
    assert!(refused(&Asked { grant: None, ..asked }));
    assert!(refused(&Asked { unix_now: grant.expires(), ..asked }));
    assert!(policy.is_authorized(&Asked { grant: None, access: Access::Open, ..asked }).is_ok());
}

#[test]
fn a_subject_has_its_scopes_and_nobody_else_by_a_name_like_it() {
    let policy = Policy::parse(POLICY).unwrap();
    assert!(may(&policy, "imu", &[], Operation::Notify, "imu/sample"));
    assert!(may(&policy, "imu", &[], Operation::Request, "config/get"));
    for subject in ["imu.1", "imu2", "im", "panel"] {
        assert!(!may(&policy, subject, &[], Operation::Notify, "imu/sample"), "{subject}");
        assert!(!may(&policy, subject, &[], Operation::Request, "config/get"), "{subject}");
    }
}

#[test]
fn an_address_that_asks_for_a_scope_is_not_opened_by_a_permission() {
    let policy = Policy::parse(POLICY).unwrap();
    let grant = grant("imu", &["request:imu/calibrate"]);
    let asked =
        |name| Asked { access: Access::Scope(name), ..ask(&grant, Operation::Request, "imu/calibrate") };
    assert!(policy.is_authorized(&asked("sensor.calibrate")).is_ok(), "a rule names the scope");
    assert!(policy.is_authorized(&asked("sensor")).is_ok(), "the subject has it");
    assert_eq!(policy.is_authorized(&asked("admin")), Err(Denial::Refused(Refusal::MissingScope("admin"))));
}

#[test]
fn a_pattern_gives_no_more_than_its_segments() {
    let policy =
        Policy::parse("[[rule]]\nscope = \"s\"\nallow = [\"request:config/*\", \"subscribe:config/*\"]\n")
            .unwrap();
    let may = |operation, resource| may(&policy, "x", &["s"], operation, resource);
    assert!(may(Operation::Request, "config/a") && may(Operation::Subscribe, "config/*"));
    for resource in ["config/a/b", "config", "config/a/*", "config/a/**", "configs/a", "config.a"] {
        assert!(!may(Operation::Request, resource), "{resource}");
    }
    for pattern in ["config/**", "**", "*/a", "*/*", "*"] {
        assert!(!may(Operation::Subscribe, pattern), "{pattern}");
    }
    // What else could be meant to slip through is no address at all, so there is nothing to decide.
    for text in [
        "config/../bus/peers",
        "config/./a",
        "config//a",
        "/config/a",
        "config/a/",
        "Config/a",
        "config/A",
        "config/\u{430}",
        "c\u{43e}nfig/a",
        "config/a\0",
        "config/a b",
        "config\\a",
        "config/%2e%2e",
        "config/a*",
        "*fig/a",
    ] {
        assert!(Pattern::new(text).is_err(), "{text:?}");
        let rule = format!("[[rule]]\nscope = \"s\"\nallow = ['request:{text}']\n");
        assert!(text.contains('\0') || Policy::parse(&rule).is_err(), "{text:?}");
    }
}

#[test]
fn each_constraint_refuses_by_its_own_name() {
    let policy = Policy::parse(POLICY).unwrap();
    let grant = grant("panel", &["panel"]);
    let asked = ask(&grant, Operation::Request, "imu/info");
    for transport in [Transport::WebSocket, Transport::Serial, Transport::DBus, Transport::Unknown] {
        assert_eq!(policy.is_authorized(&Asked { transport, ..asked }), Err(Denial::OtherTransport));
    }
    assert_eq!(policy.is_authorized(&Asked { payload_len: 17, ..asked }), Err(Denial::TooLong { max: 16 }));
    let evening = Asked { unix_now: NOON + 8 * 3600, ..asked };
    assert_eq!(policy.is_authorized(&evening), Err(Denial::OtherTime));
    // None of these counted against the rate.
    for _ in 0..5 {
        assert_eq!(
            policy.is_authorized(&Asked { payload_len: 16, transport: Transport::Spi, ..asked }),
            Ok(())
        );
    }
    assert!(matches!(policy.is_authorized(&asked), Err(Denial::TooOften { max_rate: 5, retry_ms: 1.. })));
}

#[test]
fn the_denial_is_that_of_the_rule_that_came_nearest() {
    let policy = Policy::parse(
        "[[rule]]\nscope = \"s\"\nallow = [\"request:a/*\"]\ntransports = [\"serial\"]\n\
         [[rule]]\nscope = \"s\"\nallow = [\"request:a/*\"]\nmax_payload = 4\n\
         [[rule]]\nscope = \"s\"\nallow = [\"request:a/*\"]\nfrom = \"00:00\"\nuntil = \"00:01\"\n",
    );
    let (policy, grant) = (policy.unwrap(), grant("x", &["s"]));
    let asked = Asked { payload_len: 5, ..ask(&grant, Operation::Request, "a/b") };
    assert_eq!(policy.is_authorized(&asked), Err(Denial::TooLong { max: 4 }));
    assert_eq!(policy.is_authorized(&Asked { payload_len: 4, ..asked }), Ok(()), "another rule allows it");
}

#[test]
fn a_rate_is_the_subjects_and_a_new_session_or_token_does_not_renew_it() {
    let policy = Policy::parse(POLICY).unwrap();
    let sent = (0..50).filter(|n| {
        // Each time another session with another token, with scopes in another order.
        let scopes: &[&str] = if n % 2 == 0 { &["panel", "other"] } else { &["other", "panel"] };
        may(&policy, "panel", scopes, Operation::Request, "imu/info")
    });
    assert!((5..=6).contains(&sent.count()));
    assert!(may(&policy, "panel.2", &["panel"], Operation::Request, "imu/info"), "another subject");
}

#[test]
fn to_ask_whether_something_may_go_on_uses_up_nothing() {
    let policy = Policy::parse(POLICY).unwrap();
    let grant = grant("panel", &["panel"]);
    let asked = Asked { counts: false, ..ask(&grant, Operation::Subscribe, "imu/**") };
    for _ in 0..50 {
        assert_eq!(policy.is_authorized(&asked), Ok(()));
    }
    while may(&policy, "panel", &["panel"], Operation::Request, "imu/info") {}
    assert_eq!(policy.is_authorized(&asked), Ok(()));
    assert!(
        policy.is_authorized(&Asked { unix_now: NOON + 8 * 3600, ..asked }).is_err(),
        "but its time is over"
    );
}

#[test]
fn what_a_time_window_ends_is_known_beforehand() {
    let policy = Policy::parse(POLICY).unwrap();
    let midnight = NOON - 12 * 3600;
    assert_eq!(policy.next_change(midnight), Some(midnight + 8 * 3600));
    assert_eq!(policy.next_change(midnight + 8 * 3600), Some(midnight + 20 * 3600));
    assert_eq!(policy.next_change(midnight + 20 * 3600), Some(midnight + 32 * 3600));
    assert_eq!(Policy::empty().next_change(NOON), None);
}

#[test]
fn a_policy_with_an_error_leaves_the_old_one_and_a_good_one_replaces_it_without_fresh_rates() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    write(POLICY);
    let policy = Policy::open(&path).unwrap();
    while may(&policy, "panel", &["panel"], Operation::Request, "imu/info") {}
    write("[[rule]]\nscope = \"panel\"\nallow = [\"*\"]\nmax_rat = 3\n");
    let error = policy.reload().unwrap_err().to_string();
    assert!(error.contains("policy.toml:4:1") && error.contains("max_rat"), "{error}");
    assert!(may(&policy, "imu", &[], Operation::Request, "config/get"), "the old one holds");
    assert!(!may(&policy, "panel", &["panel"], Operation::Notify, "anything"));
    write(&POLICY.replace("\"sensor\", ", ""));
    policy.reload().unwrap();
    assert!(!may(&policy, "imu", &[], Operation::Request, "config/get"));
    assert!(!may(&policy, "panel", &["panel"], Operation::Request, "imu/info"), "the rate is as it was");
    fs::remove_file(&path).unwrap();
    assert!(policy.reload().is_err());
    assert!(may(&policy, "imu", &[], Operation::Notify, "imu/sample"), "and still holds");
}

#[test]
fn a_policy_that_others_may_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, POLICY).unwrap();
    for mode in [0o666, 0o664, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Policy::open(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
    }
    assert!(Policy::open(directory.path()).unwrap_err().to_string().contains("no plain file"));
}

#[test]
fn an_error_says_where_and_what_to_write() {
    let rule = |rest: &str| problem(&format!("[[rule]]\nscope = \"s\"\nallow = [\"request:a/*\"]\n{rest}\n"));
    for (error, parts) in [
        (problem("[[rule]]\nscope = \"s\"\n"), ["policy:1:1", "allow"]),
        (
            problem("[[rule]]\nscope = \"s\"\nallow = [\"request:a\", \"call:a\"]\n"),
            ["policy:3:23", "subscribe"],
        ),
        (problem("[[rule]]\nscope = \"*\"\nallow = [\"request:a\"]\n"), ["policy:2:9", "no name of a scope"]),
        (problem("[[rule]]\nscope = \"S\"\nallow = [\"request:a\"]\n"), ["policy:2:9", "no name of a scope"]),
        (problem("[[rule]]\nscope = \"s\"\nallow = []\n"), ["policy:3:9", "allows nothing"]),
        (rule("max_rate = 0"), ["policy:4:12", "1 to 1000000"]),
        (rule("max_rate = -1"), ["policy:4:12", "u32"]),
        (rule("transports = []"), ["policy:4:14", "leave it out"]),
        (rule("transports = [\"unknown\"]"), ["policy:4:14", "unix, serial"]),
        (rule("transports = [\"tcp\"]"), ["policy:4:15", "unix"]),
        (rule("from = \"08:00\""), ["policy:1:1", "both"]),
        (rule("from = \"8:00\"\nuntil = \"20:00\""), ["policy:4:8", "HH:MM"]),
        (rule("from = \"08:00\"\nuntil = \"08:00\""), ["policy:1:1", "whole day"]),
        (rule("deny = true"), ["policy:4:1", "deny"]),
        (problem("[subjects.Panel]\nscopes = []\n"), ["policy:1:11", "no subject"]),
        (problem("[subjects.bus]\nscopes = []\n"), ["policy:1:11", "hub"]),
        (problem("[subjects.a]\nscopes = [\"b\", \"b c\"]\n"), ["policy:2:16", "no scope"]),
        (problem("[[unix]]\nsubject = \"a\"\n"), ["policy:1:1", "uid or gid"]),
        (problem("[[unix]]\nuid = 1\ngid = 1\nsubject = \"a\"\n"), ["policy:1:1", "not both"]),
        (
            problem("[[unix]]\nuid = 1\nsubject = \"a\"\n[[unix]]\nuid = 1\nsubject = \"b\"\n"),
            ["policy:4:1", "uid 1"],
        ),
        (problem("[[certificate]]\nsha256 = \"12\"\nsubject = \"a\"\n"), ["policy:2:10", "64"]),
        (problem("[[certificate]]\nuri = \"a:*\"\nsubject = \"a\"\n"), ["policy:2:7", "wildcards"]),
        (problem("[[certificate]]\nsubject = \"a\"\n"), ["policy:1:1", "one of"]),
        (problem("rules = 1\n"), ["policy:1:1", "rules"]),
        (problem("[[rule]\n"), ["policy:1:", "]"]),
    ] {
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
}

#[test]
fn what_decided_is_told_by_file_and_line() {
    let policy = Policy::parse(POLICY).unwrap();
    let nobody = grant("nobody", &[]);
    let explain = |subject: &str, scopes: &[&str], operation, resource, payload_len| {
        let asked = Asked { grant: None, payload_len, ..ask(&nobody, operation, resource) };
        policy.explain(subject, scopes, &asked).unwrap()
    };
    let (request, notify) = (Operation::Request, Operation::Notify);
    // As often as one likes: to explain uses up no rate.
    for _ in 0..20 {
        let by_rule = explain("panel", &["panel"], request, "imu/info", 0);
        assert_eq!((by_rule.allowed, by_rule.rule.as_deref()), (true, Some("policy:19")), "{}", by_rule.text);
        assert!(by_rule.text.contains("at most 5 times a second"), "{}", by_rule.text);
    }
    let by_token = explain("panel", &["panel", "request:imu/**"], request, "imu/a/b", 0);
    assert_eq!((by_token.allowed, by_token.rule.as_deref()), (true, Some("token: request:imu/**")));
    let by_subject = explain("imu", &[], notify, "imu/sample", 0);
    assert_eq!((by_subject.allowed, by_subject.rule.as_deref()), (true, Some("subject: notify:imu/**")));
    let constrained = explain("panel", &["panel"], request, "imu/info", 99);
    assert_eq!((constrained.allowed, constrained.rule.as_deref()), (false, Some("policy:19")));
    assert!(constrained.text.contains("up to 16 bytes"), "{}", constrained.text);
    let no_rule = explain("panel", &["panel"], notify, "imu/info", 0);
    assert_eq!((no_rule.allowed, no_rule.rule), (false, None));
    assert!(policy.explain("Panel", &[], &ask(&nobody, notify, "imu")).is_err());
    assert!(policy.explain("panel", &["a b"], &ask(&nobody, notify, "imu")).is_err());
}

#[test]
fn what_a_grant_allows_is_shown_with_its_constraints() {
    let policy = Policy::parse(POLICY).unwrap();
    let shown = policy.permissions(&grant("panel", &["panel", "notify:log"]));
    let rule = shown.iter().find(|permission| permission.resource == "imu/*").unwrap();
    let constraint = |name: &str| rule.constraints.as_ref().unwrap()[name].as_str();
    assert_eq!((constraint("max_rate"), constraint("transports")), ("5", "unix spi"));
    assert_eq!(
        (constraint("from"), constraint("until"), constraint("rule")),
        ("08:00", "20:00", "policy:19")
    );
    assert!(shown.iter().any(|permission| permission.resource == "log" && permission.constraints.is_none()));
    assert!(!shown.iter().any(|permission| permission.resource == "config/*"), "that is the sensor's");
}

#[test]
fn a_user_is_looked_for_before_the_group() {
    let policy = Policy::parse(POLICY).unwrap();
    assert_eq!(policy.unix(1000, Some(50)).unwrap().subject, "panel");
    assert_eq!(policy.unix(1001, Some(50)).unwrap().subject, "staff");
    assert_eq!(policy.unix(50, Some(1000)), None, "a user's number is no group's");
    let uri = |text: &str| policy.certificate(&CertificateId::Uri(text.to_owned()));
    assert!(
        uri("visorbus:panel").is_some()
            && uri("visorbus:Panel").is_none()
            && uri("visorbus:panel/").is_none()
    );
}

#[test]
fn a_policy_behind_a_link_or_in_a_directory_that_others_may_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    Policy::open(&path).unwrap();
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let refused = Policy::open(&link).unwrap_err();
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Policy::open(&path).unwrap_err();
    assert!(refused.to_string().contains("go-w"), "{refused}");
}
