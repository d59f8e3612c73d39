//! Two ends and a wire between them that an attacker holds in his hands.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::auth::Key;
use crate::session::{Name, Role, Session, SessionConfig};

mod frames;
mod handshake;
mod keys;

/// The keys of a hub, and how often it was asked for one.
struct Keys {
    keys: Vec<LinkKey>,
    asked: u32,
    nonces: u8,
}

impl LinkKeys for Keys {
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey> {
        self.asked += 1;
        self.keys.iter().find(|key| key.name() == name && key.id() == id)
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        self.nonces = self.nonces.wrapping_add(1);
        (self.nonces != 0).then_some([self.nonces; 16])
    }
}

type Board = Connecting<AnySuite>;
type Hub = Accepting<Keys>;

fn key(suite: Suite, id: u8) -> LinkKey {
    LinkKey::new(id, suite, "imu", Key::new([id; 32])).unwrap()
}

fn board(key: LinkKey, boot_id: u64) -> Board {
    Connecting::new(key, boot_id, NonceSeed::counted(boot_id)).unwrap()
}

/// A hub that knows the keys 1 and 2 of the board.
fn hub(suite: Suite, boot_id: u64) -> Hub {
    let keys = std::vec![key(suite, 1), key(suite, 2)];
    // No two hubs draw the same.
    Accepting::new(Keys { keys, asked: 0, nonces: boot_id as u8 * 80 }, boot_id)
}

/// Both ends, the time, and everything that went over the wire.
struct Pair {
    board: Board,
    hub: Hub,
    now: Instant,
    up: Vec<Vec<u8>>,
    down: Vec<Vec<u8>>,
}

impl Pair {
    fn new(suite: Suite) -> Self {
        let now = Instant::from_micros(1_000_000);
        Self { board: board(key(suite, 1), 11), hub: hub(suite, 1), now, up: Vec::new(), down: Vec::new() }
    }

    /// With a channel between them.
    fn open(suite: Suite) -> Self {
        let mut pair = Self::new(suite);
        pair.settle();
        assert!(pair.board.is_open() && pair.hub.is_open());
        pair
    }

    fn wait_ms(&mut self, millis: u32) {
        self.now = self.now.plus_millis(millis);
    }

    /// Carries what both ends say of themselves until they have nothing more to say now; whether the channel changed.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..20 {
            let up = said(&mut self.board, self.now);
            self.up.extend(up.clone());
            for mut frame in up {
                assert_eq!(self.hub.handle_frame(&mut frame, self.now), None);
                changed |= self.hub.take_change().is_some();
            }
            let down = said(&mut self.hub, self.now);
            self.down.extend(down.clone());
            for mut frame in down {
                assert_eq!(self.board.handle_frame(&mut frame, self.now), None);
            }
        }
        changed
    }

    /// As [`Pair::settle`], for so long.
    fn settle_for_ms(&mut self, millis: u32) -> u32 {
        (0..millis / 10).fold(0, |changes, _| {
            self.wait_ms(10);
            changes + u32::from(self.settle())
        })
    }

    fn send_up(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = sealed(&mut self.board, payload).unwrap();
        self.up.push(frame.clone());
        frame
    }

    fn send_down(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = sealed(&mut self.hub, payload).unwrap();
        self.down.push(frame.clone());
        frame
    }

    fn hear_up(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        opened(&mut self.hub, frame, self.now)
    }

    fn hear_down(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        opened(&mut self.board, frame, self.now)
    }

    /// Whether payloads get through, both ways.
    fn works(&mut self) -> bool {
        let (up, down) = (self.send_up(b"up"), self.send_down(b"down"));
        self.hear_up(&up).as_deref() == Some(b"up") && self.hear_down(&down).as_deref() == Some(b"down")
    }
}

/// What an end has to say of itself now.
fn said(end: &mut impl SecureEnd, now: Instant) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let mut frame = [0; MAX_HANDSHAKE];
        match end.poll_transmit(now, &mut frame) {
            0 => return frames,
            len => frames.push(frame[..len].to_vec()),
        }
    }
}

fn sealed(end: &mut impl SecureEnd, payload: &[u8]) -> Option<Vec<u8>> {
    let mut frame = [0; 256];
    frame[HEAD_LEN..HEAD_LEN + payload.len()].copy_from_slice(payload);
    let len = end.seal(&mut frame, payload.len())?;
    Some(frame[..len].to_vec())
}

fn opened(end: &mut impl SecureEnd, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let len = end.handle_frame(&mut frame, now)?;
    Some(frame[HEAD_LEN..HEAD_LEN + len].to_vec())
}

const SUITES: [Suite; 2] = [Suite::Tag64, Suite::Sealed];

fn flipped(frame: &[u8], bit: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[bit / 8] ^= 1 << (bit % 8);
    frame
}
