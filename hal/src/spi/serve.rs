//! A leaf that is the controller of an SPI bus as a future: any bus and pin that speak embedded-hal-async.

use core::convert::Infallible;

use embedded_hal::digital::{Error as _, InputPin};
use embedded_hal::spi::Error as _;
use embedded_hal_async::digital::Wait;
use embedded_hal_async::spi::SpiDevice;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::link::Link;
use visorbus_core::peer::{Keys, Peer};
use visorbus_core::serve::{Application, turn};
use visorbus_core::time::{Instant, earlier};

use super::link::{MAX_ERRORS, SpiError};
use super::{SpiController, SpiStats};
use crate::serve::{Pace, Timer, until};

/// A [`SpiController`] as a [`Link`] in memory, whose transfers [`serve_spi`] makes.
#[derive(Debug, Default)]
pub struct SpiFrames(SpiController);

impl SpiFrames {
    /// The frames of `controller`.
    pub const fn new(controller: SpiController) -> Self {
        Self(controller)
    }

    /// What has gone over the link and what has gone wrong, since it was made.
    pub const fn stats(&self) -> SpiStats {
        self.0.stats()
    }
}

impl Link for SpiFrames {
    type Error = Infallible;

    fn room(&mut self) -> usize {
        self.0.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Infallible> {
        Ok(self.0.receive())
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Infallible> {
        Ok(self.0.send(frame))
    }

    /// Whether no transfer is due.
    fn flush(&mut self, now: Instant) -> Result<bool, Infallible> {
        Ok(self.0.poll_timeout().is_none_or(|due| due > now))
    }

    fn max_frame(&self) -> usize {
        MAX_LINE_FRAME
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }
}

impl AsMut<Self> for SpiFrames {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Serves `node` on `peer`, whose link is a [`SpiFrames`] or a [`Lane`](crate::Lane) over one, until the bus is gone.
/// `device` is the target's chip select on the bus, `ready` its data-ready line.
///
/// The same transfers are made as by [`SpiLink`](crate::SpiLink), and the same errors end it: eight in a row. While a
/// transfer is on, the node waits and other tasks run. No transfer is dropped before it is over; when this future is
/// dropped, what was on its way is lost.
///
/// # Errors
/// The hardware fails. Set it up anew.
pub async fn serve_spi<L, K, A, const OUT: usize>(
    peer: &mut Peer<L, K, OUT>,
    node: &mut A,
    device: impl SpiDevice,
    ready: impl InputPin + Wait,
    timer: &mut impl Timer,
) -> Result<Infallible, SpiError>
where
    L: Link<Error = Infallible> + AsMut<SpiFrames>,
    K: Keys,
    A: Application<L, K, OUT>,
{
    let mut bus = Bus { device, ready, errors: 0 };
    let mut pace = Pace::default();
    loop {
        let now = timer.now();
        let Ok(due) = turn(peer, node, now);
        let due = pace.limit(due, now);
        let SpiFrames(controller) = peer.link_mut().as_mut();
        let is_ready = bus.is_ready(controller, timer).await?;
        if bus.transfer(controller, is_ready, timer).await? {
            continue;
        }
        // The ready line has been told since the turn.
        let due = earlier(due, controller.poll_timeout());
        bus.wait(is_ready, due, timer).await?;
    }
}

/// The hardware, and how it does.
struct Bus<D, R> {
    device: D,
    ready: R,
    /// Errors in a row.
    errors: u8,
}

impl<D: SpiDevice, R: InputPin + Wait> Bus<D, R> {
    /// The level of the ready line; low where it cannot be read.
    async fn is_ready(
        &mut self,
        controller: &mut SpiController,
        timer: &mut impl Timer,
    ) -> Result<bool, SpiError> {
        match self.ready.is_high() {
            Ok(ready) => Ok(ready),
            Err(error) => {
                controller.handle_error(timer.now());
                self.failed(SpiError::ReadyLine(error.kind()), timer).await?;
                Ok(false)
            }
        }
    }

    /// Makes a transfer if one is due; whether it tried.
    async fn transfer(
        &mut self,
        controller: &mut SpiController,
        ready: bool,
        timer: &mut impl Timer,
    ) -> Result<bool, SpiError> {
        let Some(transfer) = controller.poll_transfer(ready, timer.now()) else { return Ok(false) };
        match self.device.transfer(transfer.read, transfer.write).await {
            Ok(()) => {
                self.errors = 0;
                controller.handle_transfer(timer.now());
            }
            Err(error) => {
                controller.handle_error(timer.now());
                self.failed(SpiError::Bus(error.kind()), timer).await?;
            }
        }
        Ok(true)
    }

    /// Waits until the ready line rises, or until `due`.
    async fn wait(
        &mut self,
        is_ready: bool,
        due: Option<Instant>,
        timer: &mut impl Timer,
    ) -> Result<(), SpiError> {
        if is_ready {
            // It rises no more, and what it stands for is asked for at `due`.
            until(due, timer, core::future::pending::<()>()).await;
            return Ok(());
        }
        match until(due, timer, self.ready.wait_for_high()).await {
            Some(Err(error)) => self.failed(SpiError::ReadyLine(error.kind()), timer).await,
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Pauses after an error, so that hardware that fails at once has a moment.
    async fn failed(&mut self, error: SpiError, timer: &mut impl Timer) -> Result<(), SpiError> {
        self.errors = self.errors.saturating_add(1);
        if self.errors >= MAX_ERRORS {
            return Err(error);
        }
        let pause = timer.now().plus_millis(1);
        timer.wait_until(pause).await;
        Ok(())
    }
}
