//! Both ends of an SPI link over a simulated bus: frames arrive as they were sent and in order, whatever the bus does, and
//! the two ends are in step again in the transfer after.

use embedded_hal::digital::InputPin;
use visorbus_core::frame::spi::{MAX_TRANSFER, Side, Status, encode_frame, transfer_len};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::{Instant, Link};
use visorbus_hal::{Lane, SpiController, SpiError, SpiLink, SpiStats, SpiTargetLink, lane_len};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::spi_bus::{BusDevice, BusFaults, BusReady, BusTarget, SpiBus};

#[test]
fn frames_of_every_length_cross_both_ways_in_one_transfer_each() {
    let mut ends = Ends::new(1);
    let all: Vec<u8> = (1..=MAX_LINE_FRAME as u8).collect();
    for len in 1..=MAX_LINE_FRAME {
        ends.pass(1_000);
        let before = ends.bus.counts().transfers;
        assert_eq!(ends.controller.send(&all[..len]), Ok(true));
        assert_eq!(ends.target.send(&all[all.len() - len..]), Ok(true));
        ends.turn();
        assert_eq!(ends.at_target, [&all[..len]]);
        assert_eq!(ends.at_controller, [&all[all.len() - len..]]);
        // The controller's frame is as long as the target's, so it need not know how long that is.
        assert_eq!(ends.bus.counts().transfers - before, 1);
        ends.forget();
    }
    assert_eq!(ends.faults(), 0);
}

#[test]
fn a_frame_that_is_too_long_or_empty_is_not_taken() {
    let mut ends = Ends::new(1);
    for frame in [&[][..], &[0; MAX_LINE_FRAME + 1]] {
        assert_eq!(ends.controller.send(frame), Ok(false));
        assert_eq!(ends.target.send(frame), Ok(false));
    }
    assert_eq!((ends.controller.max_frame(), ends.target.max_frame()), (MAX_LINE_FRAME, MAX_LINE_FRAME));
    assert_eq!((ends.controller.room(), ends.target.room()), (MAX_LINE_FRAME, MAX_LINE_FRAME));
    ends.target.send(b"one").unwrap();
    assert_eq!((ends.target.room(), ends.target.send(b"two")), (0, Ok(false)));
}

#[test]
fn a_stream_of_frames_of_one_length_costs_eight_bytes_each() {
    let mut ends = Ends::new(1);
    ends.stream_from_target(3, 24);
    let before = ends.bus.counts();
    ends.stream_from_target(100, 24);
    let after = ends.bus.counts();
    assert_eq!((after.transfers - before.transfers, after.bytes - before.bytes), (100, 100 * (24 + 8)));
}

#[test]
fn a_longer_frame_than_the_one_before_costs_one_short_transfer_more() {
    let mut ends = Ends::new(1);
    ends.stream_from_target(3, 24);
    let before = ends.bus.counts();
    ends.stream_from_target(1, 100);
    let after = ends.bus.counts();
    assert_eq!((after.transfers - before.transfers, after.bytes - before.bytes), (2, 32 + 108));
}

#[test]
fn an_idle_link_leaves_the_bus_alone() {
    let mut ends = Ends::new(1);
    ends.stream_from_target(3, 24);
    let before = ends.bus.counts();
    for _ in 0..10_000 {
        ends.step();
    }
    assert_eq!(ends.bus.counts(), before);
    assert_eq!(ends.controller.poll_timeout(), None);
}

#[test]
fn nothing_in_a_transfer_answers_that_transfer() {
    let mut ends = Ends::new(1);
    ends.bus.record();
    ends.controller.send(b"question").unwrap();
    ends.controller.flush(ends.now).unwrap();
    // Nobody has turned the target's end since the transfer was armed.
    let recorded = ends.bus.recorded();
    assert_eq!(recorded.len(), 1);
    let said = Status::decode(Side::Target, recorded[0].target.as_ref().unwrap()).unwrap();
    assert_eq!(said, Status { room: true, sequence: 0, len: 0 });
    ends.turn();
    assert_eq!(ends.at_target, [b"question"]);
    ends.target.send(b"answer").unwrap();
    ends.turn();
    assert_eq!(ends.at_controller, [b"answer"]);
}

#[test]
fn an_end_that_has_no_room_takes_nothing_and_can_still_send() {
    let mut ends = Ends::new(1);
    ends.target.send(b"one").unwrap();
    ends.exchange();
    ends.target.send(b"two").unwrap();
    // Nobody takes what came to the controller's end; what it sends goes out all the same.
    for frame in [b"a", b"b", b"c"] {
        assert_eq!(ends.controller.send(frame), Ok(true));
        ends.exchange();
        assert_eq!(ends.target.receive(), Ok(Some(&frame[..])));
    }
    assert_eq!(ends.target.room(), 0);
    // Nor does it matter that nobody takes what came to the target's end.
    ends.controller.send(b"d").unwrap();
    ends.exchange();
    ends.controller.send(b"e").unwrap();
    ends.exchange();
    assert_eq!(ends.controller.room(), 0);
    assert_eq!(ends.controller.receive(), Ok(Some(&b"one"[..])));
    ends.turn();
    assert_eq!(ends.at_controller, [b"two"]);
    assert_eq!(ends.at_target, [b"d", b"e"]);
    assert_eq!(ends.faults(), 0);
}

#[test]
fn a_busy_target_costs_time_and_no_frame() {
    for seed in 0..2 {
        let mut ends = Ends::new(seed);
        ends.bus.set_faults(BusFaults { busy: 500, ..BusFaults::NONE });
        ends.expect_all(2_000, 50);
    }
}

#[test]
fn a_target_that_is_slow_to_turn_is_waited_for() {
    let mut ends = Ends::new(3);
    ends.target_every = 20;
    ends.expect_all(500, 50);
    let stats = ends.controller.stats();
    assert!(stats.bad_status > 100, "the controller did not find it busy: {stats:?}");
}

#[test]
fn errors_of_the_controllers_hardware_cost_time_and_no_frame() {
    let mut ends = Ends::new(5);
    ends.bus.set_faults(BusFaults { errors: 100, ..BusFaults::NONE });
    ends.expect_some(5_000, 4_000);
    assert!(ends.controller.stats().errors > 500);
    ends.expect_in_step();
}

#[test]
fn hardware_that_always_fails_is_a_link_that_is_gone() {
    let mut ends = Ends::new(5);
    ends.bus.set_faults(BusFaults::DEAD);
    ends.controller.send(b"x").unwrap();
    let mut calls = 0;
    let error = loop {
        ends.pass(10_000);
        calls += 1;
        if let Err(error) = ends.controller.flush(ends.now) {
            break error;
        }
        assert!(calls < 100);
    };
    assert_eq!((error, calls), (SpiError::Bus(embedded_hal::spi::ErrorKind::Overrun), 8));
}

#[test]
fn a_ready_line_that_glitches_costs_transfers_and_no_frame() {
    let mut ends = Ends::new(7);
    ends.bus.set_faults(BusFaults { ready_glitches: 200, ..BusFaults::NONE });
    ends.expect_all(2_000, 50);
}

#[test]
fn a_ready_line_that_is_stuck_high_is_looked_after_at_leisure() {
    let mut ends = Ends::new(7);
    ends.bus.set_faults(BusFaults { ready: Some(true), ..BusFaults::NONE });
    ends.turn();
    let before = ends.bus.counts().transfers;
    ends.run_us(1_000_000);
    let idle = ends.bus.counts().transfers - before;
    assert!((100..150).contains(&idle), "{idle} transfers in a second: one each 8 ms");
    // What the controller has to say does not wait for that.
    ends.controller.send(b"at once").unwrap();
    ends.turn();
    assert_eq!(ends.at_target, [b"at once"]);
    ends.forget();
    ends.expect_all(200, 50);
}

#[test]
fn a_ready_line_that_is_stuck_low_leaves_the_controllers_own_transfers() {
    let mut ends = Ends::new(7);
    ends.bus.set_faults(BusFaults { ready: Some(false), ..BusFaults::NONE });
    for number in 0..100_u8 {
        ends.target.send(&[number; 40]).unwrap();
        ends.run_us(100_000);
        assert!(ends.at_controller.is_empty());
        // Any transfer says how long the target's frame is, and the next one fetches it.
        ends.controller.send(b"heartbeat").unwrap();
        ends.run_us(1_000);
        assert_eq!((ends.at_target.len(), &ends.at_controller[..]), (1, &[vec![number; 40]][..]));
        ends.forget();
    }
}

#[test]
fn lines_that_are_stuck_say_nothing_and_the_first_good_transfer_is_in_step() {
    for level in [false, true] {
        for miso in [false, true] {
            let mut ends = Ends::new(9);
            let stuck = Some(level);
            let faults = if miso {
                BusFaults { miso: stuck, ..BusFaults::NONE }
            } else {
                BusFaults { mosi: stuck, ..BusFaults::NONE }
            };
            ends.controller.send(b"from the controller").unwrap();
            ends.target.send(b"from the target").unwrap();
            ends.bus.set_faults(faults);
            ends.run_us(100_000);
            // The line that is not stuck carries; the stuck one never.
            assert_eq!((ends.at_target.len(), ends.at_controller.len()), (miso.into(), (!miso).into()));
            assert!(ends.bus.counts().transfers < 30, "it is hammered on: {:?}", ends.bus.counts());
            ends.bus.set_faults(BusFaults::NONE);
            ends.run_us(20_000);
            // An end says that it takes a frame before it can know that it hears nothing: that frame is lost.
            assert_eq!((ends.at_target.len(), ends.at_controller.len()), (miso.into(), (!miso).into()));
            ends.forget();
            ends.expect_in_step();
        }
    }
}

/// The one case in which an end cannot know: the other took its frame and could not say so.
#[test]
fn a_frame_that_is_sent_again_is_not_delivered_twice() {
    let mut ends = Ends::new(11);
    for round in 0..300_u32 {
        // The target hears, and is not heard.
        ends.bus.set_faults(BusFaults { miso: Some(round % 2 == 0), ..BusFaults::NONE });
        ends.controller.send(&round.to_le_bytes()).unwrap();
        ends.run_us(2_000);
        assert_eq!((ends.at_target.len(), ends.controller.room()), (1, 0));
        ends.bus.set_faults(BusFaults::NONE);
        ends.run_us(20_000);
        assert_eq!(ends.at_target, [round.to_le_bytes()]);
        assert_eq!(ends.controller.room(), MAX_LINE_FRAME);
        ends.forget();
    }
    assert!(ends.target.stats().repeated >= 300);
}

#[test]
fn an_end_that_starts_again_is_heard_at_once() {
    let mut ends = Ends::new(13);
    ends.expect_all(50, 20);
    for boot in 0..200_u32 {
        // One frame in each life, so that their numbers are all the same.
        ends.target = SpiTargetLink::new(ends.bus.target());
        ends.target.send(&[boot.to_le_bytes(), [0xAA; 4]].concat()).unwrap();
        ends.controller = SpiLink::new(ends.bus.device(), ends.bus.ready_line());
        ends.controller.send(&boot.to_le_bytes()).unwrap();
        ends.run_us(2_000);
        assert_eq!((ends.at_target.len(), ends.at_controller.len()), (1, 1), "{boot}");
        ends.forget();
    }
    // Only one of the two.
    for boot in 0..200_u32 {
        ends.target = SpiTargetLink::new(ends.bus.target());
        ends.target.send(&[boot.to_le_bytes(), [0xBB; 4]].concat()).unwrap();
        ends.run_us(2_000);
        assert_eq!(ends.at_controller.len(), 1, "{boot}");
        ends.forget();
    }
    ends.expect_in_step();
}

#[test]
fn bit_errors_cost_frames_and_spoil_none() {
    for (seed, share) in [(1, 10), (2, 50), (3, 200), (4, 1_000)] {
        let mut ends = Ends::new(seed);
        ends.bus.set_faults(BusFaults { bit_errors: share, ..BusFaults::NONE });
        ends.expect_some(4_000, if share < 100 { 3_700 } else { 400 });
        ends.expect_in_step();
    }
}

#[test]
fn clocks_that_slip_cost_frames_and_spoil_none() {
    for (seed, share) in [(1, 10), (2, 200), (3, 1_000)] {
        let mut ends = Ends::new(seed);
        ends.bus.set_faults(BusFaults { slips: share, ..BusFaults::NONE });
        ends.expect_some(3_000, if share < 100 { 2_800 } else { 0 });
        ends.expect_in_step();
    }
}

#[test]
fn transfers_that_are_cut_off_cost_frames_and_spoil_none() {
    for (seed, share) in [(1, 10), (2, 200), (3, 1_000)] {
        let mut ends = Ends::new(seed);
        ends.bus.set_faults(BusFaults { cut_offs: share, ..BusFaults::NONE });
        ends.expect_some(3_000, if share < 100 { 2_800 } else { 0 });
        ends.expect_in_step();
    }
}

#[test]
fn chip_select_edges_that_are_lost_cost_frames_and_spoil_none() {
    for (seed, share) in [(1, 10), (2, 200), (3, 700)] {
        let mut ends = Ends::new(seed);
        ends.bus.set_faults(BusFaults { lost_ends: share, ..BusFaults::NONE });
        ends.expect_some(3_000, if share < 100 { 2_800 } else { 100 });
        ends.expect_in_step();
    }
}

#[test]
fn everything_at_once_for_long_spoils_nothing() {
    for seed in 0..4 {
        let mut ends = Ends::new(100 + seed);
        ends.target_every = 1 + seed % 4;
        ends.bus.set_faults(BusFaults {
            bit_errors: 30,
            slips: 20,
            cut_offs: 20,
            lost_ends: 10,
            busy: 50,
            errors: 10,
            ready_glitches: 30,
            ..BusFaults::NONE
        });
        ends.expect_some(5_000, 3_500);
        ends.target_every = 1;
        ends.expect_in_step();
    }
}

/// After each single fault, wherever it falls, the next transfers are as if nothing had been.
#[test]
fn after_any_single_fault_the_next_transfers_are_in_step() {
    let one = 1_000;
    for faults in [
        BusFaults { bit_errors: one, ..BusFaults::NONE },
        BusFaults { slips: one, ..BusFaults::NONE },
        BusFaults { cut_offs: one, ..BusFaults::NONE },
        BusFaults { lost_ends: one, ..BusFaults::NONE },
        BusFaults { busy: one, ..BusFaults::NONE },
        BusFaults { errors: one, ..BusFaults::NONE },
    ] {
        for seed in 0..200 {
            let mut ends = Ends::new(seed);
            ends.expect_all(2, 30);
            ends.controller.send(&[1; 30]).unwrap();
            ends.target.send(&[2; 50]).unwrap();
            ends.target.flush(ends.now).unwrap();
            ends.bus.set_faults(faults);
            ends.controller.flush(ends.now).unwrap();
            ends.bus.set_faults(BusFaults::NONE);
            ends.run_us(5_000);
            for (came, sent) in [(&ends.at_target, [1; 30].to_vec()), (&ends.at_controller, [2; 50].to_vec())]
            {
                assert!(came.iter().all(|frame| *frame == sent) && came.len() <= 1, "{faults:?} {seed}");
            }
            ends.forget();
            ends.expect_in_step();
        }
    }
}

#[test]
fn an_end_that_hears_itself_hears_nothing() {
    let mut controller = SpiController::new();
    let mut now = Instant::from_micros(0);
    for frame in [&[0xB4; 64][..], &[0xC8; 128], &[0; 9], b"hello"] {
        if controller.room() > 0 {
            assert!(controller.send(frame));
        }
        for ready in [true, false, true, true] {
            now = Instant::from_micros(now.as_micros() + 10_000);
            let transfer = controller.poll_transfer(ready, now).unwrap();
            let len = transfer.read.len();
            transfer.read.copy_from_slice(&transfer.write[..len]);
            controller.handle_transfer(now);
            assert_eq!(controller.receive(), None);
        }
    }
    assert_eq!(controller.room(), 0, "nobody took the frame");
    let SpiStats { transfers, bad_status, .. } = controller.stats();
    assert_eq!((transfers, bad_status), (16, 16));
}

#[test]
fn random_bytes_make_no_frame_at_either_end() {
    let mut random = Random::new(23);
    let mut controller = SpiController::new();
    let mut now = Instant::from_micros(0);
    let (mut transfers, mut heard) = (0, 0);
    for round in 0..60_000_u32 {
        controller.send(&round.to_le_bytes());
        now = Instant::from_micros(now.as_micros() + 10_000);
        let Some(transfer) = controller.poll_transfer(true, now) else { continue };
        noise(&mut random, Side::Target, transfer.read);
        controller.handle_transfer(now);
        assert_eq!(controller.receive(), None);
        transfers += 1;
        heard += u32::from(controller.stats().bad_status < transfers);
    }
    assert!(heard > 300, "no noise was ever taken for a status");

    let mut ends = Ends::new(23);
    let mut device = ends.bus.device();
    for _ in 0..60_000 {
        let mut bytes = [0; MAX_TRANSFER + 8];
        let len = random.below(bytes.len() as u64 + 1) as usize;
        noise(&mut random, Side::Controller, &mut bytes[..len]);
        ends.target.send(&[5; 20]).unwrap();
        ends.target.flush(ends.now).unwrap();
        embedded_hal::spi::SpiDevice::transfer(&mut device, &mut [], &bytes[..len]).unwrap();
        assert_eq!(ends.target.receive(), Ok(None));
    }
    ends.run_us(50_000);
    ends.forget();
    ends.expect_in_step();
}

/// Bytes that are all random, or begin like a status of `from`.
fn noise(random: &mut Random, from: Side, bytes: &mut [u8]) {
    for byte in &mut *bytes {
        *byte = random.below(256) as u8;
    }
    let status = Status { room: random.per_mille(500), sequence: 0, len: random.below(129) as u8 };
    if random.per_mille(500) {
        for (byte, status) in bytes.iter_mut().zip(status.encode(from)) {
            *byte = status;
        }
    }
}

/// What a frame costs that a foreign program put together by the page of the wire format.
#[test]
fn a_transfer_put_together_by_hand_is_understood() {
    let mut ends = Ends::new(1);
    ends.target.flush(ends.now).unwrap();
    let mut bytes = [0; MAX_TRANSFER];
    let len = encode_frame(3, b"123456789", &mut bytes).unwrap();
    assert_eq!(len, transfer_len(9));
    bytes[..4].copy_from_slice(&Status { room: true, sequence: 3, len: 9 }.encode(Side::Controller));
    embedded_hal::spi::SpiDevice::transfer(&mut ends.bus.device(), &mut [], &bytes[..len]).unwrap();
    assert_eq!(ends.target.receive(), Ok(Some(&b"123456789"[..])));
}

#[test]
fn the_ready_line_is_high_exactly_while_the_target_has_something_to_say() {
    let mut ends = Ends::new(1);
    let mut ready = ends.bus.ready_line();
    assert_eq!(ready.is_high(), Ok(false));
    ends.target.send(b"something").unwrap();
    ends.target.flush(ends.now).unwrap();
    assert_eq!(ready.is_high(), Ok(true));
    ends.controller.flush(ends.now).unwrap();
    // Down with the end of the transfer, before anybody asks; it was too short to carry the frame.
    assert_eq!(ready.is_high(), Ok(false));
    ends.target.flush(ends.now).unwrap();
    assert_eq!(ready.is_high(), Ok(true));
    ends.turn();
    assert_eq!((ready.is_high(), &ends.at_controller[..]), (Ok(false), &[b"something".to_vec()][..]));
}

/// The reliable lane above both ends, on a bus with every fault there is: each message once and in order, longer ones than
/// a transfer carries among them.
#[test]
fn under_a_lane_a_bad_bus_loses_nothing() {
    for seed in 0..3 {
        let bus = SpiBus::new(seed);
        let mut controller = Reliable::new(SpiLink::new(bus.device(), bus.ready_line()));
        let mut target = Reliable::new(SpiTargetLink::new(bus.target()));
        bus.set_faults(BusFaults {
            bit_errors: 30,
            slips: 20,
            cut_offs: 20,
            lost_ends: 10,
            busy: 50,
            errors: 10,
            ready_glitches: 30,
            ..BusFaults::NONE
        });
        let mut now = Instant::from_micros(1_000_000);
        for _ in 0..2_000_000 {
            target.turn(now);
            controller.turn(now);
            now = Instant::from_micros(now.as_micros() + 50);
            if controller.received == MESSAGES && target.received == MESSAGES {
                break;
            }
        }
        assert_eq!((controller.received, target.received), (MESSAGES, MESSAGES), "{:?}", bus.counts());
        assert!(controller.lane.stats().resent + target.lane.stats().resent > 0, "{:?}", bus.counts());
    }
}

/// An end that sends its messages as fast as they are taken, and demands those of the other.
struct Reliable<L> {
    lane: Lane<L, { 2 * lane_len(LONGEST) }>,
    sent: u32,
    received: u32,
}

impl<L: Link<Error = SpiError>> Reliable<L> {
    fn new(link: L) -> Self {
        let mut lane = Lane::new(link);
        lane.reset(Some(7));
        Self { lane, sent: 0, received: 0 }
    }

    fn turn(&mut self, now: Instant) {
        self.lane.flush(now).unwrap();
        while let Some(message) = self.lane.receive().unwrap() {
            assert_eq!(message, request(self.received), "number {}", self.received);
            self.received += 1;
        }
        while self.sent < MESSAGES && self.lane.send(&request(self.sent)).unwrap() {
            self.sent += 1;
        }
    }
}

/// Something that begins like a request that wants an answer, of up to 300 bytes.
fn request(number: u32) -> Vec<u8> {
    let mut message = vec![0x28];
    message.extend(numbered(number));
    message.resize(5 + number as usize * 37 % (LONGEST - 4), number as u8);
    message
}

const MESSAGES: u32 = 2_000;
const LONGEST: usize = 300;

/// Both ends on one fake clock, turned in steps of 50 us.
struct Ends {
    bus: SpiBus,
    controller: SpiLink<BusDevice, BusReady>,
    target: SpiTargetLink<BusTarget>,
    now: Instant,
    /// The target's program gets round to its link in each so-manieth step.
    target_every: u64,
    steps: u64,
    at_controller: Vec<Vec<u8>>,
    at_target: Vec<Vec<u8>>,
}

impl Ends {
    fn new(seed: u64) -> Self {
        let bus = SpiBus::new(seed);
        let controller = SpiLink::new(bus.device(), bus.ready_line());
        let mut target = SpiTargetLink::new(bus.target());
        let now = Instant::from_micros(1_000_000);
        target.flush(now).unwrap();
        Self {
            bus,
            controller,
            target,
            now,
            target_every: 1,
            steps: 0,
            at_controller: Vec::new(),
            at_target: Vec::new(),
        }
    }

    fn pass(&mut self, micros: u64) {
        self.now = Instant::from_micros(self.now.as_micros() + micros);
    }

    /// The target arms, the controller transfers, the target collects; nobody takes what came.
    fn exchange(&mut self) {
        for _ in 0..3 {
            self.target.flush(self.now).unwrap();
            self.controller.flush(self.now).unwrap();
            self.pass(1_000);
        }
        self.target.flush(self.now).unwrap();
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(self.target_every) {
            self.target.flush(self.now).unwrap();
            while let Some(frame) = self.target.receive().unwrap() {
                self.at_target.push(frame.to_vec());
            }
        }
        self.controller.flush(self.now).unwrap();
        while let Some(frame) = self.controller.receive().unwrap() {
            self.at_controller.push(frame.to_vec());
        }
        self.pass(50);
    }

    fn run_us(&mut self, micros: u64) {
        for _ in 0..micros / 50 {
            self.step();
        }
    }

    /// Long enough for what waits to go over.
    fn turn(&mut self) {
        self.run_us(500);
    }

    fn forget(&mut self) {
        self.at_controller.clear();
        self.at_target.clear();
    }

    fn faults(&self) -> u32 {
        [self.controller.stats(), self.target.stats()]
            .map(|stats| stats.bad_status + stats.bad_crc + stats.repeated + stats.errors)
            .iter()
            .sum()
    }

    #[track_caller]
    fn stream_from_target(&mut self, count: usize, len: usize) {
        for number in 0..count {
            self.target.send(&vec![number as u8; len]).unwrap();
            self.run_us(1_000);
            assert_eq!(self.at_controller, [vec![number as u8; len]]);
            self.forget();
        }
    }

    /// Sends `count` numbered frames each way, as they are taken; they come as they were sent and in order, at least
    /// `least` of them.
    #[track_caller]
    fn expect_some(&mut self, count: u32, least: usize) {
        let (mut out, mut back) = (0, 0);
        for _ in 0..count * 400 {
            if out < count && self.controller.send(&numbered(out)).unwrap() {
                out += 1;
            }
            if back < count && self.target.send(&numbered(back)).unwrap() {
                back += 1;
            }
            self.step();
            if out == count && back == count && self.controller.room() > 0 && self.target.room() > 0 {
                break;
            }
        }
        self.run_us(100_000);
        for came in [&self.at_target, &self.at_controller] {
            let numbers: Vec<u32> = came.iter().map(|frame| number_of(frame)).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice");
            assert!(numbers.len() >= least, "{} of {count} came, {:?}", numbers.len(), self.bus.counts());
        }
        self.forget();
    }

    /// As [`Ends::expect_some`], and all of them come, each within `steps` steps on average.
    #[track_caller]
    fn expect_all(&mut self, count: u32, steps: u64) {
        let began = self.steps;
        self.expect_some(count, count as usize);
        let took = self.steps - began;
        assert!(took < u64::from(count) * steps + 2_000, "{count} frames took {took} steps");
    }

    /// Without faults from now on, frames cross one by one and at once.
    #[track_caller]
    fn expect_in_step(&mut self) {
        self.bus.set_faults(BusFaults::NONE);
        // What waited when the faults ended; and a target that missed the end of a transfer sees that of the next one.
        self.run_us(20_000);
        self.controller.send(b"nudge").unwrap();
        self.run_us(20_000);
        self.forget();
        for number in 0..10_u8 {
            assert!(self.controller.send(&[number; 17]).unwrap() && self.target.send(&[number; 23]).unwrap());
            self.turn();
            assert_eq!(
                (&self.at_target[..], &self.at_controller[..]),
                (&[vec![number; 17]][..], &[vec![number; 23]][..])
            );
            self.forget();
        }
    }
}

/// A frame that says its number and proves that it is whole: of many lengths, and no two alike.
fn numbered(number: u32) -> Vec<u8> {
    let len = 5 + number.wrapping_mul(2_654_435_761) as usize % (MAX_LINE_FRAME - 4);
    let mut random = Random::new(number.into());
    let mut frame = number.to_le_bytes().to_vec();
    frame.resize_with(len, || random.below(256) as u8);
    frame
}

#[track_caller]
fn number_of(frame: &[u8]) -> u32 {
    let number = u32::from_le_bytes(frame[..4].try_into().unwrap());
    assert_eq!(frame, numbered(number), "not what was sent");
    number
}
