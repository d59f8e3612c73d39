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
    /// What administrators and the program itself ask for: not held up by what everybody may.
    urgent: VecDeque<(u64, Errand)>,
    /// Tokens that are renewed or taken back by whoever has them, and by whom.
    renewals: VecDeque<(u64, Errand, Party)>,
    logins: VecDeque<(u64, Errand)>,
    /// The last of the latter two that was begun was a renewal.
    was_renewal: bool,
    ended: bool,
}

impl Waiting {
    fn insert(&mut self, number: u64, errand: Errand, party: Option<Party>) -> Result<()> {
        match (errand, party) {
            (errand @ Errand::Login(..), _) => push(&mut self.logins, (number, errand)),
            (errand @ (Errand::Refresh(..) | Errand::Revoke(_)), Some(party)) => {
                let waiting = |of: fn(&Party) -> &str| {
                    self.renewals.iter().filter(|(.., other)| of(other) == of(&party)).count()
                };
                if waiting(|party| &party.subject) >= MAX_OF_SUBJECT
                    || waiting(|party| &party.user) >= MAX_OF_USER
                {
                    return Err(Error::Message(format!(
                        "other sessions of '{}', or of its user, wait for such a thing already: try again in a second",
                        party.subject
                    )));
                }
                push(&mut self.renewals, (number, errand, party))
            }
            (errand, _) => push(&mut self.urgent, (number, errand)),
        }
    }

    /// The next thing to do: logins and renewals take turns.
    fn take(&mut self) -> Option<(u64, Errand)> {
        if let Some(urgent) = self.urgent.pop_front() {
            return Some(urgent);
        }
        let is_renewal = !self.renewals.is_empty() && (self.logins.is_empty() || !self.was_renewal);
        self.was_renewal = is_renewal;
        if is_renewal {
            return self.renewals.pop_front().map(|(number, errand, _)| (number, errand));
        }
        self.logins.pop_front()
    }
}

/// For whom a token is renewed or taken back.
pub(crate) struct Party {
    /// As its session has proven.
    pub(crate) subject: String,
    /// The user of the machine, or the line.
    pub(crate) user: String,
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

    /// Has `errand` done for `party`, or for the program itself, and says under which number.
    ///
    /// # Errors
    /// `Message` when too many wait.
    pub(crate) fn start(&mut self, errand: Errand, party: Option<Party>) -> Result<u64> {
        self.shared.lock().insert(self.next, errand, party)?;
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
            if let Some(next) = waiting.take() {
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

fn push<T>(queue: &mut VecDeque<T>, errand: T) -> Result<()> {
    if queue.len() >= MAX_WAITING {
        return Err(Error::Message(format!(
            "{MAX_WAITING} others log in or change accounts right now, the limit: try again in a second"
        )));
    }
    queue.push_back(errand);
    Ok(())
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
/// Renewals that wait for the sessions of one subject.
const MAX_OF_SUBJECT: usize = 2;
/// The same of one user, who may have services of several names.
const MAX_OF_USER: usize = 8;

#[cfg(test)]
mod tests {
    use visorbus_auth::{TokenProvider, TokenText};
    use visorbus_core::auth::{BUS, Claims, Key, KeyRing, Scopes, Slot};

    use super::*;

    fn token() -> AuthToken {
        let mut keys = KeyRing::new();
        keys.add(Slot::root(1, Key::new([9; 32]))).unwrap();
        let scopes = Scopes::new(&[]);
        let claims = Claims {
            issuer: BUS,
            subject: "alice",
            audience: BUS,
            serial: 1,
            issued_at: 0,
            expiry: 1,
            epoch: 0,
            scopes,
        };
        let bytes = TokenProvider::new(keys, 1).mint_own(&claims).unwrap();
        AuthToken::new(TokenText::encode(&bytes).unwrap()).unwrap()
    }

    fn revoke(waiting: &mut Waiting, subject: &str, user: &str) -> bool {
        let party = Party { subject: subject.to_owned(), user: user.to_owned() };
        waiting.insert(0, Errand::Revoke(token()), Some(party)).is_ok()
    }

    fn login(waiting: &mut Waiting) -> bool {
        let channel = OwnedChannel::from(Channel::default());
        waiting.insert(0, Errand::Login(Credentials::Peer { uid: 1, gid: Some(1) }, channel), None).is_ok()
    }

    #[test]
    fn one_subject_and_one_user_take_a_part_of_the_places_and_none_of_an_administrators() {
        let mut waiting = Waiting::default();
        assert_eq!((0..17).filter(|_| revoke(&mut waiting, "mallory", "uid 7")).count(), MAX_OF_SUBJECT);
        let of_user = (0..17).filter(|at| revoke(&mut waiting, &format!("m{at}"), "uid 7")).count();
        assert_eq!(of_user, MAX_OF_USER - MAX_OF_SUBJECT);
        assert!(revoke(&mut waiting, "alice", "uid 8"));
        let all = (0..99).filter(|at| revoke(&mut waiting, &format!("s{at}"), &format!("uid 1{at}"))).count();
        assert_eq!(all, MAX_WAITING - MAX_OF_USER - 1);
        let all = || Errand::RevokeAll(RevokeAll::KeyEpoch(1));
        let admin = Party { subject: "admin".to_owned(), user: "uid 7".to_owned() };
        assert!(waiting.insert(1, all(), Some(admin)).is_ok() && waiting.insert(2, all(), None).is_ok());
        assert!(waiting.insert(3, Errand::Revoke(token()), None).is_ok(), "the program's own");
        assert_eq!([1, 2, 3].map(|_| waiting.take().unwrap().0), [1, 2, 3]);
    }

    #[test]
    fn logins_and_renewals_take_turns() {
        let mut waiting = Waiting::default();
        for at in 0..4 {
            assert!(login(&mut waiting) && revoke(&mut waiting, &format!("s{at}"), &format!("uid {at}")));
        }
        let order: Vec<bool> = std::iter::from_fn(|| waiting.take())
            .map(|(_, errand)| matches!(errand, Errand::Login(..)))
            .collect();
        assert_eq!(order, [false, true, false, true, false, true, false, true]);
    }
}
