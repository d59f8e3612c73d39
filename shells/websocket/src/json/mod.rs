//! `visorbus.v1.json`: messages in JSON to frames and back. It knows texts and frames, no socket and no hub.

mod envelope;
mod fault;
mod reader;
mod refusal;
mod translator;
mod writer;

pub use refusal::Refusal;
pub use translator::Translator;

/// JSON Schemas (draft 2020-12) of the messages, by name; `envelope` is that of a whole text message, and refers to the
/// others.
pub const SCHEMAS: [(&str, &str); 6] = [
    ("envelope", include_str!("../../schemas/envelope.schema.json")),
    ("auth", include_str!("../../schemas/auth.schema.json")),
    ("ipc", include_str!("../../schemas/ipc.schema.json")),
    ("error", include_str!("../../schemas/error.schema.json")),
    ("heartbeat", include_str!("../../schemas/heartbeat.schema.json")),
    ("common", include_str!("../../schemas/common.schema.json")),
];
