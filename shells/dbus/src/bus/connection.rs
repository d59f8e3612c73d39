//! One connection to a bus: what is asked of the bus itself, what waits for it to be taken, and what its socket is watched
//! for. It knows nothing of callers and sessions.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use dbus::Message;
use dbus::channel::Channel;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollOp};

use super::HashMap;

/// A connection that is registered with its bus. Nothing in it waits.
pub(super) struct Connection {
    channel: Channel,
    /// The name that the bus gave it.
    unique_name: String,
    socket: RawFd,
    /// What the socket is watched for: input, output.
    watched: Option<(bool, bool)>,
    /// Of the message that was sent last. They are numbered here, so that what waits can be measured.
    serial: u32,
    /// Bytes that libdbus keeps because the bus has not taken them, but for the message that it is just writing.
    output: usize,
    /// From this on nothing more is read.
    most_output: usize,
    /// So much waited that nothing is read until all of it is gone.
    is_full: bool,
    /// What the bus was asked and has not answered.
    queries: HashMap<u32, Query>,
}

/// What the bus itself is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query<K> {
    /// To tell of names that are gone.
    Rule,
    /// For the service's name.
    Name,
    /// Who the caller is.
    Credentials(K),
}
