//! `visorbus.v1.json`: messages in JSON to frames and back. It knows texts and frames, no socket and no hub.

mod envelope;
mod fault;
mod reader;
mod refusal;
mod translator;
mod writer;

pub use refusal::Refusal;
pub use translator::Translator;
