//! The `visorbus` binary.
fn main() {}
