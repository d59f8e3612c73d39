//! Byte streams to frames and back: where one frame ends and the next begins, and whether it arrived whole.
//!
//! A frame is opaque bytes here. Nothing in this module knows what a message is, and nothing does I/O.
//!
//! - [`serial`]: lines that lose, garble and invent bytes. COBS with a delimiter, CRC-32 over everything.
//! - [`length`]: reliable byte streams (sockets). A length before each frame, no checksum.
//! - [`spi`]: transfers of an SPI bus, each for itself. A status before the frame, CRC-32 behind it.

pub mod length;
pub mod serial;
pub mod spi;
