//! Links with a key over whole frames and over a bus: what their owners see of them.

use visorbus_core::auth::Access;
use visorbus_core::dispatch::{Answers, Row};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::message::typed::Endpoint;
use visorbus_core::message::{Address, MessagePayload, MessagePriority, MessageType};
use visorbus_core::peer::{Event, HubByLink, Node};
use visorbus_core::secure::{LinkProof, Suite};
use visorbus_core::session::{Name, Role, Session, SessionConfig, Verdict};
use visorbus_core::{Instant, IpcError, Link, Message, Peer, codec};
use visorbus_hal::{Lane, SpiLink, SpiTargetLink};
use visorbus_tests::faulty_link::{Faults, FaultyLink};
use visorbus_tests::memory_link::MemoryLink;
use visorbus_tests::secured::{SECURED_FRAME, SecuredBoard, SecuredHub, secured_board};
use visorbus_tests::spi_bus::{BusFaults, SpiBus};

#[test]
fn nothing_passes_before_both_ends_are_proven_and_then_everything_does() {
    for suite in [Suite::Tag64, Suite::Sealed] {
        let (mut board, mut hub) = pair(suite);
        assert_eq!((board.room(), hub.room(), board.proof(), hub.proof()), (0, 0, None, None));
        assert_eq!((board.send(b"early"), hub.send(b"early")), (Ok(false), Ok(false)));
        settle(&mut board, &mut hub, 0);
        assert_eq!(board.proof().map(LinkProof::name), Some("bus"));
        assert_eq!(hub.changes.iter().map(LinkProof::name).collect::<Vec<_>>(), ["imu"]);
        let longest = vec![7; board.max_frame()];
        assert_eq!((board.room(), hub.max_frame()), (longest.len(), MAX_LINE_FRAME));
        assert_eq!(board.send(&longest), Ok(true));
        assert_eq!(hub.receive().unwrap(), Some(&longest[..]));
        assert_eq!(board.send(&[&longest[..], &[7]].concat()), Ok(false), "one byte too many");
        assert_eq!(hub.send(&[]), Ok(true));
        assert_eq!(board.receive().unwrap(), None, "an empty frame is the channel's own");
    }
}

#[test]
fn frames_wait_until_the_owner_has_seen_that_the_channel_is_another() {
    let (mut board, mut hub) = pair(Suite::Tag64);
    settle(&mut board, &mut hub, 0);
    let (near, _) = MemoryLink::pair(8, SECURED_FRAME);
    let old = std::mem::replace(board.link_mut(), near);
    board = secured_board(old, Suite::Tag64, 2);
    for ms in 0..5 {
        board.flush(at(1_000 + ms)).unwrap();
        // Past the wrapper, which would take note of the change.
        hub.link.flush(at(1_000 + ms)).unwrap();
        assert_eq!(hub.link.receive().unwrap(), None);
    }
    assert_eq!(board.send(b"first of the second start"), Ok(true));
    assert_eq!(hub.link.receive().unwrap(), None);
    assert_eq!(hub.link.proof().map(LinkProof::boot_id), Some(2));
    assert_eq!((hub.link.room(), hub.link.send(b"of the old session")), (0, Ok(false)));
    assert_eq!(hub.link.take_change().map(LinkProof::boot_id), Some(2));
    assert_eq!(hub.link.receive().unwrap(), Some(&b"first of the second start"[..]));
    assert!(hub.link.take_change().is_none());
}

#[test]
fn a_leaf_with_nothing_but_its_links_key_serves_the_hub_and_nobody_without() {
    let (near, far) = MemoryLink::pair(8, SECURED_FRAME);
    let board = secured_board(near, Suite::Tag64, 1);
    let mut leaf = Leaf::new(board);
    let mut hub = SecuredHub::new(far, Suite::Tag64, 1);
    assert_eq!(ask(&mut leaf, &mut hub), Some((MessageType::Response, 1)));

    // The same leaf on a line that proves nobody.
    let (near, mut far) = MemoryLink::pair(8, SECURED_FRAME);
    let mut leaf = Leaf::new(near);
    assert_eq!(ask(&mut leaf, &mut far), Some((MessageType::Error, 0)));
}

#[test]
fn a_lane_over_a_shorter_link_puts_on_its_stream_what_does_not_fit_a_frame() {
    let (near, far) = MemoryLink::pair(64, MAX_LINE_FRAME);
    let mut board = Lane::<_, 516>::new(secured_board(near, Suite::Sealed, 1));
    let mut hub = Lane::<_, 516>::new(SecuredHub::new(far, Suite::Sealed, 1));
    board.reset(Some(1));
    hub.reset(Some(1));
    let mut arrived = Vec::new();
    for len in 20..200 {
        let frame = notification(len);
        assert_eq!(board.send(&frame), Ok(true));
        for ms in 0..300 {
            let now = at(len as u64 * 1_000 + ms);
            board.flush(now).unwrap();
            hub.flush(now).unwrap();
            while let Some(message) = hub.receive().unwrap() {
                arrived.push(message.len());
            }
        }
    }
    assert_eq!(
        arrived,
        (20..200).collect::<Vec<_>>(),
        "none is lost between what a line and what this link carries"
    );
}

#[test]
fn frames_lost_doubled_and_reordered_below_come_once_and_in_order_or_not_at_all() {
    for (seed, suite) in [(1, Suite::Tag64), (2, Suite::Sealed)] {
        let (near, far) = MemoryLink::pair(64, SECURED_FRAME);
        let mut board = secured_board(FaultyLink::new(near, seed), suite, 1);
        let mut hub = SecuredHub::new(FaultyLink::new(far, seed + 10), suite, 1);
        let faults = Faults { drop: 100, duplicate: 100, reorder: 100, corrupt: 100 };
        board.link_mut().set_faults(faults);
        hub.link.link_mut().set_faults(faults);
        let (mut last, mut heard) = (0, 0);
        for number in 1..=20_000_u32 {
            let now = at(u64::from(number));
            let payload = [&number.to_le_bytes()[..], &[number as u8; 20]].concat();
            board.send(&payload).unwrap();
            board.flush(now).unwrap();
            hub.flush(now).unwrap();
            while let Some(frame) = hub.receive().unwrap() {
                let number = u32::from_le_bytes(*frame.first_chunk().unwrap());
                assert!(number > last, "{number} behind {last}");
                assert!(frame[4..].iter().all(|byte| *byte == number as u8));
                (last, heard) = (number, heard + 1);
            }
            while board.receive().unwrap().is_some() {}
        }
        assert!(heard > 10_000, "{suite}: {heard}");
        let stats = hub.link.stats();
        assert!(stats.bad > 1_000 && stats.replayed > 1_000, "{stats:?}");
    }
}

#[test]
fn over_spi_the_handshake_is_made_whatever_the_bus_does_and_stuck_lines_say_nothing() {
    for suite in [Suite::Tag64, Suite::Sealed] {
        let bus = SpiBus::new(5);
        let mut hub =
            Lane::<_, 516>::new(SecuredHub::new(SpiLink::new(bus.device(), bus.ready_line()), suite, 1));
        let mut board = Lane::<_, 516>::new(secured_board(SpiTargetLink::new(bus.target()), suite, 1));
        hub.reset(Some(1));
        board.reset(Some(1));
        let mut micros = 1_000_000;
        let mut run = |hub: &mut Lane<_, 516>, board: &mut Lane<_, 516>, ms: u64| {
            let mut taken = [0; 2];
            for _ in 0..ms * 20 {
                micros += 50;
                let now = Instant::from_micros(micros);
                turn(board, now, &mut taken[0]);
                turn(hub, now, &mut taken[1]);
            }
            taken
        };
        // A board that is not there: all that comes is of one level.
        for level in [false, true] {
            bus.set_faults(BusFaults { miso: Some(level), ready: Some(true), ..BusFaults::NONE });
            run(&mut hub, &mut board, 500);
            assert!(hub.link().changes.is_empty() && hub.link().proof().is_none(), "{suite} {level}");
        }
        let bad = BusFaults { bit_errors: 100, slips: 50, cut_offs: 50, busy: 100, ..BusFaults::NONE };
        bus.set_faults(bad);
        run(&mut hub, &mut board, 5_000);
        assert!(hub.link().proof().is_some() && board.link().proof().is_some(), "{suite}");
        let (up, down) = (request(300), request(400));
        for _ in 0..20 {
            assert_eq!((board.send(&up), hub.send(&down)), (Ok(true), Ok(true)));
            assert_eq!(run(&mut hub, &mut board, 500), [1, 1], "{suite}");
        }
        for level in [false, true] {
            bus.set_faults(BusFaults { miso: Some(level), mosi: Some(level), ..BusFaults::NONE });
            assert_eq!(run(&mut hub, &mut board, 1_000), [0, 0]);
        }
        bus.set_faults(BusFaults::NONE);
        assert_eq!((board.send(&up), hub.send(&down)), (Ok(true), Ok(true)));
        assert_eq!(run(&mut hub, &mut board, 1_000), [1, 1], "{suite}");
        assert_eq!(hub.link().changes.len(), 1, "{suite}: the channel stayed");
    }
}

fn pair(suite: Suite) -> (SecuredBoard<MemoryLink>, SecuredHub<MemoryLink>) {
    let (near, far) = MemoryLink::pair(8, SECURED_FRAME);
    (secured_board(near, suite, 1), SecuredHub::new(far, suite, 1))
}

fn settle(board: &mut impl Link, hub: &mut impl Link, ms: u64) {
    for _ in 0..6 {
        let _ = (board.flush(at(ms)), hub.flush(at(ms)));
    }
}

fn turn<L: Link<Error: std::fmt::Debug>>(lane: &mut L, now: Instant, taken: &mut u32) {
    lane.flush(now).unwrap();
    while lane.receive().unwrap().is_some() {
        *taken += 1;
    }
    lane.flush(now).unwrap();
}

/// Opens a session with the leaf and asks it; what kind of answer came, and how often its handler ran.
fn ask<L: Link<Error: std::fmt::Debug>, M: Link<Error: std::fmt::Debug>>(
    leaf: &mut Leaf<L>,
    link: &mut M,
) -> Option<(MessageType, u32)> {
    let mut session = Session::new(config("bus", Role::Accepting));
    let mut answer = None;
    for ms in 0..20 {
        while leaf.peer.poll(&mut leaf.node, at(ms)).unwrap() == Some(Event::Opened) {}
        link.flush(at(ms)).unwrap();
        let Some(frame) = link.receive().unwrap().map(<[u8]>::to_vec) else { continue };
        let message = codec::decode(&frame).unwrap();
        if message.is_reply() {
            answer = Some(message.message_type);
            break;
        }
        let mut out = [0; 128];
        let sent = match session.handle(&message, at(ms), &mut out) {
            Verdict::Opened { answer } | Verdict::Answer(answer) => answer,
            other => panic!("{other:?}"),
        };
        assert!(link.send(&out[..sent]).unwrap());
        let mut out = [0; 128];
        let len = codec::encode(&Message::request(9, Guarded::ADDRESS), &mut out).unwrap();
        assert!(link.send(&out[..len]).unwrap());
    }
    Some((answer?, leaf.node.calls))
}

/// A node whose row only a holder of a scope may ask.
#[derive(Default)]
struct Guard {
    calls: u32,
}

impl Node for Guard {
    const ROWS: &'static [Row<Self>] = &[Row::endpoint::<Guarded>()];
}

impl Answers<Guarded> for Guard {
    fn answer(&mut self, (): ()) -> Result<(), IpcError> {
        self.calls += 1;
        Ok(())
    }
}

struct Guarded;

impl Endpoint for Guarded {
    type Request = ();
    type Response = ();
    const ADDRESS: Address<'static> = Address::literal("imu/guarded");
    const ACCESS: Access<'static> = Access::Scope("imu.control");
}

struct Leaf<L> {
    peer: Peer<L, HubByLink, 128>,
    node: Guard,
}

impl<L: Link> Leaf<L> {
    fn new(link: L) -> Self {
        Self { peer: Peer::new(config("imu", Role::Connecting), link, HubByLink), node: Guard::default() }
    }
}

fn config(name: &str, role: Role) -> SessionConfig {
    SessionConfig {
        role,
        name: Name::try_from(name).unwrap(),
        boot_id: 3,
        max_frame: 128,
        heartbeat_ms: 0,
        rows: 1,
        requires_authentication: false,
        lossy: true,
    }
}

/// A notification of `len` bytes that goes best effort where it fits.
fn notification(len: usize) -> Vec<u8> {
    sized(Message::notification(0, Address::literal("a/b")), len)
}

fn request(len: usize) -> Vec<u8> {
    let mut request = Message::request(1, Address::literal("a/b"));
    request.flags.priority = MessagePriority::Normal;
    sized(request, len)
}

fn sized(message: Message<'_>, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len + 16];
    let head = codec::encode(&message.with_payload(MessagePayload::Binary(&[])), &mut frame).unwrap();
    let payload = vec![0x55; len - head];
    let written = codec::encode(&message.with_payload(MessagePayload::Binary(&payload)), &mut frame).unwrap();
    frame.truncate(written);
    assert_eq!(frame.len(), len);
    frame
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}
