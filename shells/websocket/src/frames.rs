//! WebSocket frames (RFC 6455, section 5): from bytes to messages, and the heads of those that are sent. Knows no
//! connection, no clock and nothing of what a message says.
//!
//! Frames are read where they lie and unmasked in place. Only what is cut off is kept, as it comes: an idle connection
//! holds nothing, and one that announces a long message and does not send it holds what it has sent.

use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::protocol::Subprotocol;

/// Puts the messages of one direction together.
pub(crate) struct Assembler {
    rules: Rules,
    /// The beginning of a frame's head.
    head: [u8; MAX_HEAD],
    head_len: u8,
    /// A frame whose head is read and whose payload is not whole.
    frame: Option<Frame>,
    /// A message whose last fragment has not come.
    in_message: bool,
    /// What was put together was given out.
    is_spent: bool,
    fragments: u32,
    /// Bytes of the message's text that are known to be UTF-8.
    checked: usize,
    message: Vec<u8>,
    control: Vec<u8>,
    /// Counts what was ever whole.
    number: u32,
}

/// What the frames of one direction have to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether they come from a client, which masks them.
    pub(crate) masked: bool,
    /// Which messages there may be.
    pub(crate) protocol: Subprotocol,
    /// Longest message, in bytes.
    pub(crate) max: usize,
}

/// What has come, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A message of the subprotocol.
    Binary(&'a [u8]),
    /// A message of the subprotocol.
    Text(&'a str),
    /// To be answered with a pong of the same content.
    Ping(&'a [u8]),
    /// The other end is there.
    Pong,
    /// The other end ends the connection, with a code and a text if it gave them. Nothing comes after that.
    Close(Option<u16>, &'a str),
}

/// What the other end did wrong: the connection is ended with [`Fault::code`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    ReservedBits,
    Opcode(u8),
    Unmasked,
    Masked,
    /// More bytes were used for the length than it needs.
    LengthForm,
    ControlFragmented,
    ControlTooLong {
        len: u64,
    },
    NothingToContinue,
    Unfinished,
    TooLong {
        len: u64,
        max: usize,
    },
    TooManyFragments,
    WrongKind(Subprotocol),
    NotUtf8,
    CloseCode(Option<u16>),
    /// A message took longer than it may.
    Slow,
    /// It sends what has to be answered and does not read the answers.
    NotReading,
    /// What it said in the subprotocol, with the close code that stands for it.
    Refused(u16),
}

impl Assembler {
    pub(crate) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            head: [0; MAX_HEAD],
            head_len: 0,
            frame: None,
            in_message: false,
            is_spent: false,
            fragments: 0,
            checked: 0,
            message: Vec::new(),
            control: Vec::new(),
            number: 0,
        }
    }

    /// Takes messages of at most `max` bytes from now on.
    pub(crate) const fn allow(&mut self, max: usize) {
        self.rules.max = max;
    }

    /// Takes what is next out of `bytes`, from `used` on, which it moves; `None` when all of it is used.
    ///
    /// # Errors
    /// The other end broke a rule; nothing after that means anything.
    pub(crate) fn next<'a>(
        &'a mut self,
        bytes: &'a mut [u8],
        used: &mut usize,
    ) -> Result<Option<Event<'a>>, Fault> {
        if std::mem::take(&mut self.is_spent) {
            // What came in pieces is rare, and an idle connection holds no memory.
            wipe(&mut self.control);
            if !self.in_message {
                wipe(&mut self.message);
            }
        }
        let Some((opcode, place)) = self.find(bytes, used)? else { return Ok(None) };
        let is_control = matches!(opcode, OpCode::Control(_));
        if !is_control || !self.in_message {
            self.number = self.number.wrapping_add(1);
        }
        let payload = match place {
            Place::Here(range) => &bytes[range],
            Place::Kept if is_control => &self.control,
            Place::Kept => &self.message,
        };
        Ok(Some(match opcode {
            OpCode::Control(Control::Ping) => Event::Ping(payload),
            OpCode::Control(Control::Close) => {
                let (code, text) = split_close(payload)?;
                Event::Close(code, text)
            }
            OpCode::Control(_) => Event::Pong,
            OpCode::Data(_) if self.rules.protocol == Subprotocol::Json => {
                Event::Text(std::str::from_utf8(payload).map_err(|_| Fault::NotUtf8)?)
            }
            OpCode::Data(_) => Event::Binary(payload),
        }))
    }

    /// A number for what has begun and is not whole: the same for as long as it is the same.
    pub(crate) const fn unfinished(&self) -> Option<u32> {
        if self.in_message || self.frame.is_some() || self.head_len > 0 { Some(self.number) } else { None }
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    fn find(&mut self, bytes: &mut [u8], used: &mut usize) -> Result<Option<(OpCode, Place)>, Fault> {
        loop {
            let (mut frame, is_new) = match self.frame.take() {
                Some(frame) => (frame, false),
                None => match self.read_head(bytes, used)? {
                    Some(frame) => (frame, true),
                    None => return Ok(None),
                },
            };
            let part = *used..*used + frame.left.min(bytes.len() - *used);
            *used = part.end;
            frame.left -= part.len();
            if let Some(mask) = &mut frame.mask {
                unmask(&mut bytes[part.clone()], mask);
            }
            let opcode = frame.opcode;
            let is_control = matches!(opcode, OpCode::Control(_));
            let is_whole = frame.left == 0;
            if is_whole && is_new && frame.is_final && opcode != OpCode::Data(Data::Continue) {
                self.in_message &= is_control;
                return Ok(Some((opcode, Place::Here(part))));
            }
            let kept = if is_control { &mut self.control } else { &mut self.message };
            kept.extend_from_slice(&bytes[part]);
            let is_final = frame.is_final;
            if !is_whole {
                self.frame = Some(frame);
                return Ok(None);
            }
            if is_control || is_final {
                self.in_message &= is_control;
                self.is_spent = true;
                return Ok(Some((opcode, Place::Kept)));
            }
            self.check_text()?;
        }
    }

    /// Reads the head of the next frame and judges it; `None` while it is not whole.
    fn read_head(&mut self, bytes: &[u8], used: &mut usize) -> Result<Option<Frame>, Fault> {
        if self.head_len == 0 {
            let mut cursor = Cursor::new(&bytes[*used..]);
            if let Some((head, len)) = parse(&mut cursor)? {
                *used += usize::try_from(cursor.position()).unwrap_or(usize::MAX);
                return self.judge(&head, len, cursor.position()).map(Some);
            }
        }
        while let Some(byte) = bytes.get(*used) {
            *used += 1;
            self.head[usize::from(self.head_len)] = *byte;
            self.head_len += 1;
            let mut cursor = Cursor::new(&self.head[..usize::from(self.head_len)]);
            if let Some((head, len)) = parse(&mut cursor)? {
                let size = u64::from(std::mem::take(&mut self.head_len));
                return self.judge(&head, len, size).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether a frame may begin so, before any of its payload is looked at.
    fn judge(&mut self, head: &FrameHeader, len: u64, size: u64) -> Result<Frame, Fault> {
        if head.rsv1 || head.rsv2 || head.rsv3 {
            // Section 5.2: there are extensions that use them, and none was agreed on.
            return Err(Fault::ReservedBits);
        }
        match (self.rules.masked, head.mask) {
            // Section 5.1.
            (true, None) => return Err(Fault::Unmasked),
            (false, Some(_)) => return Err(Fault::Masked),
            _ => {}
        }
        if size != head.len(len) as u64 || len > i64::MAX as u64 {
            return Err(Fault::LengthForm);
        }
        match head.opcode {
            OpCode::Control(_) if !head.is_final => return Err(Fault::ControlFragmented),
            OpCode::Control(_) if len > MAX_CONTROL => return Err(Fault::ControlTooLong { len }),
            OpCode::Control(_) => {}
            OpCode::Data(kind) => self.judge_data(kind, head.is_final, len)?,
        }
        let left = usize::try_from(len).map_err(|_| Fault::TooLong { len, max: self.rules.max })?;
        Ok(Frame { opcode: head.opcode, is_final: head.is_final, left, mask: head.mask })
    }

    fn judge_data(&mut self, kind: Data, is_final: bool, len: u64) -> Result<(), Fault> {
        let protocol = self.rules.protocol;
        match (kind, self.in_message) {
            (Data::Continue, false) => return Err(Fault::NothingToContinue),
            (Data::Continue, true) => {}
            (_, true) => return Err(Fault::Unfinished),
            (Data::Text, _) if protocol == Subprotocol::Json => {}
            (Data::Binary, _) if protocol == Subprotocol::Postcard => {}
            _ => return Err(Fault::WrongKind(protocol)),
        }
        let whole = len.saturating_add(self.message.len() as u64);
        if whole > self.rules.max as u64 {
            return Err(Fault::TooLong { len: whole, max: self.rules.max });
        }
        self.fragments = if self.in_message { self.fragments + 1 } else { 1 };
        // Fragments may be short and there may be many, but not both for ever: empty ones come to an end.
        if u64::from(self.fragments) > FREE_FRAGMENTS + whole / SHORT_FRAGMENT {
            return Err(Fault::TooManyFragments);
        }
        self.in_message = true;
        if !is_final && kind != Data::Continue {
            self.checked = 0;
        }
        Ok(())
    }

    /// Looks at what has come of an unfinished text, as far as that is not cut off within a character.
    fn check_text(&mut self) -> Result<(), Fault> {
        if self.rules.protocol != Subprotocol::Json {
            return Ok(());
        }
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Fault::NotUtf8),
        }
        Ok(())
    }
}

impl Drop for Assembler {
    fn drop(&mut self) {
        wipe(&mut self.message);
        wipe(&mut self.control);
    }
}

impl std::fmt::Debug for Assembler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is being said may be secret.
        f.debug_struct("Assembler").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Fault {
    /// The close code that says so (section 7.4.1).
    pub(crate) const fn code(&self) -> u16 {
        match self {
            Self::WrongKind(_) => 1003,
            Self::NotUtf8 => 1007,
            Self::TooManyFragments | Self::Slow | Self::NotReading => 1008,
            Self::TooLong { .. } => 1009,
            Self::Refused(code) => *code,
            _ => 1002,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("a frame has a reserved bit set: no extension was agreed on"),
            Self::Opcode(code) => write!(f, "{code:#x} is no opcode"),
            Self::Unmasked => f.write_str("a client has to mask its frames"),
            Self::Masked => f.write_str("a server may not mask its frames"),
            Self::LengthForm => f.write_str("the length of a frame is not written in the shortest form"),
            Self::ControlFragmented => f.write_str("a control frame may not be fragmented"),
            Self::ControlTooLong { len } => {
                write!(f, "a control frame has {len} bytes, {MAX_CONTROL} at most")
            }
            Self::NothingToContinue => f.write_str("there is no message to continue"),
            Self::Unfinished => f.write_str("a message begins before the last one is finished"),
            Self::TooLong { len, max } => write!(f, "a message has {len} bytes or more, {max} at most"),
            Self::TooManyFragments => f.write_str("a message is in too many fragments for its length"),
            Self::WrongKind(Subprotocol::Json) => write!(f, "{} has text messages only", Subprotocol::Json),
            Self::WrongKind(protocol) => write!(f, "{protocol} has binary messages only"),
            Self::NotUtf8 => f.write_str("a text is not UTF-8"),
            Self::CloseCode(Some(code)) => write!(f, "{code} may not be a close code"),
            Self::CloseCode(None) => f.write_str("a close frame has half a code"),
            Self::Slow => f.write_str("a message took too long to arrive"),
            Self::NotReading => f.write_str("the answers are not read"),
            Self::Refused(_) => f.write_str("a message is not what the subprotocol says"),
        }
    }
}

/// A frame whose payload is being read.
#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    /// Bytes that have not come.
    left: usize,
    /// As it stands at the next byte.
    mask: Option<[u8; 4]>,
}

/// Where the payload of something whole is.
enum Place {
    /// Among the bytes that were read just now.
    Here(Range<usize>),
    /// In what was kept.
    Kept,
}

/// Appends the head of a frame that is one whole message, or a control frame, to `out`.
pub(crate) fn write_head(opcode: OpCode, len: usize, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let head = FrameHeader { opcode, mask, ..FrameHeader::default() };
    // Nothing that is written to memory fails.
    let _ = head.format(len as u64, out);
}

/// Appends a close frame to `out`: a code, and as much of `text` as a control frame holds.
pub(crate) fn write_close(code: Option<u16>, text: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mut payload = code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
    if code.is_some() {
        let fits =
            (0..=text.len().min(MAX_CONTROL as usize - 2)).rev().find(|end| text.is_char_boundary(*end));
        payload.extend_from_slice(&text.as_bytes()[..fits.unwrap_or(0)]);
    }
    write_control(Control::Close, &payload, mask, out);
}

/// Appends a control frame to `out`.
pub(crate) fn write_control(kind: Control, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    write_head(OpCode::Control(kind), payload.len(), mask, out);
    write_payload(payload, &mut mask.clone(), out);
}

/// Appends payload to `out`, masked with `mask`, which is turned on as far as the payload goes.
pub(crate) fn write_payload(payload: &[u8], mask: &mut Option<[u8; 4]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        unmask(&mut out[start..], mask);
    }
}

/// Masks, or takes the mask off (section 5.3), and turns the mask to where it goes on.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let word = u32::from_ne_bytes(*mask);
    let twice = u64::from(word) | u64::from(word) << 32;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for part in words {
        *part = (u64::from_ne_bytes(*part) ^ twice).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(bytes.len() % 4);
}

fn parse(cursor: &mut Cursor<&[u8]>) -> Result<Option<(FrameHeader, u64)>, Fault> {
    FrameHeader::parse(cursor)
        .map_err(|_| Fault::Opcode(cursor.get_ref().first().map_or(0, |byte| byte & 0xf)))
}

/// The code and the text in a close frame's payload (section 5.5.1).
fn split_close(payload: &[u8]) -> Result<(Option<u16>, &str), Fault> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(Fault::CloseCode(None)) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Fault::CloseCode(Some(code)));
    }
    let text = std::str::from_utf8(text).map_err(|_| Fault::NotUtf8)?;
    Ok((Some(code), text))
}

/// Lets memory go, with nothing left in it.
pub(crate) fn wipe(bytes: &mut Vec<u8>) {
    blank(bytes);
    *bytes = Vec::new();
}

/// Overwrites what may have been secret, as fast as memory goes.
pub(crate) fn blank(bytes: &mut [u8]) {
    bytes.fill(0);
    // What is looked at must have been written, though it is let go next.
    std::hint::black_box(bytes);
}

/// Longest head of a frame.
const MAX_HEAD: usize = 14;
/// Longest payload of a control frame (section 5.5).
const MAX_CONTROL: u64 = 125;
/// Fragments that a message may have however short they are.
const FREE_FRAGMENTS: u64 = 256;
/// Beyond these it may have one more for each so many bytes.
const SHORT_FRAGMENT: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { masked: true, protocol: Subprotocol::Json, max: 1 << 20 };

    /// What comes out when `bytes` come in pieces of `size`.
    fn assemble(bytes: &[u8], size: usize) -> Vec<String> {
        let mut assembler = Assembler::new(RULES);
        let mut events = Vec::new();
        for piece in bytes.chunks(size) {
            let (mut piece, mut used) = (piece.to_vec(), 0);
            while let Some(event) = assembler.next(&mut piece, &mut used).unwrap() {
                events.push(format!("{event:?}"));
            }
            assert_eq!(used, piece.len());
        }
        assert_eq!((assembler.unfinished(), assembler.held()), (None, 0));
        events
    }

    /// A frame as a client writes it.
    fn write(first: u8, payload: &[u8], out: &mut Vec<u8>) {
        let mask = [0xa1, 0x5b, 0x07, 0xff];
        let start = out.len();
        write_head(OpCode::from(first & 0xf), payload.len(), Some(mask), out);
        out[start] = first;
        write_payload(payload, &mut Some(mask), out);
    }

    #[test]
    fn the_same_comes_out_wherever_frames_are_cut() {
        let mut bytes = Vec::new();
        write(0x81, "grün".as_bytes(), &mut bytes);
        write(0x01, &"blau é".as_bytes()[..6], &mut bytes);
        write(0x89, b"there?", &mut bytes);
        write(0x00, &"blau é".as_bytes()[6..], &mut bytes);
        write(0x8a, b"", &mut bytes);
        write(0x80, &[b'x'; 300], &mut bytes);
        write(0x81, b"", &mut bytes);
        write(0x88, &[3, 0xe8, b'o', b'k'], &mut bytes);
        let whole = assemble(&bytes, usize::MAX);
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[0], "Text(\"grün\")");
        assert!(
            whole[1].starts_with("Ping(") && whole[2] == "Pong" && whole[3].starts_with("Text(\"blau éxxx")
        );
        assert_eq!(whole[5], "Close(Some(1000), \"ok\")");
        for size in 1..bytes.len() {
            assert_eq!(assemble(&bytes, size), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(Some(1008), &"é".repeat(100), None, &mut out);
        assert_eq!(out[..4], [0x88, 124, 3, 0xf0]);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}
