//! Scopes, permissions, and the one decision that is made with them.

use super::*;

#[test]
fn scopes_are_names_permissions_or_a_star() {
    for text in ["imu.control", "a", "request:imu/*", "*:**", "*", "administer:bus/**", "subscribe:*/sample"]
    {
        assert!(Scope::parse(text).is_some(), "{text}");
    }
    let longest = "a".repeat(MAX_SCOPE);
    assert!(Scope::parse(&longest).is_some());
    let too_long = "a".repeat(MAX_SCOPE + 1);
    for text in [
        "",
        "**",
        "imu/*",
        "Imu",
        "imu control",
        "імu",
        "request:",
        ":imu",
        "request",
        "REQUEST:imu/*",
        "request :imu",
        "call:imu/*",
        "request:imu/../bus",
        "request:imu//a",
        "request:imu/a*",
        "request:**/a",
        "request:imu:a",
        &too_long,
    ] {
        let name_only = text == "request";
        assert_eq!(Scope::parse(text).is_some(), name_only, "{text}");
    }
}

#[test]
fn a_permission_reaches_no_further_than_its_pattern() {
    let scopes = Scopes::new(&["request:config/*", "subscribe:imu/**"]);
    let grant = check(&mint(&hub(), &Claims { scopes, ..claims() }).unwrap()).unwrap();
    let permits = |operation, address| grant.permits(operation, Address::new(address).unwrap());
    assert!(permits(Operation::Request, "config/a"));
    assert!(!permits(Operation::Request, "config/a/b"));
    assert!(!permits(Operation::Request, "config"));
    assert!(!permits(Operation::Request, "config2/a"));
    assert!(!permits(Operation::Notify, "config/a"));
    assert!(!permits(Operation::Administer, "config/a"));
    assert!(permits(Operation::Subscribe, "imu/a/b"));
    assert!(!permits(Operation::Request, "imu/a"));
    assert!(!grant.has_scope("request") && !grant.has_scope("config"));
}

#[test]
fn a_star_alone_is_everything_and_all_permissions_are_no_scope() {
    let with = |scopes| check(&mint(&hub(), &Claims { scopes, ..claims() }).unwrap()).unwrap();
    let all = with(Scopes::new(&["*"]));
    assert!(all.has_scope("imu.control") && all.permits(Operation::Administer, Address::literal("bus/x")));
    let any = with(Scopes::new(&["*:**"]));
    assert!(!any.has_scope("imu.control") && any.permits(Operation::Administer, Address::literal("bus/x")));
}

#[test]
fn covering_is_never_more_than_what_the_wider_one_allows() {
    let covers = |a, b| Scope::parse(a).unwrap().covers(Scope::parse(b).unwrap());
    assert!(covers("*", "imu.control") && covers("*", "*") && covers("*", "request:imu/a"));
    assert!(covers("*:imu/**", "request:imu/*") && covers("request:imu/*", "request:imu/a"));
    assert!(!covers("*:**", "*") && !covers("*:**", "imu.control"));
    assert!(!covers("request:imu/*", "*:imu/a") && !covers("request:imu/*", "notify:imu/a"));
    assert!(!covers("request:config/*", "request:config/a/b") && !covers("a", "ab"));
}

#[test]
fn an_operation_reads_back_as_it_is_written() {
    for operation in [
        Operation::Request,
        Operation::Notify,
        Operation::Subscribe,
        Operation::Register,
        Operation::Administer,
    ] {
        assert_eq!(Operation::parse(operation.as_str()), Some(operation));
    }
    assert_eq!(Operation::parse("Request"), None);
}

#[test]
fn every_rule_refuses_by_its_name() {
    let grant = check(&token()).unwrap();
    let (info, other) = (Address::literal("imu/info"), Address::literal("fan/info"));
    let may = |grant, to, access, now| authorize(grant, Operation::Request, to, access, now);
    let now = Some(NOW);
    assert_eq!(may(None, info, Access::Open, None), Ok(()));
    assert_eq!(may(None, info, Access::Permission, now), Err(Refusal::NoGrant));
    assert_eq!(may(None, info, Access::Scope("imu.control"), now), Err(Refusal::NoGrant));
    assert_eq!(may(Some(&grant), info, Access::Permission, now), Ok(()));
    assert_eq!(may(Some(&grant), info, Access::Permission, None), Err(Refusal::NoClock));
    assert_eq!(may(Some(&grant), info, Access::Permission, Some(grant.expires())), Err(Refusal::Expired));
    assert_eq!(
        may(Some(&grant), other, Access::Permission, now),
        Err(Refusal::MissingPermission(Operation::Request))
    );
    assert_eq!(may(Some(&grant), other, Access::Scope("imu.control"), now), Ok(()));
    assert_eq!(may(Some(&grant), info, Access::Scope("imu"), now), Err(Refusal::MissingScope("imu")));
    assert_eq!(Access::default(), Access::Permission);
}

#[test]
fn a_refusal_says_what_to_do_and_has_a_short_form() {
    let refusal = Refusal::MissingScope("imu.control");
    assert!(refusal.to_string().contains("'imu.control'"));
    assert_eq!(refusal.reason(), "missing scope");
    assert!(Refusal::MissingPermission(Operation::Notify).to_string().contains("'notify'"));
}
