//! What stands between the network and the hub: connections are taken, TLS is made, the HTTP request is read and checked, and
//! only what has become a WebSocket is handed on. Strangers take no time and no place of the hub's.

mod keeper;
mod maker;
mod shared;
mod visitor;

mod answer;
mod places;
mod refusal;
mod request;
mod rules;
mod stats;
mod upgrade;

#[cfg(test)]
mod tests;

pub(crate) use keeper::Keeper;
pub(crate) use places::Places;
pub use refusal::Reason;
pub(crate) use rules::Rules;
pub use shared::DoorLimits;
pub(crate) use shared::Shared;
pub use stats::DoorStats;
