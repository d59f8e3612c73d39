//! The WebSocket port of a hub from outside: who attacks it, and who uses it from other languages.

mod attacks;
mod browser;
mod chromium;
mod headset;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/mod.rs"]
mod line;
mod node;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/node.rs"]
mod sensor;
mod world;
