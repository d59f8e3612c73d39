//! The board's interrupts, for programs that have handlers of their own: under RTIC, or in an async executor.
//!
//! Such a handler is a function that is exported under the name of its vector, and it calls what stands here for it.

use crate::{idle, uart};

pub use crate::hardware::Interrupt;
/// The name that RTIC looks for.
pub use crate::hardware::Interrupt as interrupt;

/// What `UARTRX0` does: it moves received bytes from the UART to where they are read.
pub fn uart_receive() {
    uart::on_receive();
}

/// What `UARTTX0` does: it moves written bytes to the UART. `true` when none are left.
pub fn uart_transmit() -> bool {
    uart::on_transmit()
}

/// What `TIMER1` does: it stops the alarm.
pub fn alarm() {
    idle::on_alarm();
}

/// Has `TIMER1` come once, in `us` microseconds, but no later than in 171 seconds; what was set before is forgotten.
/// [`Idle::wait`](crate::Idle::wait) uses the same alarm.
pub fn set_alarm(us: u32) {
    idle::on_alarm();
    idle::start_alarm(us.clamp(1, u32::MAX / idle::CYCLES_PER_US) * idle::CYCLES_PER_US);
}

/// Bits of an interrupt's priority.
pub const NVIC_PRIO_BITS: u8 = 3;
