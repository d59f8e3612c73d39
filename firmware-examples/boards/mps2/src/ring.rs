//! A byte queue between an interrupt and the program: one side pushes, the other pops, neither waits.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// A first-in first-out queue of at most `N` bytes; `N` is a power of two.
pub(crate) struct Ring<const N: usize> {
    bytes: [AtomicU8; N],
    /// How many bytes were ever pushed and popped, wrapping.
    pushed: AtomicUsize,
    popped: AtomicUsize,
}

impl<const N: usize> Ring<N> {
    pub(crate) const fn new() -> Ring<N> {
        const { assert!(N.is_power_of_two()) };
        Ring {
            bytes: [const { AtomicU8::new(0) }; N],
            pushed: AtomicUsize::new(0),
            popped: AtomicUsize::new(0),
        }
    }

    /// Appends a byte unless the ring is full; says whether it did. Only one side may push.
    pub(crate) fn push(&self, byte: u8) -> bool {
        if self.is_full() {
            return false;
        }
        let pushed = self.pushed.load(Ordering::Relaxed);
        self.bytes[pushed % N].store(byte, Ordering::Relaxed);
        self.pushed.store(pushed.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest byte. Only one side may pop.
    pub(crate) fn pop(&self) -> Option<u8> {
        if self.is_empty() {
            return None;
        }
        let popped = self.popped.load(Ordering::Relaxed);
        let byte = self.bytes[popped % N].load(Ordering::Relaxed);
        self.popped.store(popped.wrapping_add(1), Ordering::Release);
        Some(byte)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == N
    }

    fn len(&self) -> usize {
        self.pushed.load(Ordering::Acquire).wrapping_sub(self.popped.load(Ordering::Acquire))
    }
}
