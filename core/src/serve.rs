//! The main loop of a leaf node on one screen.

use crate::link::Link;
use crate::peer::{Event, Keys, Node, Peer};
use crate::time::Instant;

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
}

/// Serves `node` on `peer` until the link is gone. `now` reads the board's clock; it is called once a turn and may
/// wait for an interrupt when there is nothing to do.
///
/// # Errors
/// The link is gone; on a microcontroller that is usually the moment to reset it.
pub fn serve<L: Link, K: Keys, N: Application<L, K, OUT>, const OUT: usize>(
    peer: &mut Peer<L, K, OUT>,
    node: &mut N,
    mut now: impl FnMut() -> Instant,
) -> Result<core::convert::Infallible, L::Error> {
    loop {
        let now = now();
        let event = peer.poll(node, now)?;
        node.tick(peer, event, now)?;
    }
}
