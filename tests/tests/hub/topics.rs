//! Subscriptions: who gets what, how often, and what becomes of a subscriber that does not read.

use std::time::Instant;

use visorbus_core::bus::{self, Identity, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload, MessagePriority, MessageType};
use visorbus_hub::{Limits, OwnedMessage};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};

use crate::harness::{Client, TestHub, text};

#[test]
fn a_notification_reaches_those_who_subscribed_to_its_topic_and_nobody_else() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &[]);
    let patterns = ["imu/sample", "imu/*", "**", "imu/other", "imu2/**", "imu"];
    let mut peers: Vec<RawPeer> =
        (0..patterns.len()).map(|n| hub.connect(&format!("p{n}"), &["*"])).collect();
    for (peer, pattern) in peers.iter_mut().zip(patterns) {
        peer.subscribe(pattern, SlowConsumer::default()).unwrap();
    }
    publish(&mut publisher, "imu/sample", "1");
    for (n, peer) in peers.iter_mut().enumerate() {
        let got = peer.read_so_far();
        assert_eq!(got.len(), usize::from(n < 3), "{}: {got:?}", patterns[n]);
        for message in got {
            assert_eq!((message.source.as_str(), message.destination.as_str()), ("imu", "imu/sample"));
        }
    }
    assert!(publisher.read_so_far().is_empty());
}

#[test]
fn overlapping_subscriptions_deliver_once() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &[]);
    let mut peer = hub.connect("eager", &["*"]);
    for pattern in ["imu/*", "imu/**", "**", "imu/sample", "imu/sample", "*/sample"] {
        peer.subscribe(pattern, SlowConsumer::default()).unwrap();
    }
    publish(&mut publisher, "imu/sample", "1");
    assert_eq!(peer.read_so_far().len(), 1);
    for pattern in ["imu/*", "imu/**", "**", "*/sample"] {
        peer.ask_text(bus::UNSUBSCRIBE, pattern).unwrap();
    }
    publish(&mut publisher, "imu/sample", "2");
    assert_eq!(peer.read_so_far().len(), 1, "one is left");
    peer.ask_text(bus::UNSUBSCRIBE, "imu/sample").unwrap();
    publish(&mut publisher, "imu/sample", "3");
    assert!(peer.read_so_far().is_empty(), "subscribing twice to one pattern is one subscription");
    expect_error(peer.ask_text(bus::UNSUBSCRIBE, "imu/sample"), ErrorKind::Message, "no subscription");
}

#[test]
fn a_subscription_needs_a_permission_for_all_of_it() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &[]);
    let mut peer = hub.connect("curious", &["subscribe:imu/*", "request:**", "notify:**"]);
    for pattern in ["**", "imu/**", "*/sample", "imu", "imu2/*", "imu/a/b"] {
        let outcome = peer.subscribe(pattern, SlowConsumer::default());
        expect_error(outcome, ErrorKind::Authorization, "no permission");
    }
    for pattern in ["", "imu*", "**/x", "Imu/x"] {
        let outcome = peer.subscribe(pattern, SlowConsumer::default());
        expect_error(outcome, ErrorKind::Message, "is not a pattern");
    }
    let nonsense = peer.request(bus::SUBSCRIBE, MessagePayload::Binary(&[200]));
    expect_error(nonsense, ErrorKind::Serialization, "");
    publish(&mut publisher, "imu/sample", "1");
    assert!(peer.read_so_far().is_empty());
    assert_eq!(hub.peer("curious").refused, 11);
    peer.subscribe("imu/*", SlowConsumer::default()).unwrap();
    peer.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    publish(&mut publisher, "imu/sample", "2");
    assert_eq!(peer.read_so_far().len(), 1);
}

#[test]
fn subscriptions_in_json_with_their_policies_are_the_same() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &[]);
    let mut peer = hub.connect("script", &["*"]);
    for json in [
        r#"{"pattern":"imu/a"}"#,
        r#"{"pattern":"imu/b","policy":"latest"}"#,
        r#"{"pattern":"imu/c","policy":{"drop_oldest":5}}"#,
        r#"{"pattern":"imu\/d","policy":"disconnect"}"#,
    ] {
        peer.request(bus::SUBSCRIBE, MessagePayload::Json(json)).unwrap();
    }
    for topic in ["imu/a", "imu/b", "imu/c", "imu/d"] {
        publish(&mut publisher, topic, "x");
    }
    assert_eq!(peer.read_so_far().len(), 4);
    peer.request(bus::UNSUBSCRIBE, MessagePayload::Json(r#""imu/a""#)).unwrap();
}

#[test]
fn more_subscriptions_than_the_limit_are_refused() {
    let hub = TestHub::with_limits(Limits { subscriptions: 3, ..Limits::default() });
    let mut peer = hub.connect("greedy", &["*"]);
    for n in 0..3 {
        peer.subscribe(&format!("t/{n}"), SlowConsumer::default()).unwrap();
    }
    let fourth = peer.subscribe("t/3", SlowConsumer::default());
    expect_error(fourth, ErrorKind::Message, "3 subscriptions, the limit");
    peer.subscribe("t/1", SlowConsumer::Latest).expect("one that is there may change its policy");
    peer.ask_text(bus::UNSUBSCRIBE, "t/0").unwrap();
    peer.subscribe("t/3", SlowConsumer::default()).unwrap();
}

#[test]
fn a_notification_to_an_owned_component_goes_to_its_owner_alone() {
    let hub = TestHub::start();
    let mut owner = hub.connect("lamp", &[]);
    let mut watcher = hub.connect("watcher", &["*"]);
    watcher.subscribe("**", SlowConsumer::default()).unwrap();
    let mut stranger = hub.connect("stranger", &["notify:lamp/set"]);
    watcher.read_so_far();
    publish(&mut stranger, "lamp/set", "on");
    assert_eq!(text(&owner.read_topic("lamp/set")), "on");
    assert!(watcher.read_so_far().is_empty(), "nobody can speak for another");
    publish(&mut stranger, "lamp/other", "on");
    assert!(owner.read_so_far().is_empty(), "without the permission it goes to nobody");
    assert_eq!(hub.peer("stranger").refused, 1);
    publish(&mut owner, "lamp/is", "on");
    assert_eq!(text(&watcher.read_topic("lamp/is")), "on");
}

#[test]
fn a_topic_of_nobodys_needs_the_permission_to_notify() {
    let hub = TestHub::start();
    let mut watcher = hub.connect("watcher", &["subscribe:**"]);
    watcher.subscribe("weather/**", SlowConsumer::default()).unwrap();
    let mut may = hub.connect("may", &["notify:weather/*"]);
    let mut may_not = hub.connect("may-not", &["request:**", "subscribe:**"]);
    publish(&mut may, "weather/rain", "yes");
    publish(&mut may_not, "weather/rain", "no");
    let got = watcher.read_so_far();
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].source.as_str(), text(&got[0])), ("may", "yes"));
    assert_eq!(hub.peer("may-not").refused, 1);
}

#[test]
fn nobody_can_speak_for_the_hub() {
    let hub = TestHub::start();
    let mut watcher = hub.connect("watcher", &["*"]);
    watcher.subscribe("bus/**", SlowConsumer::default()).unwrap();
    let mut peer = hub.connect("evil", &["*"]);
    watcher.read_so_far();
    for topic in [bus::SERVICES_CHANGED, bus::MISSED, "bus/x"] {
        let outcome = acknowledged(&mut peer, topic);
        expect_error(outcome, ErrorKind::Message, "the hub takes requests, no notifications");
    }
    assert!(watcher.read_so_far().is_empty());
}

#[test]
fn a_notification_that_asks_for_it_is_acknowledged_or_refused() {
    let hub = TestHub::start();
    let mut owner = hub.connect("lamp", &[]);
    let mut peer = hub.connect("peer", &["notify:lamp/set", "notify:weather/*"]);
    for topic in ["lamp/set", "weather/rain", "peer/news"] {
        let answer = acknowledged(&mut peer, topic).unwrap();
        assert_eq!(answer.message_type, MessageType::Response);
    }
    let told = owner.read_topic("lamp/set");
    assert!(!told.flags.requires_response, "the hub has acknowledged it");
    expect_error(acknowledged(&mut peer, "lamp/other"), ErrorKind::Authorization, "no permission");
    expect_error(acknowledged(&mut peer, "free/topic"), ErrorKind::Authorization, "no permission");
}

#[test]
fn drop_oldest_loses_the_oldest_and_says_how_many() {
    let Slow { got, missed, sent, .. } = slow(SlowConsumer::DropOldest(10), 1);
    let order: Vec<u32> = numbers(&got);
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.len() as u32 + missed, sent);
    assert_eq!(
        order[order.len() - 10..],
        *(sent - 10..sent).collect::<Vec<u32>>(),
        "the newest ten are there"
    );
}

#[test]
fn latest_keeps_the_newest_of_each_topic_and_says_how_many_went() {
    let Slow { got, missed, sent, .. } = slow(SlowConsumer::Latest, 3);
    assert_eq!(got.len() as u32 + missed, sent);
    let order = numbers(&got);
    assert_eq!(order[order.len() - 3..], [sent - 3, sent - 2, sent - 1], "one of each topic");
}

#[test]
fn disconnect_ends_the_session_with_the_reason() {
    let Slow { got, missed, sent, goodbye } = slow(SlowConsumer::Disconnect, 1);
    let order = numbers(&got);
    assert!(!order.is_empty() && order.len() < sent as usize && missed == 0);
    assert!(order.iter().copied().eq(0..order.len() as u32), "what it got it got without a gap");
    let goodbye = goodbye.expect("a goodbye");
    assert!(goodbye.contains("it does not read") && goodbye.contains("'imu/*'"), "{goodbye}");
}

#[test]
fn a_burst_costs_a_subscriber_that_reads_nothing() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &[]);
    let mut reader = hub.connect("reader", &["*"]);
    reader.subscribe("imu/*", SlowConsumer::DropOldest(1)).unwrap();
    let message = Message::notification(1, Address::literal("imu/sample"));
    let news = "x".repeat(900);
    // In one piece, more than a link holds before it is asked to write.
    let burst = crate::harness::wire(&message.with_payload(MessagePayload::String(&news))).repeat(100);
    publisher.write_bytes(&burst);
    assert!(publisher.read_so_far().is_empty());
    assert_eq!(hub.peer("reader").missed, 0);
    assert_eq!(reader.read_so_far().len(), 100);
}

#[test]
fn a_slow_subscriber_that_keeps_reading_is_told_before_it_has_caught_up() {
    let queue_bytes = 1 << 20;
    let hub = TestHub::with_limits(Limits { queue_bytes, ..Limits::default() });
    let mut publisher = hub.connect("imu", &[]);
    let mut slow = hub.connect("slow", &["*"]);
    slow.subscribe("imu/*", SlowConsumer::DropOldest(50)).unwrap();
    let news = "x".repeat(8_000);
    // The subscriber takes one where ten are sent: it never catches up.
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for _ in 0..10 {
            publisher.notify("imu/sample", MessagePayload::String(&news));
        }
        publisher.read_so_far();
        if slow.read().destination == bus::MISSED {
            return;
        }
    }
    panic!("it was never told, with {:?}", hub.peer("slow"));
}

#[test]
fn one_that_does_not_read_costs_the_others_nothing() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut publisher = hub.connect("imu", &[]);
    let mut deaf = hub.connect("deaf", &["*"]);
    deaf.subscribe("imu/*", SlowConsumer::DropOldest(u32::MAX)).unwrap();
    let mut reader = hub.connect("reader", &["*"]);
    reader.subscribe("imu/*", SlowConsumer::Disconnect).unwrap();
    for n in 0..20_000u32 {
        publisher.notify("imu/sample", MessagePayload::Binary(&n.to_le_bytes()));
        if n % 100 == 0 {
            publisher.read_so_far();
            innocent.is_served();
            reader.read_so_far();
        }
    }
    publisher.read_so_far();
    reader.read_so_far();
    assert_eq!(hub.peer("reader").missed, 0);
    assert!(hub.peer("deaf").queued_bytes <= 4 << 20);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_notification_too_long_for_a_subscriber_is_missed_by_it_alone() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &[]);
    let mut small = hub.attach();
    small.hello_as(&Identity { max_frame: 128, ..identity("small") }).unwrap();
    small.authenticate(&hub.token("small", &["*"])).unwrap();
    let mut big = hub.connect("big", &["*"]);
    for peer in [&mut small, &mut big] {
        peer.subscribe("imu/*", SlowConsumer::Disconnect).unwrap();
    }
    publish(&mut publisher, "imu/sample", &"x".repeat(200));
    assert_eq!(big.read_so_far().len(), 1);
    publish(&mut publisher, "imu/sample", "short");
    let got = small.read_so_far();
    assert!(got.iter().any(|message| message.destination == bus::MISSED), "{got:?}");
    assert!(got.iter().any(|message| message.destination == "imu/sample"), "{got:?}");
    assert_eq!(hub.peer("small").missed, 1);
}

#[test]
fn what_is_urgent_overtakes_what_waits() {
    let hub = TestHub::start();
    let mut publisher = hub.connect("imu", &["*"]);
    let mut slow = hub.connect("slow", &["*"]);
    slow.subscribe("imu/*", SlowConsumer::DropOldest(10_000)).unwrap();
    let news = "x".repeat(8_000);
    for _ in 0..100 {
        publisher.notify("imu/sample", MessagePayload::String(&news));
    }
    let mut alarm = Message::notification(1, Address::literal("imu/alarm"));
    alarm.flags.priority = MessagePriority::Critical;
    publisher.send(&alarm);
    assert!(publisher.read_so_far().is_empty());
    let got: Vec<String> = (0..101).map(|_| slow.read().destination).collect();
    let at = got.iter().position(|topic| topic == "imu/alarm").expect("it came");
    assert!(at < 100, "it came as number {at}");
}

/// What a subscriber saw that read nothing until `sent` notifications were published.
struct Slow {
    got: Vec<OwnedMessage>,
    missed: u32,
    sent: u32,
    goodbye: Option<String>,
}

fn slow(policy: SlowConsumer, topics: u32) -> Slow {
    let queue_bytes = 1 << 20;
    let hub = TestHub::with_limits(Limits { queue_bytes, ..Limits::default() });
    let mut innocent = hub.bystander();
    let mut publisher = hub.connect("imu", &[]);
    let mut deaf = hub.connect("deaf", &["*"]);
    deaf.subscribe("imu/*", policy).unwrap();
    let mut sent = 0;
    let filler = "x".repeat(8_000);
    let deaf_now = || hub.handle.peers().unwrap().into_iter().find(|peer| peer.name == "deaf");
    // One that is gone has to read why before the hub gives it up, however slow the machine is.
    while sent < 600 && deaf_now().is_some() {
        publish(&mut publisher, &format!("imu/{}", sent % topics), &format!("{sent} {filler}"));
        innocent.is_served();
        sent += 1;
    }
    let info = deaf_now();
    if let Some(info) = &info {
        assert!(info.queued_bytes <= queue_bytes as u64 && info.missed > 0, "{info:?}");
    }
    innocent.is_served_alone(&hub);
    if info.is_none() {
        let mut got = deaf.read_to_end();
        let goodbye = got.pop().filter(|last| last.destination == bus::GOODBYE);
        return Slow { got, missed: 0, sent, goodbye: goodbye.map(|last| text(&last).to_owned()) };
    }
    let counted = info.map_or(0, |info| info.missed as u32);
    let (mut got, mut missed) = (Vec::new(), 0);
    while missed < counted || numbers(&got).last() != Some(&(sent - 1)) {
        let message = deaf.read();
        match message.destination.as_str() {
            bus::MISSED => {
                let told: (String, u32) = message.payload.parse().unwrap();
                assert_eq!(told.0, "imu/*");
                missed += told.1;
            }
            _ => got.push(message),
        }
    }
    assert!(deaf.read_so_far().is_empty());
    Slow { got, missed, sent, goodbye: None }
}

/// The numbers that [`slow`] put into its notifications.
fn numbers(messages: &[OwnedMessage]) -> Vec<u32> {
    messages.iter().map(|message| text(message).split(' ').next().unwrap().parse().unwrap()).collect()
}

/// Publishes, and returns when the hub has taken it.
fn publish(publisher: &mut RawPeer, topic: &str, news: &str) {
    publisher.notify(topic, MessagePayload::String(news));
    assert!(publisher.read_so_far().is_empty());
}

fn acknowledged(peer: &mut RawPeer, topic: &str) -> Result<OwnedMessage, visorbus_hub::Error> {
    let id = peer.take_id();
    let mut message = Message::notification(id, Address::new(topic).unwrap());
    message.flags.requires_response = true;
    peer.send(&message);
    peer.answer_to(id)
}
