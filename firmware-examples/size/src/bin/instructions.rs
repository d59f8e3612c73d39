//! Counts instructions: run under QEMU's `-icount shift=0`, where one instruction takes one nanosecond.
//!
//! Prints one line `instructions name number` or `stack name bytes` for each figure over semihosting and ends the
//! emulation. The first is the calibration, a loop whose length is known; if it is off, the exit code is 1. The others
//! are what one frame costs a node from its arrival until its answer is out, as whole frames in memory and as bytes of a
//! serial line, and the stack that it takes.
#![no_std]
#![no_main]

use core::hint::black_box;

use board_mps2_an386::{Board, CLOCK_HZ, DEFAULT_BAUD, Stopwatch, exit, stack_depth};
use cortex_m::asm::delay;
use cortex_m_rt::entry;
use firmware_size::{
    Anyone, Holders,
    bench::{Bench, Frames, Hub, Lanes, Line, device_key},
    frames::{Handshake, PlainIn, PlainOut, SecureIn, SecureOut},
};
use semihosting::println;
use visorbus_core::{
    auth::{Caveat, Scopes},
    peer::NoKeys,
    secure::{Sealed, Suite, Tag64},
};

#[entry]
fn main() -> ! {
    let Some(mut board) = Board::take(DEFAULT_BAUD) else { exit(2) };
    let calibration = calibration(&mut board.stopwatch);
    println!("instructions calibration {}", calibration);
    if calibration != CALIBRATION_LENGTH {
        println!("calibration is {} instructions long: run with -icount shift=0", CALIBRATION_LENGTH);
        exit(1);
    }
    let mut report = |name: &str, bench: &mut dyn Bench| {
        println!("instructions {} {}", name, mean(cycles_of(&mut board.stopwatch, bench)));
        bench.prepare();
        println!("stack {} {}", name, stack_depth(|| bench.turn()));
    };
    let mut bench = Frames::<Anyone, _>::new(NoKeys);
    Hub::new(false).request(&mut bench);
    report("request", &mut bench);
    let mut bench = Line::<Anyone, _>::new(NoKeys);
    Hub::new(false).request(&mut bench);
    report("request-serial", &mut bench);
    let mut bench = Lanes::<Anyone, _>::new(NoKeys);
    Hub::new(false).request(&mut bench);
    report("lane-request-serial", &mut bench);
    let mut bench = Frames::<Holders, _>::new(device_key());
    Hub::new(true).request(&mut bench);
    report("auth-request", &mut bench);
    let mut bench = Line::<Holders, _>::new(device_key());
    Hub::new(true).request(&mut bench);
    report("auth-request-serial", &mut bench);
    let mut bench = Frames::<Holders, _>::new(device_key());
    Hub::new(true).proof(&mut bench);
    report("token", &mut bench);
    let mut bench = Frames::<Holders, _>::new(device_key());
    Hub::new(true).token("alice", &TWO_SCOPES, None, &mut bench);
    report("token-scopes", &mut bench);
    let mut bench = Frames::<Holders, _>::new(device_key());
    let caveat = Caveat::Scopes(Scopes::new(&["request:counter/value"]));
    Hub::new(true).token("alice", &THREE_SCOPES, Some(&caveat), &mut bench);
    report("token-long", &mut bench);
    report("frame-in", &mut PlainIn::new());
    report("frame-in-tag64", &mut SecureIn::<Tag64>::new(Suite::Tag64));
    report("frame-in-sealed", &mut SecureIn::<Sealed>::new(Suite::Sealed));
    report("frame-out", &mut PlainOut::new());
    report("frame-out-tag64", &mut SecureOut::<Tag64>::new(Suite::Tag64));
    report("frame-out-sealed", &mut SecureOut::<Sealed>::new(Suite::Sealed));
    report("handshake", &mut Handshake::<Tag64>::new(Suite::Tag64));
    exit(0)
}

/// The measured length of a loop that is `CALIBRATION_LENGTH` instructions long.
fn calibration(stopwatch: &mut Stopwatch) -> u32 {
    let short = cycles(stopwatch, &mut || turn(1_000));
    let long = cycles(stopwatch, &mut || turn(1_000 + CALIBRATION_LENGTH / 2));
    mean(long.wrapping_sub(short))
}

/// The loop, with its alignment in one place for every length.
#[inline(never)]
fn turn(turns: u32) {
    delay(black_box(turns));
}

/// The cycles that all repetitions of `work` take, with the loop around them.
fn cycles(stopwatch: &mut Stopwatch, work: &mut dyn FnMut()) -> u32 {
    stopwatch.cycles(|| {
        for _ in 0..REPETITIONS {
            work();
        }
    })
}

/// The cycles that all repetitions of a turn take, without what comes before each.
fn cycles_of(stopwatch: &mut Stopwatch, bench: &mut dyn Bench) -> u32 {
    let mut sum = 0;
    for repetition in 0..REPETITIONS as u32 {
        bench.prepare();
        // The stopwatch counts whole cycles: begun anywhere in one, the turns make up for each other.
        delay(repetition);
        sum += stopwatch.cycles(|| bench.turn());
    }
    sum
}

/// The instructions of one repetition, rounded.
fn mean(cycles: u32) -> u32 {
    let instructions = u64::from(cycles) * INSTRUCTIONS_PER_CYCLE;
    ((instructions + REPETITIONS / 2) / REPETITIONS) as u32
}

/// `delay` takes two instructions a turn, `subs` and `bne`; those around the loop cancel out.
const CALIBRATION_LENGTH: u32 = 4_000;

/// What the tokens of `alice` allow.
const TWO_SCOPES: [&str; 2] = ["request:counter/*", "counter.control"];
const THREE_SCOPES: [&str; 3] = ["request:counter/*", "counter.control", "subscribe:counter/**"];

const REPETITIONS: u64 = 1_000;

/// One instruction takes one nanosecond.
const INSTRUCTIONS_PER_CYCLE: u64 = 1_000_000_000 / CLOCK_HZ as u64;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(3)
}
