//! The client of a hub, whatever carries its messages.
//!
//! - [`Client`] calls, publishes, subscribes and serves, from any thread, and connects again by itself.
//! - [`Connection`] is one connection for those who have an event loop of their own.
//! - A transport gives a [`Dial`], which makes connections, each a [`Wire`]; `visorbus-unix` and `visorbus-websocket` have
//!   one, and name the client after themselves.
//!
//! The way of a call: `client.send_request → encode the header → Wire::send → (the hub) → Wire::read → Session::handle →
//! the caller`, all on the caller's own thread. Session, codec and dispatch are the core's.
#![forbid(unsafe_code)]

mod wire;

mod inbox;

mod connection;
mod dialog;

mod client;

mod clock;

pub use client::{
    Client, ClientConfig, Delivery, StateChange, Subscription, SubscriptionGuard, TopicSubscription,
    TypedDelivery,
};
pub use connection::Connection;
pub use inbox::{Inbox, MAX_FRAME};
pub use visorbus_auth::{AuthToken, Credentials, Permission, Secret, TokenText};
pub use wire::{Dial, Wait, Wire};
