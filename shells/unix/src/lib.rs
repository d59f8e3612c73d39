//! Placeholder replaced by the code of this crate.
