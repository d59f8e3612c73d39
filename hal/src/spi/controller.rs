//! The controller of an SPI link without its bus: which transfers it makes, when, and how long.
//!
//! Knows frames and what stands in a transfer; never how bytes are moved, what time it is, or how to wait.

use visorbus_core::frame::spi::{STATUS_LEN, Side, transfer_len};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::time::Instant;

use super::exchange::{Exchange, Offer};
use super::stats::SpiStats;

/// The controller's end of an SPI link, sans I/O: [`SpiLink`](crate::SpiLink) drives it over a blocking bus, an
/// asynchronous driver does the same with `.await`.
///
/// # How to drive it
/// 1. [`SpiController::send`] takes a frame when there is [`SpiController::room`].
/// 2. [`SpiController::poll_transfer`], with the level of the target's ready line, says whether a transfer is to be made
///    now, and with which bytes. Make it, under one chip select, or leave it: it may be asked for again.
/// 3. [`SpiController::handle_transfer`] when it is over, or [`SpiController::handle_error`] when it could not be made.
///    Then 2 again.
/// 4. [`SpiController::receive`] hands out what came.
/// 5. With nothing to do, wait for the ready line to be high or for [`SpiController::poll_timeout`].
///
/// # What it costs on the bus
/// A transfer is as long as the frames in it need, and 8 bytes more. How long the target's frame is, its status says; for
/// the first try the controller takes it to be as long as the one before, which for a sensor it is. When it is
/// longer, that transfer carries the status alone, and the next one has the right length.
///
/// # When it goes wrong
/// A target that is not ready for a transfer cannot be heard in it. Nothing is lost then: the frame is kept, and sent
/// again after 250 microseconds, then 500, up to 8 milliseconds. So is a target asked that keeps its ready line high and
/// has nothing to say.
///
/// ```
/// use visorbus_core::Instant;
/// use visorbus_hal::SpiController;
///
/// let mut controller = SpiController::new();
/// let now = Instant::from_micros(0);
/// assert!(controller.poll_transfer(false, now).is_none());
/// assert!(controller.send(b"hello"));
/// let transfer = controller.poll_transfer(false, now).unwrap();
/// assert_eq!(transfer.write.len(), 4 + 5 + 4);
/// // A line that nobody drives.
/// transfer.read.fill(0xff);
/// controller.handle_transfer(now);
/// assert_eq!(controller.poll_timeout(), Some(Instant::from_micros(250)));
/// ```
#[derive(Debug)]
pub struct SpiController {
    exchange: Exchange,
    /// The transfer that is being made, and its bytes.
    current: Option<(Offer, usize)>,
    /// The level of the ready line when it was last told.
    ready: bool,
    /// What the last status that could be read says: whether the target takes a frame.
    target_room: bool,
    /// Bytes of a frame that the target has and that was not carried yet; 0 for none.
    announced: u8,
    /// Bytes of the target's last frame, which its next one is taken to have.
    guess: u8,
    /// Transfers in a row that were for nothing.
    idle: u8,
    /// The last of them could not be heard.
    deaf: bool,
    turnaround_us: u32,
    /// The target may be ready again from here on.
    turned_at: Instant,
    /// The next transfer is made no earlier.
    not_before: Instant,
}

impl SpiController {
    /// How long a target usually needs from one transfer to the next, in microseconds.
    pub const TURNAROUND_US: u32 = 50;

    /// A controller whose target is taken for idle so far.
    pub const fn new() -> Self {
        Self::with_turnaround(Self::TURNAROUND_US)
    }

    /// As [`SpiController::new`], for a target that needs another time from the end of one transfer until it is
    /// ready for the next one: 0 when its hardware queues transfers. Too short a time costs transfers, no frames.
    pub const fn with_turnaround(turnaround_us: u32) -> Self {
        Self {
            exchange: Exchange::new(Side::Controller),
            current: None,
            ready: false,
            target_room: true,
            announced: 0,
            guess: 0,
            idle: 0,
            deaf: false,
            turnaround_us,
            turned_at: Instant::from_micros(0),
            not_before: Instant::from_micros(0),
        }
    }

    /// Bytes of the longest frame that [`SpiController::send`] would take right now: [`MAX_LINE_FRAME`] or 0.
    pub const fn room(&self) -> usize {
        self.exchange.room()
    }

    /// Takes one frame for sending: `false` when there is no room for it, or it is empty.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let taken = self.exchange.send(frame);
        if taken && !self.deaf {
            // It was only the target that had nothing to say.
            self.not_before = self.turned_at;
        }
        taken
    }

    /// The frame that came, if nobody has had it yet.
    pub fn receive(&mut self) -> Option<&[u8]> {
        if self.exchange.take() { Some(self.exchange.frame()) } else { None }
    }

    /// The transfer to be made now, if any. `ready` is the level of the target's ready line. One that is asked for and
    /// not made costs nothing.
    pub fn poll_transfer(&mut self, ready: bool, now: Instant) -> Option<SpiTransfer<'_>> {
        self.ready = ready;
        self.current = None;
        let wanted = self.poll_timeout();
        if now < self.not_before {
            return None;
        }
        if wanted.is_none() {
            // The last wait is over and all is quiet: what comes next is not made to wait for what was before.
            self.idle = 0;
            return None;
        }
        let mut offer = self.exchange.offer();
        let len = self.transfer_len(offer);
        if len < transfer_len(usize::from(offer.len)) {
            // It would be cut off: do not announce it.
            offer.len = 0;
        }
        self.current = Some((offer, len));
        let (read, write) = self.exchange.buffers(offer, len);
        Some(SpiTransfer { read, write })
    }

    /// The transfer that [`SpiController::poll_transfer`] asked for is over.
    pub fn handle_transfer(&mut self, now: Instant) {
        let Some((offer, len)) = self.current.take() else { return };
        let outcome = self.exchange.handle(offer, len);
        let was_deaf = core::mem::replace(&mut self.deaf, outcome.is_none());
        let progress = outcome.is_some_and(|outcome| {
            let before = (self.target_room, self.announced);
            let status = outcome.status;
            self.target_room = status.room;
            self.announced = if outcome.carried { 0 } else { status.len };
            if status.len != 0 {
                self.guess = status.len;
            }
            was_deaf || outcome.sent || outcome.came || before != (self.target_room, self.announced)
        });
        self.settle(progress, now);
    }

    /// The transfer that [`SpiController::poll_transfer`] asked for could not be made, or not wholly: it is tried again.
    pub fn handle_error(&mut self, now: Instant) {
        self.current = None;
        self.exchange.count_error();
        self.deaf = true;
        self.settle(false, now);
    }

    /// When the next transfer is to be made: with what is known of the ready line, and unless it rises before that.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Offer { room, len } = self.exchange.offer();
        let wanted = len != 0 || (room && (self.ready || self.announced != 0));
        wanted.then_some(self.not_before)
    }

    /// What has gone over the link and what has gone wrong, since it was made.
    pub const fn stats(&self) -> SpiStats {
        self.exchange.stats()
    }

    fn settle(&mut self, progress: bool, now: Instant) {
        self.turned_at = later(now, self.turnaround_us);
        self.not_before = self.turned_at;
        if progress {
            self.idle = 0;
        } else {
            self.not_before = self.turned_at.max(later(now, SHORTEST_WAIT_US << self.idle));
            self.idle = (self.idle + 1).min(LONGEST_WAIT);
        }
    }

    /// Bytes of the next transfer. The status alone finds out whether a target is there that could not be heard for
    /// long, or has room again.
    fn transfer_len(&self, offer: Offer) -> usize {
        let send = self.target_room && !(self.deaf && self.idle == LONGEST_WAIT);
        let own = if send { transfer_len(usize::from(offer.len)) } else { STATUS_LEN };
        let theirs = match (self.announced, self.ready) {
            _ if !offer.room => 0,
            (0, false) => 0,
            (0, true) => self.guess,
            (announced, _) => announced,
        };
        own.max(transfer_len(usize::from(theirs)))
    }
}

impl Default for SpiController {
    fn default() -> Self {
        Self::new()
    }
}

/// A transfer that is to be made: under one chip select, all of `write` goes out while as many bytes come in.
#[derive(Debug)]
pub struct SpiTransfer<'a> {
    /// Where the first of the bytes that come in go; what comes behind them is not needed.
    pub read: &'a mut [u8],
    /// What goes out; never shorter than `read`.
    pub write: &'a [u8],
}

const fn later(now: Instant, micros: u32) -> Instant {
    Instant::from_micros(now.as_micros().saturating_add(micros as u64))
}

/// The wait after the first transfer that was for nothing; each one after that doubles it.
const SHORTEST_WAIT_US: u32 = 250;

/// How often: up to 8 ms.
const LONGEST_WAIT: u8 = 5;

const _: () = assert!(MAX_LINE_FRAME <= u8::MAX as usize, "lengths have a byte");
