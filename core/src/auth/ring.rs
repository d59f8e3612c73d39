//! The keys that one party holds, and minting with them. Knows who may issue what; the check is in `check.rs`.

use heapless::Vec;

use super::BUS;
use super::claims::Claims;
use super::key::{Key, Mac, Tag};
use super::token::TOKEN_VERSION;
use crate::limits::{MAX_GRANT_SCOPES, MAX_KEYS, MAX_TOKEN};
use crate::message::address::is_name;
use crate::wire::Writer;

/// Up to [`MAX_KEYS`] keys by id. A token names its key; a key that is not here refuses, others are never tried.
#[derive(Debug, Default)]
pub struct KeyRing {
    slots: Vec<Slot, MAX_KEYS>,
}

impl KeyRing {
    /// A ring that holds no key and so accepts no token.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// Adds a key.
    ///
    /// # Errors
    /// The ring is full, or holds a key of that id already.
    pub fn add(&mut self, slot: Slot) -> Result<(), RingError> {
        if self.slot(slot.id).is_some() {
            return Err(RingError::IdTaken);
        }
        self.slots.push(slot).map_err(|_| RingError::Full)
    }

    /// Forgets the key `id`: from now on its tokens are refused. `false` when there was none.
    pub fn remove(&mut self, id: u8) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| slot.id != id);
        self.slots.len() < before
    }

    /// Refuses tokens of the key `id` below `epoch` from now on; never lowers it. `false` when there is no such key.
    pub fn raise_epoch(&mut self, id: u8, epoch: u32) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) else { return false };
        slot.least_epoch = slot.least_epoch.max(epoch);
        true
    }

    /// Makes a token of `claims` with the key `key_id`, without caveats; answers how many bytes of `out` it takes.
    ///
    /// A root slot mints for all of the table in [the module's documentation](super); a device slot only what that
    /// device says of itself to the hub: issuer and subject its own name, audience `bus`. That it is its own name
    /// the ring cannot know: with another's the hub refuses the token.
    ///
    /// # Errors
    /// [`MintError`] says which claim is in the way; a token that this ring's own rules would refuse is not made.
    pub fn mint(&self, key_id: u8, claims: &Claims<'_>, out: &mut [u8]) -> Result<usize, MintError> {
        let slot = self.slot(key_id).ok_or(MintError::UnknownKey)?;
        slot.check_mint(claims)?;
        slot.write(claims, out).ok_or(MintError::TooLong)
    }

    pub(super) fn slot(&self, id: u8) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id)
    }
}

/// One key of a ring, and for how long and from which epoch on it counts.
#[derive(Debug)]
pub struct Slot {
    pub(super) id: u8,
    key: SlotKey,
    pub(super) not_after: u64,
    pub(super) least_epoch: u32,
}

/// What a slot keeps of its key: what is the same for every token is done once.
#[derive(Debug)]
enum SlotKey {
    Root {
        extracted: Mac,
        /// The key of the hub itself, the one most used.
        bus: Mac,
    },
    Device(Mac),
}

/// Whose key a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// The hub's: all other keys are derived from it, itself it tags nothing.
    Root,
    /// A device's own, `root.derive(device)`.
    Device,
}

impl SlotKind {
    /// Whether a token for whoever holds such a slot may come from the issuer it names.
    #[inline]
    pub(super) fn accepts_issuer(self, claims: &Claims<'_>) -> bool {
        match self {
            Self::Root => claims.issuer == BUS || speaks_for_itself(claims),
            // A device could make these for `bus` too, so only the hub's root key may say what is for the hub.
            Self::Device => claims.issuer == BUS && claims.audience != BUS,
        }
    }
}

impl Slot {
    /// A root key, for the hub's ring.
    pub fn root(id: u8, key: Key) -> Self {
        let extracted = key.extract();
        let bus = extracted.derive(BUS);
        Self { id, key: SlotKey::Root { extracted, bus }, not_after: u64::MAX, least_epoch: 0 }
    }

    /// A derived key, for the ring of the device whose it is.
    pub fn device(id: u8, key: Key) -> Self {
        Self { id, key: SlotKey::Device(key.to_mac()), not_after: u64::MAX, least_epoch: 0 }
    }

    /// Refuses all tokens of this key after this moment, in Unix seconds; without this, never.
    #[must_use]
    pub fn with_not_after(mut self, unix_seconds: u64) -> Self {
        self.not_after = unix_seconds;
        self
    }

    /// Refuses tokens of this key below `epoch`.
    #[must_use]
    pub fn with_least_epoch(mut self, epoch: u32) -> Self {
        self.least_epoch = epoch;
        self
    }

    /// The tag of a token's head that says `claims`. To pick the key by claims that nobody has verified is sound:
    /// issuer and audience are under the tag, so another's name only selects a key that the forger does not have.
    pub(super) fn tag_head(&self, claims: &Claims<'_>, head: &[u8]) -> Tag {
        let holder = if claims.issuer == BUS { claims.audience } else { claims.issuer };
        match &self.key {
            SlotKey::Device(key) => key.tag(head),
            SlotKey::Root { bus, .. } if holder == BUS => bus.tag(head),
            SlotKey::Root { extracted, .. } => extracted.derive(holder).tag(head),
        }
    }

    pub(super) const fn kind(&self) -> SlotKind {
        match self.key {
            SlotKey::Root { .. } => SlotKind::Root,
            SlotKey::Device(_) => SlotKind::Device,
        }
    }

    fn check_mint(&self, claims: &Claims<'_>) -> Result<(), MintError> {
        if ![claims.issuer, claims.subject, claims.audience].into_iter().all(is_name) {
            return Err(MintError::BadName);
        }
        let may_issue = match self.kind() {
            SlotKind::Root => SlotKind::Root.accepts_issuer(claims),
            SlotKind::Device => claims.issuer != BUS && speaks_for_itself(claims),
        };
        if !may_issue {
            return Err(MintError::NotOurs);
        }
        if claims.expiry <= claims.issued_at {
            return Err(MintError::BadExpiry);
        }
        if claims.issued_at > self.not_after || claims.epoch < self.least_epoch {
            return Err(MintError::KeyRetired);
        }
        if !claims.scopes.are_well_formed() {
            return Err(MintError::BadScope);
        }
        if claims.scopes.packed_len() > MAX_GRANT_SCOPES {
            return Err(MintError::TooLong);
        }
        Ok(())
    }

    fn write(&self, claims: &Claims<'_>, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::with_limit(out, MAX_TOKEN);
        writer.bytes(&[TOKEN_VERSION, self.id]);
        claims.write(&mut writer);
        let tag = self.tag_head(claims, writer.written());
        writer.bytes(tag.as_bytes());
        writer.finish()
    }
}

/// The one key of a device: what a ring with its slot does, without the code that other slots need.
#[derive(Debug)]
pub(crate) struct OwnKey {
    pub(super) id: u8,
    pub(super) key: Mac,
}

impl OwnKey {
    pub(crate) fn new(id: u8, key: Key) -> Self {
        Self { id, key: key.to_mac() }
    }

    /// Makes a token in which the device whose key this is speaks for itself to the hub, without a scope. `name` is the
    /// device's: a component name. `None` when it does not fit into `out`.
    pub(crate) fn mint(
        &self,
        name: &str,
        serial: u64,
        issued_at: u64,
        expiry: u64,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut writer = Writer::with_limit(out, MAX_TOKEN);
        writer.bytes(&[TOKEN_VERSION, self.id]);
        for name in [name, name, BUS] {
            writer.run(name.as_bytes());
        }
        for number in [serial, issued_at, expiry] {
            writer.varint(number);
        }
        // Epoch 0, no scopes.
        writer.bytes(&[0, 0]);
        let tag = self.key.tag(writer.written());
        writer.bytes(tag.as_bytes());
        writer.finish()
    }
}

/// Why a key was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Every slot is taken.
    #[error("the ring holds as many keys as it can; remove one that is no longer needed")]
    Full,
    /// There is a key of that id.
    #[error("the ring holds a key of that id already; give the new one another id")]
    IdTaken,
}

/// Why a token was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The ring holds no key of that id.
    #[error("there is no key of that id in the ring; see which ids it has")]
    UnknownKey,
    /// Issuer, subject or audience is not a component name.
    #[error("issuer, subject and audience are names: at most 32 bytes of [a-z0-9._-]")]
    BadName,
    /// The holder of this key may not issue that.
    #[error(
        "this key cannot issue that: the hub issues as 'bus', a device only for itself, to 'bus', without scopes"
    )]
    NotOurs,
    /// It would expire before it is issued.
    #[error("the expiry must be later than the time of issue")]
    BadExpiry,
    /// The key's last moment is past, or the epoch is below the least that it accepts.
    #[error("this key no longer issues at that time or epoch; use the current key and epoch")]
    KeyRetired,
    /// A scope is not one.
    #[error("a scope is a name of [a-z0-9._-], 'operation:pattern', or '*', in at most 48 bytes")]
    BadScope,
    /// Its scopes are more than a grant keeps, or it is longer than a token may be or than the buffer.
    #[error("the token would be too long; give it fewer or shorter scopes")]
    TooLong,
}

/// A device says who it is and nothing else: what it may do is for the hub to decide, so it claims no scopes.
fn speaks_for_itself(claims: &Claims<'_>) -> bool {
    claims.audience == BUS && claims.subject == claims.issuer && claims.scopes.iter().next().is_none()
}
