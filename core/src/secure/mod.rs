//! Secure links: a point-to-point line (serial, SPI) whose two ends share a key, sans I/O.
//!
//! The key proves each end to the other, and every frame after that carries a tag over its number and its bytes. Bytes,
//! time and nonces come in, frames go out: whoever owns the line moves them. Nothing in here knows what is in a frame.
//!
//! # The way of a channel
//! ```text
//! connecting end (a board)                         accepting end (the hub)
//! INIT  key id, nonce, boot id, name, proof  -->   finds the key of (name, key id), checks the proof
//!                                            <--   REPLY  key id, nonce, boot id, confirmation
//! an empty data frame                        -->   the channel is open; so is the old one closed, if there was one
//!                                            <--   an empty data frame
//! data frames                               <-->   data frames
//! ```
//! The keys of a channel are HKDF-SHA256 (RFC 5869) of the shared secret over both nonces, both names, both boot ids, the
//! key's id, the suite and the version: one key for each direction. Nothing is negotiated; the key fixes the [`Suite`].
//!
//! # What holds
//! - A frame is handed out once, in order, and only as the other end sent it in this channel, in this direction.
//! - State changes after a tag was verified, never before. A bad frame is counted and dropped, and is never answered. An
//!   INIT, however often it comes, leaves the open channel alone until the end that sent it has confirmed.
//! - An accepting end that hears frames and has no key for them (it was restarted) says so: a REKEY hint, which nothing
//!   proves. The connecting end then begins a handshake beside the open channel, more and more rarely.
//! - The counter of a direction has 64 bits and never reaches its end: long before, the channel is made anew.
//!
//! What a connecting end needs of randomness, and what holds without it, stands at [`NonceSeed`].
//!
//! The layout of the frames stands in docs/wire-format.md.

mod accepting;
mod channel;
mod cipher;
mod connecting;
mod frame;
mod key;
mod schedule;

#[cfg(test)]
mod tests;

pub use accepting::{Accepting, LinkKeys};
pub use channel::{LinkProof, SecureStats};
pub use cipher::{AnySuite, Cipher, Sealed, Suite, Tag64};
pub use connecting::{Connecting, NonceSeed, WrongSuite};
pub use frame::{MAX_HANDSHAKE, SECURE_VERSION, name_in_init};
pub use key::{LINK_KEY_PREFIX, LinkKey, LinkKeyError, MAX_LINK_KEY_TEXT};

use crate::time::Instant;

/// One end of a secure link: frames of the line in, payloads out, and back.
///
/// [`Connecting`] and [`Accepting`] are the two. The owner is usually `visorbus_hal::SecureLink`, which turns one into a
/// [`Link`](crate::link::Link).
///
/// # For the caller
/// 1. Every frame of the line goes to [`SecureEnd::handle_frame`]; what comes back is a payload for the layer above.
/// 2. Payloads go through [`SecureEnd::seal`], as soon as there is a [`SecureEnd::proof`].
/// 3. [`SecureEnd::poll_transmit`] has what this end says of itself. Ask it after every frame that was handled, and at
///    [`SecureEnd::poll_timeout`].
pub trait SecureEnd {
    /// Bytes that a data frame has more than its payload, at most.
    const OVERHEAD: usize;

    /// Takes a frame of the line. When it is a data frame of the open channel, and not an empty one, it is opened in
    /// place: the bytes of its payload, which begins behind [`HEAD_LEN`].
    fn handle_frame(&mut self, frame: &mut [u8], now: Instant) -> Option<usize>;

    /// Makes a data frame of the first `len` bytes behind [`HEAD_LEN`] in `frame`, in place; its length. `None` when there
    /// is no channel, the frame is too short for it, or the channel's counter has come to its end.
    fn seal(&mut self, frame: &mut [u8], len: usize) -> Option<usize>;

    /// Writes the next frame that this end has to say of itself into `out`, of at least [`MAX_HANDSHAKE`] bytes; its
    /// length, 0 when there is none.
    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> usize;

    /// When [`SecureEnd::poll_transmit`] next has something by itself.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Who is at the other end of the open channel; `None` while there is none.
    fn proof(&self) -> Option<&LinkProof>;

    /// Whether payloads may pass: a channel is open, and its owner knows which.
    fn is_open(&self) -> bool;

    /// Whether frames of the line are to be left where they are, because they would be lost: the channel is new, and
    /// its owner does not know that yet.
    fn holds(&self) -> bool {
        false
    }

    /// What came and what was refused.
    fn stats(&self) -> SecureStats;
}

/// Bytes before the payload of a data frame.
pub const HEAD_LEN: usize = frame::HEAD_LEN;
