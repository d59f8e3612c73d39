//! What a hub says of itself is what happened, and nobody's doing makes it grow.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use visorbus_core::IpcError;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::length::prefix;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::statistics::AddressStatistics;
use visorbus_hub::{HubHandle, HubStatistics, Limits};
use visorbus_tests::patience::{CHANCES, PATIENCE};
use visorbus_tests::raw_peer::expect_error;

use crate::harness::{Client, TestHub, request, text};

#[test]
fn what_passed_is_counted_by_type_and_by_address_also_of_those_who_left() {
    let hub = TestHub::start();
    let mut asker = hub.connect("asker", &["*"]);
    let mut owner = hub.connect("owner", &["*"]);
    let mut reader = hub.connect("reader", &["*"]);
    reader.subscribe("owner/news", SlowConsumer::default()).unwrap();
    let before = statistics(&hub);
    for _ in 0..3 {
        asker.request("echo/ping", MessagePayload::String("12345")).unwrap();
    }
    asker.send(&request(70, "owner/x"));
    let call = owner.read_call();
    owner.answer(&call, "yes");
    asker.answer_to(70).unwrap();
    owner.notify("owner/news", MessagePayload::String("1234567"));
    owner.notify("owner/unheard", MessagePayload::String("1234567"));
    reader.read_topic("owner/news");
    owner.read_so_far();
    let after = statistics(&hub);
    assert_eq!(after.messages_in.responses - before.messages_in.responses, 1);
    assert_eq!(after.messages_in.notifications - before.messages_in.notifications, 2);
    assert_eq!(after.messages_out.notifications - before.messages_out.notifications, 1);
    assert_eq!(after.messages_out.requests - before.messages_out.requests, 1);
    let of = |address: &str| address_of(&after, address);
    assert_eq!((of("echo/ping").messages, of("echo/ping").bytes), (3, 15));
    assert_eq!((of("owner/x").messages, of("owner/news").deliveries), (1, 1));
    assert_eq!((of("owner/unheard").messages, of("owner/unheard").deliveries), (1, 0));
    assert_eq!(of(bus::SUBSCRIBE).messages, 1);
    assert_eq!(after.peer_latency.count - before.peer_latency.count, 1);
    assert_eq!(after.handler_latency.count - before.handler_latency.count, 3);
    assert_eq!(after.handler_latency.buckets.iter().sum::<u64>(), after.handler_latency.count);
    assert_eq!((after.peers, after.sessions, after.pending_calls), (3, 3, 0));
    assert!(after.uptime_us >= before.uptime_us);
    let busiest = after.addresses.windows(2).all(|pair| pair[0].messages >= pair[1].messages);
    assert!(busiest, "most messages first");
    drop((asker, owner, reader));
    hub.wait_until(<[_]>::is_empty);
    let gone = statistics(&hub);
    assert!(gone.bytes_in >= after.bytes_in && gone.messages_in.requests >= after.messages_in.requests);
    assert_eq!((gone.peers, gone.sessions), (0, 0));
    assert_eq!(address_of(&gone, "echo/ping").messages, 3);
}

#[test]
fn what_was_refused_is_counted_by_its_reason_and_has_no_address() {
    let hub = TestHub::start();
    let mut peer = hub.connect("peer", &["request:echo/*", "request:ghost/*", "request:bus/none"]);
    let before = statistics(&hub);
    expect_error(peer.request("echo/x/y", MessagePayload::Empty), ErrorKind::Authorization, "");
    expect_error(peer.request("ghost/x", MessagePayload::Empty), ErrorKind::Message, "nobody serves");
    expect_error(peer.request("bus/none", MessagePayload::Empty), ErrorKind::Message, "");
    peer.write_frame(&[0xff, 0xff, 0xff]);
    let mut stranger = hub.greeted("stranger");
    assert!(stranger.request("echo/ping", MessagePayload::Empty).is_err());
    assert!(stranger.authenticate(b"no token").is_err());
    peer.read_so_far();
    let after = statistics(&hub);
    assert_eq!(after.refused.authorization - before.refused.authorization, 1);
    assert_eq!(after.refused.message - before.refused.message, 2);
    assert_eq!(after.refused.authentication - before.refused.authentication, 2);
    assert_eq!(after.auth_refusals - before.auth_refusals, 1);
    assert_eq!(after.undecodable - before.undecodable, 1);
    for address in ["echo/x/y", "ghost/x", "bus/none"] {
        assert!(after.addresses.iter().all(|known| known.address != address), "{address}");
    }
}

#[test]
fn a_flood_of_topics_makes_the_figures_no_longer_and_hides_nobody_elses() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    innocent.is_served();
    let mut flooder = hub.connect("flooder", &["*"]);
    let mut bytes = Vec::new();
    let mut frame = [0; 128];
    for number in 0..100_000 {
        let topic = format!("flooder/{number}");
        let notice = Message::notification(number + 1_000, Address::new(&topic).unwrap());
        let len = visorbus_core::encode(&notice, &mut frame).unwrap();
        bytes.extend(prefix(len));
        bytes.extend_from_slice(&frame[..len]);
    }
    let mut rest = &bytes[..];
    let end = Instant::now() + PATIENCE;
    while !rest.is_empty() {
        rest = &rest[flooder.write_what_fits(rest)..];
        assert!(Instant::now() < end, "the hub reads");
    }
    flooder.read_so_far();
    let mut late = hub.connect("late", &["*"]);
    late.notify("late/topic", MessagePayload::Empty);
    late.read_so_far();
    let figures = statistics(&hub);
    assert!(figures.addresses.len() < 64, "{}", figures.addresses.len());
    let flood: u64 = figures
        .addresses
        .iter()
        .filter(|known| known.address.starts_with("flooder/"))
        .map(|known| known.messages)
        .sum();
    assert_eq!(flood, 100_000);
    assert!(address_of(&figures, "flooder/**").messages > 99_000);
    assert_eq!(address_of(&figures, "late/topic").messages, 1);
    assert!(address_of(&figures, "echo/ping").messages > 0);
    innocent.is_served();
}

#[test]
fn what_waits_and_what_was_missed_is_counted_while_it_waits() {
    let hub = TestHub::with_limits(Limits { queue_bytes: 256 << 10, ..Limits::default() });
    let mut deaf = hub.connect("deaf", &["*"]);
    deaf.subscribe("owner/news", SlowConsumer::DropOldest(2)).unwrap();
    let mut owner = hub.connect("owner", &["*"]);
    let news = "x".repeat(32 << 10);
    for _ in 0..100 {
        owner.notify("owner/news", MessagePayload::String(&news));
    }
    owner.read_so_far();
    let full = statistics(&hub);
    let topic = address_of(&full, "owner/news");
    assert!(full.queued_bytes > 0 && full.deepest_queue_bytes == full.queued_bytes, "{full:?}");
    assert!(topic.missed > 0 && topic.missed == full.missed, "{topic:?}");
    assert_eq!(topic.messages, 100);
    deaf.read_so_far();
    let read = statistics(&hub);
    assert_eq!((read.queued_bytes, read.deepest_queue_bytes), (0, 0));
    assert!(read.queue_time.count > full.queue_time.count);
}

#[test]
fn what_the_pool_works_on_is_told_and_what_nobody_answered_in_time() {
    let busy = |timeout_ms| {
        let hub = TestHub::with_limits(Limits { pool_threads: 2, ..Limits::default() });
        let (release, gate) = sync_channel(10);
        let gate = Gate { id: "gate", gate, handle: None, may_block: true };
        hub.handle.register_handler(Box::new(gate)).unwrap();
        let mut peer = hub.connect("peer", &["*"]);
        let mut hasty = request(50, "gate/x");
        hasty.flags.timeout_ms = Some(timeout_ms);
        peer.send(&hasty);
        peer.send(&request(51, "gate/y"));
        expect_error(peer.answer_to(50), ErrorKind::Timeout, "in time");
        let figures = statistics(&hub);
        (hub, release, peer, figures)
    };
    // What nobody waits for any more before it has begun does not begin, and the other one does.
    let mut tries = (0..CHANCES).map(|chance| busy(20 << chance));
    let (hub, release, mut peer, figures) =
        tries.find(|(.., figures)| (figures.pool_running, figures.pool_waiting) == (1, 1)).unwrap();
    assert_eq!(figures.pending_calls, 1);
    assert_eq!((figures.timeouts, figures.stuck_handlers), (1, 0));
    release.send(()).unwrap();
    release.send(()).unwrap();
    peer.answer_to(51).unwrap();
    let figures = statistics(&hub);
    assert_eq!((figures.pool_running, figures.pool_waiting, figures.pending_calls), (0, 0, 0));
    assert_eq!(address_of(&figures, "gate/y").messages, 1);
    assert_eq!(figures.handler_latency.count, 1, "what nobody waited for any more took no time of anybody's");
}

#[test]
fn an_inline_handler_is_refused_the_figures_and_one_that_may_block_has_them() {
    let hub = TestHub::start();
    for (id, may_block) in [("inline", false), ("pooled", true)] {
        let (_release, gate) = sync_channel(1);
        let handle = Some(hub.handle.clone());
        hub.handle.register_handler(Box::new(Gate { id, gate, handle, may_block })).unwrap();
    }
    let mut peer = hub.connect("peer", &["*"]);
    expect_error(peer.request("inline/x", MessagePayload::Empty), ErrorKind::Internal, "no figures");
    assert_eq!(text(&peer.request("pooled/x", MessagePayload::Empty).unwrap()), "1");
    let mut ended = TestHub::start();
    let handle = ended.handle.clone();
    ended.stop().unwrap();
    expect_error(handle.statistics(), ErrorKind::Connection, "the hub has ended");
}

fn statistics(hub: &TestHub) -> HubStatistics {
    hub.handle.statistics().expect("the hub runs")
}

fn address_of(figures: &HubStatistics, address: &str) -> AddressStatistics {
    let found = figures.addresses.iter().find(|known| known.address == address);
    found.unwrap_or_else(|| panic!("no {address} among {:?}", figures.addresses)).clone()
}

/// Waits until the test lets it go on, or says how many peers the hub has.
struct Gate {
    id: &'static str,
    may_block: bool,
    gate: Receiver<()>,
    handle: Option<HubHandle>,
}

impl MessageHandler for Gate {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn handle_message(&mut self, _message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        if let Some(handle) = &self.handle {
            let figures = handle.statistics().map_err(|_| IpcError::Internal("no figures"))?;
            return reply.payload(MessagePayload::String(&figures.peers.to_string()));
        }
        self.gate.recv_timeout(PATIENCE).map_err(|_| IpcError::Internal("nobody opened"))
    }
}
