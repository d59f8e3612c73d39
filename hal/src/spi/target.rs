//! The target's end of an SPI link, over a trait of ours that fits what DMA offers: embedded-hal has none for it.

use embedded_hal::spi::{Error, ErrorKind};
use visorbus_core::frame::spi::Side;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::link::Link;
use visorbus_core::time::Instant;

use super::exchange::{Exchange, Offer};
use super::link::{MAX_ERRORS, SpiError};
use super::stats::SpiStats;

/// An SPI peripheral that is selected and clocked by somebody else, and the data-ready line beside it.
///
/// # For the implementer
/// - A transfer is what happens from chip select to chip select. It may end after any number of bytes and begin at any
///   time; the hardware (DMA, a FIFO, an interrupt) moves its bytes, nobody asks [`SpiTarget`] meanwhile. Two buffers of
///   [`MAX_TRANSFER`](visorbus_core::frame::spi::MAX_TRANSFER) bytes hold the longest there is.
/// - **Arm.** [`SpiTarget::arm`] makes ready for the next transfer, and only then sets the ready line. Armed once more
///   before one begins, the new bytes go out instead of the old. No method blocks, and none touches a transfer that has
///   begun.
/// - **One transfer each.** What is armed is for one transfer. In another one that begins before the next `arm`, send bytes
///   that are all `00` or all `ff`: the controller then knows that nobody hears it. What came in is dropped.
/// - **The end.** When chip select goes up, in the interrupt if there is one, lower the ready line: what it stood for was
///   for that transfer. And start at the first byte again, whatever the transfer before was cut off in: FIFO and DMA keep
///   no bytes of it.
/// - The clock may slip and the controller may be reset within a transfer: any number of bytes, any bytes, no error.
///   Overruns and underruns of the hardware are errors; they cost that transfer.
///
/// # For the caller
/// [`SpiTargetLink`] is one. Ask [`SpiTarget::finished`] before each [`SpiTarget::arm`].
pub trait SpiTarget {
    /// What can go wrong in the hardware.
    type Error: Error;

    /// Makes ready for the next transfer: it sends `bytes`, and anything behind them; they are copied or otherwise kept,
    /// for the caller has other uses for their place. `ready` is whether this end has
    /// something to say, and the level of the ready line. `false` when a transfer has begun: ask
    /// [`SpiTarget::finished`] until it is over, then arm again.
    ///
    /// # Errors
    /// The hardware's; nothing is armed then.
    fn arm(&mut self, bytes: &[u8], ready: bool) -> Result<bool, Self::Error>;

    /// The bytes that came in the transfer that was armed, once it is over, and once only; `None` before that. All that
    /// were clocked count, up to the longest transfer.
    ///
    /// # Errors
    /// The hardware's; the transfer is over then, and nothing is armed.
    fn finished(&mut self) -> Result<Option<&[u8]>, Self::Error>;
}

/// A [`Link`] over an SPI bus, seen from its target.
///
/// Frames have up to [`MAX_LINE_FRAME`] bytes; one waits in each direction. Nothing moves before the controller makes a
/// transfer: a frame that was sent waits for it, however long, with the ready line high.
///
/// # For the caller
/// Call [`Link::flush`] or [`Link::receive`] soon after a transfer has ended: until then this end is deaf, and the
/// controller tries again. Its turnaround
/// ([`SpiController::with_turnaround`](crate::SpiController::with_turnaround)) should be what that takes. The interrupt at
/// the end of a transfer is what to wake up by.
#[derive(Debug)]
pub struct SpiTargetLink<T> {
    target: T,
    exchange: Exchange,
    /// What the transfer says that is armed or has begun.
    armed: Option<Offer>,
    /// Errors in a row.
    errors: u8,
}

impl<T: SpiTarget> SpiTargetLink<T> {
    /// A link whose controller is taken for silent so far. It arms the first transfer at the first [`Link::flush`].
    pub const fn new(target: T) -> Self {
        Self { target, exchange: Exchange::new(Side::Target), armed: None, errors: 0 }
    }

    /// The peripheral back. What was queued is lost.
    pub fn release(self) -> T {
        self.target
    }

    /// The peripheral, to look at.
    pub const fn target(&self) -> &T {
        &self.target
    }

    /// The peripheral, to set it up anew. Transfers that are armed past the link are lost to it.
    pub const fn target_mut(&mut self) -> &mut T {
        &mut self.target
    }

    /// What has gone over the link and what has gone wrong, since it was made.
    pub const fn stats(&self) -> SpiStats {
        self.exchange.stats()
    }

    /// Takes what a transfer brought that is over.
    fn collect(&mut self) -> Result<(), SpiError> {
        match self.target.finished() {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                self.errors = 0;
                if let Some(offer) = self.armed.take() {
                    self.exchange.copy_in(offer, bytes);
                    self.exchange.handle(offer, bytes.len());
                }
            }
            Err(error) => self.failed(error.kind())?,
        }
        Ok(())
    }

    /// Arms the next transfer with what this end has to say now.
    fn arm(&mut self) -> Result<(), SpiError> {
        let offer = self.exchange.offer();
        if self.armed == Some(offer) {
            return Ok(());
        }
        match self.target.arm(self.exchange.prepare(offer), offer.len != 0) {
            Ok(true) => self.armed = Some(offer),
            // One has begun with what was armed before.
            Ok(false) => {}
            Err(error) => self.failed(error.kind())?,
        }
        Ok(())
    }

    fn failed(&mut self, kind: ErrorKind) -> Result<(), SpiError> {
        self.armed = None;
        self.exchange.count_error();
        self.errors = self.errors.saturating_add(1);
        if self.errors < MAX_ERRORS { Ok(()) } else { Err(SpiError::Bus(kind)) }
    }
}

impl<T: SpiTarget> Link for SpiTargetLink<T> {
    type Error = SpiError;

    fn room(&mut self) -> usize {
        self.exchange.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, SpiError> {
        self.collect()?;
        if !self.exchange.take() {
            return Ok(None);
        }
        // There is room for the next one, and this one stays until that is collected.
        self.arm()?;
        Ok(Some(self.exchange.frame()))
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, SpiError> {
        Ok(self.exchange.send(frame))
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, SpiError> {
        self.collect()?;
        self.arm()?;
        Ok(true)
    }

    fn max_frame(&self) -> usize {
        MAX_LINE_FRAME
    }
}
