//! Tokens: how they are made, narrowed and checked, and what a session may do once one was accepted.
//!
//! A token is a small capability in the manner of macaroons (Birgisson et al., NDSS 2014): claims under an
//! HMAC-SHA256 (RFC 2104) that anyone with the key checks offline, and that its holder can narrow without the key.
//! [`KeyRing::check`] is the one check and the only maker of a [`Grant`]; [`authorize`] is the one decision made
//! with it. Nothing in here knows of sessions, links or a clock: time is Unix seconds, handed in.
//!
//! # Who holds which key
//! The hub holds root keys, and never tags anything with one: every key in use is `root.derive(holder)`.
//!
//! | issuer | audience | subject | key | who can make it |
//! |---|---|---|---|---|
//! | `bus` | `bus` | anyone | `root.derive("bus")` | the hub |
//! | `bus` | a device | anyone | `root.derive(device)` | the hub, and the device (for itself alone) |
//! | a device | `bus` | that device | `root.derive(device)` | that device, and the hub |
//!
//! A device holds only its own derived key, in a [`SlotKind::Device`] slot. Whoever dumps it can mint what that
//! device would accept and what it says of itself, and nothing of or for another. A device claims no scopes: what it
//! may do is the hub's policy, and a token of its own making that names any is refused.
//!
//! # Layout
//! `version (1) ‖ key id ‖ claims ‖ caveats ‖ tag (16)`, at most [`MAX_TOKEN`](crate::limits::MAX_TOKEN) bytes.
//! The version byte stands for the whole suite: there is no algorithm field. Claims are, in postcard's layout,
//! issuer, subject, audience (strings), serial number, issued-at, expiry (u64), epoch (u32), scopes (sequence of
//! strings). There is one encoding of each value: a varint that is longer than it need be refuses.
//!
//! The tag over `version ‖ key id ‖ claims` is `t0 = HMAC(key, …)[..16]`; a caveat `c` (kind byte and value) is
//! appended with `t = HMAC(t_before, c)[..16]`, and only the last tag stays in the token. To drop, reorder or change
//! a caveat is to find an earlier tag from a later one, that is, an HMAC key from its output. Cutting each link of
//! the chain to 16 bytes keeps it at 128 bits, the strength of the tag itself, so it takes nothing away.
//! The claims say where they end, so a caveat cannot be taken for a claim or a claim for a caveat.
//!
//! # Cost
//! On a Cortex-M4 (opt-level z, LTO) check and decision take about 5 kB of flash, SHA-256 included, when the final
//! build says `--cfg sha2_backend_soft="compact"` in its `RUSTFLAGS`; without it SHA-256 is unrolled and takes
//! 6.7 kB more. The check uses no heap and about 1 kB of stack.
//!
//! ```
//! use visorbus_core::auth::*;
//! use visorbus_core::message::address::Address;
//!
//! let root = Key::new([7; 32]);
//! let mut board = KeyRing::new();
//! board.add(Slot::device(1, root.derive("imu"))).unwrap();
//! let mut hub = KeyRing::new();
//! hub.add(Slot::root(1, root)).unwrap();
//!
//! let claims = Claims {
//!     issuer: "bus", subject: "alice", audience: "imu", serial: 1, issued_at: 1_000, expiry: 2_000, epoch: 0,
//!     scopes: Scopes::new(&["imu.control", "request:imu/*"]),
//! };
//! let mut buffer = [0; visorbus_core::limits::MAX_TOKEN];
//! let len = hub.mint(1, &claims, &mut buffer).unwrap();
//!
//! let grant = board.check(&buffer[..len], &Context::new("imu", Some(1_500))).unwrap();
//! let info = Address::literal("imu/info");
//! assert_eq!(authorize(Some(&grant), Operation::Request, info, Access::Permission, Some(1_500)), Ok(()));
//! assert_eq!(authorize(None, Operation::Request, info, Access::Permission, Some(1_500)), Err(Refusal::NoGrant));
//! assert_eq!(board.check(&buffer[..len], &Context::new("imu", Some(2_000))).unwrap_err(), TokenError::Expired);
//! ```

mod authorize;
mod check;
mod claims;
mod context;
mod grant;
mod key;
mod permission;
mod revocations;
mod ring;
mod text;
mod token;

#[cfg(test)]
mod tests;

pub use authorize::{Access, Refusal, authorize, authorize_pattern};
pub use check::{CLOCK_LEEWAY, TokenError};
pub use claims::{Caveat, Claims, ScopeIter, Scopes};
pub use context::{Channel, Context};
pub use grant::Grant;
pub use key::Key;
pub(crate) use key::hmac_sha256;
pub use permission::{BOOT_SCOPE, Operation, Permission, Scope};
pub(crate) use revocations::Revocations;
pub(crate) use ring::OwnKey;
pub use ring::{KeyRing, MintError, RingError, Slot, SlotKind};
pub use text::{MAX_TOKEN_TEXT, TEXT_PREFIX, TextError, decode_text, encode_text};
pub use token::{AttenuateError, Caveats, TAG_LEN, TOKEN_VERSION, UnverifiedToken, attenuate};

/// The hub's name as issuer and audience: the reserved component that every session starts with.
pub const BUS: &str = "bus";
