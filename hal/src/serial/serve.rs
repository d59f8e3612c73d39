//! A leaf on a serial line as a future: any UART that speaks embedded-io-async.

use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use embedded_io_async::{Error as _, Read, Write};
use visorbus_core::link::Link;
use visorbus_core::peer::{Keys, Peer};
use visorbus_core::serve::{Application, turn};

use super::{SerialError, SerialFrames, if_gone};
use crate::serve::{Pace, Timer, until};

/// Serves `node` on `peer` until the line is gone: bytes from `rx` become frames in the link of `peer`, which is a
/// [`SerialFrames`] or a [`Lane`](crate::Lane) over one, and frames become bytes for `tx`.
///
/// # What it asks of the UART
/// Nothing but its two halves. No read and no write is ever dropped before it is done, so that those need not be
/// cancel-safe: DMA may write to their buffers. `flush` is never called.
///
/// # What the line does wrong
/// The same as on a [`SerialLink`](crate::SerialLink), counted in [`SerialFrames::stats`]. Only a UART that is gone ends
/// it: end of file, a write of no bytes, or an error of the kind `NotConnected`, `BrokenPipe`, `ConnectionReset` or
/// `ConnectionAborted`.
///
/// # Never deadlocks
/// While output is stuck, input is read until a whole frame waits. When output has then not moved by one byte for 250 ms,
/// whole frames are dropped and counted until it does.
///
/// # For the caller
/// It is one task: it never blocks, and lets others run at least every 32 turns, whatever the line brings. Its own
/// buffers take 128 bytes. When it is dropped, what was on its way is lost.
///
/// ```no_run
/// use embedded_io_async::{Read, Write};
/// use visorbus_core::peer::{DeviceKey, Peer};
/// use visorbus_core::serve::Application;
/// use visorbus_hal::{SerialError, SerialFrames, Timer, serial_buffer_len, serve_serial};
///
/// type Line = SerialFrames<{ serial_buffer_len(256) }>;
///
/// # async fn run(
/// #     peer: &mut Peer<Line, DeviceKey, 256>, node: &mut impl Application<Line, DeviceKey, 256>,
/// #     rx: impl Read, tx: impl Write, mut timer: impl Timer,
/// # ) -> SerialError {
/// let Err(gone) = serve_serial(peer, node, (rx, tx), &mut timer).await;
/// # gone
/// # }
/// ```
///
/// # Errors
/// The UART is gone; on a microcontroller that is usually the moment to reset it.
pub async fn serve_serial<L, K, A, const OUT: usize, const N: usize>(
    peer: &mut Peer<L, K, OUT>,
    node: &mut A,
    (rx, tx): (impl Read, impl Write),
    timer: &mut impl Timer,
) -> Result<Infallible, SerialError>
where
    L: Link<Error = Infallible> + AsMut<SerialFrames<N>>,
    K: Keys,
    A: Application<L, K, OUT>,
{
    // Three loops on one task. Each is polled again until none of them moves, so that none has to wake another.
    let line = Line { peer: RefCell::new(peer), flow: Flow::default() };
    let (mut read, mut write) = (pin!(line.read(rx)), pin!(line.write(tx)));
    let mut turns = pin!(line.turn(node, timer));
    poll_fn(|context| {
        for _ in 0..ROUNDS {
            line.flow.moved.set(false);
            for gone in
                [read.as_mut().poll(context), turns.as_mut().poll(context), write.as_mut().poll(context)]
            {
                if let Poll::Ready(gone) = gone {
                    return Poll::Ready(gone);
                }
            }
            if !line.flow.moved.get() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// What the three loops share. Nobody holds the peer across an `.await`.
struct Line<'p, L, K, const OUT: usize> {
    peer: RefCell<&'p mut Peer<L, K, OUT>>,
    flow: Flow,
}

/// What the loops tell each other.
#[derive(Default)]
struct Flow {
    /// One of them has done something, which another may wait for.
    moved: Cell<bool>,
    /// There is something for the node: bytes have come, or the last one has gone.
    turn_due: Cell<bool>,
    /// Bytes have gone.
    sent: Cell<bool>,
    /// None have for so long that whole frames are dropped.
    stuck: Cell<bool>,
}

impl<L, K, const OUT: usize> Line<'_, L, K, OUT>
where
    L: Link<Error = Infallible>,
    K: Keys,
{
    /// Bytes from the UART to the link.
    async fn read<const N: usize>(&self, mut rx: impl Read) -> Result<Infallible, SerialError>
    where
        L: AsMut<SerialFrames<N>>,
    {
        let mut bytes = [0; CHUNK];
        loop {
            match rx.read(&mut bytes).await {
                Ok(0) => return Err(SerialError::Closed),
                Ok(len) => {
                    let mut rest = bytes.get(..len).unwrap_or_default();
                    while !rest.is_empty() {
                        let taken = self.push(rest);
                        rest = rest.get(taken..).unwrap_or_default();
                        next_round().await;
                    }
                }
                Err(error) => {
                    if_gone(error.kind())?;
                    self.frames(SerialFrames::handle_read_error);
                    self.flow.moved.set(true);
                    next_round().await;
                }
            }
        }
    }

    /// How many of the bytes are dealt with.
    fn push<const N: usize>(&self, bytes: &[u8]) -> usize
    where
        L: AsMut<SerialFrames<N>>,
    {
        let taken = self.frames(|frames| {
            if frames.holds() && self.flow.stuck.get() {
                frames.skip(bytes);
                return bytes.len();
            }
            frames.push(bytes)
        });
        if taken > 0 {
            self.flow.turn_due.set(true);
            self.flow.moved.set(true);
        }
        taken
    }

    /// Bytes from the link to the UART.
    async fn write<const N: usize>(&self, mut tx: impl Write) -> Result<Infallible, SerialError>
    where
        L: AsMut<SerialFrames<N>>,
    {
        let mut bytes = [0; CHUNK];
        loop {
            let len = self.frames(|frames| {
                let places = bytes.iter_mut().zip(frames.pending());
                places.map(|(place, byte)| *place = *byte).count()
            });
            if len == 0 {
                next_round().await;
                continue;
            }
            match tx.write(bytes.get(..len).unwrap_or_default()).await {
                Ok(0) => return Err(SerialError::Closed),
                Ok(sent) => {
                    let empty = self.frames(|frames| {
                        frames.handle_sent(sent);
                        frames.pending().is_empty()
                    });
                    self.flow.handle_sent(empty);
                }
                Err(error) => {
                    if_gone(error.kind())?;
                    self.frames(SerialFrames::handle_write_error);
                    self.flow.moved.set(true);
                    next_round().await;
                }
            }
        }
    }

    /// The node, whenever there is something for it.
    async fn turn<A, const N: usize>(
        &self,
        node: &mut A,
        timer: &mut impl Timer,
    ) -> Result<Infallible, SerialError>
    where
        L: AsMut<SerialFrames<N>>,
        A: Application<L, K, OUT>,
    {
        let mut sent_at = timer.now();
        let mut pace = Pace::default();
        loop {
            let now = timer.now();
            self.flow.turn_due.set(false);
            self.flow.moved.set(true);
            if self.flow.sent.take() || self.is_idle() {
                sent_at = now;
            }
            let Ok(due) = turn(&mut self.peer.borrow_mut(), node, now);
            let mut due = pace.limit(due, now);
            if !self.is_idle() && !self.flow.stuck.get() {
                let patience = sent_at.plus_millis(PATIENCE_MS);
                self.flow.stuck.set(patience <= now);
                due = Some(due.map_or(patience, |due| due.min(patience)));
            }
            if due.is_none_or(|due| due > now) {
                let turn_due =
                    poll_fn(|_| if self.flow.turn_due.get() { Poll::Ready(()) } else { Poll::Pending });
                until(due, timer, turn_due).await;
            } else {
                next_round().await;
            }
        }
    }

    /// Whether nothing is to be written.
    fn is_idle<const N: usize>(&self) -> bool
    where
        L: AsMut<SerialFrames<N>>,
    {
        self.frames(|frames| frames.pending().is_empty())
    }

    fn frames<T, const N: usize>(&self, look: impl FnOnce(&mut SerialFrames<N>) -> T) -> T
    where
        L: AsMut<SerialFrames<N>>,
    {
        look(self.peer.borrow_mut().link_mut().as_mut())
    }
}

impl Flow {
    /// The UART has taken bytes, all that there were or not. Room for frames comes with the last one.
    fn handle_sent(&self, all: bool) {
        self.sent.set(true);
        self.stuck.set(false);
        self.moved.set(true);
        if all {
            self.turn_due.set(true);
        }
    }
}

/// Lets the other loops have their turn.
async fn next_round() {
    let mut polled = false;
    poll_fn(|_| if core::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Bytes that one read or write of the UART moves at most.
const CHUNK: usize = 64;

/// Rounds after which other tasks have their turn.
const ROUNDS: u8 = 32;

/// Milliseconds without one byte moved after which input is dropped: long beside a [`CHUNK`]'s time on a slow line (67 ms
/// at 9600 baud), short beside a session's heartbeat.
const PATIENCE_MS: u32 = 250;
