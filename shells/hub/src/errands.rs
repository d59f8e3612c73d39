//! What may take its time because somebody's credentials are checked, or accounts are written or read: done on two
//! threads of their own, so that neither the loop nor anybody's handler waits for a password's hash.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use visorbus_auth::{
    AuthToken, AuthenticationProvider, AuthorizationProvider, Channel, Credentials, RevokeAll, Transport,
};

use crate::owned::{Error, Result};
use crate::poller::Waker;

/// One thing to do.
pub(crate) enum Errand {
    /// Checks credentials.
    Login(Credentials, OwnedChannel),
    /// Makes a new token in the place of one.
    Refresh(AuthToken, OwnedChannel),
    /// Takes one token back.
    Revoke(AuthToken),
    /// Takes many back.
    RevokeAll(RevokeAll),
    /// Reads accounts, or the policy, or both again.
    Reload { auth: bool, policy: bool },
}

/// An errand that is over: its number, and the token that came of it, where one does.
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) outcome: Result<Option<AuthToken>>,
}

/// The threads.
pub(crate) struct Errands {
    shared: Arc<Shared>,
    runs: Receiver<Run>,
    next: u64,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wakes: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// What those who know their way about ask for: not held up by those who try to come in.
    urgent: VecDeque<(u64, Errand)>,
    logins: VecDeque<(u64, Errand)>,
    ended: bool,
}

impl Errands {
    pub(crate) fn new(
        auth: &Arc<dyn AuthenticationProvider>,
        policy: &Arc<dyn AuthorizationProvider>,
        waker: &Waker,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), wakes: Condvar::new() });
        let (done, runs) = channel();
        let errands = Self { shared, runs, next: 1 };
        for number in 0..THREADS {
            let (shared, done, waker) = (Arc::clone(&errands.shared), done.clone(), waker.clone());
            let providers = Providers { auth: Arc::clone(auth), policy: Arc::clone(policy) };
            thread::Builder::new()
                .name(format!("visorbus-auth-{number}"))
                .spawn(move || serve(&shared, &providers, &done, &waker))?;
        }
        Ok(errands)
    }

    /// Has `errand` done and says under which number.
    ///
    /// # Errors
    /// `Message` when too many wait.
    pub(crate) fn start(&mut self, errand: Errand) -> Result<u64> {
        let mut waiting = self.shared.lock();
        let is_login = matches!(errand, Errand::Login(..));
        let queue = if is_login { &mut waiting.logins } else { &mut waiting.urgent };
        if queue.len() >= MAX_WAITING {
            return Err(Error::Message(format!(
                "{MAX_WAITING} others log in or change accounts right now, the limit: try again in a second"
            )));
        }
        queue.push_back((self.next, errand));
        drop(waiting);
        self.shared.wakes.notify_one();
        self.next += 1;
        Ok(self.next - 1)
    }

    pub(crate) fn take_run(&mut self) -> Option<Run> {
        self.runs.try_recv().ok()
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wakes.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; `None` when the hub has ended.
    fn wait(&self) -> Option<(u64, Errand)> {
        let mut waiting = self.lock();
        loop {
            if waiting.ended {
                return None;
            }
            if let Some(next) = waiting.urgent.pop_front().or_else(|| waiting.logins.pop_front()) {
                return Some(next);
            }
            waiting = self.wakes.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Who does the errands.
struct Providers {
    auth: Arc<dyn AuthenticationProvider>,
    policy: Arc<dyn AuthorizationProvider>,
}

impl Providers {
    fn run(&self, errand: Errand) -> Result<Option<AuthToken>> {
        match errand {
            Errand::Login(credentials, channel) => {
                self.auth.authenticate(&credentials, &channel.borrow()).map(Some)
            }
            Errand::Refresh(token, channel) => self.auth.refresh_token(&token, &channel.borrow()).map(Some),
            Errand::Revoke(token) => self.auth.revoke_token(&token).map(|()| None),
            Errand::RevokeAll(of) => self.auth.revoke_all(&of).map(|()| None),
            Errand::Reload { auth, policy } => {
                // Both are read, also where one of them cannot be.
                let auth = if auth { self.auth.reload() } else { Ok(()) };
                let policy = if policy { self.policy.reload() } else { Ok(()) };
                auth.and(policy).map(|()| None)
            }
        }
    }
}

fn serve(shared: &Shared, providers: &Providers, done: &Sender<Run>, waker: &Waker) {
    while let Some((number, errand)) = shared.wait() {
        let run = catch_unwind(AssertUnwindSafe(|| providers.run(errand)));
        let outcome = run.unwrap_or_else(|_| {
            Err(Error::Internal("the check of credentials panicked; the hub's log says where".to_owned()))
        });
        if done.send(Run { number, outcome }).is_err() {
            return;
        }
        waker.wake();
    }
}

/// A [`Channel`] that owns its parts.
pub(crate) struct OwnedChannel {
    transport: Transport,
    uid: Option<u32>,
    gid: Option<u32>,
    certificate: Option<Vec<u8>>,
    certificate_verified: bool,
    address: String,
    boot_id: Option<u64>,
}

impl OwnedChannel {
    fn borrow(&self) -> Channel<'_> {
        Channel {
            transport: self.transport,
            uid: self.uid,
            gid: self.gid,
            certificate: self.certificate.as_deref(),
            certificate_verified: self.certificate_verified,
            address: &self.address,
            boot_id: self.boot_id,
        }
    }
}

impl From<Channel<'_>> for OwnedChannel {
    fn from(channel: Channel<'_>) -> Self {
        Self {
            transport: channel.transport,
            uid: channel.uid,
            gid: channel.gid,
            certificate: channel.certificate.map(<[u8]>::to_vec),
            certificate_verified: channel.certificate_verified,
            address: channel.address.to_owned(),
            boot_id: channel.boot_id,
        }
    }
}

/// A password's hash takes a core and 19 MiB for a tenth of a second.
const THREADS: usize = 2;
const MAX_WAITING: usize = 16;
