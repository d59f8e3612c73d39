//! The Visorbus hub: one thread and one epoll that route messages between peers on any transport.
//!
//! No transport is inside. A transport gives the hub a [`HubLink`] for each connection, or a [`Listener`] that makes
//! them, and the hub does the rest: sessions, tokens, routes, subscriptions, services, queues, deadlines. The way of a
//! frame is `link.receive → split → decode → Session::handle → deliver → (authorize) → peers.send → link.send`.
//!
//! - [`Hub`] is the loop, [`HubHandle`] what other threads use it through.
//! - [`HubServer`] is a hub on a thread of its own, for a server of any transport.
//! - [`HubConfig`] names who says who somebody is and what they may do: everything that anybody does through the hub is
//!   asked there first, and what lasts is asked about again when the answer may have changed.
//! - [`OwnedMessage`], [`OwnedPayload`] and [`Error`] are what std code keeps and sends.
//! - [`schema`] turns JSON into the postcard of a typed address and back.
#![forbid(unsafe_code)]

pub mod compress;
mod config;
pub mod link;

mod hub;
mod listeners;
mod poller;
mod signals;
mod timers;

mod accounts;
mod admission;
mod asking;
mod attaching;
mod audit;
mod bearer;
mod clocks;
mod commands;
mod deliver;
mod ending;
mod errands;
mod expand;
mod gate;
mod handling;
mod lasting;
mod login;
mod parting;
mod receiving;
mod sending;
mod translate;

mod bus;
mod describe;
mod expect;
pub mod info;
mod interfaces;

mod budget;
mod calls;
mod peer;
mod peers;
mod queue;
mod rows;
pub mod statistics;
mod subscriptions;
mod tally;

mod handle;
mod handlers;
mod held;
mod server;
mod turns;
mod watch;

mod owned;
pub mod schema;
mod value;

/// Fast, and seeded at random, so that nobody can choose names or ids that collide.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

pub use config::{HubConfig, Limits, unix_micros};
pub use handle::HubHandle;
pub use handlers::BoxedHandler;
pub use held::HELD_UP_BY;
pub use hub::Hub;
pub use link::{Goodbye, HubLink, LinkOptions, Listener, Origin, Proven, ReceiveBuffer, Reopen};
pub use listeners::{LinkId, LinkState, ListenerId};
pub use owned::{Error, OwnedMessage, OwnedPayload, Result, error, owned_error};
pub use server::HubServer;
pub use signals::LinkSignal;
pub use statistics::HubStatistics;
pub use value::Value;
pub use watch::{HubEvent, HubWatch};
