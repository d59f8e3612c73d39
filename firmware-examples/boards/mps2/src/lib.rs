//! Arm's MPS2 board as QEMU emulates it: what its images for the Cortex-M3 (AN385) and the Cortex-M4 (AN386) have in
//! common, which is all but the processor.
//!
//! [`Board::take`] starts everything: the UART with interrupt-driven rings, a microsecond clock, and the boot id.
//! The crate knows nothing of what is sent over the UART. Programs use it by the crate of their image.
#![no_std]

mod boot;
mod clock;
mod hardware;
mod idle;
pub mod interrupts;
mod lamp;
mod memory;
mod pl022;
mod ring;
mod stack;
mod uart;

use core::sync::atomic::{AtomicBool, Ordering};

pub use crate::{
    clock::{Clock, Stopwatch},
    idle::Idle,
    lamp::Lamp,
    pl022::{Pl022, Spi, SpiSelect},
    stack::stack_depth,
    uart::{Uart, UartError},
};

/// Everything on the board that a program may own, once.
#[derive(Debug)]
pub struct Board {
    /// UART0, the one QEMU calls the first `-serial`.
    pub uart: Uart,
    /// Microseconds since this start.
    pub clock: Clock,
    /// Sleeps until a byte comes or time is up.
    pub idle: Idle,
    /// The two user LEDs.
    pub lamps: [Lamp; 2],
    /// The first SPI controller.
    pub spi: Spi,
    /// Counts single cycles of the 25 MHz clock, for measuring.
    pub stopwatch: Stopwatch,
    /// Differs at every start; see [`boot_id`](Board::boot_id).
    boot_id: u64,
}

impl Board {
    /// Starts the board with UART0 at `baud` (8N1). The second call returns `None`.
    pub fn take(baud: u32) -> Option<Board> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Board {
            clock: Clock::start(),
            uart: Uart::start(baud),
            idle: Idle::start(),
            lamps: Lamp::start_all(),
            spi: Spi(()),
            stopwatch: Stopwatch::start(),
            boot_id: boot::boot_id(),
        })
    }

    /// A number that differs at every start, be it power-on, a new emulator, or a reset of any kind.
    ///
    /// It mixes a counter in RAM that survives a reset with the host's time, where semihosting offers one.
    pub fn boot_id(&self) -> u64 {
        self.boot_id
    }
}

/// Resets the whole board, as the reset button would.
pub fn reset() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

/// Ends the emulation with an exit code; without semihosting it resets the board.
pub fn exit(code: i32) -> ! {
    semihosting::sys::arm_compat::sys_exit_extended(
        semihosting::sys::arm_compat::ExitReason::ADP_Stopped_ApplicationExit,
        code as usize,
    );
    reset()
}

/// Whether a debugger or emulator answers semihosting calls.
pub fn has_semihosting() -> bool {
    semihosting::sys::arm_compat::sys_time().is_ok_and(|seconds| seconds != usize::MAX)
}

#[cfg(feature = "defmt")]
defmt::timestamp!("{=u64:us}", clock::now_us());

/// The system clock, which every peripheral runs on.
pub const CLOCK_HZ: u32 = 25_000_000;

/// What a serial console on this board usually runs at.
pub const DEFAULT_BAUD: u32 = 115_200;
