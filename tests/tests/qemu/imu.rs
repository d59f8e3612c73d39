//! The sensor on the Cortex-M4.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_imu::messages::{GetInfo, SelfTest, SetRate};
use visorbus_imu::motion::sample_at;
use visorbus_tests::faulty_link::Random;
use visorbus_tests::patience::CHANCES;

use crate::board::{Board, SENSOR, expect_sound_line};
use crate::line::{AT_ONCE, Operator, TestHub, samples, samples_without_gaps};

#[test]
fn the_board_is_called_and_refuses_who_may_not() {
    let (hub, operator, _board) = board();
    let info = operator.info();
    assert_eq!((info.board.as_str(), info.rate_hz), ("mps2-an386", 100));
    let viewer = hub.client("viewer", &["request:imu/*"]);
    let refusal = viewer.call::<SetRate>(&50, None).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Authorization);
    assert!(refusal.text().starts_with("imu/set-rate: this needs the scope 'imu.control'"), "{refusal}");
    assert_eq!(operator.info().rate_hz, 100);
    assert_eq!(operator.call::<SetRate>(&50), 50);
    assert_eq!(operator.info().rate_hz, 50);
    let wrong = operator.client.call::<SetRate>(&1_001, None).unwrap_err();
    assert_eq!(
        (wrong.kind(), wrong.text().as_str()),
        (ErrorKind::Message, "the rate goes from 1 to 1000 Hz")
    );
    let report = operator.call::<SelfTest>(&());
    assert!(report.passed, "{report:?}");
    let imu = hub.peer("imu").unwrap();
    assert_eq!((imu.sessions, imu.undecodable, imu.refused), (1, 0, 0), "{imu:?}");
    expect_sound_line(&imu);
}

#[test]
fn the_board_streams_at_its_rate_without_gaps() {
    let (_hub, operator, _board) = board();
    assert_eq!(operator.call::<SetRate>(&200), 200);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    // Those of the old rate may be on their way.
    samples(&stream, 3);
    let mut stretches = std::iter::repeat_with(|| {
        let before = operator.info().samples_dropped;
        let started = Instant::now();
        let samples = samples_without_gaps(&stream, 600, 200);
        let rate_hz = samples.len() as f64 / started.elapsed().as_secs_f64();
        for sample in &samples {
            let bits = (sample.accel, sample.gyro);
            assert_eq!(bits, sample_at(sample.timestamp_us), "the bits of this machine");
        }
        (rate_hz, operator.info().samples_dropped - before)
    });
    // A machine that does much else at the moment is late with some.
    let is_good = |(rate_hz, dropped): (f64, u32)| (190.0..=210.0).contains(&rate_hz) && dropped == 0;
    assert!(stretches.by_ref().take(CHANCES).any(is_good));
}

#[test]
fn a_reset_fails_what_waits_and_the_board_is_back_under_a_new_boot_id() {
    let (hub, operator, mut board) = board();
    let before = operator.info().boot_id;
    // What is on the line at the reset is lost, as in a real UART.
    board.relay.set_deaf(true);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    let reset = Instant::now();
    board.monitor("system_reset");
    board.relay.set_deaf(false);
    call.expect_gone(reset, "it started again");
    operator.wait("imu", false);
    operator.wait("imu", true);
    assert!(reset.elapsed() < AT_ONCE, "{:?}", reset.elapsed());
    let after = operator.info();
    assert_ne!(after.boot_id, before);
    assert_eq!(after.rate_hz, 100);
    assert_eq!(hub.peer("imu").unwrap().sessions, 2);
}

#[test]
fn a_board_that_loses_power_in_a_call_is_told_of_at_once_and_comes_back() {
    let (hub, operator, board) = board();
    let before = operator.info().boot_id;
    board.signal(Signal::STOP);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    let killed = Instant::now();
    board.signal(Signal::KILL);
    call.expect_gone(killed, "imu-line is gone");
    operator.wait("imu", false);
    drop(board);
    let _board = Board::start(&SENSOR, &hub.line("imu-line"));
    operator.wait("imu", true);
    assert_ne!(operator.info().boot_id, before);
}

#[test]
fn a_board_that_hangs_is_noticed_by_its_silence_and_taken_back_when_it_goes_on() {
    let (hub, operator, board) = board();
    let before = operator.info();
    board.signal(Signal::STOP);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    let stopped = Instant::now();
    operator.wait("imu", false);
    let (error, after) = call.error(stopped);
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.text().starts_with("imu is gone (it was silent for three heartbeats)"), "{error}");
    // Heartbeats are a second apart, and the last one was up to a second ago.
    assert!((Duration::from_millis(1_900)..AT_ONCE).contains(&after), "{after:?}");
    board.signal(Signal::CONT);
    operator.wait("imu", true);
    let after = operator.info();
    assert_eq!(after.boot_id, before.boot_id, "it was not reset");
    assert!(after.uptime_us > before.uptime_us);
}

#[test]
fn a_thousand_frames_of_garbage_do_not_stop_the_board() {
    let (hub, operator, mut board) = board();
    let before = operator.info();
    let mut random = Random::new(21);
    for round in 0..100 {
        for _ in 0..10 {
            // Short ones, and now and then one that is longer than the board's buffer.
            let longest = if random.per_mille(30) { 600 } else { 60 };
            let mut frame: Vec<u8> = (0..random.below(longest)).map(|_| random.below(256) as u8).collect();
            frame.push(0);
            board.relay.inject(frame);
        }
        if round % 10 == 9 {
            let info = operator.info();
            assert_eq!(info.boot_id, before.boot_id, "it was not reset");
        }
    }
    assert!(operator.call::<SelfTest>(&()).passed);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    samples_without_gaps(&stream, 50, 100);
    assert_eq!(hub.peer("imu").unwrap().sessions, 1);
}

/// A hub with the board in service.
fn board() -> (TestHub, Operator, Board) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let board = Board::start(&SENSOR, &hub.line("imu-line"));
    hub.attach("imu-line", ",unkeyed=imu");
    operator.wait("imu", true);
    (hub, operator, board)
}
