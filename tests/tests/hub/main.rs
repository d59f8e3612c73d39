//! A running hub against peers that are driven by hand: what they may, what they may not, and that nobody else notices.

mod desk;
mod harness;

mod aliases;
mod audit;
mod authority;
mod bearers;
mod bytes;
mod calls;
mod clocks;
mod comings;
mod compressed;
mod configuration;
mod endings;
mod endurance;
mod handlers;
mod interfaces;
mod keyed_links;
mod leaf;
mod logins;
mod policy;
mod questions;
mod revocations;
mod services;
mod sessions;
mod signalled;
mod statistics;
mod suffixes;
mod tokens;
mod topics;
mod translate;
mod types;
