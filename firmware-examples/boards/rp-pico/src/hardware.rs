//! All that needs `unsafe`: the boot loader's place, interrupts that end a sleep, a look at the UART's flags.
#![allow(unsafe_code)]

use cortex_m::peripheral::NVIC;
use rp2040_hal::pac::{Interrupt, UART0};

/// Reads the flash for the first time: without it nothing starts.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT_LOADER: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

/// Lets an interrupt end a sleep.
pub(crate) fn let_through(interrupt: Interrupt) {
    // SAFETY: interrupts are off for good, so none reaches a handler and no critical section relies on a masked line.
    unsafe { NVIC::unmask(interrupt) }
}

/// Whether the UART has bytes that are not on the line yet.
pub(crate) fn uart_is_sending() -> bool {
    // SAFETY: the flag register is only read, and reading it has no effect.
    let uart = unsafe { &*UART0::ptr() };
    uart.uartfr().read().busy().bit_is_set()
}
