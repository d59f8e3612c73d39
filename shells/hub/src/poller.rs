//! What can wake the hub: one level-triggered epoll, and a descriptor by which other threads wake it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use visorbus_core::Instant;

/// One level-triggered epoll. Each descriptor is known by a number of the caller's.
pub(crate) struct Poller {
    epoll: Epoll,
    waker: Waker,
    timer: TimerFd,
    /// When the timer fires, unless it has fired.
    armed: Option<Instant>,
    raw: Box<[EpollEvent; 64]>,
}

/// The number that [`Poller::wait`] reports for a [`Waker::wake`].
pub(crate) const WOKEN: u64 = u64::MAX;

/// The number of the poller's own timer, which it does not report.
const TIMER: u64 = WOKEN - 1;

/// Wakes a [`Poller`] from any thread.
#[derive(Clone)]
pub(crate) struct Waker(Arc<EventFd>);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&event, EpollEvent::new(EpollFlags::EPOLLIN, WOKEN))?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let raw = Box::new([EpollEvent::empty(); 64]);
        Ok(Self { epoll, waker: Waker(Arc::new(event)), timer, armed: None, raw })
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

    /// Has [`Poller::wait`] end at `deadline`, or before. `now` is asked for only when the timer has to be set.
    ///
    /// A timer of its own, because epoll with a time limit costs a twentieth of a bare round trip more in each wait. It
    /// is set when the deadline is earlier than what it is set for; where it is later, the timer fires in vain once.
    pub(crate) fn wake_at(
        &mut self,
        deadline: Option<Instant>,
        now: impl FnOnce() -> Instant,
    ) -> io::Result<()> {
        let Some(deadline) = deadline.filter(|deadline| self.armed.is_none_or(|armed| *deadline < armed))
        else {
            return Ok(());
        };
        // A timer that is set to 0 is off.
        let left = deadline.duration_since(now()).max(std::time::Duration::from_micros(1));
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())?;
        self.armed = Some(deadline);
        Ok(())
    }

    /// Waits until something is ready or the timer fires, with `at_once` not at all, and fills `events` with the numbers
    /// and what they are ready for.
    pub(crate) fn wait(&mut self, events: &mut Vec<Ready>, at_once: bool) -> io::Result<()> {
        events.clear();
        let timeout = if at_once { EpollTimeout::ZERO } else { EpollTimeout::NONE };
        let count = match self.epoll.wait(&mut *self.raw, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &self.raw[..count] {
            match event.data() {
                TIMER => {
                    // Reading resets it.
                    let _ = self.timer.wait();
                    self.armed = None;
                    continue;
                }
                // Reading resets it; a wake that comes after this is reported at the next wait.
                WOKEN => drop(self.waker.0.read()),
                _ => {}
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
