//! Byte streams to frames and back: where one frame ends and the next begins, and whether it arrived whole.
//!
//! A frame is opaque bytes here. Nothing in this module knows what a message is, and nothing does I/O.
//!
//! - [`serial`]: lines that lose, garble and invent bytes. COBS with a delimiter, CRC-32 over everything.
//! - [`length`]: reliable byte streams (sockets). A length before each frame, no checksum.

pub mod length;
pub mod serial;
