//! Sleeping between messages.

use cortex_m::{asm, peripheral::NVIC};

use crate::{
    CLOCK_HZ,
    clock::TIMER_ENABLE,
    hardware::{self, Interrupt, timer},
    uart,
};

/// Puts the processor to sleep while there is nothing to do.
#[derive(Debug)]
pub struct Idle(());

impl Idle {
    pub(crate) fn start() -> Idle {
        timer::ALARM_RELOAD.write(0);
        hardware::unmask(Interrupt::TIMER1);
        Idle(())
    }

    /// Sleeps until the UART has something to read, room to write came free, or `max_us` microseconds went by.
    ///
    /// Returns at once when there already is something to read, and may return early for no reason: look again.
    /// At most 171 seconds.
    pub fn wait(&mut self, max_us: u32) {
        let cycles = max_us.min(u32::MAX / CYCLES_PER_US) * CYCLES_PER_US;
        if cycles == 0 {
            return;
        }
        // A masked interrupt still ends `wfi`, so a byte that comes after the question is not slept through.
        critical_section::with(|_| {
            if uart::has_input() {
                return;
            }
            start_alarm(cycles);
            asm::wfi();
            stop_alarm();
            NVIC::unpend(Interrupt::TIMER1);
        });
    }
}

/// The alarm's handler; `wait` stops the alarm before it can run.
pub(crate) fn on_alarm() {
    stop_alarm();
}

pub(crate) fn start_alarm(cycles: u32) {
    timer::ALARM_VALUE.write(cycles);
    timer::ALARM_CTRL.write(TIMER_ENABLE | TIMER_INTERRUPT);
}

fn stop_alarm() {
    timer::ALARM_CTRL.write(0);
    timer::ALARM_INTSTATUS.write(1);
}

/// CTRL: reaching zero is an interrupt.
const TIMER_INTERRUPT: u32 = 1 << 3;

pub(crate) const CYCLES_PER_US: u32 = CLOCK_HZ / 1_000_000;
