//! Attacks on the port, each by name: what must not happen, what the attacker is told, what is counted, and that nobody
//! else notices: no handler runs, and a bystander on the same hub is served.

mod alone;
mod crowds;
mod frames;
mod heads;
mod json;
mod servers;
mod sessions;
mod tls;
