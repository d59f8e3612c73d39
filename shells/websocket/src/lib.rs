//! Visorbus over WebSockets: the hub's listening end, with TLS where it is wanted, and what programs connect to it with.
#![forbid(unsafe_code)]

mod channel;
pub mod json;
mod link;
mod protocol;
mod seat;
mod tls;

pub use channel::Channel;
pub use link::{LinkConfig, WebSocketLink};
pub use protocol::{Subprotocol, VERSION, WebSocketMessage, WebSocketMessageType, WebSocketProtocol};
pub use seat::Seat;
pub use tls::{TlsClientConfig, TlsConfig};
