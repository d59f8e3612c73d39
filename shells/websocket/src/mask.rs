//! The masks of a client's frames (RFC 6455, section 5.3): nobody may be able to tell one beforehand.

/// Random masks, asked of the system many at a time.
pub(crate) struct Masks {
    random: [u8; 256],
    left: usize,
}

impl Masks {
    /// A mask that was never used.
    ///
    /// # Panics
    /// When the system gives no random numbers. Linux gives them from early in its own start on.
    pub(crate) fn take(&mut self) -> [u8; 4] {
        if self.left == 0 {
            // A mask that could be foretold must not be used.
            getrandom::fill(&mut self.random).expect("the system gives random numbers");
            self.left = self.random.len();
        }
        self.left -= 4;
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.random[self.left..self.left + 4]);
        mask
    }
}

impl Default for Masks {
    fn default() -> Self {
        Self { random: [0; 256], left: 0 }
    }
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks").finish_non_exhaustive()
    }
}
