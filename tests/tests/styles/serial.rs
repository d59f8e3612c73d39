//! The serial line: a blocking UART asked whether it is ready, and an asynchronous one.

use std::cell::Cell;
use std::rc::Rc;

use embedded_io::ErrorKind;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::message::typed::Endpoint as _;
use visorbus_core::peer::{DeviceKey, Peer};
use visorbus_core::serve::turn;
use visorbus_core::{Instant, Link, Message};
use visorbus_hal::{
    Lane, SerialError, SerialFrames, SerialLink, SerialStats, lane_len, serial_buffer_len, serve_serial,
};
use visorbus_imu::messages::{GetInfo, SetRate};
use visorbus_imu::{ImuNode, MAX_FRAME};
use visorbus_tests::faulty_link::Random;

use crate::line::{FakeTimer, Rx, Tx, Uart, Wire};
use crate::task::Task;
use crate::{Bench, Leaf, Stage, clock, peer, scenario};

#[test]
fn blocking_and_asynchronous_leaves_say_the_same() {
    for step in [1, 7, 64, 1_000] {
        let mut blocking = blocking(lane(), step);
        let expected = scenario(&mut blocking);
        let mut awaited = awaited(lane(), step);
        assert_eq!(scenario(&mut awaited), expected, "pieces of {step} bytes");
        assert_eq!(awaited.leaf.dropped.get(), 0, "no read or write was given up in the middle");
        let (gone, stats) = awaited.leaf.end(ErrorKind::NotConnected);
        assert_eq!(gone, SerialError::Gone(ErrorKind::NotConnected));
        assert_eq!((stats.read_errors, stats.write_errors, stats.faults), (0, 0, Default::default()));
    }
}

#[test]
fn so_they_do_with_a_hub_that_has_no_lane() {
    let expected = scenario(&mut blocking(SerialFrames::<HUB>::new(), 7));
    assert_eq!(scenario(&mut awaited(SerialFrames::<HUB>::new(), 7)), expected);
}

#[test]
fn a_narrow_line_that_takes_a_byte_at_a_time_carries_everything() {
    let mut stage = awaited(lane(), 64);
    stage.leaf.tx.set_capacity(1);
    scenario(&mut stage);
    assert_eq!(stage.leaf.dropped.get(), 0);
}

#[test]
fn errors_of_the_uart_cost_frames_and_no_session() {
    let mut stage = awaited(lane(), 64);
    stage.wait_for_service();
    for _ in 0..20 {
        stage.leaf.rx.put(b"\x40half a frame");
        stage.leaf.rx.put_error(ErrorKind::Other);
        stage.leaf.rx.put(b"the other half\0");
        stage.leaf.tx.set_write_result(Err(ErrorKind::TimedOut));
        assert_eq!(stage.call_ok::<GetInfo>(&()).boot_id, 7);
    }
    assert_eq!(stage.hub.opened, 1);
    let (_, stats) = stage.leaf.end(ErrorKind::BrokenPipe);
    assert_eq!((stats.read_errors, stats.write_errors), (20, 20));
    assert_eq!((stats.faults.bad_crc, stats.faults.cut_off), (0, 0), "what an error hit is passed over");
}

#[test]
fn no_call_is_lost_on_a_bad_line_behind_a_bad_uart() {
    for seed in 1..=10 {
        let mut random = Random::new(seed);
        let mut stage = awaited(lane(), 1 + random.below(100) as usize);
        stage.wait_for_service();
        for _ in 0..200 {
            let garbage: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
            match random.below(6) {
                0 => drop(stage.leaf.rx.put(&garbage)),
                1 => stage.leaf.rx.put_error(ErrorKind::Other),
                2 => stage.leaf.tx.set_write_result(Err(ErrorKind::Other)),
                3 => drop(stage.leaf.rx.take(&mut vec![0; garbage.len() + 1])),
                4 => drop(stage.leaf.tx.take(&mut vec![0; garbage.len() + 1])),
                _ => stage.leaf.tx.set_capacity(1 + random.below(300) as usize),
            }
            stage.run_ms(random.below(30) as u32);
            assert_eq!(stage.call_ok::<GetInfo>(&()).boot_id, 7);
        }
        assert_eq!((stage.hub.opened, stage.leaf.dropped.get()), (1, 0), "seed {seed}");
    }
}

#[test]
fn a_uart_that_is_gone_ends_it() {
    for kind in [ErrorKind::NotConnected, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset] {
        let mut stage = awaited(lane(), 64);
        assert_eq!(stage.leaf.end(kind).0, SerialError::Gone(kind));
        let mut stage = awaited(lane(), 64);
        stage.leaf.tx.set_write_result(Err(kind));
        assert_eq!(stage.leaf.ended().0, SerialError::Gone(kind));
    }
    let mut stage = awaited(lane(), 64);
    assert_eq!(stage.leaf.end(ErrorKind::WriteZero).0, SerialError::Closed, "the end of file");
    let mut stage = awaited(lane(), 64);
    stage.leaf.tx.set_write_result(Ok(0));
    assert_eq!(stage.leaf.ended().0, SerialError::Closed, "a write of nothing");
}

#[test]
fn while_output_is_stuck_input_flows_and_the_node_comes_back() {
    let mut stage = awaited(SerialFrames::<HUB>::new(), 64);
    stage.wait_for_service();
    // The line is full, and the hub goes on asking without an answer.
    stage.leaf.tx.set_capacity(0);
    let request = Message::request(1_000_000, GetInfo::ADDRESS);
    let mut asked = 0;
    for _ in 0..300 {
        asked += u32::from(stage.hub.send(&request));
        stage.run_ms(5);
    }
    assert_eq!(asked, 300, "what the hub writes is taken off its hands");
    stage.leaf.tx.set_capacity(1_000);
    stage.run_ms(10);
    assert_eq!(stage.call_ok::<SetRate>(&50), 50);
    let (_, stats) = stage.leaf.end(ErrorKind::BrokenPipe);
    assert!((150..=300).contains(&stats.faults.dropped), "{stats:?}");
}

#[test]
fn output_that_is_slow_but_moves_costs_no_frame() {
    let mut stage = awaited(SerialFrames::<HUB>::new(), 64);
    stage.wait_for_service();
    for _ in 0..50 {
        stage.leaf.tx.set_capacity(0);
        stage.run_ms(200);
        stage.leaf.tx.set_capacity(1_000);
        assert_eq!(stage.call_ok::<GetInfo>(&()).boot_id, 7);
    }
    assert_eq!(stage.leaf.end(ErrorKind::BrokenPipe).1.faults.dropped, 0);
}

#[test]
fn a_line_that_never_falls_silent_lets_other_tasks_run() {
    struct Babble(u8);
    impl embedded_io::ErrorType for Babble {
        type Error = ErrorKind;
    }
    impl embedded_io_async::Read for Babble {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
            for byte in buffer.iter_mut() {
                self.0 = self.0.wrapping_mul(5).wrapping_add(3);
                *byte = self.0;
            }
            Ok(buffer.len())
        }
    }
    let (clock, tx) = (clock(), Wire::new());
    let mut task = Task::new({
        let (timer, bench) = (FakeTimer::new(clock.clone()), Bench(clock));
        let tx = Tx { wire: tx.clone(), step: 64, dropped: Rc::default() };
        async move {
            let (mut peer, mut node) = (peer(Line::new(SerialFrames::<LEAF>::new())), ImuNode::new(bench, 7));
            serve_serial(&mut peer, &mut node, (Babble(1), tx), &mut { timer }).await
        }
    });
    for _ in 0..1_000 {
        // Each comes back, and wants to go on.
        assert!(task.poll());
    }
    // And what is due is done all the same.
    assert!(tx.moved() > 0, "it has said hello");
    assert!(task.output.is_none());
}

#[test]
fn a_loop_that_was_dropped_is_started_again_with_the_same_peer() {
    let (clock, rx, tx) = (clock(), Wire::new(), Wire::new());
    let timer = FakeTimer::new(clock.clone());
    let mut task = Task::new({
        let (clock, timer, rx, tx) = (clock.clone(), timer.clone(), rx.clone(), tx.clone());
        async move {
            let mut peer = peer(Line::new(SerialFrames::<LEAF>::new()));
            let mut node = ImuNode::new(Bench(clock), 7);
            loop {
                let ends = halves(&rx, &tx, 64, &Rc::default());
                let timer = &mut timer.clone();
                let _gone = serve_serial(&mut peer, &mut node, ends, timer).await;
            }
        }
    });
    task.poll();
    let leaf = Awaited { task, timer, rx, tx, dropped: Rc::default() };
    let mut stage = Stage::new(clock, lane(), leaf);
    stage.wait_for_service();
    stage.leaf.rx.put_error(ErrorKind::NotConnected);
    stage.run_ms(1);
    assert_eq!(stage.call_ok::<GetInfo>(&()).boot_id, 7);
    assert_eq!(stage.hub.opened, 1, "the session outlives the UART");
}

/// The leaf whose loop this is.
struct Blocking {
    peer: Peer<Line<SerialLink<Uart, LEAF>>, DeviceKey, MAX_FRAME>,
    node: ImuNode<Bench>,
    clock: visorbus_tests::clock::FakeClock,
    due: Option<Instant>,
    rx: Wire,
    tx: Wire,
}

impl<L: Link + AsMut<SerialFrames<HUB>>> Leaf<L> for Blocking {
    fn run(&mut self, hub: &mut L) -> bool {
        let before = self.rx.moved() + self.tx.moved();
        exchange(hub.as_mut(), &self.rx, &self.tx);
        let now = self.clock.now();
        self.due = turn(&mut self.peer, &mut self.node, now).unwrap();
        self.due.is_some_and(|due| due <= now) || self.rx.moved() + self.tx.moved() != before
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// The leaf whose loop is a task.
struct Awaited<T> {
    task: Task<T>,
    timer: FakeTimer,
    rx: Wire,
    tx: Wire,
    dropped: Rc<Cell<u32>>,
}

impl<T> Awaited<T> {
    /// What it comes to when reading fails so.
    fn end(&mut self, error: ErrorKind) -> T {
        self.rx.put_error(error);
        self.ended()
    }

    fn ended(&mut self) -> T {
        while self.task.poll() {}
        self.task.output.take().expect("it is over")
    }
}

impl<T, L: Link + AsMut<SerialFrames<HUB>>> Leaf<L> for Awaited<T> {
    fn run(&mut self, hub: &mut L) -> bool {
        let before = self.rx.moved() + self.tx.moved();
        exchange(hub.as_mut(), &self.rx, &self.tx);
        self.timer.ring();
        self.task.poll() || self.rx.moved() + self.tx.moved() != before
    }

    fn due(&self) -> Option<Instant> {
        self.timer.due()
    }
}

/// Moves bytes between the hub's link and the wires.
fn exchange(hub: &mut SerialFrames<HUB>, rx: &Wire, tx: &Wire) {
    let sent = rx.put(hub.pending());
    hub.handle_sent(sent);
    while !hub.holds() {
        let mut byte = [0];
        match tx.take(&mut byte) {
            Ok(1) => hub.push(&byte),
            _ => return,
        };
    }
}

fn blocking<L: Link + AsMut<SerialFrames<HUB>>>(hub: L, step: usize) -> Stage<Blocking, L> {
    let (clock, rx, tx) = (clock(), Wire::new(), Wire::new());
    let (near, far) = halves(&rx, &tx, step, &Rc::default());
    let leaf = Blocking {
        peer: peer(Lane::new(SerialLink::new(Uart(near, far)))),
        node: ImuNode::new(Bench(clock.clone()), 7),
        clock: clock.clone(),
        due: None,
        rx,
        tx,
    };
    Stage::new(clock, hub, leaf)
}

fn awaited<L: Link + AsMut<SerialFrames<HUB>>>(
    hub: L,
    step: usize,
) -> Stage<Awaited<(SerialError, SerialStats)>, L> {
    let (clock, rx, tx) = (clock(), Wire::new(), Wire::new());
    let (timer, dropped) = (FakeTimer::new(clock.clone()), Rc::default());
    let task = Task::new({
        let (bench, mut timer, ends) =
            (Bench(clock.clone()), timer.clone(), halves(&rx, &tx, step, &dropped));
        async move {
            let (mut peer, mut node) = (peer(Line::new(SerialFrames::<LEAF>::new())), ImuNode::new(bench, 7));
            let Err(gone) = serve_serial(&mut peer, &mut node, ends, &mut timer).await;
            (gone, peer.link().link().stats())
        }
    });
    Stage::new(clock, hub, Awaited { task, timer, rx, tx, dropped })
}

fn halves(rx: &Wire, tx: &Wire, step: usize, dropped: &Rc<Cell<u32>>) -> (Rx, Tx) {
    let rx = Rx { wire: rx.clone(), step, dropped: dropped.clone() };
    (rx, Tx { wire: tx.clone(), step, dropped: dropped.clone() })
}

/// The hub's end with a lane.
fn lane() -> Line<SerialFrames<HUB>> {
    Lane::new(SerialFrames::new())
}

type Line<L> = Lane<L, { 2 * lane_len(MAX_FRAME) }>;

const LEAF: usize = serial_buffer_len(3 * MAX_LINE_FRAME);
const HUB: usize = serial_buffer_len(1_024);
