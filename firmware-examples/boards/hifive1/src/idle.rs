//! Time, and sleeping until it is time to look again.

use crate::hardware::{set_alarm, ticks};

/// Microseconds since the board was taken, in steps of 30.5: the clock is a watch's crystal.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: ticks() }
    }

    /// Microseconds since the board was taken.
    pub fn now_us(&self) -> u64 {
        // 10^6 / 2^15, which does not overflow in the lifetime of a board.
        (ticks() - self.started) * 15_625 / 512
    }
}

/// Puts the processor to sleep while there is nothing to do.
#[derive(Debug)]
pub struct Idle(());

impl Idle {
    pub(crate) fn start() -> Self {
        Self(())
    }

    /// Sleeps for `max_us` microseconds, but for a quarter of a millisecond at most, which is a third of what the UART's
    /// FIFO holds at 115 200 baud.
    pub fn wait(&mut self, max_us: u32) {
        let wait_ticks = max_us.min(LONGEST_US) * 512 / 15_625;
        if wait_ticks > 0 {
            set_alarm(ticks() + u64::from(wait_ticks));
            riscv::asm::wfi();
        }
    }
}

const LONGEST_US: u32 = 250;
