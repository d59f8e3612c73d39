//! Payloads that only two components can read: what the flag `encrypted` says.
//!
//! Knows a shared key, headers and bytes; no session, no link, no clock, no random source. A [`Sealer`] turns a payload
//! into one that nobody between source and destination can read or change, an [`Opener`] at the other end turns it back.
//! The hub routes such a message like any other, by its header, and does not have the key.
//!
//! # What a sealed payload is
//! `nonce (24) ‖ ciphertext ‖ tag (16)`, sealed with XChaCha20-Poly1305 (ChaCha20-Poly1305 of RFC 8439, with the 24-byte
//! nonce of draft-irtf-cfrg-xchacha). What is sealed is the payload's kind in one byte and then its bytes: the frame says
//! Binary of every sealed payload, because that is what it is for whoever cannot open it.
//!
//! # The key
//! Each direction has a key of its own, from [`PayloadKey`] by HKDF-SHA256 (RFC 5869) with the salt
//! `visorbus v1 payload key` and both names, each behind its length, as info. So nothing that a component has sent can be
//! sent back to it as if it came from the other.
//!
//! # The nonce, and why none comes twice
//! `boot number (8) ‖ random (8) ‖ counter (8)`, big endian. ChaCha20-Poly1305 is broken by two messages under one key and
//! one nonce, and that is what a reset does to a counter in RAM. XChaCha20 makes a sub-key from the key and the first 16
//! bytes of the nonce (HChaCha20) and uses the last 8 as that sub-key's nonce. The first 16 bytes are [`BootNonce`]: as
//! its number rises with each start, each start has a sub-key of its own, under which the counter may begin at 0 again.
//! Only where a number comes back, because a clock was set back or a boot counter was lost, do the random bytes alone keep
//! two starts apart: 64 bits, for what should not happen at all. The counter never wraps: [`SealError::Spent`].
//!
//! # What is bound
//! The header is authenticated with the payload, all of it that the hub does not rewrite; a sealed payload under another
//! header does not open. [`Header`] lists what that is. An answer is bound to the nonce of the very request that it
//! answers: one that was recorded earlier is refused even after both ends have started anew.
//!
//! # Replays
//! An [`Opener`] takes each nonce once. It refuses a boot number below the highest that it has seen, and within one start
//! keeps a window of the last 64 counters for each priority, apart for notifications and for the rest, because messages of
//! one of these kinds stay in order and others overtake them. Nothing of this moves before the tag was verified. An opener
//! that was made anew remembers nothing: what was sent to its predecessor by a sender that still runs could be played to
//! it once more. Who cannot bear that keeps [`Opener::boot_number`] and has the senders start anew, by
//! [`Opener::refuse_boots_before`].
//!
//! ```
//! use visorbus_core::message::{Address, Message, MessageFlags, PayloadKind};
//! use visorbus_core::seal::{BootNonce, Header, OVERHEAD, Opener, PayloadKey, Sealer};
//!
//! let key = PayloadKey::new([7; 32]);
//! let mut sealer = Sealer::new(&key, "panel", "vault", BootNonce::new(1, [0; 8]));
//! let mut opener = Opener::new(&key, "panel", "vault");
//!
//! let request = Message::request(5, Address::literal("vault/put"));
//! let header = Header::of(&request, Address::literal("panel")).unwrap();
//! let (mut sealed, mut opened) = ([0; 4 + OVERHEAD], [0; 64]);
//! let len = sealer.seal(&header, PayloadKind::Binary, b"1234", &mut sealed).unwrap();
//!
//! assert_eq!(opener.open(&header, &sealed[..len], &mut opened), Ok((PayloadKind::Binary, &b"1234"[..])));
//! assert!(opener.open(&header, &sealed[..len], &mut opened).is_err(), "a replay");
//! ```

use core::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::Zeroizing;

use crate::auth::Key;
use crate::limits::{MAX_ADDRESS, MAX_NAME};
use crate::message::{Address, Message, MessageFlags, MessagePriority, MessageType, PayloadKind};
use crate::wire::Writer;

/// A 32-byte secret that components share. Wiped when dropped, never shown by `Debug`.
///
/// Whoever has it can read what is sealed with it and speak for any other that has it: share one between two, or between
/// those who may do the same.
#[derive(Debug)]
pub struct PayloadKey(Key);

impl PayloadKey {
    /// Takes 32 bytes that were drawn from a good random source.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(Key::new(bytes))
    }

    /// Writes the key as text, `vbp1.` and base64url, for a file that only its owner may read.
    pub fn encode_text<'a>(&self, out: &'a mut [u8; KEY_TEXT_LEN]) -> &'a str {
        let (prefix, rest) = out.split_at_mut(KEY_PREFIX.len());
        prefix.copy_from_slice(KEY_PREFIX.as_bytes());
        let fits = Base64UrlUnpadded::encode(self.0.expose_secret(), rest).is_ok();
        debug_assert!(fits, "32 bytes have 43 characters");
        core::str::from_utf8(out).unwrap_or_default()
    }

    /// The key of one direction.
    fn direction(&self, from: &str, to: &str) -> Key {
        let mut info = [0; 2 * (1 + MAX_NAME)];
        let mut writer = Writer::new(&mut info);
        for name in [from, to] {
            writer.run(name.as_bytes().get(..name.len().min(MAX_NAME)).unwrap_or_default());
        }
        self.0.expand(SALT, writer.written())
    }
}

impl FromStr for PayloadKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let encoded = text.strip_prefix(KEY_PREFIX).ok_or(KeyTextError::NoPrefix)?;
        let mut bytes = Zeroizing::new([0; 32]);
        match Base64UrlUnpadded::decode(encoded, &mut *bytes) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self::new(*bytes)),
            _ => Err(KeyTextError::NotAKey),
        }
    }
}

/// Seals what one component sends to another.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    boot: BootNonce,
    counter: u64,
}

impl Sealer {
    /// For what `from` sends to `to`, both names of components. `boot` must be another at each start.
    pub fn new(key: &PayloadKey, from: &str, to: &str, boot: BootNonce) -> Self {
        Self { cipher: cipher(&key.direction(from, to)), boot, counter: 0 }
    }

    /// Writes the sealed form of `content`, the bytes of a payload of `kind`, into `out` and says how many bytes it has:
    /// [`OVERHEAD`] more than `content`.
    ///
    /// # Errors
    /// [`SealError`]; then `out` holds nothing of use.
    pub fn seal(
        &mut self,
        header: &Header<'_>,
        kind: PayloadKind,
        content: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let len = content.len() + OVERHEAD;
        let out = out.get_mut(..len).ok_or(SealError::NoRoom)?;
        let nonce = self.boot.with(self.counter);
        let next = self.counter.checked_add(1).ok_or(SealError::Spent)?;
        let (head, rest) = out.split_at_mut(NONCE_LEN);
        let (body, tag) = rest.split_at_mut(1 + content.len());
        let (first, plain) = body.split_at_mut(1);
        head.copy_from_slice(&nonce);
        first.copy_from_slice(&[kind as u8]);
        plain.copy_from_slice(content);
        let bound = Bound::of(header);
        let made = self.cipher.encrypt_inout_detached(&nonce.into(), bound.as_slice(), body.into());
        tag.copy_from_slice(&made.map_err(|_| SealError::NoRoom)?);
        self.counter = next;
        Ok(len)
    }
}

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sealer").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// Opens what one component has sent to another, each message once.
pub struct Opener {
    cipher: XChaCha20Poly1305,
    /// The start whose messages came last; `None` before the first.
    boot: Option<BootNonce>,
    least_boot: u64,
    windows: [Window; WINDOWS],
}

impl Opener {
    /// For what `from` sends to `to`, both names of components.
    pub fn new(key: &PayloadKey, from: &str, to: &str) -> Self {
        let windows = [Window::default(); WINDOWS];
        Self { cipher: cipher(&key.direction(from, to)), boot: None, least_boot: 0, windows }
    }

    /// Has every message refused whose sender's boot number is below `number`.
    pub const fn refuse_boots_before(&mut self, number: u64) {
        self.least_boot = number;
    }

    /// The boot number of the sender whose messages came last; `None` before the first.
    pub fn boot_number(&self) -> Option<u64> {
        self.boot.as_ref().map(BootNonce::number)
    }

    /// Opens `sealed`, the payload of the message with this header, into `out`, and says what kind of payload it is and
    /// which bytes. `out` takes at most as many bytes as `sealed` has.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed then, and `out` holds nothing that was secret.
    pub fn open<'o>(
        &mut self,
        header: &Header<'_>,
        sealed: &[u8],
        out: &'o mut [u8],
    ) -> Result<(PayloadKind, &'o [u8]), OpenError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::CutOff)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(OpenError::CutOff)?;
        let (boot, counter) = BootNonce::split(nonce);
        let is_new_boot = self.judge_boot(&boot)?;
        let window = window_of(header);
        if !is_new_boot && !self.windows.get(window).is_some_and(|window| window.takes(counter)) {
            return Err(OpenError::Replayed);
        }
        let out = out.get_mut(..body.len()).ok_or(OpenError::NoRoom)?;
        out.copy_from_slice(body);
        let bound = Bound::of(header);
        let opened = self.cipher.decrypt_inout_detached(
            &(*nonce).into(),
            bound.as_slice(),
            (&mut *out).into(),
            &(*tag).into(),
        );
        opened.map_err(|_| OpenError::NotSealedForThis)?;
        if is_new_boot {
            self.windows = [Window::default(); WINDOWS];
            self.boot = Some(boot);
        }
        if let Some(window) = self.windows.get_mut(window) {
            window.note(counter);
        }
        let (&kind, content) = out.split_first().ok_or(OpenError::CutOff)?;
        PayloadKind::from_code(kind).map(|kind| (kind, content)).ok_or(OpenError::UnknownKind)
    }

    /// Whether a message of this start is the first of a newer one.
    fn judge_boot(&self, boot: &BootNonce) -> Result<bool, OpenError> {
        let newest = self.boot.as_ref().map_or(self.least_boot, BootNonce::number);
        match &self.boot {
            _ if boot.number() < self.least_boot => Err(OpenError::OlderBoot),
            Some(known) if known == boot => Ok(false),
            Some(_) if boot.number() <= newest => Err(OpenError::OlderBoot),
            _ => Ok(true),
        }
    }
}

impl core::fmt::Debug for Opener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Opener").field("boot_number", &self.boot_number()).finish_non_exhaustive()
    }
}

/// What sets one start of a sender apart from all others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BootNonce([u8; BOOT_LEN]);

impl BootNonce {
    /// `number` rises with each start: a boot counter that is kept, or microseconds since 1970. `random` is drawn anew at
    /// each start; an end without a random source gives any bytes, and then the number alone must never come back.
    pub fn new(number: u64, random: [u8; 8]) -> Self {
        let mut bytes = [0; BOOT_LEN];
        let (first, last) = bytes.split_at_mut(8);
        first.copy_from_slice(&number.to_be_bytes());
        last.copy_from_slice(&random);
        Self(bytes)
    }

    fn number(&self) -> u64 {
        self.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    fn with(&self, counter: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (boot, rest) = nonce.split_at_mut(BOOT_LEN);
        boot.copy_from_slice(&self.0);
        rest.copy_from_slice(&counter.to_be_bytes());
        nonce
    }

    fn split(nonce: &Nonce) -> (Self, u64) {
        let mut boot = [0; BOOT_LEN];
        let (first, rest) = nonce.split_at(BOOT_LEN);
        boot.copy_from_slice(first);
        (Self(boot), rest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

/// What a sealed payload is bound to.
///
/// Bound are the message's type, id, priority and the flag `compressed`, of a Request also whether an answer is wanted,
/// and both addresses in full. Not bound is what the hub rewrites on the way: the time left, the timestamp, the token, and
/// in an answer its literal source, for which the hub puts the name of the session; in its place the address that was
/// asked is bound, and the nonce of the request.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    id: u64,
    message_type: MessageType,
    flags: MessageFlags,
    from: Address<'a>,
    to: Address<'a>,
    answers: Option<Nonce>,
}

impl<'a> Header<'a> {
    /// Of a request, or of a notification with an id of its own, from `source` in full; `None` for one without a
    /// destination, and for one that a hub would number.
    pub fn of(message: &Message<'a>, source: Address<'a>) -> Option<Self> {
        let to = message.destination.filter(|_| !message.is_bare())?;
        let Message { id, message_type, flags, .. } = *message;
        Some(Self { id, message_type, flags, from: source, to, answers: None })
    }

    /// Of an answer that came from the address that was `asked`, to the `asker`, both in full as in the request; `nonce` is
    /// what the payload of that request began with.
    pub const fn of_answer(
        answer: &Message<'_>,
        asked: Address<'a>,
        asker: Address<'a>,
        nonce: Nonce,
    ) -> Self {
        let Message { id, message_type, flags, .. } = *answer;
        Self { id, message_type, flags, from: asked, to: asker, answers: Some(nonce) }
    }
}

/// The first bytes of a sealed payload.
pub type Nonce = [u8; NONCE_LEN];

/// The nonce of a sealed payload; `None` when it is cut off.
pub fn nonce_of(sealed: &[u8]) -> Option<Nonce> {
    sealed.first_chunk::<NONCE_LEN>().copied()
}

/// The last 64 counters of one kind of message.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    highest: u64,
    /// Bit `n`: `highest - n` has come. 0 before the first.
    seen: u64,
}

impl Window {
    const fn takes(&self, counter: u64) -> bool {
        if self.seen == 0 || counter > self.highest {
            return true;
        }
        let back = self.highest - counter;
        back < 64 && self.seen & (1 << back) == 0
    }

    const fn note(&mut self, counter: u64) {
        if self.seen == 0 || counter > self.highest {
            let ahead = counter.saturating_sub(self.highest);
            self.seen = if ahead < 64 { self.seen << ahead | 1 } else { 1 };
            self.highest = counter;
        } else {
            self.seen |= 1 << (self.highest - counter);
        }
    }
}

/// The bytes that are authenticated beside the payload.
struct Bound {
    bytes: [u8; MAX_BOUND],
    len: usize,
}

impl Bound {
    fn of(header: &Header<'_>) -> Self {
        let mut bound = Self { bytes: [0; MAX_BOUND], len: 0 };
        let mut writer = Writer::new(&mut bound.bytes);
        let flags = &header.flags;
        let wants = flags.requires_response && matches!(header.message_type, MessageType::Request);
        writer.u8(VERSION);
        writer.u8(header.message_type as u8
            | (flags.priority as u8) << 3
            | u8::from(wants) << 5
            | 1 << 6
            | u8::from(flags.compressed) << 7);
        writer.bytes(&header.id.to_be_bytes());
        writer.run(header.from.as_str().as_bytes());
        writer.run(header.to.as_str().as_bytes());
        writer.bytes(header.answers.as_ref().map_or(&[], |nonce| nonce.as_slice()));
        bound.len = writer.finish().unwrap_or(MAX_BOUND);
        bound
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Why a payload was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The buffer is too short.
    #[error("the sealed payload does not fit into the buffer")]
    NoRoom,
    /// Every counter of this start was used: start anew, with another boot nonce.
    #[error("this sealer has sealed all it can; make a new one")]
    Spent,
}

/// Why a payload was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than any sealed payload.
    #[error("the sealed payload is cut off")]
    CutOff,
    /// It was sealed with another key, between others, under another header, or was changed.
    #[error("the payload does not open: another key, another header, or it was changed on the way")]
    NotSealedForThis,
    /// It came before, or is older than the window.
    #[error("the sealed message came before: a replay")]
    Replayed,
    /// The sender has started anew since.
    #[error(
        "the message was sealed before its sender last started; if the sender's clock was set back, restart this end"
    )]
    OlderBoot,
    /// The buffer is too short.
    #[error("the payload does not fit into the buffer")]
    NoRoom,
    /// The key is right, but the kind of payload is not in this version.
    #[error("the sealed payload is of a kind that this version does not have")]
    UnknownKind,
}

/// Why a text is not a key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// It does not begin with `vbp1.`.
    #[error("a payload key begins with 'vbp1.'; this is something else")]
    NoPrefix,
    /// What follows is not 32 bytes in base64url without padding.
    #[error("the payload key's text is damaged; copy all of it, 48 characters")]
    NotAKey,
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose_secret().into())
}

/// Messages of one priority stay in order; but on a lane notifications of the lower ones go beside the rest.
const fn window_of(header: &Header<'_>) -> usize {
    let is_notification = matches!(header.message_type, MessageType::Notification);
    header.flags.priority as usize * 2 + is_notification as usize
}

/// What a payload key's text begins with.
pub const KEY_PREFIX: &str = "vbp1.";
/// Bytes of a payload key's text.
pub const KEY_TEXT_LEN: usize = KEY_PREFIX.len() + 43;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;
/// Bytes that a sealed payload has more than what is in it.
pub const OVERHEAD: usize = NONCE_LEN + 1 + TAG_LEN;

/// Bytes of what sets a start apart.
const BOOT_LEN: usize = 16;
/// One for each priority, apart for notifications and for the rest.
const WINDOWS: usize = (MessagePriority::Critical as usize + 1) * 2;
/// The version of what is bound, and of the whole.
const VERSION: u8 = 1;
const MAX_BOUND: usize = 2 + 8 + 2 * (1 + MAX_ADDRESS) + NONCE_LEN;
/// Sets keys of this use apart from all else that may be derived from the same secret.
const SALT: &[u8] = b"visorbus v1 payload key";

#[cfg(test)]
mod tests;
