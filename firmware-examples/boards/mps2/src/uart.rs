//! UART0 behind two rings that its interrupts fill and drain.
//!
//! A full receive ring leaves the next byte in the UART: the emulator then holds the sender back, real hardware
//! overruns, and that is told to the reader once.

use core::sync::atomic::{AtomicBool, Ordering};

use embedded_io::{Error, ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

use crate::{
    CLOCK_HZ,
    hardware::{self, Interrupt, uart0},
    ring::Ring,
};

/// The UART as an `embedded-io` stream.
///
/// `read` blocks only while [`read_ready`](ReadReady::read_ready) says false, `write` only while
/// [`write_ready`](WriteReady::write_ready) does. `flush` waits for the last byte to leave.
#[derive(Debug)]
pub struct Uart(());

impl Uart {
    /// Sets 8N1 at `baud`, or the nearest rate the UART can do, and empties everything.
    pub(crate) fn start(baud: u32) -> Uart {
        uart0::CTRL.write(0);
        uart0::BAUDDIV.write((CLOCK_HZ / baud.max(1)).clamp(BAUDDIV_MIN, BAUDDIV_MAX));
        uart0::STATE.write(STATE_RX_OVERRUN | STATE_TX_OVERRUN);
        uart0::INTSTATUS.write(INT_RX | INT_TX);
        uart0::CTRL.write(CTRL_TX_ENABLE | CTRL_RX_ENABLE | CTRL_TX_INTERRUPT | CTRL_RX_INTERRUPT);
        // What lay in the receiver is from before; taking it also lets the emulator send the next byte.
        uart0::DATA.read();
        hardware::unmask(Interrupt::UARTRX0);
        hardware::unmask(Interrupt::UARTTX0);
        Uart(())
    }
}

impl ErrorType for Uart {
    type Error = UartError;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, UartError> {
        Ok(has_input())
    }
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, UartError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while !has_input() {}
        if OVERRUN.swap(false, Ordering::Relaxed) {
            return Err(UartError::Overrun);
        }
        let mut count = 0;
        while let Some(slot) = buffer.get_mut(count)
            && let Some(byte) = RECEIVED.pop()
        {
            *slot = byte;
            count += 1;
        }
        if STALLED.load(Ordering::Relaxed) {
            critical_section::with(|_| receive());
        }
        Ok(count)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, UartError> {
        Ok(!TO_SEND.is_full())
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, UartError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while TO_SEND.is_full() {}
        let count = bytes.iter().take_while(|byte| TO_SEND.push(**byte)).count();
        critical_section::with(|_| transmit());
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), UartError> {
        while !TO_SEND.is_empty() || uart0::STATE.read() & STATE_TX_FULL != 0 {}
        Ok(())
    }
}

/// What can go wrong on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UartError {
    /// Bytes came faster than they were read, and some were lost. Told once; reading goes on behind the gap.
    Overrun,
}

impl core::fmt::Display for UartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("received bytes were lost: they came faster than they were read")
    }
}

impl core::error::Error for UartError {}

impl Error for UartError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// Whether a read would return at once.
pub(crate) fn has_input() -> bool {
    !RECEIVED.is_empty() || OVERRUN.load(Ordering::Relaxed)
}

pub(crate) fn on_receive() {
    receive();
}

/// Whether all that was written has gone.
pub(crate) fn on_transmit() -> bool {
    transmit();
    TO_SEND.is_empty()
}

/// Moves bytes from the UART to the ring; in the interrupt or with interrupts off.
fn receive() {
    uart0::INTSTATUS.write(INT_RX);
    loop {
        let state = uart0::STATE.read();
        if state & STATE_RX_OVERRUN != 0 {
            uart0::STATE.write(STATE_RX_OVERRUN);
            OVERRUN.store(true, Ordering::Relaxed);
        }
        let waiting = state & STATE_RX_FULL != 0;
        let stalled = waiting && RECEIVED.is_full();
        STALLED.store(stalled, Ordering::Relaxed);
        if !waiting || stalled {
            return;
        }
        RECEIVED.push(uart0::DATA.read() as u8);
    }
}

/// Moves bytes from the ring to the UART; in the interrupt or with interrupts off.
fn transmit() {
    uart0::INTSTATUS.write(INT_TX);
    while uart0::STATE.read() & STATE_TX_FULL == 0
        && let Some(byte) = TO_SEND.pop()
    {
        uart0::DATA.write(u32::from(byte));
    }
}

/// Received and not yet read: 22 ms at 115 200 baud.
static RECEIVED: Ring<256> = Ring::new();
/// Written and not yet sent.
static TO_SEND: Ring<256> = Ring::new();
/// Bytes were lost and nobody was told yet.
static OVERRUN: AtomicBool = AtomicBool::new(false);
/// The ring was full, so a byte still lies in the UART and no interrupt will come for it.
static STALLED: AtomicBool = AtomicBool::new(false);

const STATE_TX_FULL: u32 = 1 << 0;
const STATE_RX_FULL: u32 = 1 << 1;
const STATE_TX_OVERRUN: u32 = 1 << 2;
const STATE_RX_OVERRUN: u32 = 1 << 3;

const CTRL_TX_ENABLE: u32 = 1 << 0;
const CTRL_RX_ENABLE: u32 = 1 << 1;
const CTRL_TX_INTERRUPT: u32 = 1 << 2;
const CTRL_RX_INTERRUPT: u32 = 1 << 3;

const INT_TX: u32 = 1 << 0;
const INT_RX: u32 = 1 << 1;

/// What the divider register holds (TRM, table 4-5).
const BAUDDIV_MIN: u32 = 16;
const BAUDDIV_MAX: u32 = 0xF_FFFF;
