//! Sleeping between messages.

use cortex_m::asm;
use cortex_m::peripheral::NVIC;
use rp2040_hal::fugit::MicrosDurationU32;
use rp2040_hal::pac::Interrupt;
use rp2040_hal::timer::{Alarm as _, Alarm0};

use crate::hardware;

/// Puts the processor to sleep while there is nothing to do.
#[allow(missing_debug_implementations, reason = "the HAL's alarm has none")]
pub struct Idle(Alarm0);

impl Idle {
    pub(crate) fn start(mut alarm: Alarm0) -> Idle {
        alarm.enable_interrupt();
        hardware::let_through(Interrupt::TIMER_IRQ_0);
        hardware::let_through(Interrupt::UART0_IRQ);
        Idle(alarm)
    }

    /// Sleeps until the UART has something to read or `max_us` microseconds went by; for a quarter of a millisecond at
    /// most while it sends, so that room to write is soon found.
    ///
    /// Returns at once when there already is something to read, and may return early for no reason: look again.
    pub fn wait(&mut self, max_us: u32) {
        let max_us =
            if hardware::uart_is_sending() { max_us.min(SENDING_US) } else { max_us.min(LONGEST_US) };
        // An alarm that is closer could be over before it is set.
        if max_us < SHORTEST_US || self.0.schedule(MicrosDurationU32::micros(max_us)).is_err() {
            return;
        }
        // What is pending ends the sleep, although it is never taken: interrupts are off.
        asm::wfi();
        // Was it not the alarm, then it must not end the next sleep either.
        let _ = self.0.cancel();
        self.0.clear_interrupt();
        NVIC::unpend(Interrupt::TIMER_IRQ_0);
        // The UART asks again for as long as it has something to read.
        NVIC::unpend(Interrupt::UART0_IRQ);
    }
}

const SENDING_US: u32 = 250;
const SHORTEST_US: u32 = 20;

/// Alarms compare 32 bits of the clock.
const LONGEST_US: u32 = u32::MAX / 2;
