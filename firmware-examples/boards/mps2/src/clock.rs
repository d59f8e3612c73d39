//! Time: microseconds since the start, and single cycles for measuring.

use crate::{CLOCK_HZ, hardware::fpga_io, hardware::timer};

/// Microseconds since the board was taken.
///
/// Monotonic and 64 bits wide without an interrupt and without state, so nothing is lost however seldom it is read:
/// the FPGA's prescaled counter gives the low 32 bits, which wrap after 71 minutes, and its 1 Hz counter says how
/// often they did. Both run from the same clock. A reading costs two loads and a multiplication.
#[derive(Clone, Copy, Debug)]
pub struct Clock(());

impl Clock {
    /// Sets both counters to zero.
    pub(crate) fn start() -> Clock {
        fpga_io::PRESCALE.write(CLOCK_HZ / 1_000_000 - 1);
        fpga_io::PRESCALE_COUNTER.write(0);
        fpga_io::COUNTER.write(0);
        fpga_io::SECONDS.write(0);
        Clock(())
    }

    /// Microseconds since the board was taken.
    pub fn now_us(&self) -> u64 {
        now_us()
    }

    /// As [`Clock::now_us`], for who has no clock in hand, such as an interrupt; before the board is taken it means
    /// nothing.
    pub fn now() -> u64 {
        now_us()
    }
}

/// Counts cycles of the 25 MHz clock; under QEMU's `-icount shift=0` one cycle is 40 instructions.
#[derive(Debug)]
pub struct Stopwatch(());

impl Stopwatch {
    /// Lets the timer run freely.
    pub(crate) fn start() -> Stopwatch {
        timer::STOPWATCH_RELOAD.write(u32::MAX);
        timer::STOPWATCH_VALUE.write(u32::MAX);
        timer::STOPWATCH_CTRL.write(TIMER_ENABLE);
        Stopwatch(())
    }

    /// The cycles that `work` takes, reading the timer included. Right below 171 seconds.
    pub fn cycles(&mut self, work: impl FnOnce()) -> u32 {
        let before = timer::STOPWATCH_VALUE.read();
        work();
        before.wrapping_sub(timer::STOPWATCH_VALUE.read())
    }
}

/// The reading itself, also for log timestamps before the board is taken.
pub(crate) fn now_us() -> u64 {
    let coarse = u64::from(fpga_io::SECONDS.read()) * 1_000_000;
    let fine = fpga_io::COUNTER.read();
    // The fine counter is right modulo 2^32, and the coarse one is less than half of that away.
    let ahead = fine.wrapping_sub(coarse as u32) as i32;
    coarse.wrapping_add_signed(i64::from(ahead))
}

/// CTRL: the timer counts.
pub(crate) const TIMER_ENABLE: u32 = 1 << 0;
