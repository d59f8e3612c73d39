//! An SPI peripheral with DMA, of the size that one has: to weigh links on it, not to run them.
//!
//! The boards of the emulator have none that can be a target. The registers of this one are memory that the compiler is
//! told nothing of, so that what a driver does with real ones stays in the image.

use core::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering},
};

use embedded_hal::spi::ErrorKind;
use visorbus_core::frame::spi::MAX_TRANSFER;
use visorbus_hal::SpiTarget;

/// A target whose bytes are moved by two DMA channels.
#[derive(Debug)]
pub struct DmaTarget {
    registers: &'static Registers,
    outgoing: [u8; MAX_TRANSFER],
    incoming: [u8; MAX_TRANSFER],
    armed: bool,
}

impl DmaTarget {
    /// The peripheral, with the bus idle.
    pub fn new() -> Self {
        Self {
            registers: black_box(&REGISTERS),
            outgoing: [0; MAX_TRANSFER],
            incoming: [0; MAX_TRANSFER],
            armed: false,
        }
    }

    fn status(&self, flag: u32) -> bool {
        self.registers.status.load(Ordering::Acquire) & flag != 0
    }
}

impl Default for DmaTarget {
    fn default() -> Self {
        Self::new()
    }
}

impl SpiTarget for DmaTarget {
    type Error = ErrorKind;

    fn arm(&mut self, bytes: &[u8], ready: bool) -> Result<bool, ErrorKind> {
        if self.status(SELECTED) {
            return Ok(false);
        }
        for (place, byte) in self.outgoing.iter_mut().zip(bytes) {
            *place = *byte;
        }
        let registers = self.registers;
        registers.transmit_from.store(self.outgoing.as_ptr() as usize as u32, Ordering::Relaxed);
        registers.receive_to.store(self.incoming.as_mut_ptr() as usize as u32, Ordering::Relaxed);
        registers.length.store(MAX_TRANSFER as u32, Ordering::Relaxed);
        registers.control.store(ENABLE, Ordering::Release);
        registers.ready_line.store(u32::from(ready), Ordering::Release);
        self.armed = true;
        Ok(true)
    }

    fn finished(&mut self) -> Result<Option<&[u8]>, ErrorKind> {
        if !self.armed || self.status(SELECTED) || !self.status(OVER) {
            return Ok(None);
        }
        self.armed = false;
        self.registers.control.store(0, Ordering::Relaxed);
        if self.status(OVERRUN) {
            return Err(ErrorKind::Overrun);
        }
        let left = self.registers.length.load(Ordering::Relaxed) as usize;
        Ok(black_box(&self.incoming).get(..MAX_TRANSFER.saturating_sub(left)))
    }
}

/// What such a peripheral and its DMA have.
#[derive(Debug)]
struct Registers {
    control: AtomicU32,
    status: AtomicU32,
    transmit_from: AtomicU32,
    receive_to: AtomicU32,
    /// Bytes that are left of the transfer.
    length: AtomicU32,
    ready_line: AtomicU32,
}

static REGISTERS: Registers = Registers {
    control: AtomicU32::new(0),
    status: AtomicU32::new(0),
    transmit_from: AtomicU32::new(0),
    receive_to: AtomicU32::new(0),
    length: AtomicU32::new(0),
    ready_line: AtomicU32::new(0),
};

const ENABLE: u32 = 1;
/// Chip select is low.
const SELECTED: u32 = 1 << 0;
/// It was, and is no more.
const OVER: u32 = 1 << 1;
const OVERRUN: u32 = 1 << 2;
