//! The board's first SPI controller, Arm's PrimeCell PL022: 8-bit words, mode 0, no interrupts, no DMA.
//!
//! Whoever uses it waits until a transfer is over: 0.1 ms for 136 bytes at 12.5 MHz.

use core::convert::Infallible;

use embedded_hal::digital::{self, OutputPin};
use embedded_hal::spi::{self, SpiBus};

use crate::{
    CLOCK_HZ,
    hardware::{fpga_io, spi0},
};

/// The controller, not started yet.
#[derive(Debug)]
pub struct Spi(pub(crate) ());

impl Spi {
    /// Starts it at `hz`, or the nearest rate below that the divider can do, at most 12.5 MHz; and its chip select.
    pub fn start(self, hz: u32) -> (Pl022, SpiSelect) {
        let divider = (CLOCK_HZ / PRESCALE).div_ceil(hz.max(1)).clamp(1, 256);
        spi0::CR1.write(0);
        spi0::CPSR.write(PRESCALE);
        spi0::CR0.write((divider - 1) << CR0_SCR | CR0_8_BITS);
        spi0::CR1.write(CR1_ENABLE);
        let mut bus = Pl022(());
        // What lay in the receiver is from before.
        while bus.pop().is_some() {}
        (bus, SpiSelect::start())
    }
}

/// The controller as a bus of `embedded-hal`.
#[derive(Debug)]
pub struct Pl022(());

impl Pl022 {
    /// Has the controller hear itself, inside: for tests of the wiring's near end.
    pub fn loop_back(&mut self, on: bool) {
        spi0::CR1.write(CR1_ENABLE | if on { CR1_LOOP_BACK } else { 0 });
    }

    /// Clocks `len` words: `next` says what goes out, `put` takes what comes in, in order.
    ///
    /// At most as many words are on their way as the receiver has room for: it drops what it has no room for.
    fn exchange(&mut self, len: usize, mut next: impl FnMut(usize) -> u8, mut put: impl FnMut(usize, u8)) {
        let (mut sent, mut received) = (0, 0);
        while received < len {
            while sent < len && sent - received < FIFO && spi0::SR.read() & SR_SEND_NOT_FULL != 0 {
                spi0::DR.write(next(sent).into());
                sent += 1;
            }
            while let Some(byte) = self.pop() {
                put(received, byte);
                received += 1;
            }
        }
    }

    fn pop(&mut self) -> Option<u8> {
        (spi0::SR.read() & SR_RECEIVED != 0).then(|| spi0::DR.read() as u8)
    }
}

impl spi::ErrorType for Pl022 {
    type Error = Infallible;
}

impl SpiBus for Pl022 {
    fn read(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.transfer(into, &[])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.transfer(&mut [], bytes)
    }

    fn transfer(&mut self, into: &mut [u8], bytes: &[u8]) -> Result<(), Infallible> {
        let next = |at: usize| bytes.get(at).copied().unwrap_or(0);
        self.exchange(into.len().max(bytes.len()), next, |at, byte| {
            if let Some(place) = into.get_mut(at) {
                *place = byte;
            }
        });
        Ok(())
    }

    fn transfer_in_place(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        // Each word goes out before the one that takes its place comes in.
        let words = core::cell::Cell::from_mut(bytes).as_slice_of_cells();
        self.exchange(words.len(), |at| words[at].get(), |at, byte| words[at].set(byte));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while spi0::SR.read() & SR_BUSY != 0 {}
        Ok(())
    }
}

/// The chip select beside it, as a pin: high at the start.
#[derive(Debug)]
pub struct SpiSelect(());

impl SpiSelect {
    fn start() -> SpiSelect {
        fpga_io::MISC.write(fpga_io::MISC.read() | MISC_SPI_SELECT);
        SpiSelect(())
    }

    /// Whether the target is selected: the pin is low.
    pub fn is_selected() -> bool {
        fpga_io::MISC.read() & MISC_SPI_SELECT == 0
    }
}

impl digital::ErrorType for SpiSelect {
    type Error = Infallible;
}

impl OutputPin for SpiSelect {
    fn set_low(&mut self) -> Result<(), Infallible> {
        fpga_io::MISC.write(fpga_io::MISC.read() & !MISC_SPI_SELECT);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        fpga_io::MISC.write(fpga_io::MISC.read() | MISC_SPI_SELECT);
        Ok(())
    }
}

/// Words that either queue of the controller holds (PL022 TRM, section 2.1).
const FIFO: usize = 8;

/// CPSR: the first of two dividers, even.
const PRESCALE: u32 = 2;

/// CR0: words of 8 bits in Motorola's format, clock low at rest, sampled at the first edge.
const CR0_8_BITS: u32 = 7;
/// CR0: where the second divider stands.
const CR0_SCR: u32 = 8;

const CR1_LOOP_BACK: u32 = 1 << 0;
const CR1_ENABLE: u32 = 1 << 1;

const SR_SEND_NOT_FULL: u32 = 1 << 1;
const SR_RECEIVED: u32 = 1 << 2;
const SR_BUSY: u32 = 1 << 4;

/// MISC: the chip select of the first controller (application note AN385, section 4.3).
const MISC_SPI_SELECT: u32 = 1 << 1;
