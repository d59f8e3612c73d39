//! What becomes of a text that is no message.

use super::envelope::id_in;
use super::fault::{Class, Fault};
use super::reader::check;
use super::writer::write_fault;

/// Why a text was not translated, and what its sender is to be told. Nothing of it has reached the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The close code (RFC 6455 section 7.4) with which the connection ends after the reply: 1007 for what is not JSON,
    /// 1008 for what is no envelope. `None`: the connection goes on.
    pub close: Option<u16>,
    /// The text message to send, an `Error` that says what is wrong, where, and what to do.
    pub reply: Option<String>,
}

impl Refusal {
    /// What becomes of `text`, with which this is wrong.
    #[cold]
    pub(super) fn new(text: &str, fault: Fault) -> Self {
        // Behind what was found first it may not even be JSON.
        let fault = check(text).err().filter(|found| found.class() == Class::NotJson).unwrap_or(fault);
        let (close, id) = match fault.class() {
            Class::NotJson => (Some(NOT_JSON), None),
            Class::NotEnvelope => (Some(NOT_ENVELOPE), None),
            Class::Content => (None, id_in(text)),
        };
        Self { close, reply: Some(write_fault(id, &fault.to_string())) }
    }
}

/// Data that is not consistent with the type of the message.
const NOT_JSON: u16 = 1007;
/// A message that violates the endpoint's policy.
const NOT_ENVELOPE: u16 = 1008;
