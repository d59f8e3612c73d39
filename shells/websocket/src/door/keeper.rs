//! The thread of one listening socket: one epoll, its visitors and their deadlines.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::HashMap;
use crate::door::maker::Maker;
use crate::door::refusal::Refusal;
use crate::door::shared::Shared;
use crate::door::visitor::{NOTHING, Step, Visitor, Wish};

/// Takes connections and brings each to where it is the hub's or gone.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    listener: TcpListener,
    epoll: Epoll,
    visitors: HashMap<u64, (Visitor, Wish)>,
    deadlines: BTreeSet<(Instant, u64)>,
    next: u64,
    maker: Maker,
    /// Given up to be able to take a connection and close it when there are no descriptors left: while it waits in the
    /// listener's queue, the listener cannot be waited on.
    spare: Option<File>,
    paused_until: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(shared.wake_event(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let waking = Arc::clone(&shared);
        let wake = move || {
            // It fails only when it is set already.
            let _ = waking.wake_event().write(1);
        };
        let maker = Maker::new(shared.rules.live.clone(), wake);
        Ok(Self {
            shared,
            listener,
            epoll,
            visitors: HashMap::default(),
            deadlines: BTreeSet::new(),
            next: 0,
            maker,
            spare: spare(),
            paused_until: None,
        })
    }

    /// Runs until it is closed.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        while !self.shared.is_closing() {
            let count = match self.epoll.wait(&mut events, self.timeout(Instant::now())) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!("{} takes no more connections: {error}", self.shared.local);
                    return;
                }
            };
            let now = Instant::now();
            for event in &events[..count] {
                match event.data() {
                    WAKE => self.give(now),
                    LISTENER => self.accept(now),
                    id => self.step(id, now),
                }
            }
            self.expire(now);
        }
    }

    /// A bounded number at a time, so that a storm leaves time for those that are there.
    fn accept(&mut self, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    self.welcome(stream, address, now);
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    Some(Errno::EMFILE | Errno::ENFILE) if self.spare.is_some() => {
                        if !self.shed() {
                            return;
                        }
                    }
                    Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) | None => {
                        return self.pause(&error, now);
                    }
                    // Whoever it was has gone before he was taken: accept(2) passes on errors of the network.
                    Some(_) => {}
                },
            }
        }
    }

    /// Takes one connection and closes it, with the descriptor that was kept for that; `false` when nobody waits: where
    /// descriptors are short, that is said before it is looked whether anybody does.
    fn shed(&mut self) -> bool {
        self.spare = None;
        // Whoever it is sees that it is closed, and does not wait for ever.
        let shed = self.listener.accept().is_ok();
        self.spare = spare();
        if shed {
            self.shared.tally.refuse(&Refusal::Descriptors, None);
        }
        shed
    }

    fn pause(&mut self, error: &io::Error, now: Instant) {
        tracing::warn!("{}: {error}; not accepting for 100 ms", self.shared.local);
        self.watch_listener(false);
        self.paused_until = Some(now + PAUSE);
        // What was given up may be had again.
        self.spare = self.spare.take().or_else(spare);
    }

    fn watch_listener(&self, on: bool) {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, on);
        // It is watched for as long as it is there.
        let _ = self.epoll.modify(&self.listener, &mut EpollEvent::new(flags, LISTENER));
    }

    fn welcome(&mut self, stream: TcpStream, address: SocketAddr, now: Instant) {
        let shared = &self.shared;
        shared.tally.count(&shared.tally.accepted);
        self.make_room(address);
        let shared = &self.shared;
        let seat = shared.seats.take(address.ip(), shared.limits.connections_per_address);
        let Some(waiting) = shared.waiting.take(address.ip(), shared.limits.pending_per_address) else {
            return shared.tally.refuse(&Refusal::Address, Some(address));
        };
        let Ok(visitor) = Visitor::new(stream, address, (seat, waiting), shared, now) else { return };
        let id = self.next;
        self.next += 1;
        let added = visitor.fd().map(|fd| self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, id)));
        if !matches!(added, Some(Ok(()))) {
            return;
        }
        self.deadlines.insert((visitor.deadline, id));
        let is_to_be_told = visitor.is_answered();
        self.visitors.insert(id, (visitor, Wish { input: true, output: false }));
        self.count_pending();
        if is_to_be_told {
            self.step(id, now);
        }
    }

    /// Has others go for somebody who comes from `address`, so that those who only sit there shut nobody out: first one of
    /// his own, if there are too many of them, then anybody.
    fn make_room(&mut self, address: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        let (limits, ip) = (&shared.limits, address.ip());
        if shared.seats.count(ip) >= limits.connections_per_address {
            if shared.seats.displace(ip) {
                shared.tally.refuse(&Refusal::Address, Some(address));
            } else {
                self.evict(&Refusal::Address, |visitor| visitor.has_seat() && visitor.is_of(ip));
            }
        }
        if shared.waiting.count(ip) >= limits.pending_per_address {
            self.evict(&Refusal::Address, |visitor| visitor.is_of(ip));
        }
        while self.visitors.len() >= limits.pending.max(1) && self.evict(&Refusal::Busy, |_| true) {}
    }

    /// Has the one of `those` go who came first; sooner one who has been answered and is only seen off. One who has just
    /// come has time until as many as there may be have come after him, whatever those who were there before wait for.
    /// `false` when there is none.
    fn evict(&mut self, refusal: &Refusal, those: impl Fn(&Visitor) -> bool) -> bool {
        let visitors = self.visitors.iter().filter(|(_, (visitor, _))| those(visitor));
        let first =
            visitors.min_by_key(|(id, (visitor, _))| (!visitor.is_leaving(), **id)).map(|(id, _)| *id);
        let Some((visitor, _)) = first.and_then(|id| self.remove(id)) else { return false };
        if !visitor.is_leaving() {
            self.shared.tally.refuse(refusal, Some(visitor.address()));
        }
        true
    }

    fn step(&mut self, id: u64, now: Instant) {
        self.go_on(id, |visitor, shared| visitor.step(shared, now));
    }

    /// Gives live pages that are made to those who wait for them.
    fn give(&mut self, now: Instant) {
        // It fails only when it is not set.
        let _ = self.shared.wake_event().read();
        for (id, page) in self.maker.take() {
            // It may have had another answer, or have gone.
            if self.visitors.get(&id).is_some_and(|(visitor, _)| visitor.is_awaiting()) {
                self.go_on(id, |visitor, shared| visitor.give(Some(page), shared, now));
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.watch_listener(true);
        }
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.go_on(id, |visitor, shared| visitor.expire(shared, now));
        }
    }

    fn go_on(&mut self, id: u64, step: impl FnOnce(&mut Visitor, &Shared) -> Step) {
        // It may have gone after this was reported.
        let Some((visitor, wish)) = self.visitors.get_mut(&id) else { return };
        let before = visitor.deadline;
        let fd_before = *wish;
        let mut done = step(visitor, &self.shared);
        if let Step::Order(path, order) = done {
            done = match self.maker.order(id, &path, order) {
                true => Step::Wait(NOTHING),
                false => visitor.give(None, &self.shared, Instant::now()),
            };
        }
        match done {
            Step::Wait(now_wanted) => {
                *wish = now_wanted;
                let deadline = visitor.deadline;
                let watched = now_wanted == fd_before || watch(&self.epoll, visitor, id, now_wanted);
                self.deadlines.remove(&(before, id));
                self.deadlines.insert((deadline, id));
                if !watched {
                    self.remove(id);
                }
            }
            Step::Upgraded(link) => {
                // From here on it is the hub that waits on it.
                if let Some(fd) = link.fd() {
                    let _ = self.epoll.delete(fd);
                }
                self.deadlines.remove(&(before, id));
                self.visitors.remove(&id);
                self.count_pending();
                self.shared.tally.count(&self.shared.tally.upgraded);
                self.shared.push(link);
            }
            Step::Gone | Step::Order(..) => {
                self.deadlines.remove(&(before, id));
                self.visitors.remove(&id);
            }
        }
        self.count_pending();
    }

    fn remove(&mut self, id: u64) -> Option<(Visitor, Wish)> {
        let (visitor, wish) = self.visitors.remove(&id)?;
        self.deadlines.remove(&(visitor.deadline, id));
        if let Some(fd) = visitor.fd() {
            // The only failure is that it was not watched, which is what is wanted.
            let _ = self.epoll.delete(fd);
        }
        Some((visitor, wish))
    }

    fn count_pending(&self) {
        self.shared.tally.pending.store(self.visitors.len() as u64, Ordering::Relaxed);
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        let first = self.deadlines.first().map(|&(deadline, _)| deadline);
        let Some(next) = first.into_iter().chain(self.paused_until).min() else { return EpollTimeout::NONE };
        // Rounded up: a wait that ends too early would be done again.
        let left = next.saturating_duration_since(now) + Duration::from_micros(999);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }
}

/// Changes what a visitor is waited for; `false` when that cannot be.
fn watch(epoll: &Epoll, visitor: &Visitor, id: u64, wish: Wish) -> bool {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, wish.input);
    flags.set(EpollFlags::EPOLLOUT, wish.output);
    visitor.fd().is_some_and(|fd| epoll.modify(fd, &mut EpollEvent::new(flags, id)).is_ok())
}

/// A descriptor that is good for nothing but to be given up.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

const WAKE: u64 = u64::MAX;
const LISTENER: u64 = WAKE - 1;

/// Connections that are taken before others have their turn.
const MOST_AT_ONCE: usize = 64;

/// For how long no connection is taken when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);
