//! The SiFive HiFive1 Rev B (FE310-G002, RV32IMAC), by its usual HAL.
//!
//! [`Board::take`] starts everything: UART0, which the board carries to its USB socket, a clock, the boot id. The crate
//! knows nothing of what is sent over the UART, and has the panic handler: a panic resets the board.
//!
//! No interrupt is ever taken: the timer's only ends a sleep, and the program looks for itself. The UART's FIFO holds
//! 8 bytes, 0.7 ms at 115 200 baud.
#![no_std]

mod hardware;
mod idle;
mod uart;

use e310x_hal::DeviceResources;
use e310x_hal::clock::Clocks;
use e310x_hal::prelude::*;
use e310x_hal::serial::Serial;

pub use crate::{
    hardware::reset,
    idle::{Clock, Idle},
    uart::Uart,
};

/// What the board is called.
pub const NAME: &str = "hifive1";

/// Everything on the board that a program may own, once.
#[allow(missing_debug_implementations, reason = "the HAL's parts have none")]
pub struct Board {
    /// UART0, at the board's USB socket.
    pub uart: Uart,
    /// Microseconds since this start.
    pub clock: Clock,
    /// Sleeps until it is time to look again.
    pub idle: Idle,
    /// Differs at every start; see [`boot_id`](Board::boot_id).
    boot_id: u64,
}

impl Board {
    /// Starts the board with UART0 at `baud` (8N1). The second call returns `None`.
    pub fn take(baud: u32) -> Option<Board> {
        let device = DeviceResources::take()?;
        let crystal = device.peripherals.PRCI.constrain().use_external(16.mhz());
        let watch_crystal = device.peripherals.AONCLK.constrain().use_external(32_768.hz());
        let clocks = Clocks::freeze(crystal.coreclk(CORE_HZ.hz()), watch_crystal);
        let pins = (device.pins.pin17.into_iof0(), device.pins.pin16.into_iof0());
        let uart = Serial::new(device.peripherals.UART0, pins, baud.bps(), clocks);
        let boot_id = hardware::boot_id(&device.peripherals.BACKUP);
        Some(Board { uart: Uart::new(uart.split()), clock: Clock::start(), idle: Idle::start(), boot_id })
    }

    /// A number that differs at every start.
    ///
    /// Half of it counts starts, in a register that only a loss of power clears; the other half is how many cycles of the
    /// processor's own oscillator the first ticks of the crystal took, and differs by chance.
    pub fn boot_id(&self) -> u64 {
        self.boot_id
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    reset()
}

/// What the processor runs at.
const CORE_HZ: u32 = 128_000_000;
