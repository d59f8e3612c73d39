//! Visorbus on the desktop bus: any D-Bus program reaches what Visorbus reaches, by the same rules.
//!
//! - [`DBusService`] is a hub with a name on a bus on a thread of its own; [`DBusListener`] adds a bus to a hub that there
//!   is already. Whoever calls becomes a peer of the hub, in a session that is bound to the caller's unique name.
//! - [`DBusInterface`] is what an interface of one's own implements; the standard ones, the bridge `org.visorbus.Bus1` and
//!   an object for every component come with the service.
//! - [`DBusClient`] calls a service on a bus, and connects again by itself.
//!
//! The way of a call: `channel → sender → router (which object, which member, are the arguments of its signature) → a
//! message in the sender's session → the hub → its answer → router → a reply on the channel`.
#![forbid(unsafe_code)]

mod bus;
mod carrier;
mod client;
mod config;
mod described;
mod fault;
pub mod files;
mod interface;
mod listener;
mod names;
mod objects;
mod registered;
mod router;
mod service;
mod standard;
mod step;
mod types;
mod xml;

pub use client::{DBusChange, DBusClient, DBusClientConfig, DBusClientState};
pub use config::{BusAddress, DBusConfig};
pub use dbus::Message as DBusMessage;
pub use dbus::arg::messageitem::MessageItem;
pub use interface::{DBusInterface, DBusMethod, DBusProperty, DBusPropertyAccess, DBusSignal};
pub use listener::{DBusDoor, DBusListener, DBusState, DBusStatistics};
pub use service::DBusService;
pub use standard::{ConfigInterface, HardwareInterface, MonitoringInterface};
