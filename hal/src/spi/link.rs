//! The controller's end of an SPI link over any bus and pin that speak embedded-hal.

use embedded_hal::digital::{Error as _, ErrorKind as PinErrorKind, InputPin};
use embedded_hal::spi::{Error as _, ErrorKind as BusErrorKind, SpiDevice};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::link::Link;
use visorbus_core::time::Instant;

use super::{SpiController, SpiStats};

/// A [`Link`] over an SPI bus, seen from its controller: `device` is the target's chip select on the bus, `ready` its
/// data-ready line, high while the target has something to say.
///
/// Frames have up to [`MAX_LINE_FRAME`] bytes; one waits in each direction. The bus runs in any mode (0 is usual) and at
/// any clock that both ends can do, with 8-bit words, the most significant bit first.
///
/// # When bytes move
/// [`Link::flush`] makes the transfers that are due, at most four; [`Link::receive`] hands out what they brought and moves
/// nothing. A transfer of the longest frames takes 136 bytes on the bus, and `flush` takes as long as the device does
/// for that: 136 microseconds at 8 MHz.
///
/// # What the bus does wrong
/// Damaged transfers are counted, and what was sent in them is sent again where the other end did not say that it came
/// in. A target that is busy is asked again later. Errors of the device or the pin are counted too; after eight in a row
/// the link is gone.
///
/// # For the caller
/// Before sleeping until the ready line rises, look at its level, or call `flush` until it says `true`; and wake at
/// [`Link::poll_timeout`].
///
/// ```no_run
/// use embedded_hal::{digital::InputPin, spi::SpiDevice};
/// use visorbus_core::{Instant, Link};
/// use visorbus_hal::{SpiError, SpiLink};
///
/// # fn run<D: SpiDevice, R: InputPin>(device: D, ready: R, now: fn() -> Instant) -> Result<(), SpiError> {
/// let mut link = SpiLink::new(device, ready);
/// loop {
///     link.flush(now())?;
///     while let Some(frame) = link.receive()? {
///         // deal with the frame
/// #       let _ = frame;
///     }
///     if link.room() >= 5 {
///         link.send(b"hello")?;
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct SpiLink<D, R> {
    device: D,
    ready: R,
    controller: SpiController,
    /// Errors in a row.
    errors: u8,
}

impl<D: SpiDevice, R: InputPin> SpiLink<D, R> {
    /// A link to a target that needs [`SpiController::TURNAROUND_US`] from one transfer to the next.
    pub const fn new(device: D, ready: R) -> Self {
        Self::with_controller(device, ready, SpiController::new())
    }

    /// A link that `controller` makes the transfers of.
    pub const fn with_controller(device: D, ready: R, controller: SpiController) -> Self {
        Self { device, ready, controller, errors: 0 }
    }

    /// Device and ready line back. What was queued is lost.
    pub fn release(self) -> (D, R) {
        (self.device, self.ready)
    }

    /// The ready line, to look at: its descriptor, its number.
    pub const fn ready(&self) -> &R {
        &self.ready
    }

    /// The ready line, to wait for it or to clear its interrupt.
    pub const fn ready_mut(&mut self) -> &mut R {
        &mut self.ready
    }

    /// The device, to look at.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// What has gone over the link and what has gone wrong, since it was made.
    pub const fn stats(&self) -> SpiStats {
        self.controller.stats()
    }

    /// Makes one transfer if one is due; whether it did.
    fn transfer(&mut self, now: Instant) -> Result<bool, SpiError> {
        let ready = match self.ready.is_high() {
            Ok(ready) => ready,
            Err(error) => {
                self.controller.handle_error(now);
                return self.failed(SpiError::ReadyLine(error.kind()));
            }
        };
        let Some(transfer) = self.controller.poll_transfer(ready, now) else { return Ok(false) };
        match self.device.transfer(transfer.read, transfer.write) {
            Ok(()) => {
                self.errors = 0;
                self.controller.handle_transfer(now);
                Ok(true)
            }
            Err(error) => {
                self.controller.handle_error(now);
                self.failed(SpiError::Bus(error.kind()))
            }
        }
    }

    fn failed(&mut self, error: SpiError) -> Result<bool, SpiError> {
        self.errors = self.errors.saturating_add(1);
        if self.errors < MAX_ERRORS { Ok(false) } else { Err(error) }
    }
}

impl<D: SpiDevice, R: InputPin> Link for SpiLink<D, R> {
    type Error = SpiError;

    fn room(&mut self) -> usize {
        self.controller.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, SpiError> {
        Ok(self.controller.receive())
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, SpiError> {
        Ok(self.controller.send(frame))
    }

    fn flush(&mut self, now: Instant) -> Result<bool, SpiError> {
        for _ in 0..MAX_TRANSFERS {
            if !self.transfer(now)? {
                return Ok(true);
            }
        }
        Ok(self.controller.poll_timeout().is_none_or(|due| due > now))
    }

    fn max_frame(&self) -> usize {
        MAX_LINE_FRAME
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.controller.poll_timeout()
    }
}

/// Why an SPI link is gone: eight times in a row the hardware failed in this way. Set it up anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SpiError {
    /// The bus, or this end of it.
    #[error("the SPI bus fails: {0}")]
    Bus(BusErrorKind),
    /// The line by which the target says that it has something to say.
    #[error("the ready line of the SPI target fails: {0}")]
    ReadyLine(PinErrorKind),
}

/// Transfers that one call of `flush` makes at most.
const MAX_TRANSFERS: u8 = 4;

/// Errors in a row with which a link is gone.
pub(super) const MAX_ERRORS: u8 = 8;
