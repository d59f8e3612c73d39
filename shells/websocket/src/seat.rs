//! The place that a connection takes up among those that may be there at once.

/// A place among the connections of one address; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Seat {
    _private: (),
}

impl Seat {
    /// A place that nobody counts.
    pub fn uncounted() -> Self {
        Self::default()
    }
}
