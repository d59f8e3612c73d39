//! The client of a hub, whatever carries its messages.
#![forbid(unsafe_code)]
