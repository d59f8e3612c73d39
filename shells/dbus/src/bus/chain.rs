//! What one call, or one notification, has set going.

use super::senders::SenderKey;

/// For whom steps are taken, one after the other, and what they began with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub(super) sender: SenderKey,
    /// `None`: a notification, nobody's call.
    pub(super) call: Option<Call>,
}

/// A call that is being answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// By which its sender knows the answer.
    pub(super) serial: u32,
    /// Nobody wants the answer.
    pub(super) no_reply: bool,
    /// Bytes that the call itself has.
    pub(super) bytes: usize,
}
