//! What becomes of a text that is no message.

/// Why a text was not translated, and what its sender is to be told. Nothing of it has reached the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The close code (RFC 6455 section 7.4) with which the connection ends after the reply: 1007 for what is not JSON,
    /// 1008 for what is no envelope. `None`: the connection goes on.
    pub close: Option<u16>,
    /// The text message to send, an `Error` that says what is wrong, where, and what to do.
    pub reply: Option<String>,
}
