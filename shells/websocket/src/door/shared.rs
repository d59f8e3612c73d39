//! What the door's thread shares with the hub's and with whoever asks how things are.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use rustls::ServerConfig;

use visorbus_hub::{Goodbye, HubLink};

use crate::channel::Channel;
use crate::door::rules::Rules;
use crate::door::stats::Tally;
use crate::link::LinkConfig;
use crate::seat::Seats;

/// What strangers may cost before they are WebSockets, and how many of one address there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorLimits {
    /// From the connection to the end of its request, TLS counted in. Default 5 s.
    pub handshake: Duration,
    /// For a page, or a text that says what is wrong, to be read by whoever asked. Default 10 s.
    pub answer: Duration,
    /// Connections at once that are no WebSockets yet. Default 512; for a further one, the one that has been there
    /// longest goes.
    pub pending: usize,
    /// Connections at once of one address that are no WebSockets yet. Default 32; for a further one, the one of the same
    /// address that has been there longest goes.
    pub pending_per_address: usize,
    /// Connections at once of one address, WebSockets or not; a network of IPv6 (/64) is one address. Default 256; for a
    /// further one, the one of the same address goes that has been there longest without authenticating. Where all have
    /// authenticated, further ones are turned away. Behind a proxy, everybody has the proxy's address.
    pub connections_per_address: usize,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            pending: 512,
            pending_per_address: 32,
            connections_per_address: 256,
        }
    }
}

/// What a door's thread and others use together.
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) limits: DoorLimits,
    pub(crate) link: LinkConfig,
    pub(crate) tally: Tally,
    pub(crate) local: SocketAddr,
    /// All connections, by address.
    pub(crate) seats: Seats,
    /// Those that are no WebSockets yet, by address.
    pub(crate) waiting: Seats,
    tls: Option<RwLock<Arc<ServerConfig>>>,
    ready: Mutex<VecDeque<Box<dyn HubLink>>>,
    /// Can be read while the hub has something to take.
    ready_event: EventFd,
    /// Wakes the door's thread.
    wake: EventFd,
    is_closing: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        rules: Rules,
        limits: DoorLimits,
        link: LinkConfig,
        tls: Option<Arc<ServerConfig>>,
        local: SocketAddr,
    ) -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self {
            rules,
            limits,
            link,
            tally: Tally::default(),
            local,
            seats: Seats::default(),
            waiting: Seats::default(),
            tls: tls.map(RwLock::new),
            ready: Mutex::default(),
            ready_event: event()?,
            wake: event()?,
            is_closing: AtomicBool::new(false),
        })
    }

    pub(crate) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS over a connection that was just taken, with the certificate of this moment.
    pub(crate) fn accept_tls(&self, stream: TcpStream) -> io::Result<Channel> {
        let Some(tls) = &self.tls else { return Channel::plain(stream) };
        let config = Arc::clone(&tls.read().unwrap_or_else(PoisonError::into_inner));
        Channel::tls_server(stream, config)
    }

    /// The certificate for those who come from now on; connections that are there go on with what they have.
    pub(crate) fn set_tls(&self, config: Arc<ServerConfig>) {
        if let Some(tls) = &self.tls {
            *tls.write().unwrap_or_else(PoisonError::into_inner) = config;
        }
    }

    /// Whether the hub has more to take already than it should.
    pub(crate) fn is_full(&self) -> bool {
        self.ready().len() >= MOST_READY
    }

    /// Hands a WebSocket to the hub.
    pub(crate) fn push(&self, link: Box<dyn HubLink>) {
        self.ready().push_back(link);
        // It fails only when it is set already.
        let _ = self.ready_event.write(1);
    }

    /// The next WebSocket for the hub.
    pub(crate) fn pop(&self) -> Option<Box<dyn HubLink>> {
        let mut ready = self.ready();
        if ready.is_empty() {
            // Under the lock, so that what is pushed after this sets it again. It fails only when it is not set.
            let _ = self.ready_event.read();
        }
        ready.pop_front()
    }

    /// Has those go that the hub has not taken, and will not.
    pub(crate) fn clear(&self) {
        let left = std::mem::take(&mut *self.ready());
        for mut link in left {
            link.close(Goodbye::Stopping, "the hub stops");
            // Whoever has gone already need not know.
            let _ = link.flush(visorbus_core::Instant::default());
        }
    }

    pub(crate) fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready_event.as_fd()
    }

    pub(crate) const fn wake_event(&self) -> &EventFd {
        &self.wake
    }

    /// Has the door's thread end.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        // It fails only when it is set already.
        let _ = self.wake.write(1);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, VecDeque<Box<dyn HubLink>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// WebSockets that wait for the hub to take them.
const MOST_READY: usize = 256;
