//! Subscriptions: what is asked of the hub for them, and which signals a notification becomes.

use visorbus_core::bus::{Lasting, Missed, Revoked, SlowConsumer};

use super::*;

const NOTIFICATION: &str = "org.visorbus.Bus1.Notification";
const SAMPLES: &str = "org.visorbus.components.Imu.Samples";

fn sample() -> OwnedPayload {
    OwnedPayload::postcard(&Sample { at: 5, values: [1, -2, 3] }).unwrap()
}

fn subscribe(bench: &mut Bench, pattern: &str) {
    assert_eq!(bench.bridge("Subscribe", &[text(pattern), no_options()]).values(), []);
}

fn subscribe_at(bench: &mut Bench, topic: &str) -> super::Reply {
    bench.call(IMU, fixed::COMPONENT, "Subscribe", &[text(topic)])
}

fn names(signals: &[super::Reply]) -> Vec<&str> {
    signals.iter().map(|signal| signal.name.as_str()).collect()
}

#[test]
fn a_notification_becomes_one_signal_to_its_subscriber_alone() {
    let mut bench = Bench::with_imu();
    assert_eq!(bench.notify("imu/samples", &sample()), []);
    subscribe(&mut bench, "imu/*");
    bench.tell_types("imu/samples", Sample::SCHEMA, <()>::SCHEMA);
    let signals = bench.notify("imu/samples", &sample());
    assert_eq!(names(&signals), [NOTIFICATION]);
    let signal = &signals[0];
    assert_eq!((signal.to.as_str(), signal.path.as_str()), (":1.7", ROOT));
    assert_eq!(signal.items[..2], [text("imu/samples"), text("imu")]);
    let MessageItem::Variant(value) = &signal.items[2] else { panic!("{signal:?}") };
    assert_eq!(&*value.signature(), "(tan)");
    assert_eq!(&*signal.items[3].signature(), "a{sv}");
    assert_eq!(bench.notify("camera/frames", &sample()), []);
}

#[test]
fn subscriptions_that_overlap_give_each_signal_once() {
    let mut bench = Bench::with_imu();
    bench.tell_types("imu/samples", Sample::SCHEMA, <()>::SCHEMA);
    subscribe(&mut bench, "imu/*");
    subscribe(&mut bench, "**");
    subscribe(&mut bench, "imu/samples");
    subscribe_at(&mut bench, "imu/samples").values();
    subscribe_at(&mut bench, "imu/samples").values();
    let signals = bench.notify("imu/samples", &sample());
    assert_eq!(names(&signals), [NOTIFICATION, SAMPLES]);
    assert_eq!(signals[1].path, IMU);
    assert_eq!(signals[1].items[0], MessageItem::UInt64(5));
}

#[test]
fn one_text_is_one_subscription_of_the_hub_until_its_last_user_goes() {
    let mut bench = Bench::with_imu();
    bench.tell_types("imu/samples", Sample::SCHEMA, <()>::SCHEMA);
    subscribe(&mut bench, "imu/samples");
    subscribe_at(&mut bench, "imu/samples").values();
    assert_eq!(bench.asked(), [bus::SUBSCRIBE, bus::INTERFACES]);
    assert_eq!(bench.subscriptions().len(), 1);

    assert_eq!(bench.bridge("Unsubscribe", &[text("imu/samples")]).values(), []);
    assert_eq!(bench.asked(), Vec::<String>::new(), "the component's is still there");
    assert_eq!(names(&bench.notify("imu/samples", &sample())), [SAMPLES]);
    assert_eq!(bench.bridge("Unsubscribe", &[text("imu/samples")]).error().0, fault::MESSAGE);
    bench.asked();
    bench.call(IMU, fixed::COMPONENT, "Unsubscribe", &[text("imu/samples")]).values();
    assert_eq!(bench.asked(), [bus::UNSUBSCRIBE]);
    assert_eq!(bench.notify("imu/samples", &sample()), []);
}

#[test]
fn a_subscription_that_the_hub_refuses_is_none() {
    let mut bench = Bench::with_imu();
    bench.answer(bus::SUBSCRIBE, denied());
    let refused = bench.bridge("Subscribe", &[text("imu/*"), no_options()]).error();
    assert_eq!(refused, (fault::ACCESS_DENIED.to_owned(), "'ui' may not".to_owned()));
    assert_eq!(subscribe_at(&mut bench, "imu/samples").error().0, fault::ACCESS_DENIED);
    assert_eq!(bench.notify("imu/samples", &sample()), []);
    assert_eq!(bench.subscriptions().len(), 0);
    assert_eq!(bench.bridge("Subscribe", &[text("imu/ *"), no_options()]).error().0, fault::INVALID_ARGS);
}

#[test]
fn a_component_gives_only_the_topics_that_it_has() {
    let mut bench = Bench::with_imu();
    let (name, said) = subscribe_at(&mut bench, "imu/set-rate").error();
    assert_eq!(name, fault::MESSAGE);
    assert!(said.contains("it has imu/samples"), "{said}");
    assert_eq!(bench.asked(), [bus::INTERFACES]);
}

#[test]
fn a_policy_reaches_the_hub_and_is_asked_for_again() {
    let mut bench = Bench::with_imu();
    let options = options([("policy", text("latest"))]);
    bench.bridge("Subscribe", &[text("imu/*"), options]).values();
    let expected = postcard::to_stdvec(&("imu/*", SlowConsumer::Latest)).unwrap();
    assert_eq!(bench.asked[0].1, OwnedPayload::Binary(expected.clone()));
    bench.asked.clear();
    assert_eq!(bench.restore(), []);
    assert_eq!(bench.asked[0].1, OwnedPayload::Binary(expected));
}

#[test]
fn notifications_wait_in_order_until_their_type_is_told() {
    let mut bench = Bench::with_imu();
    subscribe(&mut bench, "imu/*");
    let message = |id: u64| {
        let mut message = visorbus_core::Message::notification(id, Address::new("imu/samples").unwrap());
        message.timestamp = Some(id);
        message
    };
    let first = bench.router.notified(&caller(), &message(1));
    let Step::Ask(request, then) = first else { panic!("the types are asked for") };
    assert_eq!(request.destination.as_str(), bus::SCHEMA);
    for id in 2..=300 {
        assert!(matches!(bench.router.notified(&caller(), &message(id)), Step::Done));
    }
    let step = then(&mut bench.router, Err(SchemaInfo::untold("imu/samples")));
    let signals = bench.drive(&caller(), step);
    assert_eq!(signals.len(), 257);
    assert_eq!(signals[256].name, "org.visorbus.Bus1.Missed");
    assert_eq!(signals[256].items, [text("imu/samples"), MessageItem::UInt64(44)]);
    let last = bench.router.notified(&caller(), &message(301));
    assert_eq!(bench.drive(&caller(), last).len(), 1, "and then they do not wait");
}

#[test]
fn a_type_that_could_not_be_asked_for_is_asked_for_again() {
    let mut bench = Bench::with_imu();
    subscribe(&mut bench, "imu/*");
    bench.answer(bus::SCHEMA, Err(Error::Message("256 answers are waited for, the limit".to_owned())));
    for _ in 0..2 {
        bench.asked();
        assert_eq!(bench.notify("imu/samples", &OwnedPayload::Binary(vec![1])).len(), 1);
        assert_eq!(bench.asked(), [bus::SCHEMA]);
    }
    bench.answer(bus::SCHEMA, Err(SchemaInfo::untold("imu/samples")));
    bench.notify("imu/samples", &OwnedPayload::Binary(vec![1]));
    bench.asked();
    assert_eq!(bench.notify("imu/samples", &OwnedPayload::Binary(vec![1])).len(), 1);
    assert_eq!(bench.asked(), [""; 0], "nobody has told, and that is known");
}

#[test]
fn what_waits_for_a_type_is_bounded_in_bytes_too() {
    let mut bench = Bench::with_imu();
    subscribe(&mut bench, "imu/*");
    let bytes = vec![0; 1 << 20];
    let mut message = visorbus_core::Message::notification(1, Address::new("imu/samples").unwrap());
    message.payload = visorbus_core::MessagePayload::Binary(&bytes);
    let mut steps: Vec<Step> = (0..6).map(|_| bench.router.notified(&caller(), &message)).collect();
    let Step::Ask(_, then) = steps.remove(0) else { panic!("the types are asked for") };
    let step = then(&mut bench.router, Err(SchemaInfo::untold("imu/samples")));
    let Step::Send(signals) = step else { panic!("signals") };
    assert_eq!(signals.len(), 5, "four, and the word that two are missing");
    assert_eq!(super::Reply::of(&signals[4]).items[1], MessageItem::UInt64(2));
}

#[test]
fn what_was_missed_and_what_was_taken_away_is_told() {
    let mut bench = Bench::with_imu();
    subscribe(&mut bench, "imu/*");
    let missed = OwnedPayload::postcard(&Missed { pattern: "imu/*", count: 37 }).unwrap();
    let signals = bench.notify(bus::MISSED, &missed);
    assert_eq!(names(&signals), ["org.visorbus.Bus1.Missed"]);
    assert_eq!(signals[0].items, [text("imu/*"), MessageItem::UInt64(37)]);

    let revoked = Revoked { what: Lasting::Subscription, name: "imu/*", reason: "the policy changed" };
    let revoked = OwnedPayload::postcard(&revoked).unwrap();
    let signals = bench.notify(bus::REVOKED, &revoked);
    assert_eq!(names(&signals), ["org.visorbus.Bus1.SubscriptionEnded"]);
    assert_eq!(signals[0].items, [text("imu/*"), text("the policy changed")]);
    assert_eq!(bench.notify("imu/samples", &sample()), []);
    assert_eq!(bench.notify(bus::REVOKED, &revoked), []);
}

#[test]
fn a_notification_that_is_not_of_its_type_is_shown_as_it_came_and_not_as_a_typed_signal() {
    let mut bench = Bench::with_imu();
    bench.tell_types("imu/samples", Sample::SCHEMA, <()>::SCHEMA);
    subscribe(&mut bench, "**");
    subscribe_at(&mut bench, "imu/samples").values();
    let signals = bench.notify("imu/samples", &OwnedPayload::Binary(vec![255; 30]));
    assert_eq!(names(&signals), [NOTIFICATION]);
    assert_eq!(signals[0].items[2], items::variant(items::bytes(&[255; 30])));
}

#[test]
fn payloads_are_json_where_that_was_asked_for() {
    let mut bench = Bench::with_imu();
    bench.tell_types("imu/samples", Sample::SCHEMA, <()>::SCHEMA);
    let json = options([("json", MessageItem::Bool(true))]);
    bench.bridge("Subscribe", &[text("imu/*"), json]).values();
    let signals = bench.notify("imu/samples", &sample());
    assert_eq!(signals[0].items[2], items::variant(text(r#"{"at":5,"values":[1,-2,3]}"#)));
}

#[test]
fn a_new_session_keeps_what_it_allows_and_the_caller_is_told_of_the_rest() {
    let mut bench = Bench::with_imu();
    subscribe(&mut bench, "imu/*");
    subscribe(&mut bench, "camera/*");
    bench.asked();
    assert_eq!(bench.restore(), []);
    assert_eq!(bench.asked(), [bus::SUBSCRIBE, bus::SUBSCRIBE]);

    bench.answer(bus::SUBSCRIBE, Err(Error::Connection("the session is over".to_owned())));
    assert_eq!(bench.restore(), [], "the next one begins again");
    assert_eq!(bench.subscriptions(), ["imu/*", "camera/*"]);

    bench.answer(bus::SUBSCRIBE, denied());
    let ended = "org.visorbus.Bus1.SubscriptionEnded";
    assert_eq!(names(&bench.restore()), [ended, ended]);
    assert_eq!(bench.subscriptions().len(), 0);
}

#[test]
fn who_loses_the_session_is_told_once_and_forgotten() {
    let mut bench = Bench::with_imu();
    assert!(matches!(bench.router.ended(&caller(), "it had none"), Step::Done));
    bench.router.opened(&caller(), "ui");
    subscribe(&mut bench, "imu/*");
    let step = bench.router.ended(&caller(), "the token has expired");
    let signals = bench.drive(&caller(), step);
    assert_eq!(names(&signals), ["org.visorbus.Bus1.SessionEnded"]);
    assert_eq!((signals[0].to.as_str(), &signals[0].items[0]), (":1.7", &text("the token has expired")));
    assert_eq!(bench.notify("imu/samples", &sample()), []);
    assert!(matches!(bench.router.ended(&caller(), "again"), Step::Done));
}
