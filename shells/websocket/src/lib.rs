//! Visorbus over WebSockets: the hub's listening end, with TLS where it is wanted, and what programs connect to it with.
#![forbid(unsafe_code)]

mod channel;
mod client;
mod connection;
mod dashboard;
mod dial;
mod dialog;
mod door;
mod frames;
pub mod json;
mod link;
mod listener;
mod live;
mod mask;
mod pages;
mod protocol;
mod seat;
mod server;
mod tls;
mod url;
mod wire;

/// Fast, and seeded at random, so that nobody can choose keys that collide.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

pub use channel::Channel;
pub use client::WebSocketClient;
pub use connection::WebSocketConnection;
pub use door::{DoorLimits, DoorStats, Reason};
pub use link::{LinkConfig, WebSocketLink};
pub use listener::{Door, WebSocketConfig, WebSocketListener};
pub use live::{LivePages, PageAnswer, PageRequest};
pub use pages::Pages;
pub use protocol::{Subprotocol, VERSION, WebSocketMessage, WebSocketMessageType, WebSocketProtocol};
pub use seat::Seat;
pub use server::WebSocketServer;
pub use tls::{TlsClientConfig, TlsConfig};
