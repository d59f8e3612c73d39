//! What a listener, its links and its doors share: the service behind its lock, and what wakes the hub for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dbus::Message;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use visorbus_hub::{Goodbye, HubHandle, HubLink, LinkOptions, LinkSignal, Origin, ReceiveBuffer, Result};

use super::connection::SOCKET;
use super::link::BusLink;
use super::session::{Proof, SessionKey, Stage};
use super::{Bus, Line};
use crate::config::DBusConfig;
use crate::listener::{DBusState, DBusStatistics};
use crate::router::Router;

/// The service behind its lock. Nobody waits long for that: who has it never waits for anything.
pub(crate) struct Shared {
    config: DBusConfig,
    /// Tells of the socket, of the time and of what other threads have done.
    epoll: Epoll,
    waker: Arc<EventFd>,
    timer: TimerFd,
    locked: Mutex<Locked>,
}

struct Locked {
    bus: Bus,
    /// For when the timer is set.
    armed: Option<Instant>,
    /// The hub is woken, and that was not taken back.
    is_awake: bool,
}

impl Shared {
    pub(crate) fn new(config: DBusConfig, hub: &HubHandle) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, WOKEN))?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let number = SERVICES.fetch_add(1, Ordering::Relaxed);
        // The first turn dials.
        waker.write(1)?;
        let waker = Arc::new(waker);
        let bus = Bus::new(config.clone(), hub, Arc::clone(&waker), number);
        Ok(Self {
            config,
            epoll,
            waker,
            timer,
            locked: Mutex::new(Locked { bus, armed: None, is_awake: false }),
        })
    }

    pub(crate) const fn config(&self) -> &DBusConfig {
        &self.config
    }

    /// Does what the bus and the time ask for, a bounded amount.
    pub(crate) fn turn(&self) {
        let mut events = [EpollEvent::empty(); 3];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or_default();
        let mut has_input = false;
        let now = Instant::now();
        self.with(|locked| {
            for event in &events[..count] {
                match event.data() {
                    SOCKET => has_input = true,
                    // Reading resets them.
                    WOKEN => {
                        // It stays as it is while there is more to do.
                        if !locked.bus.is_ready() {
                            let _ = self.waker.read();
                            locked.is_awake = false;
                        }
                        locked.bus.safely(|bus| bus.take_line(now));
                    }
                    _ => {
                        let _ = self.timer.wait();
                        locked.armed = None;
                    }
                }
            }
            locked.bus.safely(|bus| bus.take_time(now));
            locked.bus.take_input(has_input, now);
        });
    }

    /// A link for the hub to attach.
    pub(crate) fn take_link(self: &Arc<Self>) -> Option<Box<dyn HubLink>> {
        let mut locked = self.lock();
        loop {
            let key = locked.bus.new.pop()?;
            if let Some((origin, options)) = locked.bus.describe_link(key) {
                return Some(Box::new(BusLink { shared: Arc::clone(self), key, origin, options }));
            }
        }
    }

    pub(crate) fn state(&self) -> DBusState {
        self.lock().bus.state()
    }

    pub(crate) fn statistics(&self) -> DBusStatistics {
        self.lock().bus.statistics()
    }

    pub(crate) fn send(&self, messages: Vec<Message>) -> Result<()> {
        self.with(|locked| locked.bus.send(messages))
    }

    pub(crate) fn with_router<T>(&self, ask: impl FnOnce(&mut Router) -> T) -> T {
        ask(&mut self.lock().bus.router)
    }

    /// Leaves the bus for good.
    pub(crate) fn close(&self) {
        self.lock().bus.close();
    }

    pub(super) fn attached(&self, key: SessionKey, signal: LinkSignal) {
        if let Some(session) = self.lock().bus.sessions.get_mut(key) {
            session.attached(signal);
        }
    }

    pub(super) fn receive(&self, key: SessionKey, into: &mut ReceiveBuffer) -> io::Result<()> {
        match self.lock().bus.sessions.get_mut(key) {
            Some(session) if session.stage != Stage::Over => {
                session.receive(into);
                Ok(())
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.lock().bus.has_room()
    }

    pub(super) fn take_frame(&self, key: SessionKey, frame: &[u8]) {
        self.with(|locked| locked.bus.take_frame_safely(key, frame, Instant::now()));
    }

    /// Whether a session's link takes what waits for it.
    pub(super) fn flush(&self, key: SessionKey) -> bool {
        let bus = &mut self.lock().bus;
        let has_room = bus.has_room();
        if let Some(session) = bus.sessions.get_mut(key).filter(|_| !has_room) {
            session.is_stuck = true;
            bus.has_stuck = true;
        }
        has_room
    }

    pub(super) fn take_goodbye(&self, key: SessionKey, why: Goodbye, text: &str) {
        self.lock().bus.take_goodbye(key, why, text);
    }

    pub(super) fn drop_session(&self, key: SessionKey) {
        self.with(|locked| locked.bus.drop_session(key, Instant::now()));
    }

    /// Has something done, and then sees that the hub is woken for what it has left.
    fn with<T>(&self, work: impl FnOnce(&mut Locked) -> T) -> T {
        let mut locked = self.lock();
        let done = work(&mut locked);
        self.settle(&mut locked);
        done
    }

    fn settle(&self, locked: &mut Locked) {
        let Locked { bus, armed, is_awake } = locked;
        if let Line::Up(line) = &mut bus.line
            && let Err(error) = line.watch(&self.epoll)
        {
            bus.hang_up(&format!("its socket cannot be waited on: {error}"), Instant::now());
        }
        bus.unstick();
        if bus.is_ready() && !*is_awake {
            // It fails only when it is awake already.
            let _ = self.waker.write(1);
            *is_awake = true;
        }
        let Some(deadline) = bus.deadline().filter(|deadline| armed.is_none_or(|armed| *deadline < armed))
        else {
            return;
        };
        // A timer that is set to 0 is off.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let set = Expiration::OneShot(TimeSpec::from_duration(left));
        if self.timer.set(set, TimerSetTimeFlags::empty()).is_ok() {
            *armed = Some(deadline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Bus {
    /// What the hub is told of a new session's link; `None` when its sender has left before.
    fn describe_link(&mut self, key: SessionKey) -> Option<(Origin, LinkOptions)> {
        let session = self.sessions.get(key)?;
        if session.stage == Stage::Over {
            self.sessions.remove(key);
            return None;
        }
        let signalled = LinkOptions { signalled: true, ..LinkOptions::default() };
        let (suffix, sender) =
            (session.suffix.clone(), session.owner.and_then(|owner| self.senders.get(owner)));
        let Some(sender) = sender else {
            let Proof::Guest(name) = &session.proof else { return None };
            let origin =
                Origin::DBus { uid: None, gid: None, pid: None, unique_name: "of guests".to_owned() };
            return Some((origin, LinkOptions { unauthenticated: Some(name.clone()), ..signalled }));
        };
        let unique_name = sender.caller.unique_name.clone();
        let origin =
            Origin::DBus { uid: sender.caller.uid, gid: sender.gid, pid: sender.caller.pid, unique_name };
        Some((origin, LinkOptions { suffix: Some(suffix), ..signalled }))
    }
}

/// Services of this process so far.
static SERVICES: AtomicU32 = AtomicU32::new(0);

const WOKEN: u64 = SOCKET + 1;
const TIMER: u64 = WOKEN + 1;
