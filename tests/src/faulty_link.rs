//! A link that does to whole frames what a bad line does, by a seeded generator: the same seed, the same faults.

use visorbus_core::{Instant, Link};

/// Wraps a link and spoils what is sent through it. Faults on the line are no errors of the link.
#[derive(Debug)]
pub struct FaultyLink<L> {
    inner: L,
    faults: Faults,
    counts: FaultCounts,
    random: Random,
    /// A frame that the next one overtakes, and how many flushes it waits at most.
    held: Option<(Vec<u8>, u64)>,
}

impl<L: Link> FaultyLink<L> {
    /// `inner` with the faults of `seed`; none until [`FaultyLink::set_faults`].
    pub fn new(inner: L, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { inner, faults: Faults::NONE, counts: FaultCounts::default(), random, held: None }
    }

    /// From now on this often.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What it did so far.
    pub const fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// The link inside.
    pub const fn inner(&self) -> &L {
        &self.inner
    }

    /// The link inside.
    pub const fn inner_mut(&mut self) -> &mut L {
        &mut self.inner
    }

    fn release(&mut self) -> Result<(), L::Error> {
        if let Some((frame, _)) = self.held.take() {
            // Where there is no room now it is one frame lost more.
            self.inner.send(&frame)?;
        }
        Ok(())
    }
}

impl<L: Link> Link for FaultyLink<L> {
    type Error = L::Error;

    fn room(&mut self) -> usize {
        self.inner.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, L::Error> {
        let frame = self.inner.receive()?;
        self.counts.received += u64::from(frame.is_some());
        Ok(frame)
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, L::Error> {
        if frame.len() > self.inner.room() {
            return Ok(false);
        }
        self.counts.sent += 1;
        if self.random.per_mille(self.faults.drop) {
            self.counts.dropped += 1;
            return Ok(true);
        }
        if self.held.is_none() && self.random.per_mille(self.faults.reorder) {
            self.counts.reordered += 1;
            self.held = Some((frame.to_vec(), self.random.below(4)));
            return Ok(true);
        }
        if self.random.per_mille(self.faults.corrupt) && !frame.is_empty() {
            self.counts.corrupted += 1;
            let mut spoilt = frame.to_vec();
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(spoilt.len() as u64) as usize;
                spoilt[at] ^= 1 << self.random.below(8);
            }
            self.inner.send(&spoilt)?;
        } else {
            self.inner.send(frame)?;
        }
        if self.random.per_mille(self.faults.duplicate) && self.inner.send(frame)? {
            self.counts.duplicated += 1;
        }
        self.release()?;
        Ok(true)
    }

    fn flush(&mut self, now: Instant) -> Result<bool, L::Error> {
        match &mut self.held {
            Some((_, 0)) => self.release()?,
            Some((_, flushes)) => *flushes -= 1,
            None => {}
        }
        Ok(self.inner.flush(now)? && self.held.is_none())
    }

    fn max_frame(&self) -> usize {
        self.inner.max_frame()
    }
}

/// How often which fault happens, in frames of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The frame never arrives.
    pub drop: u32,
    /// It arrives twice.
    pub duplicate: u32,
    /// The frame after it arrives first.
    pub reorder: u32,
    /// One to three of its bits are flipped, and no checksum tells.
    pub corrupt: u32,
}

impl Faults {
    /// A line as it should be.
    pub const NONE: Self = Self { drop: 0, duplicate: 0, reorder: 0, corrupt: 0 };
    /// Nothing comes through.
    pub const DEAD: Self = Self { drop: 1_000, ..Self::NONE };
}

/// What a [`FaultyLink`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Frames that it took for sending.
    pub sent: u64,
    /// Frames that it handed out.
    pub received: u64,
    /// Frames that never arrived.
    pub dropped: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames that were overtaken.
    pub reordered: u64,
    /// Frames that arrived damaged.
    pub corrupted: u64,
}

/// A small seeded generator (Marsaglia's xorshift64), good enough to choose faults by.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// A number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// A number above 0 and at most 1.
    pub const fn fraction(&mut self) -> f64 {
        (self.below(1 << 52) + 1) as f64 / (1u64 << 52) as f64
    }

    /// `true` that many times of a thousand.
    pub const fn per_mille(&mut self, share: u32) -> bool {
        self.below(1_000) < share as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_link::MemoryLink;

    fn received(faults: Faults, seed: u64) -> (Vec<Vec<u8>>, FaultCounts) {
        let (one, mut other) = MemoryLink::pair(4_096, 8);
        let mut link = FaultyLink::new(one, seed);
        link.set_faults(faults);
        for number in 0..1_000u16 {
            assert_eq!(link.send(&number.to_le_bytes()), Ok(true));
        }
        while !link.flush(Instant::default()).unwrap() {}
        let mut frames = Vec::new();
        while let Some(frame) = other.receive().unwrap() {
            frames.push(frame.to_vec());
        }
        (frames, link.counts())
    }

    #[test]
    fn a_line_without_faults_changes_nothing() {
        let (frames, counts) = received(Faults::NONE, 1);
        assert_eq!(frames, (0..1_000u16).map(|number| number.to_le_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(counts, FaultCounts { sent: 1_000, ..FaultCounts::default() });
        assert_eq!(received(Faults::DEAD, 1).0.len(), 0);
    }

    #[test]
    fn it_does_what_it_counts_and_the_same_for_the_same_seed() {
        let faults = Faults { drop: 50, duplicate: 50, reorder: 50, corrupt: 50 };
        let (frames, counts) = received(faults, 7);
        assert_eq!(frames.len() as u64, counts.sent - counts.dropped + counts.duplicated);
        for count in [counts.dropped, counts.duplicated, counts.reordered, counts.corrupted] {
            assert!((20..90).contains(&count), "{counts:?}");
        }
        assert_eq!(received(faults, 7), (frames.clone(), counts));
        assert_ne!(received(faults, 8).0, frames);
    }

    #[test]
    fn a_frame_that_is_overtaken_still_arrives() {
        let (frames, counts) = received(Faults { reorder: 300, ..Faults::NONE }, 3);
        assert_eq!(frames.len(), 1_000);
        assert!(counts.reordered > 100 && !frames.is_sorted_by_key(|frame| [frame[1], frame[0]]));
    }
}
