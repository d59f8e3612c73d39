//! The user guide is true: what it shows is run, what it lists is compared, what it links to is there.

mod clients;
mod configuration;
mod handlers;
mod pages;
mod quick_start;
mod script;
mod session;

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A page of the guide.
fn page(name: &str) -> String {
    let path = root().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
