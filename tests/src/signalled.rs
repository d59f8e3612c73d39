//! A connection whose hub sees no descriptor of it: a thread watches the socket in the hub's place, and signals. For
//! everybody else it is a socket, so that whatever is done to a hub over a socket can be done over a signalled link too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use visorbus_core::Instant;
use visorbus_hub::link::LinkSignal;
use visorbus_hub::{HubLink, LinkOptions, Origin, ReceiveBuffer};
use visorbus_unix::FramedStream;

/// A link without a descriptor.
pub struct Signalled {
    inner: FramedStream,
    origin: Origin,
    options: LinkOptions,
    watch: Option<Watch>,
}

impl Signalled {
    /// The hub's end of a connection that says it comes from `origin`.
    pub fn new(inner: FramedStream, origin: Origin, options: LinkOptions) -> Self {
        let options = LinkOptions { signalled: true, ..options };
        Self { inner, origin, options, watch: None }
    }

    /// Has the thread tell when the socket is ready for this, once.
    fn want(&self, what: u8) {
        if let Some(watch) = &self.watch {
            watch.wants.want(what);
        }
    }
}

impl HubLink for Signalled {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn attached(&mut self, signal: LinkSignal) {
        self.watch = Some(Watch::start(
            self.inner.as_fd().try_clone_to_owned().expect("descriptors are left"),
            signal,
        ));
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        let received = self.inner.receive(into);
        self.want(INPUT);
        received
    }

    fn keep(&mut self, rest: &[u8]) {
        self.inner.keep(rest);
    }

    fn has_room(&mut self, head: u8, len: usize) -> bool {
        self.inner.has_room(head, len)
    }

    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> io::Result<()> {
        self.inner.send(head, payload, at_once)
    }

    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        let flushed = self.inner.flush(now)?;
        if !flushed {
            self.want(OUTPUT);
        }
        Ok(flushed)
    }

    fn is_idle(&self) -> bool {
        self.inner.is_idle()
    }

    fn admit(&mut self) {
        self.inner.admit();
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn options(&self) -> LinkOptions {
        self.options.clone()
    }
}

/// The thread, which ends with this.
struct Watch {
    wants: Arc<Wants>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(socket: OwnedFd, signal: LinkSignal) -> Self {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).expect("descriptors are left");
        let wants = Arc::new(Wants { flags: AtomicU8::new(INPUT), wake });
        let shared = Arc::clone(&wants);
        Self { wants, thread: Some(thread::spawn(move || shared.watch(&socket, &signal))) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.wants.want(END);
        // With it goes its part of the socket, so that the other end hears of it.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// What the socket is watched for.
struct Wants {
    flags: AtomicU8,
    wake: OwnedFd,
}

impl Wants {
    fn want(&self, what: u8) {
        if self.flags.fetch_or(what, Ordering::SeqCst) & what == 0 {
            // It is full only when the thread is awake anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    fn watch(&self, socket: &OwnedFd, signal: &LinkSignal) {
        loop {
            let wanted = self.flags.load(Ordering::SeqCst);
            if wanted & END != 0 {
                return;
            }
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, wanted & INPUT != 0);
            events.set(PollFlags::OUT, wanted & OUTPUT != 0);
            // A socket that is over is told of whether that is asked or not.
            let socket = if events.is_empty() { &self.wake } else { socket };
            let mut fds = [PollFd::new(&self.wake, PollFlags::IN), PollFd::new(socket, events)];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let (woken, ready) = (fds[0].revents(), fds[1].revents());
            if !woken.is_empty() {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            }
            let over = ready.intersects(PollFlags::HUP | PollFlags::ERR) && !events.is_empty();
            if wanted & INPUT != 0 && (over || ready.contains(PollFlags::IN)) {
                self.flags.fetch_and(!INPUT, Ordering::SeqCst);
                signal.input();
            }
            if wanted & OUTPUT != 0 && (over || ready.contains(PollFlags::OUT)) {
                self.flags.fetch_and(!OUTPUT, Ordering::SeqCst);
                signal.output();
            }
        }
    }
}

const INPUT: u8 = 1;
const OUTPUT: u8 = 2;
const END: u8 = 4;
