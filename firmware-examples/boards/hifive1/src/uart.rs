//! UART0 as an `embedded-io` stream: the HAL's two halves, which speak an older version of it.

use e310x::Uart0;
use e310x_hal::gpio::gpio0::{Pin16, Pin17};
use e310x_hal::gpio::{IOF0, NoInvert};
use e310x_hal::serial::{Rx, Tx};
use embedded_hal_nb::serial::{Read as _, Write as _};
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

/// UART0. `read` blocks only while [`read_ready`](ReadReady::read_ready) says false, `write` only while
/// [`write_ready`](WriteReady::write_ready) does. A byte that finds the FIFO full is lost without a word.
#[allow(missing_debug_implementations, reason = "the HAL's halves have none")]
pub struct Uart {
    out: Out,
    input: In,
    /// A byte that was read to see whether there is one.
    ahead: Option<u8>,
}

type Out = Tx<Uart0, Pin17<IOF0<NoInvert>>>;
type In = Rx<Uart0, Pin16<IOF0<NoInvert>>>;

impl Uart {
    pub(crate) fn new((out, input): (Out, In)) -> Self {
        Self { out, input, ahead: None }
    }

    /// The next byte, if one is there. The HAL's receiver has no errors.
    fn next(&mut self) -> Option<u8> {
        self.ahead.take().or_else(|| self.input.read().ok())
    }
}

impl ErrorType for Uart {
    type Error = ErrorKind;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        self.ahead = self.next();
        Ok(self.ahead.is_some())
    }
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while !self.read_ready()? {}
        let mut count = 0;
        while let Some(slot) = buffer.get_mut(count)
            && let Some(byte) = self.next()
        {
            *slot = byte;
            count += 1;
        }
        Ok(count)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        e310x_hal::prelude::embedded_io::WriteReady::write_ready(&mut self.out).map_err(|_| ErrorKind::Other)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while !self.write_ready()? {}
        Ok(bytes.iter().take_while(|byte| self.out.write(**byte).is_ok()).count())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        while self.out.flush().is_err() {}
        Ok(())
    }
}
