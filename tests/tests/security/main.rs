//! Attacks, each by name: what must not happen, what the attacker is told, and that nobody else notices.
//!
//! What can be said over any transport is written once, in terms of [`transports::Transport`], and runs over every one
//! there is; `transports` has the table of what makes no sense where.

#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/mod.rs"]
mod line;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/node.rs"]
mod node;

mod tape;
mod transports;
mod websockets;
mod world;

mod boards;
mod channels;
mod comparisons;
mod damage;
mod keyed_lines;
mod logins;
mod middle;
mod revoked;
mod rights;
mod sealed;
mod secrets;
mod tokens;
