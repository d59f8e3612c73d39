//! Somebody in the middle of a serial line: two pseudo-terminals, and a thread that carries bytes from one to the other,
//! notes them, and puts in bytes of its own.

use std::io::PipeWriter;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::pty::Pty;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// A line on which somebody sits. The board is at [`Middle::near`], the hub at [`Middle::far`].
pub(crate) struct Middle {
    pub(crate) near: Pty,
    pub(crate) far: Pty,
    shared: Arc<Shared>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToHub,
    ToBoard,
}

#[derive(Default)]
struct Shared {
    to_hub: Mutex<Vec<u8>>,
    to_board: Mutex<Vec<u8>>,
}

impl Middle {
    pub(crate) fn new() -> Self {
        let (near, far) = (Pty::open().unwrap(), Pty::open().unwrap());
        let shared = Arc::new(Shared::default());
        let (stopped, stop) = std::io::pipe().unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let board: OwnedFd = rustix::fs::open(near.path(), flags, Mode::empty()).unwrap();
        let hub = far.master.try_clone().unwrap();
        let carried = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            loop {
                let mut fds = [
                    PollFd::new(&board, PollFlags::IN),
                    PollFd::new(&hub, PollFlags::IN),
                    PollFd::new(&stopped, PollFlags::IN),
                ];
                poll(&mut fds, None).unwrap();
                if !fds[2].revents().is_empty() {
                    return;
                }
                for (from, to, noted) in [(&board, &hub, &carried.to_hub), (&hub, &board, &carried.to_board)]
                {
                    let mut bytes = [0; 512];
                    let Ok(count) = rustix::io::read(from, &mut bytes) else { continue };
                    noted.lock().unwrap().extend_from_slice(&bytes[..count]);
                    write_all(to, &bytes[..count]);
                }
            }
        });
        Self { near, far, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// What went one way since this was asked last.
    pub(crate) fn take_noted(&self, way: Way) -> Vec<u8> {
        std::mem::take(&mut self.noted(way).lock().unwrap())
    }

    /// Puts bytes on the line as if the other end had sent them.
    pub(crate) fn inject(&self, way: Way, bytes: &[u8]) {
        match way {
            Way::ToHub => write_all(&self.far.master, bytes),
            Way::ToBoard => {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let board: OwnedFd = rustix::fs::open(self.near.path(), flags, Mode::empty()).unwrap();
                write_all(&board, bytes);
            }
        }
    }

    fn noted(&self, way: Way) -> &Mutex<Vec<u8>> {
        match way {
            Way::ToHub => &self.shared.to_hub,
            Way::ToBoard => &self.shared.to_board,
        }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn write_all(to: &OwnedFd, mut bytes: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        assert!(Instant::now() < deadline, "nobody reads");
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => drop(poll(&mut [PollFd::new(to, PollFlags::OUT)], Some(&SHORT))),
        }
    }
}

const SHORT: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
