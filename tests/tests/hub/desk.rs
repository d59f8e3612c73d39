//! Accounts and a policy that a test sees into and holds up, and a link that passes for another.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use visorbus_auth::{
    Asked, AuthToken, AuthenticationProvider, AuthorizationProvider, Channel, Credentials, Denial,
    Permission, RevokeAll, TokenProvider, TokenScopes, TokenText,
};
use visorbus_core::Instant;
use visorbus_core::auth::{Claims, Grant, MintError, Scopes};
use visorbus_hub::{Error, HubConfig, HubLink, LinkOptions, Origin, Proven, ReceiveBuffer, Result};
use visorbus_tests::patience::PATIENCE;
use visorbus_unix::FramedStream;
use zeroize::Zeroizing;

use crate::harness::{claims, root_keys};

/// A hub's configuration with these two.
pub(crate) fn config(desk: &Arc<Desk>, rules: &Arc<Rules>) -> HubConfig {
    HubConfig::with_providers(Arc::clone(desk) as _, Arc::clone(rules) as _)
}

/// Accounts: `alice` and `bob` with the password `open sesame`, the API key `vbk1.robot`, and each user as `user`.
/// Whoever logs in waits until the door is open.
pub(crate) struct Desk {
    tokens: TokenProvider,
    next: AtomicU64,
    /// Credentials that were brought so far.
    pub(crate) asked: AtomicUsize,
    door: Mutex<bool>,
    opened: Condvar,
}

impl Desk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tokens: TokenProvider::new(root_keys(), 1),
            next: AtomicU64::new(1_000),
            asked: AtomicUsize::new(0),
            door: Mutex::new(true),
            opened: Condvar::new(),
        })
    }

    pub(crate) fn close_door(&self) {
        *self.door.lock().unwrap() = false;
    }

    pub(crate) fn open_door(&self) {
        *self.door.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn make(&self, subject: &str, scopes: &[&str]) -> AuthToken {
        let serial = self.next.fetch_add(1, Ordering::SeqCst);
        let token =
            self.tokens.mint_own(&Claims { subject, serial, scopes: Scopes::new(scopes), ..claims() });
        AuthToken::new(TokenText::encode(&token.unwrap()).unwrap()).unwrap()
    }

    fn wait_at_the_door(&self) {
        let door = self.door.lock().unwrap();
        let waited = self.opened.wait_timeout_while(door, PATIENCE, |open| !*open).unwrap();
        assert!(!waited.1.timed_out(), "the test opens the door");
    }
}

impl AuthenticationProvider for Desk {
    fn authenticate(&self, credentials: &Credentials, channel: &Channel<'_>) -> Result<AuthToken> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.wait_at_the_door();
        let subject = match credentials {
            Credentials::UsernamePassword { username, password } if password.expose() == "open sesame" => {
                username
            }
            Credentials::ApiKey(key) if key.expose() == "vbk1.robot" => "robot",
            Credentials::Peer { uid, .. } if Some(*uid) == channel.uid => "user",
            Credentials::Certificate(certificate) if certificate == b"a certificate" => "holder",
            _ => return Err(Error::Authentication("name or password is wrong".to_owned())),
        };
        Ok(self.make(subject, &["request:echo/*"]))
    }

    fn validate_token(&self, token: &[u8], channel: &Channel<'_>, unix_now: u64) -> Result<Grant> {
        self.tokens.validate_token(token, channel, unix_now)
    }

    fn refresh_token(&self, token: &AuthToken, _channel: &Channel<'_>) -> Result<AuthToken> {
        let scopes: Vec<&str> = token.scope.iter().map(String::as_str).collect();
        let bytes = token.value.to_bytes().unwrap();
        let shown = visorbus_core::auth::UnverifiedToken::read(&bytes).unwrap();
        let new = self.make(shown.claims().subject, &scopes);
        self.tokens.revoke_token(token)?;
        Ok(new)
    }

    fn revoke_token(&self, token: &AuthToken) -> Result<()> {
        self.tokens.revoke_token(token)
    }

    fn revoke_all(&self, of: &RevokeAll) -> Result<()> {
        self.tokens.revoke_all(of)
    }

    fn is_live(&self, grant: &Grant, unix_now: u64) -> bool {
        self.tokens.is_live(grant, unix_now)
    }

    fn mint_own(&self, claims: &Claims<'_>) -> std::result::Result<Zeroizing<Vec<u8>>, MintError> {
        self.tokens.mint_own(claims)
    }

    fn revocations(&self) -> Vec<(String, u64)> {
        self.tokens.revocations()
    }
}

/// A policy that forbids some of what tokens allow, and counts what it is asked.
#[derive(Default)]
pub(crate) struct Rules {
    forbids: RwLock<Option<Forbids>>,
    /// What comes into force when it is read again.
    next: Mutex<Option<Forbids>>,
    /// When it next changes, in Unix seconds; 0 for never.
    pub(crate) changes_at: AtomicU64,
    /// What was to be done, not only asked about.
    pub(crate) counted: AtomicUsize,
    /// All that it was asked.
    asked: AtomicUsize,
}

/// What a policy says to a question; `None` leaves it to the token.
pub(crate) type Forbids = fn(&Asked<'_>) -> Option<Denial<'static>>;

impl Rules {
    pub(crate) fn new(forbids: Forbids) -> Arc<Self> {
        Arc::new(Self { forbids: RwLock::new(Some(forbids)), ..Self::default() })
    }

    /// From the next reload on.
    pub(crate) fn rewrite(&self, forbids: Forbids) {
        *self.next.lock().unwrap() = Some(forbids);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn counted(&self) -> usize {
        self.counted.load(Ordering::SeqCst)
    }
}

impl AuthorizationProvider for Rules {
    fn is_authorized<'a>(&self, asked: &Asked<'a>) -> std::result::Result<(), Denial<'a>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.counted.fetch_add(usize::from(asked.counts), Ordering::SeqCst);
        TokenScopes.is_authorized(asked)?;
        let forbids = self.forbids.read().unwrap();
        forbids.and_then(|forbids| forbids(asked)).map_or(Ok(()), Err)
    }

    fn permissions(&self, grant: &Grant) -> Vec<Permission> {
        TokenScopes.permissions(grant)
    }

    fn next_change(&self, unix_now: u64) -> Option<u64> {
        Some(self.changes_at.load(Ordering::SeqCst)).filter(|at| *at > unix_now)
    }

    fn reload(&self) -> Result<()> {
        let next = self.next.lock().unwrap().take();
        let next = next.ok_or_else(|| Error::Message("line 3: no such operation 'requst'".to_owned()))?;
        *self.forbids.write().unwrap() = Some(next);
        Ok(())
    }
}

/// What a link's key proves at the moment.
pub(crate) type Key = Arc<Mutex<Option<Proven>>>;

/// A socket that passes for something else.
pub(crate) struct Disguised {
    pub(crate) inner: FramedStream,
    pub(crate) origin: Origin,
    pub(crate) options: LinkOptions,
    pub(crate) key: Key,
}

impl HubLink for Disguised {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd()
    }
    fn receive(&mut self, into: &mut ReceiveBuffer) -> std::io::Result<()> {
        self.inner.receive(into)
    }
    fn keep(&mut self, rest: &[u8]) {
        self.inner.keep(rest);
    }
    fn has_room(&mut self, head: u8, len: usize) -> bool {
        self.inner.has_room(head, len)
    }
    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> std::io::Result<()> {
        self.inner.send(head, payload, at_once)
    }
    fn flush(&mut self, now: Instant) -> std::io::Result<bool> {
        self.inner.flush(now)
    }
    fn origin(&self) -> Origin {
        self.origin.clone()
    }
    fn options(&self) -> LinkOptions {
        self.options.clone()
    }
    fn proven(&self) -> Option<Proven> {
        self.key.lock().unwrap().clone()
    }
}
