//! Visorbus over Unix sockets.
#![forbid(unsafe_code)]

mod address;
mod client;
mod clock;
mod connection;
mod dialog;
mod listener;
mod outgoing;
mod server;
mod stream;
mod token;

pub use client::{ClientConfig, Delivery, StateChange, Subscription, SubscriptionGuard, UnixSocketClient};
pub use connection::UnixSocketConnection;
pub use listener::UnixSocketListener;
pub use server::UnixSocketServer;
pub use stream::FramedStream;
pub use token::Token;
