//! The cases of the Autobahn test suite's fuzzing client, written anew after their published descriptions and under their
//! numbers, so that whoever knows those reports can compare. Each case is a connection of its own.
//!
//! Autobahn expects a server that echoes; the hub echoes by a handler, so a message of a case is a request to it: its
//! text or bytes stand inside, its length on the wire is the case's. Where a case has a message that is none of the
//! hub's, such as an empty one, the hub has to say so. What Autobahn lets pass as "non-strict" is not let pass but in
//! 6.4, where it is said.
//!
//! Every case also runs against bare tungstenite, which passes Autobahn: it shows that the cases are written right.
//!
//! Left out: 12 and 13 (compression, which is not offered; `websocket` attacks that), and performance figures.

#[allow(dead_code, reason = "another test program uses the rest of it")]
#[path = "../websocket/world.rs"]
mod world;

mod dialect;
mod script;

mod closing;
mod fragments;
mod framing;
mod limits;
mod opcodes;
mod pings;
mod reserved;
mod utf8;
