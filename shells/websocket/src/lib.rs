//! Visorbus over WebSockets: the hub's listening end, with TLS where it is wanted, and what programs connect to it with.
#![forbid(unsafe_code)]

pub mod json;
mod protocol;

pub use protocol::{Subprotocol, VERSION, WebSocketMessage, WebSocketMessageType, WebSocketProtocol};
