//! UART0 as two halves that are awaited.
// For the names of the two vectors.
#![allow(unsafe_code)]

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;

use board_mps2::{Uart, UartError, interrupts};
use embassy_sync::waitqueue::AtomicWaker;
use embedded_io::{ErrorType, Read as _, ReadReady as _, Write as _, WriteReady as _};
use embedded_io_async::{Read, Write};

/// The UART, to be split.
#[derive(Debug)]
pub struct AsyncUart(RefCell<Uart>);

impl AsyncUart {
    /// The UART as asynchronous streams.
    pub const fn new(uart: Uart) -> Self {
        Self(RefCell::new(uart))
    }

    /// Its two halves.
    pub fn split(&mut self) -> (UartRx<'_>, UartTx<'_>) {
        (UartRx(&self.0), UartTx(&self.0))
    }
}

/// What the UART receives. A read that is dropped has taken nothing.
#[derive(Debug)]
pub struct UartRx<'u>(&'u RefCell<Uart>);

impl ErrorType for UartRx<'_> {
    type Error = UartError;
}

impl Read for UartRx<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, UartError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        poll_fn(|context| {
            RECEIVED.register(context.waker());
            let mut uart = self.0.borrow_mut();
            if uart.read_ready()? { Poll::Ready(uart.read(buffer)) } else { Poll::Pending }
        })
        .await
    }
}

/// What the UART sends. A write that is dropped has written nothing.
#[derive(Debug)]
pub struct UartTx<'u>(&'u RefCell<Uart>);

impl ErrorType for UartTx<'_> {
    type Error = UartError;
}

impl Write for UartTx<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, UartError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        poll_fn(|context| {
            SENT.register(context.waker());
            let mut uart = self.0.borrow_mut();
            if uart.write_ready()? { Poll::Ready(uart.write(bytes)) } else { Poll::Pending }
        })
        .await
    }

    /// Waits until the last byte has left: at most 3 ms at 921 600 baud, and without letting others run.
    async fn flush(&mut self) -> Result<(), UartError> {
        self.0.borrow_mut().flush()
    }
}

/// Who waits for input.
static RECEIVED: AtomicWaker = AtomicWaker::new();
/// Who waits for room.
static SENT: AtomicWaker = AtomicWaker::new();

#[unsafe(no_mangle)]
extern "C" fn UARTRX0() {
    interrupts::uart_receive();
    RECEIVED.wake();
}

#[unsafe(no_mangle)]
extern "C" fn UARTTX0() {
    interrupts::uart_transmit();
    SENT.wake();
}
