//! Visorbus over Unix sockets: the hub's listening end and what Linux processes connect to it with.
//!
//! - [`UnixSocketServer`] is a hub with one socket on a thread of its own; [`UnixSocketListener`] adds a socket to a hub
//!   that there is already, and [`FramedStream`] is one of its connections.
//! - [`UnixSocketClient`] calls, publishes, subscribes and serves, from any thread, and connects again by itself.
//! - [`UnixSocketConnection`] is one connection for those who have an event loop of their own.
//!
//! The way of a call: `client.send_request → encode the header → one sendmsg → (the hub) → one recv → Session::handle →
//! the caller`, all on the caller's own thread. The client is `visorbus-client`'s; framing, session, codec and dispatch are
//! the core's.
#![forbid(unsafe_code)]

mod address;
mod stream;

mod listener;
mod server;

mod client;
mod connection;
mod outgoing;
mod place;
mod wire;

pub use address::listening_process;
pub use client::UnixSocketClient;
pub use connection::UnixSocketConnection;
pub use listener::UnixSocketListener;
pub use server::UnixSocketServer;
pub use stream::FramedStream;
pub use visorbus_client::{
    AuthToken, Client, ClientConfig, Connection, Credentials, Delivery, Permission, Secret, StateChange,
    Subscription, SubscriptionGuard, TokenText, TopicSubscription, TypedDelivery,
};
