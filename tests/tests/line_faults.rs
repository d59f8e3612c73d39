//! Boards that break the rules on a serial line, or do what nobody expects: the hub gets on with them, or goes on
//! without.

#[allow(dead_code, reason = "what it holds for other test programs")]
mod line;

use std::time::{Duration, Instant as Clock};

use visorbus_core::Instant;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_core::peer::Event;
use visorbus_imu::messages::GetInfo;
use visorbus_imu::{AsyncLeaf, ImuBoard, ImuNode, async_leaf, device_key};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::pty::Pty;

use line::{Operator, TestHub};

#[test]
fn a_long_notification_to_a_board_holds_up_nothing_behind_it() {
    let (hub, operator, pty) = plugged();
    let mut board = Board::new(7);
    board.run_until(&pty, |events| events.contains(&Event::Ready));
    operator_sees_it(&operator, &pty, &mut board);
    let sender = hub.client("sender", &["notify:imu/**"]);
    let payload = [7; 150];
    let long = Message::notification(0, Address::literal("imu/long"));
    let long = visorbus_hub::OwnedMessage::from(&long.with_payload(MessagePayload::Binary(&payload)));
    sender.send_message(&long).unwrap();
    // The board refuses it, which is how it is seen to have come.
    let before = board.leaf.counters().refused;
    board.run(&pty, |leaf| leaf.counters().refused > before);
    answered(&hub, &pty, &mut board);
}

#[test]
fn a_board_whose_boot_id_never_changes_is_back_after_each_reset() {
    let (hub, operator, pty) = plugged();
    for reset in 0..6 {
        let mut board = Board::new(7);
        board.run_until(&pty, |events| events.contains(&Event::Ready));
        if reset == 0 {
            operator_sees_it(&operator, &pty, &mut board);
        }
        answered(&hub, &pty, &mut board);
    }
}

/// A hub with a line on which no board is yet.
fn plugged() -> (TestHub, Operator, Pty) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let pty = Pty::open().unwrap();
    pty.plug(&hub.line("imu-line")).unwrap();
    hub.attach("imu-line", ",unkeyed=imu");
    (hub, operator, pty)
}

/// Runs the board until those who watch know that it is there.
fn operator_sees_it(operator: &Operator, pty: &Pty, board: &mut Board) {
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| operator.wait("imu", true));
        board.run(pty, |_| seen.is_finished());
    });
}

/// Demands that the board answers a call.
#[track_caller]
fn answered(hub: &TestHub, pty: &Pty, board: &mut Board) {
    let client = hub.client("caller", &["request:imu/**"]);
    let outcome = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            loop {
                match client.call::<GetInfo>(&(), Some(Duration::from_secs(3))) {
                    // It is asked for its table first.
                    Err(error) if error.text().contains("only just connected") => std::thread::yield_now(),
                    outcome => return outcome,
                }
            }
        });
        board.run(pty, |_| call.is_finished());
        call.join().unwrap()
    });
    assert_eq!(outcome.unwrap().boot_id, 7);
}

/// A sensor whose bytes the test moves.
struct Board {
    leaf: AsyncLeaf,
    node: ImuNode<Host>,
    events: Vec<Event>,
    started: Clock,
}

struct Host(Clock);

impl ImuBoard for Host {
    const NAME: &'static str = "a test";

    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

impl Board {
    fn new(boot_id: u64) -> Self {
        let started = Clock::now();
        let node = ImuNode::new(Host(started), boot_id);
        Self { leaf: async_leaf(boot_id, device_key()), node, events: Vec::new(), started }
    }

    #[track_caller]
    fn run_until(&mut self, pty: &Pty, enough: impl Fn(&[Event]) -> bool) {
        let deadline = Clock::now() + PATIENCE;
        while !enough(&self.events) {
            assert!(Clock::now() < deadline, "only {:?}", self.events);
            self.turn(pty);
        }
    }

    #[track_caller]
    fn run(&mut self, pty: &Pty, enough: impl Fn(&AsyncLeaf) -> bool) {
        let deadline = Clock::now() + PATIENCE;
        while !enough(&self.leaf) {
            assert!(Clock::now() < deadline, "for ever: {:?}", self.events);
            self.turn(pty);
        }
    }

    /// Moves what bytes there are, and has the leaf look at them.
    fn turn(&mut self, pty: &Pty) {
        let mut bytes = [0; 64];
        let read = rustix::io::read(&pty.master, &mut bytes).unwrap_or(0);
        let mut rest = &bytes[..read];
        loop {
            let taken = self.leaf.link_mut().as_mut().push(rest);
            rest = &rest[taken..];
            let now = Instant::from_micros(self.started.elapsed().as_micros() as u64);
            self.events.extend(self.leaf.poll(&mut self.node, now).unwrap());
            let frames: &mut visorbus_hal::SerialFrames<_> = self.leaf.link_mut().as_mut();
            let written = rustix::io::write(&pty.master, frames.pending()).unwrap_or(0);
            frames.handle_sent(written);
            if rest.is_empty() {
                return;
            }
        }
    }
}
