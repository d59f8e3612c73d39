//! The WebSocket port of a hub from outside: who attacks it, and who uses it from other languages.

mod attacks;
mod world;
