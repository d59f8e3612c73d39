//! Attacks, each by name: what must not happen, what the attacker is told, and that nobody else notices.

#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/mod.rs"]
mod line;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/node.rs"]
mod node;

mod keyed_lines;
mod middle;
