//! What can wake the hub: one level-triggered epoll, and a descriptor by which other threads wake it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// One level-triggered epoll. Each descriptor is known by a number of the caller's.
pub(crate) struct Poller {
    epoll: Epoll,
    waker: Waker,
}

/// The number that [`Poller::wait`] reports for a [`Waker::wake`].
pub(crate) const WOKEN: u64 = u64::MAX;

/// Wakes a [`Poller`] from any thread.
#[derive(Clone)]
pub(crate) struct Waker(Arc<EventFd>);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&event, EpollEvent::new(EpollFlags::EPOLLIN, WOKEN))?;
        Ok(Self { epoll, waker: Waker(Arc::new(event)) })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Watches `fd` for input.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number))?)
    }

    /// Changes what `fd` is watched for.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, number: u64, input: bool, output: bool) -> io::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, input);
        flags.set(EpollFlags::EPOLLOUT, output);
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, number))?)
    }

    /// Forgets `fd`; to be called before it is closed.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // The only failure is that it was not watched, which is what is wanted.
        let _ = self.epoll.delete(fd);
    }

    /// Waits until something is ready or `timeout` is over, and fills `events` with the numbers and what they are
    /// ready for.
    pub(crate) fn wait(&self, events: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let mut raw = [EpollEvent::empty(); 64];
        // Rounded up: a wait that ends a moment early would spin until the deadline.
        let timeout = timeout.map_or(EpollTimeout::NONE, |t| {
            EpollTimeout::try_from(t.as_micros().div_ceil(1000).min(60_000) as u32)
                .unwrap_or(EpollTimeout::MAX)
        });
        events.clear();
        let count = match self.epoll.wait(&mut raw, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &raw[..count] {
            if event.data() == WOKEN {
                // Reading resets it; a wake that comes after this is reported at the next wait.
                let _ = self.waker.0.read();
            }
            let flags = event.events();
            events.push(Ready {
                number: event.data(),
                input: flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
                output: flags.contains(EpollFlags::EPOLLOUT),
            });
        }
        Ok(())
    }
}

impl Waker {
    pub(crate) fn wake(&self) {
        // It fails only when 2^64 - 2 wakes are unread, and then the hub is awake.
        let _ = self.0.write(1);
    }
}

/// What is ready.
pub(crate) struct Ready {
    pub(crate) number: u64,
    pub(crate) input: bool,
    pub(crate) output: bool,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Poller({:?})", self.waker.0.as_fd())
    }
}
