//! How a hub ends in good order: nobody comes any more, what was begun is finished and what waits is written, everybody is
//! said goodbye to; and how it ends all the same when somebody does not let it.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use visorbus_core::Instant;

use crate::handle::Outcome;
use crate::handlers::Pool;
use crate::hub::Hub;
use crate::link::Goodbye;
use crate::listeners::drop_elsewhere;
use crate::owned::{Error, Result};
use crate::peer::{Peer, Presence};

/// The end of a hub, from when it is asked for.
pub(crate) struct Ending {
    until: Instant,
    stage: Stage,
    /// What was not finished when the time was over.
    left: Result<()>,
    /// Those who wait for it.
    waiting: Vec<Outcome<()>>,
    /// Tells when what was closed on other threads is closed.
    closing: (std::sync::mpsc::Sender<()>, Receiver<()>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What was begun is being finished.
    Finishing,
    /// Everybody has been said goodbye to, and that is being written.
    Parting,
}

impl Ending {
    pub(crate) const fn deadline(&self) -> Instant {
        self.until
    }
}

impl Hub {
    /// Begins to end. A further one that asks for it may only bring it nearer.
    pub(crate) fn begin_ending(&mut self, deadline: Duration, done: Outcome<()>, now: Instant) {
        let until = now.plus_millis(u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX));
        if let Some(ending) = &mut self.ending {
            ending.until = ending.until.min(until);
            return ending.waiting.push(done);
        }
        tracing::info!("stopping");
        let closing = channel();
        for listener in self.listeners.take_independent(&self.poller) {
            drop_elsewhere((listener, closing.0.clone()));
        }
        let (stage, waiting) = (Stage::Finishing, vec![done]);
        self.ending = Some(Ending { until, stage, left: Ok(()), waiting, closing });
    }

    /// Goes on with the end, where it was asked for and is as far.
    pub(crate) fn go_on_ending(&mut self, now: Instant) {
        let Some(Ending { until, stage, .. }) = &self.ending else { return };
        let (is_over, stage) = (*until <= now, *stage);
        if stage == Stage::Finishing {
            if !is_over && !self.has_finished() {
                return;
            }
            // Before it is given up.
            let left = if is_over { self.what_is_left() } else { Ok(()) };
            self.ending.iter_mut().for_each(|ending| ending.left = left.clone());
            for key in self.peers.keys() {
                self.peers.dismiss_as(key, Goodbye::Stopping, "the hub stops");
            }
            self.end_turn(now);
            self.ending.iter_mut().for_each(|ending| ending.stage = Stage::Parting);
        }
        let is_parted = |peer: &Peer| peer.options.lossy && !has_output(peer);
        self.stopping |= is_over || self.peers.iter().all(|(_, peer)| is_parted(peer));
    }

    /// Drops the hub, and tells those who have asked for its end how it came about.
    pub(crate) fn end(mut self) {
        let Some(Ending { until, left, waiting, closing: (token, closed), .. }) = self.ending.take() else {
            return;
        };
        let outcome = left.and_then(|()| self.what_is_left());
        let left = until.duration_since(self.now());
        // A line may wait for its device when it is closed.
        drop_elsewhere((self, token));
        // Nobody sends there: it ends with the last of those that are closed.
        let _ = closed.recv_timeout(left.max(CLOSING));
        for done in waiting {
            // Who asked may not wait any more.
            let _ = done.send(outcome.clone());
        }
    }

    /// Whether nobody waits for anybody, and nothing waits to be written.
    fn has_finished(&self) -> bool {
        self.calls.is_empty()
            && self.askers.is_empty()
            && self.pool.as_ref().is_none_or(|pool| pool.in_use() == 0)
            && !self.peers.iter().any(|(_, peer)| peer.presence == Presence::Here && has_output(peer))
    }

    fn what_is_left(&self) -> Result<()> {
        let (calls, handlers) = (self.calls.len(), self.pool.as_ref().map_or(0, Pool::in_use));
        let bytes: usize = self.peers.iter().map(|(_, peer)| peer.queue.bytes()).sum();
        let unread = self.peers.iter().filter(|(_, peer)| has_output(peer)).count();
        if (calls, handlers, unread) == (0, 0, 0) {
            return Ok(());
        }
        Err(Error::Timeout(format!(
            "the hub has ended because its time was over: {calls} requests had no answer, {handlers} handlers still ran, \
             {unread} peers had not read all that was theirs, {bytes} bytes and more"
        )))
    }
}

/// Whether something waits for a peer that it, or its device, did not take.
fn has_output(peer: &Peer) -> bool {
    peer.stuck || !peer.queue.is_empty()
}

/// What closing sockets and files may take in any case.
const CLOSING: Duration = Duration::from_millis(250);
