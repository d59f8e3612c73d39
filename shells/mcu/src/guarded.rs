//! A raw line with its key, or without one where the configuration says so.

use std::fmt;
use std::sync::Arc;

use visorbus_core::secure::{Accepting, LinkKey, LinkKeys, LinkProof, SecureEnd, SecureStats};
use visorbus_core::{Instant, Link};
use visorbus_hal::SecureLink;
use visorbus_hub::{Proven, ReceiveBuffer};

use crate::Trust;
use crate::lookout::Fault;

/// The keys of the boards that a hub knows.
pub trait BoardKeys: Send + Sync {
    /// The link key of the board `name` with this id; several ids may be valid at once.
    fn link_key(&self, name: &str, id: u8) -> Option<LinkKey>;
}

/// No keys: no board is believed on a line that asks for one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBoardKeys;

impl BoardKeys for NoBoardKeys {
    fn link_key(&self, _name: &str, _id: u8) -> Option<LinkKey> {
        None
    }
}

/// A raw link, and over it, where it has one, the channel of its key. `N` as for [`SecureLink`].
pub(crate) enum Guarded<L, const N: usize> {
    Plain(L),
    Keyed(Box<SecureLink<L, Accepting<Keys>, N>>),
}

/// Bytes that a channel adds to a frame at most.
pub(crate) const OVERHEAD: usize = <Accepting<Keys> as SecureEnd>::OVERHEAD;

impl<L: Link, const N: usize> Guarded<L, N> {
    pub(crate) fn new(raw: L, trust: &Trust, keys: &Arc<dyn BoardKeys>) -> Self {
        match trust {
            Trust::LinkKey => {
                let keys = Keys { source: Arc::clone(keys), found: None };
                // Only to be another one than before; no secret is made of it.
                let boot_id = random().map_or(0, u64::from_le_bytes);
                Self::Keyed(Box::new(SecureLink::new(raw, Accepting::new(keys, boot_id))))
            }
            Trust::Token { .. } | Trust::Nothing { .. } => Self::Plain(raw),
        }
    }

    /// The raw link, to look at.
    pub(crate) fn raw(&self) -> &L {
        match self {
            Self::Plain(raw) => raw,
            Self::Keyed(link) => link.link(),
        }
    }

    pub(crate) fn raw_mut(&mut self) -> &mut L {
        match self {
            Self::Plain(raw) => raw,
            Self::Keyed(link) => link.link_mut(),
        }
    }

    /// Who has proven the key, as far as the hub was told.
    pub(crate) fn proven(&self) -> Option<Proven> {
        self.proof().map(proven)
    }

    /// Lets a new channel pass; says who is at its other end when there is one.
    fn take_change(&mut self) -> Option<&LinkProof> {
        match self {
            Self::Plain(_) => None,
            Self::Keyed(link) => link.take_change(),
        }
    }

    /// Closes the channel when its key is no longer among those that the hub knows, or is another by now.
    pub(crate) fn recheck(&mut self) {
        if let Self::Keyed(link) = self {
            link.end_mut().recheck();
        }
    }

    pub(crate) fn stats(&self) -> SecureStats {
        match self {
            Self::Plain(_) => SecureStats::default(),
            Self::Keyed(link) => link.stats(),
        }
    }
}

impl<L: Link, const N: usize> Link for Guarded<L, N> {
    type Error = L::Error;

    fn room(&mut self) -> usize {
        match self {
            Self::Plain(link) => link.room(),
            Self::Keyed(link) => link.room(),
        }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, L::Error> {
        match self {
            Self::Plain(link) => link.receive(),
            Self::Keyed(link) => link.receive(),
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, L::Error> {
        match self {
            Self::Plain(link) => link.send(frame),
            Self::Keyed(link) => link.send(frame),
        }
    }

    fn flush(&mut self, now: Instant) -> Result<bool, L::Error> {
        match self {
            Self::Plain(link) => link.flush(now),
            Self::Keyed(link) => link.flush(now),
        }
    }

    fn max_frame(&self) -> usize {
        match self {
            Self::Plain(link) => link.max_frame(),
            Self::Keyed(link) => link.max_frame(),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Plain(link) => link.poll_timeout(),
            Self::Keyed(link) => link.poll_timeout(),
        }
    }

    fn proof(&self) -> Option<&LinkProof> {
        match self {
            Self::Plain(_) => None,
            Self::Keyed(link) => link.proof(),
        }
    }
}

impl<L: fmt::Debug, const N: usize> fmt::Debug for Guarded<L, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(raw) => f.debug_tuple("Plain").field(raw).finish(),
            Self::Keyed(link) => f.debug_tuple("Keyed").field(link).finish(),
        }
    }
}

/// What a channel asks of the hub's keys.
pub(crate) struct Keys {
    source: Arc<dyn BoardKeys>,
    found: Option<LinkKey>,
}

impl LinkKeys for Keys {
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey> {
        self.found = self.source.link_key(name, id);
        self.found.as_ref()
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        random()
    }
}

/// Who was at the other end of a line's channel last, and what an operator was told of the line already.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    told: Option<Proven>,
    unkeyed: bool,
    refused: bool,
}

impl Notes {
    /// Lets a new channel pass, `false` when there is none. What came over the one before and is still in `into` goes with
    /// it if that was another board's, or another start's.
    pub(crate) fn follow<L: Link, const N: usize>(
        &mut self,
        link: &mut Guarded<L, N>,
        line: impl fmt::Display,
        into: &mut ReceiveBuffer,
    ) -> bool {
        let Some(proof) = link.take_change() else {
            self.look(line, link.stats());
            return false;
        };
        let proven = Some(proven(proof));
        if self.told == proven {
            return true;
        }
        into.clear();
        let (board, id, suite) = (proof.name(), proof.key_id(), proof.suite());
        tracing::info!("{line}: '{board}' has proven its link key {id} ({suite})");
        *self = Self { told: proven, ..Self::default() };
        true
    }

    /// Says once what is wrong with a line that nobody has proven a key on.
    fn look(&mut self, line: impl fmt::Display, stats: SecureStats) {
        if stats.unkeyed > 0 && stats.handshakes == 0 && !std::mem::replace(&mut self.unkeyed, true) {
            tracing::warn!(
                "{line}: what is there speaks without a link key and is not heard: give it one (`visorbus key provision \
                 NAME`), or have the line say unkeyed=NAME"
            );
        }
        if stats.refused > 0 && !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                "{line}: what is there has another link key than this hub, or one that it does not know, and is not heard: \
                 see `visorbus key list`"
            );
        }
    }
}

fn proven(proof: &LinkProof) -> Proven {
    Proven { name: proof.name().to_owned(), boot_id: proof.boot_id() }
}

/// What a channel has counted.
pub(crate) fn secure_faults(secure: SecureStats) -> [Fault; 6] {
    [
        ("handshakes", secure.handshakes.into()),
        ("rekeys", secure.rekeys.into()),
        ("bad_key", secure.refused.into()),
        ("bad_tag", secure.bad.into()),
        ("replayed", secure.replayed.into()),
        ("unkeyed", secure.unkeyed.into()),
    ]
}

/// Bytes of the system's random source; `None` where it has none.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}
