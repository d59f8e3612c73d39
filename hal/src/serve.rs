//! The main loop of a leaf as a future, for an executor: the asynchronous twin of [`visorbus_core::serve`].
//!
//! The protocol is the same code: sessions, frames and lanes neither block nor wait, only who moves bytes does. Needs the
//! feature `async`.

use core::convert::Infallible;
use core::future::{pending, poll_fn};
use core::pin::pin;
use core::task::Poll;

use visorbus_core::link::Link;
use visorbus_core::peer::{Keys, Peer};
use visorbus_core::serve::{Application, turn};
use visorbus_core::time::Instant;

/// The clock that a node runs by, and its timer.
///
/// ```
/// use visorbus_core::Instant;
/// use visorbus_hal::Timer;
///
/// # mod embassy_time {
/// #     pub struct Instant;
/// #     impl Instant {
/// #         pub fn now() -> Self { Self }
/// #         pub fn from_micros(_: u64) -> Self { Self }
/// #         pub fn as_micros(&self) -> u64 { 0 }
/// #     }
/// #     pub struct Timer;
/// #     impl Timer { pub async fn at(_: Instant) {} }
/// # }
/// /// On Embassy.
/// struct EmbassyTimer;
///
/// impl Timer for EmbassyTimer {
///     fn now(&self) -> Instant {
///         Instant::from_micros(embassy_time::Instant::now().as_micros())
///     }
///
///     async fn wait_until(&mut self, due: Instant) {
///         embassy_time::Timer::at(embassy_time::Instant::from_micros(due.as_micros())).await;
///     }
/// }
/// ```
// Whoever polls the loop polls this: it need not be `Send`.
#[allow(async_fn_in_trait)]
pub trait Timer {
    /// What time it is.
    fn now(&self) -> Instant;

    /// Waits until `due`, at once for a moment that is past. Must bear to be dropped before that, and may come back
    /// early.
    async fn wait_until(&mut self, due: Instant);
}

/// Serves `node` on `peer` until the link is gone, over any [`Link`]: as [`visorbus_core::serve::serve`], with a `wait`
/// that is awaited. It is called once a turn with the moment at which the next thing is due, and answers what time it is;
/// until then it has to wake when the link has something to read, or room to write again.
///
/// For links whose hardware is served by interrupts, such as [`SpiTargetLink`](crate::SpiTargetLink): `wait` then awaits
/// a signal of theirs, or the timer.
///
/// # Errors
/// The link is gone.
pub async fn serve_link<L: Link, K: Keys, A: Application<L, K, OUT>, const OUT: usize>(
    peer: &mut Peer<L, K, OUT>,
    node: &mut A,
    mut wait: impl AsyncFnMut(Option<Instant>) -> Instant,
) -> Result<Infallible, L::Error> {
    let mut due = Some(Instant::default());
    let mut pace = Pace::default();
    loop {
        let now = wait(due).await;
        due = pace.limit(turn(peer, node, now)?, now);
    }
}

/// Keeps a loop from spinning on what is due and cannot be done, for want of room on the link.
#[derive(Default)]
pub(crate) struct Pace {
    /// Turns in a row after which something was due at once.
    eager: u8,
}

impl Pace {
    /// When the next turn is, if `due` is what the last one said at `now`.
    pub(crate) fn limit(&mut self, due: Option<Instant>, now: Instant) -> Option<Instant> {
        if due.is_none_or(|due| due > now) {
            self.eager = 0;
            return due;
        }
        self.eager = self.eager.saturating_add(1);
        if self.eager > MAX_EAGER { Some(now.plus_millis(1)) } else { due }
    }
}

/// What `future` gives, or `None` when `due` comes before that.
pub(crate) async fn until<T>(
    due: Option<Instant>,
    timer: &mut impl Timer,
    future: impl Future<Output = T>,
) -> Option<T> {
    let (mut future, mut timeout) = (pin!(future), pin!(sleep(timer, due)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timeout.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Waits until `due`; `None` never comes.
async fn sleep(timer: &mut impl Timer, due: Option<Instant>) {
    match due {
        Some(due) => timer.wait_until(due).await,
        None => pending().await,
    }
}

/// Turns in a row at once: more than things happen together.
const MAX_EAGER: u8 = 8;
