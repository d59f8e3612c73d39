//! Secure links as tests use them: a board and a hub over any raw link, with the keys that go with them.

use visorbus_core::auth::Key;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::secure::{
    Accepting, AnySuite, Connecting, LinkKey, LinkKeys, LinkProof, NonceSeed, SecureEnd, Suite,
};
use visorbus_core::{Instant, Link};
use visorbus_hal::SecureLink;

/// Bytes of the longest frame on the line below: what a lane sends at most, and all that secures it.
pub const SECURED_FRAME: usize = MAX_LINE_FRAME + Accepting::<Ring>::OVERHEAD;

/// The board's end of a link.
pub type SecuredBoard<L> = SecureLink<L, Connecting<AnySuite>, SECURED_FRAME>;

/// The board `imu` on its `boot`-th start.
pub fn secured_board<L: Link>(link: L, suite: Suite, boot: u64) -> SecuredBoard<L> {
    let end = Connecting::new(key(suite), boot, NonceSeed::counted(boot)).expect("any suite will do");
    SecureLink::new(link, end)
}

/// The hub's end of a link. Its owner is told of every new channel, and takes it.
#[derive(Debug)]
pub struct SecuredHub<L> {
    /// The link itself.
    pub link: SecureLink<L, Accepting<Ring>, SECURED_FRAME>,
    /// Who came, in order.
    pub changes: Vec<LinkProof>,
}

impl<L: Link> SecuredHub<L> {
    /// A hub that knows the board's key, on its `boot`-th start.
    pub fn new(link: L, suite: Suite, boot: u64) -> Self {
        let ring = Ring { key: key(suite), nonces: boot << 32 };
        Self { link: SecureLink::new(link, Accepting::new(ring, boot)), changes: Vec::new() }
    }
}

impl<L: Link> Link for SecuredHub<L> {
    type Error = L::Error;

    fn room(&mut self) -> usize {
        self.link.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, L::Error> {
        self.link.receive()
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, L::Error> {
        self.link.send(frame)
    }

    fn flush(&mut self, now: Instant) -> Result<bool, L::Error> {
        let flushed = self.link.flush(now);
        self.changes.extend(self.link.take_change().cloned());
        flushed
    }

    fn max_frame(&self) -> usize {
        self.link.max_frame()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    fn proof(&self) -> Option<&LinkProof> {
        self.link.proof()
    }
}

/// The one key of a hub, and its nonces, which only differ.
#[derive(Debug)]
pub struct Ring {
    key: LinkKey,
    nonces: u64,
}

impl LinkKeys for Ring {
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey> {
        (self.key.name() == name && self.key.id() == id).then_some(&self.key)
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        self.nonces += 1;
        Some(u128::from(self.nonces).to_le_bytes())
    }
}

/// The key that both ends have.
pub fn key(suite: Suite) -> LinkKey {
    LinkKey::new(1, suite, "imu", Key::new([0x5A; 32])).expect("imu is a name")
}
