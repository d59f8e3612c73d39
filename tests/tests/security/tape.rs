//! What somebody sees and does who reaches the wire of one board: every frame that goes over it, and frames of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant as Clock;

use visorbus_core::{Instant, Link};
use visorbus_tests::patience::PATIENCE;

/// The frames of a wire, as the key leaves them. A clone is another handle to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Frames>>);

#[derive(Debug, Default)]
struct Frames {
    to_hub: Vec<Vec<u8>>,
    from_hub: Vec<Vec<u8>>,
    /// Put on the wire next.
    own: VecDeque<Vec<u8>>,
    /// What the board says does not arrive.
    is_cut: bool,
}

impl Tape {
    /// What the board has said since this was asked last.
    pub(crate) fn take_to_hub(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames().to_hub)
    }

    /// What the hub has said since this was asked last.
    pub(crate) fn take_from_hub(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames().from_hub)
    }

    /// Puts frames on the wire, as if the board had sent them.
    pub(crate) fn inject(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.frames().own.extend(frames);
    }

    /// From now on nothing that the board says arrives, or all of it does.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.frames().is_cut = is_cut;
    }

    /// Waits until the board has said so many frames.
    pub(crate) fn wait_for(&self, count: usize) {
        self.wait_until(|frames| frames.to_hub.len() >= count);
    }

    /// Waits until all that was injected is on the wire.
    pub(crate) fn wait_for_injected(&self) {
        self.wait_until(|frames| frames.own.is_empty());
    }

    fn wait_until(&self, so: impl Fn(&Frames) -> bool) {
        let end = Clock::now() + PATIENCE;
        while !so(&self.frames()) {
            assert!(Clock::now() < end, "{:?}", self.frames());
            thread::yield_now();
        }
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.0.lock().unwrap()
    }
}

/// A link with a tape on it.
pub(crate) struct Tapped<L> {
    pub(crate) link: L,
    pub(crate) tape: Tape,
}

impl<L: Link> Link for Tapped<L> {
    type Error = L::Error;

    fn room(&mut self) -> usize {
        self.link.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, L::Error> {
        let frame = self.link.receive()?;
        if let Some(frame) = frame {
            self.tape.frames().from_hub.push(frame.to_vec());
        }
        Ok(frame)
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, L::Error> {
        let mut frames = self.tape.frames();
        if frames.is_cut || self.link.send(frame)? {
            frames.to_hub.push(frame.to_vec());
            return Ok(true);
        }
        Ok(false)
    }

    fn flush(&mut self, now: Instant) -> Result<bool, L::Error> {
        let mut frames = self.tape.frames();
        while let Some(own) = frames.own.front() {
            if !self.link.send(own)? {
                break;
            }
            frames.own.pop_front();
        }
        self.link.flush(now)
    }

    fn max_frame(&self) -> usize {
        self.link.max_frame()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }
}
