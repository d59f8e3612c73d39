//! `org.visorbus.Bus1`.

use visorbus_auth::Permission;
use visorbus_hub::info::{AddressInfo, ServiceInfo};

use super::*;

fn call(bench: &mut Bench, payload: MessageItem, options: MessageItem) -> super::Reply {
    bench.bridge("Call", &[text("imu/set-rate"), items::variant(payload), options])
}

fn rate() -> MessageItem {
    MessageItem::Struct(vec![MessageItem::UInt32(100), text("Y")])
}

#[test]
fn a_call_carries_the_addresss_type_and_gives_its_answer() {
    let mut bench = Bench::new();
    bench.tell_types("imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
    bench.answer("imu/set-rate", Ok(OwnedPayload::Binary(vec![50])));
    let old = MessageItem::Struct(vec![MessageItem::UInt32(50)]);
    assert_eq!(call(&mut bench, rate(), no_options()).value(), old);
    assert_eq!(bench.asked[1].1, OwnedPayload::Binary(vec![100, 1]));
    assert_eq!(bench.asked(), [bus::SCHEMA, "imu/set-rate"]);
    assert!(bench.flags.requires_response);

    call(&mut bench, rate(), no_options());
    assert_eq!(bench.asked(), ["imu/set-rate"], "the types are kept");
    bench.change_types();
    call(&mut bench, rate(), no_options());
    assert_eq!(bench.asked(), [bus::SCHEMA, "imu/set-rate"], "until something changes");
}

#[test]
fn a_payload_may_be_postcard_or_json() {
    let mut bench = Bench::new();
    bench.tell_types("imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
    bench.answer("imu/set-rate", Ok(OwnedPayload::Binary(vec![50])));
    call(&mut bench, items::bytes(&[100, 1]), no_options());
    assert_eq!(bench.asked[1].1, OwnedPayload::Binary(vec![100, 1]));
    let json = options([("json", MessageItem::Bool(true))]);
    let answer = call(&mut bench, text(r#"{"hz":100,"axis":"Y"}"#), json.clone()).value();
    assert_eq!(bench.asked[2].1, OwnedPayload::Binary(vec![100, 1]));
    assert_eq!(answer, text(r#"{"hz":50}"#));
    assert_eq!(call(&mut bench, text("{"), json.clone()).error().0, fault::SERIALIZATION);
    assert_eq!(call(&mut bench, rate(), json).error().0, fault::INVALID_ARGS);
}

#[test]
fn the_right_type_is_told_only_to_who_may_know_it() {
    let mut bench = Bench::new();
    bench.tell_types("imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
    let (name, said) = call(&mut bench, text("fast"), no_options()).error();
    assert_eq!(name, fault::INVALID_SIGNATURE);
    assert!(said.contains("'(us)' is taken") && said.contains("not 's'"), "{said}");
    let bad = MessageItem::Struct(vec![MessageItem::UInt32(100), text("Q")]);
    let (name, said) = call(&mut bench, bad, no_options()).error();
    assert_eq!(name, fault::INVALID_ARGS);
    assert!(said.contains("X, Y"), "{said}");

    // The types are known now, but not to this one.
    bench.answer(bus::SCHEMA, denied());
    bench.asked();
    let (name, said) = call(&mut bench, text("fast"), no_options()).error();
    assert_eq!(name, fault::ACCESS_DENIED);
    assert_eq!(said, "you may not use 'imu/set-rate': 'ui' may not");
    assert_eq!(bench.asked(), [bus::SCHEMA]);
    // And what fits goes to the hub, whose answer is the last word.
    bench.answer("imu/set-rate", denied());
    assert_eq!(
        call(&mut bench, rate(), no_options()).error(),
        (fault::ACCESS_DENIED.to_owned(), "'ui' may not".to_owned())
    );
}

#[test]
fn an_address_of_which_nobody_told_takes_bytes_text_and_json() {
    let mut bench = Bench::new();
    bench.answer(bus::SCHEMA, Err(SchemaInfo::untold("imu/set-rate")));
    bench.answer("imu/set-rate", Ok(OwnedPayload::String("done".to_owned())));
    let json = options([("json", MessageItem::Bool(true))]);
    for (payload, options, expected) in [
        (items::bytes(&[1, 2]), no_options(), OwnedPayload::Binary(vec![1, 2])),
        (text("go"), no_options(), OwnedPayload::String("go".to_owned())),
        (text("[1]"), json, OwnedPayload::Json("[1]".to_owned())),
    ] {
        let is_json = matches!(expected, OwnedPayload::Json(_));
        let answer = call(&mut bench, payload, options).value();
        assert_eq!(bench.asked.pop().unwrap().1, expected);
        assert_eq!(answer, text(if is_json { "\"done\"" } else { "done" }));
    }
    assert_eq!(call(&mut bench, MessageItem::UInt32(1), no_options()).error().0, fault::INVALID_SIGNATURE);
}

#[test]
fn what_is_in_one_callers_way_is_no_word_on_the_types() {
    let mut bench = Bench::new();
    bench.answer(bus::SCHEMA, Err(Error::Message("256 answers are waited for, the limit".to_owned())));
    bench.answer("imu/set-rate", Ok(OwnedPayload::Binary(vec![0])));
    let (name, said) = call(&mut bench, text("fast"), no_options()).error();
    assert_eq!((name.as_str(), said.contains("256")), (fault::MESSAGE, true), "{said}");
    assert_eq!(bench.asked(), [bus::SCHEMA]);
    bench.tell_types("imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
    call(&mut bench, rate(), no_options()).value();
    assert_eq!(bench.asked(), [bus::SCHEMA, "imu/set-rate"]);
}

#[test]
fn who_has_no_session_is_nobody() {
    let mut bench = Bench::with_imu();
    let subject =
        |bench: &mut Bench| bench.call(ROOT, fixed::PROPERTIES, "Get", &[text(BUS), text("Subject")]).value();
    bench.router.opened(&caller(), "ui");
    bench.answer(bus::PERMISSIONS, OwnedPayload::postcard(&Vec::<u8>::new()));
    assert_eq!(subject(&mut bench), text("ui"));
    bench.answer(bus::PERMISSIONS, Err(Error::Authentication("the policy knows nobody".to_owned())));
    assert_eq!(subject(&mut bench), text(""));
    bench.router.closed(&caller());
    assert_eq!(bench.router.callers(), 0);
}

#[test]
fn nothing_is_kept_of_who_has_asked_for_nothing_to_be_kept() {
    let mut bench = Bench::with_imu();
    for (path, interface) in [(ROOT, BUS), (IMU, fixed::COMPONENT)] {
        bench.call(path, interface, "Unsubscribe", &[text("imu/samples")]).error();
    }
    bench.answer("authenticate", Err(Error::Authentication("no".to_owned())));
    bench.restore();
    let missed = OwnedPayload::postcard(&bus::Missed { pattern: "imu/*", count: 1 }).unwrap();
    bench.notify(bus::MISSED, &missed);
    bench.notify("imu/samples", &OwnedPayload::Empty);
    assert_eq!(bench.router.callers(), 0);
}

#[test]
fn options_reach_the_hub_and_unknown_ones_nobody() {
    let mut bench = Bench::new();
    bench.tell_types("imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
    let given = options([("timeout_ms", MessageItem::UInt32(30)), ("priority", text("critical"))]);
    call(&mut bench, rate(), given);
    assert_eq!(bench.flags.timeout_ms, Some(30));
    assert_eq!(bench.flags.priority, visorbus_core::message::MessagePriority::Critical);
    bench.asked();
    let (name, said) = call(&mut bench, rate(), options([("timeout", MessageItem::UInt32(30))])).error();
    assert_eq!((name.as_str(), bench.asked()), (fault::INVALID_ARGS, Vec::new()));
    assert!(said.contains("'timeout'"), "{said}");
}

#[test]
fn addresses_that_belong_to_a_session_are_not_called() {
    let mut bench = Bench::new();
    for address in [
        bus::HELLO,
        bus::AUTHENTICATE,
        bus::SUBSCRIBE,
        bus::UNSUBSCRIBE,
        bus::REGISTER,
        bus::ANNOUNCE,
        bus::CANCEL,
        bus::GOODBYE,
    ] {
        for method in ["Call", "Notify"] {
            let args = [text(address), items::variant(items::bytes(&[])), no_options()];
            assert_eq!(bench.bridge(method, &args).error().0, fault::MESSAGE, "{address}");
        }
    }
    let args = [text("No Address"), items::variant(items::bytes(&[])), no_options()];
    assert_eq!(bench.bridge("Call", &args).error().0, fault::INVALID_ARGS);
    assert_eq!(bench.asked(), Vec::<String>::new());
}

#[test]
fn a_notification_is_acknowledged_or_refused() {
    let mut bench = Bench::new();
    bench.tell_types("imu/reset", <()>::SCHEMA, <()>::SCHEMA);
    let args = [text("imu/reset"), items::variant(text("")), no_options()];
    bench.answer("imu/reset", Ok(OwnedPayload::Empty));
    assert_eq!(bench.bridge("Notify", &args).values(), []);
    bench.answer("imu/reset", denied());
    assert_eq!(bench.bridge("Notify", &args).error().0, fault::ACCESS_DENIED);
}

#[test]
fn services_descriptions_and_permissions_have_the_types_that_are_documented() {
    let mut bench = Bench::new();
    let address = AddressInfo {
        address: "imu/info".to_owned(),
        kind: "endpoint".to_owned(),
        access: "open".to_owned(),
        request_hash: String::new(),
        response_hash: String::new(),
    };
    let service = ServiceInfo {
        component: "imu".to_owned(),
        peer: "board".to_owned(),
        transport: "serial".to_owned(),
        addresses: vec![address],
    };
    bench.answer(bus::SERVICES, OwnedPayload::postcard(&vec![service]));
    let permission = Permission {
        operation: "request".to_owned(),
        resource: "imu/*".to_owned(),
        constraints: Some([("max_rate".to_owned(), "5".to_owned())].into()),
    };
    bench.answer(bus::PERMISSIONS, OwnedPayload::postcard(&vec![permission]));
    bench.tell_types("imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
    for (method, args) in
        [("ListServices", vec![]), ("Permissions", vec![]), ("Describe", vec![text("imu/set-rate")])]
    {
        let values = bench.bridge(method, &args).values();
        let gives = fixed::ROOT.iter().find(|fixed| fixed.name == BUS).unwrap().method(method).unwrap().gives;
        let expected: String = gives.iter().map(|(_, signature)| *signature).collect();
        assert_eq!(crate::types::signature_of(&values).unwrap(), expected, "{method}");
    }
    let described = bench.bridge("Describe", &[text("imu/set-rate")]).values();
    assert_eq!((&described[0], &described[2]), (&text("(us)"), &text("(u)")));
    bench.answer(bus::SERVICES, OwnedPayload::postcard(&Vec::<ServiceInfo>::new()));
    let nothing = bench.bridge("ListServices", &[]).values();
    assert_eq!(crate::types::signature_of(&nothing).unwrap(), "a(sssa(sss))");
}

#[test]
fn a_token_is_shown_to_the_hub_and_never_to_a_log() {
    let mut bench = Bench::new();
    let (name, said) = bench.bridge("Authenticate", &[text("vb1.no-token-at-all")]).error();
    assert_eq!(name, fault::AUTH_FAILED);
    assert!(!said.contains("no-token"), "{said}");

    let token = token();
    bench.answer("authenticate", Err(Error::Authentication("token not accepted".to_owned())));
    let (name, said) = bench.bridge("Authenticate", &[text(&token)]).error();
    assert_eq!((name.as_str(), said.as_str()), (fault::AUTH_FAILED, "token not accepted"));

    bench.answer("authenticate", Ok(OwnedPayload::Empty));
    let values = bench.bridge("Authenticate", &[text(&token)]).values();
    let MessageItem::Dict(details) = &values[0] else { panic!("{values:?}") };
    let keys: Vec<_> = details.iter().map(|(key, _)| items::as_text(Some(key)).unwrap().to_owned()).collect();
    assert_eq!(keys, ["subject", "expires", "scopes", "issuer"]);
    assert_eq!(details[0].1, items::variant(text("ui")));
}

#[test]
fn the_subject_is_the_readers_own_and_nobodys_is_empty() {
    let mut bench = Bench::new();
    bench.answer(bus::PERMISSIONS, OwnedPayload::postcard(&Vec::<u8>::new()));
    let subject = [text(BUS), text("Subject")];
    assert_eq!(bench.call(ROOT, fixed::PROPERTIES, "Get", &subject).value(), text(""));
    bench.router.opened(&caller(), "ui");
    assert_eq!(bench.call(ROOT, fixed::PROPERTIES, "Get", &subject).value(), text("ui"));
    let other = Caller { unique_name: ":1.8".to_owned(), ..caller() };
    let theirs = bench.call_of(&other, ROOT, fixed::PROPERTIES, "Get", &subject);
    assert_eq!((theirs[0].to.as_str(), &theirs[0].items[0]), (":1.8", &items::variant(text(""))));
    bench.router.forget(&caller());
    assert_eq!(bench.call(ROOT, fixed::PROPERTIES, "Get", &[text(""), text("Subject")]).value(), text(""));
}

#[test]
fn the_bridges_properties_are_read_and_never_written() {
    let mut bench = Bench::new();
    let all = bench.call(ROOT, fixed::PROPERTIES, "GetAll", &[text(BUS)]).values();
    let MessageItem::Dict(all) = &all[0] else { panic!("{all:?}") };
    assert_eq!(all.len(), 3);
    let set = |name: &str| [text(BUS), text(name), items::variant(text("x"))];
    assert_eq!(
        bench.call(ROOT, fixed::PROPERTIES, "Set", &set("Version")).error().0,
        fault::PROPERTY_READ_ONLY
    );
    assert_eq!(
        bench.call(ROOT, fixed::PROPERTIES, "Set", &set("Nothing")).error().0,
        fault::UNKNOWN_PROPERTY
    );
    let get = [text(BUS), text("Nothing")];
    assert_eq!(bench.call(ROOT, fixed::PROPERTIES, "Get", &get).error().0, fault::UNKNOWN_PROPERTY);
    let get = [text("no.Such"), text("Version")];
    assert_eq!(bench.call(ROOT, fixed::PROPERTIES, "Get", &get).error().0, fault::UNKNOWN_INTERFACE);
    assert_eq!(
        bench.call(ROOT, fixed::PROPERTIES, "GetAll", &[text("no.Such")]).error().0,
        fault::UNKNOWN_INTERFACE
    );
    let none = bench.call(ROOT, fixed::PROPERTIES, "GetAll", &[text(fixed::PEER)]).values();
    assert_eq!(none, [options([])]);
}

/// The text of a token, of a key that nobody has.
fn token() -> String {
    use visorbus_auth::{KeyFile, TokenRequest};
    let keys = tempfile::tempdir().unwrap();
    let file = KeyFile::open_or_create(keys.path().join("keys")).unwrap();
    file.mint(&TokenRequest::new("ui", &["request:imu/*"])).unwrap().as_str().to_owned()
}
