//! What the other end of a session says of itself.

use super::Name;
use crate::bus::{self, Identity};
use crate::message::MessagePayload;

/// What the other end said of itself. Only the name that a grant proves decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name, as claimed.
    pub name: Name,
    /// Differs at each of its starts.
    pub boot_id: u64,
    /// Longest frame it takes, in bytes.
    pub max_frame: u32,
    /// Its wish for heartbeats, in milliseconds.
    pub heartbeat_ms: u32,
    /// Rows of its table.
    pub rows: u16,
    /// Whether it wants a token before it serves.
    pub requires_authentication: bool,
    /// Whether its link can acknowledge and send again.
    pub has_lane: bool,
}

impl Remote {
    /// Copies what matters; `None` when the name is not a component name.
    pub(super) fn new(identity: &Identity<'_>) -> Option<Self> {
        if !crate::message::address::is_name(identity.name) {
            return None;
        }
        Some(Self {
            name: Name::try_from(identity.name).ok()?,
            boot_id: identity.boot_id,
            max_frame: identity.max_frame,
            heartbeat_ms: identity.heartbeat_ms,
            rows: identity.rows,
            requires_authentication: identity.capabilities & bus::REQUIRES_AUTHENTICATION != 0,
            has_lane: identity.capabilities & bus::HAS_LANE != 0,
        })
    }
}

/// The identity in the payload of a hello, of a question who is there, or of the answer to either.
pub(super) fn identity_in<'f>(payload: &MessagePayload<'f>) -> Option<Identity<'f>> {
    match payload {
        MessagePayload::Binary(bytes) => Identity::read(bytes),
        _ => None,
    }
}
