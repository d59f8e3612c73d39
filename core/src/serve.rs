//! The main loop of a leaf node on one screen.

use crate::link::Link;
use crate::peer::{Event, Keys, Node, Peer};
use crate::time::{Instant, earlier};

/// A node with something to do of its own: samples to publish, buttons to read.
pub trait Application<L: Link, K: Keys, const OUT: usize>: Node {
    /// Called at each turn of the loop: publish what is due, react to `event`. Must not wait.
    ///
    /// # Errors
    /// The link is gone.
    fn tick(
        &mut self,
        peer: &mut Peer<L, K, OUT>,
        event: Option<Event>,
        now: Instant,
    ) -> Result<(), L::Error>;

    /// When [`Application::tick`] next has something to do if nothing arrives before; `None` for never.
    fn next_due(&self) -> Option<Instant> {
        None
    }
}

/// Serves `node` on `peer` until the link is gone. `wait` is called once a turn with the moment at which the next thing
/// is due and answers what time it is. Until then it may sleep, and it wakes when the link has something to read or
/// room to write again; one that never sleeps is right too. `None` is a moment that never comes, a past one is now.
///
/// # Errors
/// The link is gone; on a microcontroller that is usually the moment to reset it.
pub fn serve<L: Link, K: Keys, N: Application<L, K, OUT>, const OUT: usize>(
    peer: &mut Peer<L, K, OUT>,
    node: &mut N,
    mut wait: impl FnMut(Option<Instant>) -> Instant,
) -> Result<core::convert::Infallible, L::Error> {
    let mut due = Some(Instant::default());
    loop {
        due = turn(peer, node, wait(due))?;
    }
}

/// One turn of the loop, for firmware whose loop is an executor's or an interrupt's: what has arrived is served, what is
/// due is done. When the next one is due; sooner, as soon as the link has something to read or room to write again.
///
/// # Errors
/// The link is gone.
pub fn turn<L: Link, K: Keys, N: Application<L, K, OUT>, const OUT: usize>(
    peer: &mut Peer<L, K, OUT>,
    node: &mut N,
    now: Instant,
) -> Result<Option<Instant>, L::Error> {
    let event = peer.poll(node, now)?;
    node.tick(peer, event, now)?;
    Ok(match event {
        // There may be more where it came from.
        Some(_) => Some(now),
        None => earlier(peer.poll_timeout(), node.next_due()),
    })
}
