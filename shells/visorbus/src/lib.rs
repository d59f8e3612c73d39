//! A hub with everything on it: every transport, the boards' links, and the standard services, from one configuration.
#![forbid(unsafe_code)]

pub mod systemd;
