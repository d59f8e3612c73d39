//! Accounts: who somebody is, by all the ways there are of proving it, and the life of the tokens that come of it.
//!
//! # The life of a token
//! A serial number is a *family* (48 random bits) and a *generation* (16 bits). Logging in makes generation 0 of a new
//! family. Refreshing makes the next one, with the same subject, scopes and bindings; from that moment only it counts.
//! A family lives for 30 days from its first token, however often it is renewed. When a token is used that was renewed
//! already, somebody has a copy: the whole family is taken back.
//!
//! A token that is bound to a Unix user or a certificate is renewed only while that still gives as much; one that was got
//! by an API key with an end is not renewed. So nothing lives on by renewal that could not log in: a mapping that is
//! taken out of the policy ends within an hour, and at once with [`RevokeAll::Subject`].
//!
//! What is taken back is on disk before the answer, and [`Accounts::is_live`](AuthenticationProvider::is_live) says so from
//! then on. Nothing else is kept of a token, so nothing grows with how many there are.
//!
//! Of two refreshes of one token whose first answer was lost, the second reads as a copy and ends the family: its holder
//! logs in again. To let the old token count a little longer would let a thief renew it too.
//!
//! # Taking back needs no clock
//! The wall clock of a headset may be wrong, so nothing that was taken back may count again because it moves. The store
//! counts *epochs*: a token bears the one it was issued in, everything that takes back begins a new one, and of a subject
//! or a key only tokens of that one or a later one count. Two clocks are never compared, so with a clock that is behind
//! a revocation takes in what was issued before, and with one that was ahead nobody is shut out afterwards.
//!
//! A family that was taken back is forgotten when its last token has expired. If the clock was ahead, it has not: so the
//! store keeps the highest such end and the epoch then, and refuses what is of that epoch or before and ends by then. A
//! new login has a later epoch and counts at once. What has merely *expired* goes by the clock, as it must.
//!
//! Boards know subjects and moments only. For them a subject's tokens are void up to the later of now and the latest
//! moment at which any token for a board was issued here. If a clock was far ahead then, that moment is too: a new token
//! for a board is then refused with the reason instead of made for nothing.
//!
//! A key that comes back with the same id and other bytes is another key: grants of the one before end with the reload.
//!
//! A proof that a board makes of itself has neither family nor generation, is never renewed, and counts unless its
//! subject is shut out or its key is replaced. Taking it back is refused: it is bound to one start of whom it was made
//! for, and ends by itself.

pub(crate) mod api_key;
mod backoff;
mod certificate;
mod login;
pub(crate) mod password;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use visorbus_core::auth::{
    BUS, Caveat, Claims, Context, Grant, KeyRing, MintError, Scopes, TokenError, UnverifiedToken, attenuate,
};
use visorbus_core::limits::MAX_TOKEN;
use zeroize::Zeroizing;

use crate::store::records::{Issued, MAX_LIFETIME_S, Records, join};
use crate::{
    AuditEvent, AuditKind, AuthToken, AuthenticationProvider, Channel, Credentials, Error, KeyFile, Policy,
    Result, RevokeAll, Store, TokenRequest, TokenText,
};
use backoff::Backoff;

/// The authentication of a hub with users, API keys, certificates, Unix users and tokens.
pub struct Accounts {
    store: Arc<Store>,
    policy: Arc<Policy>,
    keys: RwLock<Keys>,
    /// Families whose renewed tokens were used again and that are not on disk as taken back yet.
    reused: Arc<Reused>,
    backoff: Mutex<Backoff>,
    /// With which key each board proves itself: it knows no other.
    board_keys: Mutex<HashMap<Box<str>, u8>>,
    /// Keys that came back with other bytes. A board's grant of such a one counts if the board has proven itself since.
    replaced: Mutex<HashSet<u8>>,
    started: Instant,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

struct Keys {
    file: KeyFile,
    ring: KeyRing,
    /// What each id stood for last, those that are gone too.
    known: HashMap<u8, [u8; 32]>,
}

/// Families that count no more, before the disk knows.
#[derive(Default)]
struct Reused {
    families: RwLock<HashSet<u64>>,
    is_being_written: AtomicBool,
}

impl Accounts {
    /// The accounts in `store`, with the keys of `keys` and whatever `policy` says of Unix users and certificates.
    pub fn new(store: Arc<Store>, keys: KeyFile, policy: Arc<Policy>) -> Self {
        let keys = RwLock::new(Keys { ring: keys.ring(), known: keys.fingerprints().collect(), file: keys });
        Self {
            store,
            policy,
            keys,
            reused: Arc::default(),
            backoff: Mutex::default(),
            board_keys: Mutex::default(),
            replaced: Mutex::default(),
            started: Instant::now(),
            clock: Box::new(crate::unix_seconds),
        }
    }

    /// Takes the time for new tokens from `clock`, in Unix seconds, instead of from the system.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// The store, for changing accounts.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Makes a token as its owner asks for it. Without scopes it gets those of its subject: of the account of that name,
    /// and for a board (which cannot ask the policy) those of the policy too.
    ///
    /// # Errors
    /// `Message` when the subject is shut out, or the request is none that a token can be made of.
    pub fn mint(&self, request: &TokenRequest) -> Result<AuthToken> {
        let records = self.store.records();
        if records.disabled.contains(&request.subject) {
            return Err(Error::Message(format!("'{}' is shut out: enable it first", request.subject)));
        }
        let mut scopes = request.scopes.clone();
        if scopes.is_empty() {
            scopes = records.users.get(&request.subject).map(|user| user.scopes.clone()).unwrap_or_default();
            if request.audience != BUS {
                scopes.extend(self.policy.scopes_of(&request.subject));
                scopes.dedup();
            }
        }
        let request = TokenRequest { scopes, ..request.clone() };
        self.issue(&request, new_serial()?, &[], records.issuing)
    }

    /// Looks whether the store was changed by somebody else, and reads it if so. Whether it was; takes one look at the
    /// directory when not.
    ///
    /// # Errors
    /// As [`AuthenticationProvider::reload`]; then what was read before holds.
    pub fn reload_if_changed(&self) -> Result<bool> {
        self.store.reload().map_err(|e| Error::Internal(e.to_string()))
    }

    /// A token of `serial`, with `caveats`. `epoch` is that of the moment at which it was decided that there may be one:
    /// what was taken back since takes this token back too.
    fn issue(
        &self,
        request: &TokenRequest,
        serial: u64,
        caveats: &[Caveat<'_>],
        epoch: u32,
    ) -> Result<AuthToken> {
        let (now, lifetime) = ((self.clock)(), request.lifetime.as_secs());
        if lifetime > MAX_MINTED_S {
            return Err(Error::Message(
                "a token lasts at most 366 days: ask for less, and refresh it".to_owned(),
            ));
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key_id = keys.file.current_id();
        let scopes: Vec<&str> = request.scopes.iter().map(String::as_str).collect();
        let issued_at = match request.audience.as_str() {
            BUS => now,
            _ => self.store.update(|records| records.issue_for_board(&request.subject, now))?,
        };
        let claims = Claims {
            issuer: BUS,
            subject: &request.subject,
            audience: &request.audience,
            serial,
            issued_at,
            expiry: now.saturating_add(lifetime),
            epoch,
            scopes: Scopes::new(&scopes),
        };
        let refused = |e: MintError| Error::Message(format!("no token can be made of this: {e}"));
        let mut token = Zeroizing::new([0; MAX_TOKEN]);
        let mut len = keys.ring.mint(key_id, &claims, &mut *token).map_err(refused)?;
        for caveat in caveats {
            let mut narrower = Zeroizing::new([0; MAX_TOKEN]);
            len = attenuate(&token[..len], caveat, &mut *narrower)
                .map_err(|e| Error::Message(format!("the token cannot be bound to its channel: {e}")))?;
            token = narrower;
        }
        let text = TokenText::encode(&token[..len]).map_err(|e| Error::Internal(e.to_string()))?;
        AuthToken::new(text)
    }

    /// Takes the family of a renewed token that is used again back: at once here, and soon on disk.
    fn handle_reuse(&self, grant: &Grant, channel: &Channel<'_>) {
        let family = grant.serial() >> 16;
        let is_new = self.reused.families.write().unwrap_or_else(PoisonError::into_inner).insert(family);
        if !is_new {
            return;
        }
        AuditEvent::new(AuditKind::Reused).subject(grant.subject()).channel(channel).reason(REUSED).emit();
        if self.reused.is_being_written.swap(true, Ordering::AcqRel) {
            return;
        }
        // The hub's loop calls this, and a disk may take its time.
        let (store, reused, now) = (self.store.clone(), self.reused.clone(), (self.clock)());
        let written = std::thread::Builder::new()
            .name("auth-store".to_owned())
            .spawn(move || reused.write(&store, now));
        if let Err(error) = written {
            self.reused.is_being_written.store(false, Ordering::Release);
            tracing::error!("a reused token could not be written down: {error}");
        }
    }

    fn unix_now(&self) -> u64 {
        (self.clock)()
    }
}

impl AuthenticationProvider for Accounts {
    fn authenticate(&self, credentials: &Credentials, channel: &Channel<'_>) -> Result<AuthToken> {
        self.login(credentials, channel)
    }

    fn validate_token(&self, token: &[u8], channel: &Channel<'_>, unix_now: u64) -> Result<Grant> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let grant = channel.check_token(&keys.ring, token, unix_now).map_err(|error| {
            tracing::info!("a token was refused: {error}");
            Error::Authentication(error.for_peer().to_owned())
        })?;
        drop(keys);
        if grant.expires().saturating_sub(grant.issued_at()) > MAX_LIFETIME_S {
            // What is remembered of tokens that were taken back is forgotten after that time.
            return Err(Error::Authentication(
                "the token lasts longer than any may: get a new one".to_owned(),
            ));
        }
        if grant.issuer() != BUS {
            self.remember_board_key(&grant);
        }
        if self.is_live(&grant, unix_now) {
            return Ok(grant);
        }
        if self.store.with_records(|records| records.is_reused(&Issued::from(&grant))) {
            self.handle_reuse(&grant, channel);
            return Err(Error::Authentication(REUSED.to_owned()));
        }
        Err(Error::Authentication(REVOKED.to_owned()))
    }

    fn refresh_token(&self, token: &AuthToken, channel: &Channel<'_>) -> Result<AuthToken> {
        token.check_shown()?;
        let bytes = token.value.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
        let now = self.unix_now();
        let grant = self.validate_token(&bytes, channel, now)?;
        let parsed = UnverifiedToken::read(&bytes).map_err(|e| Error::Authentication(e.to_string()))?;
        let refused = |text: &str| Err(Error::Authentication(text.to_owned()));
        if grant.issuer() != BUS {
            return refused("a proof that its holder made is not renewed: make a new one");
        }
        if parsed.caveats().any(|caveat| !is_binding(&caveat)) {
            return refused(
                "a token that was narrowed is not renewed: refresh the one that it was made from, or log in again",
            );
        }
        if parsed.caveats().any(|caveat| !self.is_still_mapped(&grant, &caveat, channel)) {
            return refused("what this token was got by no longer gives as much: log in again");
        }
        self.renew(&grant, &parsed, now)
    }

    fn revoke_token(&self, token: &AuthToken) -> Result<()> {
        token.check_shown()?;
        let bytes = token.value.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
        let parsed = UnverifiedToken::read(&bytes).map_err(|e| Error::Authentication(e.to_string()))?;
        let now = self.unix_now();
        let audience = parsed.claims().audience;
        let grant = self.check_anywhere(&bytes, &parsed, now)?;
        let Some(grant) = grant else { return Ok(()) };
        if grant.issuer() == grant.subject() {
            return Err(Error::Message(format!(
                "this is a proof that '{0}' made of itself, and ends by itself: to shut '{0}' out, disable it",
                grant.subject()
            )));
        }
        // As long as the widest token of the family, not this narrower one.
        let issued = Issued { expires: parsed.claims().expiry, ..Issued::from(&grant) };
        let is_void = |records: &Records| match audience {
            // One that was renewed is a copy: it takes its family with it wherever it is shown.
            BUS => !records.is_live(&issued) && !records.is_reused(&issued),
            _ => issued.issued_at <= records.void_for_boards(issued.subject),
        };
        self.store.update_unless(is_void, |records| {
            match audience {
                BUS => records.revoke_family(&issued, now),
                _ => records.revoke_for_board(&issued, now),
            }
            Ok(())
        })
    }

    fn revoke_all(&self, of: &RevokeAll) -> Result<()> {
        let now = self.unix_now();
        match of {
            RevokeAll::Subject(subject) => {
                crate::store::check_subject(subject)?;
                self.store.update(|records| {
                    records.revoke_subject(subject, now);
                    Ok(())
                })
            }
            RevokeAll::KeyEpoch(id) => {
                let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
                if !keys.file.ids().iter().any(|(known, _)| known == id) {
                    return Err(Error::Message(format!("there is no key {id}: see which there are")));
                }
                drop(keys);
                self.store.update(|records| {
                    records.revoke_key(*id, now);
                    Ok(())
                })
            }
        }
    }

    fn is_live(&self, grant: &Grant, unix_now: u64) -> bool {
        let issued = Issued::from(grant);
        if !self.store.with_records(|records| records.is_live(&issued)) {
            return false;
        }
        let known =
            self.keys.read().unwrap_or_else(PoisonError::into_inner).file.accepts(grant.key_id(), unix_now);
        if issued.own_proof && !self.is_of_todays_key(grant) {
            return false;
        }
        let reused = self.reused.families.read().unwrap_or_else(PoisonError::into_inner);
        known && (issued.own_proof || reused.is_empty() || !reused.contains(&(grant.serial() >> 16)))
    }

    fn mint_own(&self, claims: &Claims<'_>) -> std::result::Result<Zeroizing<Vec<u8>>, MintError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let boards = self.board_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            boards.get(claims.audience).copied().filter(|id| keys.file.accepts(*id, claims.issued_at));
        let key_id = known.unwrap_or_else(|| keys.file.current_id());
        drop(boards);
        // A token for the hub itself has to pass its own check; boards have no epochs of the hub's.
        let epoch = if claims.audience == BUS {
            self.store.with_records(|records| records.issuing)
        } else {
            claims.epoch
        };
        let mut token = Zeroizing::new([0; MAX_TOKEN]);
        let len = keys.ring.mint(key_id, &Claims { epoch, ..*claims }, &mut *token)?;
        Ok(Zeroizing::new(token[..len].to_vec()))
    }

    fn revocations(&self) -> Vec<(String, u64)> {
        self.store.with_records(|records| {
            let everybody = Some(records.void_for_all_boards());
            let everybody = everybody.filter(|since| *since > 0).map(|since| (String::new(), since));
            everybody
                .into_iter()
                .chain(records.void.iter().map(|(subject, void)| (subject.clone(), void.since)))
                .collect()
        })
    }

    fn poll_changes(&self) -> bool {
        self.store.is_changed()
    }

    fn reload(&self) -> Result<()> {
        let path = self.keys.read().unwrap_or_else(PoisonError::into_inner).file.path().to_owned();
        let in_file = !path.as_os_str().is_empty();
        let file =
            in_file.then(|| KeyFile::open(path)).transpose().map_err(|e| Error::Message(e.to_string()))?;
        self.store.reload().map_err(|e| Error::Message(e.to_string()))?;
        file.map_or(Ok(()), |file| self.replace_keys(file))
    }
}

/// Making tokens from tokens.
impl Accounts {
    fn renew(&self, grant: &Grant, parsed: &UnverifiedToken<'_>, now: u64) -> Result<AuthToken> {
        let issued = Issued::from(grant);
        let lifetime = parsed.claims().expiry.saturating_sub(parsed.claims().issued_at);
        let caveats: Vec<Caveat<'_>> = parsed.caveats().collect();
        // Decided and written in one step: of two that refresh the same token at once, one is refused.
        let (serial, expires, epoch) = self.store.update(|records| {
            if !records.is_live(&issued) {
                return Err(Error::Authentication(REVOKED.to_owned()));
            }
            let end = records.family_since(&issued).saturating_add(MAX_FAMILY_AGE_S);
            let expires = now.saturating_add(lifetime).min(end);
            if expires <= now {
                return Err(Error::Authentication(
                    "the token was renewed for 30 days, which is the longest: log in again".to_owned(),
                ));
            }
            let serial = records.advance(&issued, expires, now).ok_or_else(|| {
                Error::Authentication(
                    "too many tokens of this subject are being renewed: log in again".to_owned(),
                )
            })?;
            Ok((serial, expires, records.issuing))
        })?;
        let request = TokenRequest {
            subject: grant.subject().to_owned(),
            audience: BUS.to_owned(),
            scopes: grant.scopes().map(str::to_owned).collect(),
            lifetime: std::time::Duration::from_secs(expires - now),
        };
        self.issue(&request, serial, &caveats, epoch)
    }

    /// The grant of a token for whomever it is and whatever it is bound to: to take it back one need only have it. `None`
    /// when it counts no more anyway.
    fn check_anywhere(&self, token: &[u8], parsed: &UnverifiedToken<'_>, now: u64) -> Result<Option<Grant>> {
        let mut channel = visorbus_core::auth::Channel::default();
        for caveat in parsed.caveats() {
            match caveat {
                Caveat::Uid(uid) => channel.uid = Some(uid),
                Caveat::Certificate(hash) => channel.certificate = Some(hash),
                _ => {}
            }
        }
        let claims = parsed.claims();
        let context =
            Context::new(claims.audience, Some(now)).with_boot_id(claims.serial).with_channel(channel);
        match self.keys.read().unwrap_or_else(PoisonError::into_inner).ring.check(token, &context) {
            Ok(grant) => Ok(Some(grant)),
            Err(TokenError::Expired | TokenError::KeyRetired | TokenError::EpochPassed) => Ok(None),
            Err(error) => Err(Error::Authentication(error.for_peer().to_owned())),
        }
    }

    /// Goes by the keys of `file` from now on. What was made with a key whose id is another's now counts no more.
    fn replace_keys(&self, file: KeyFile) -> Result<()> {
        let now = self.unix_now();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = |(id, now): &(u8, [u8; 32])| keys.known.get(id).is_some_and(|before| before != now);
        let replaced: Vec<u8> = file.fingerprints().filter(is_other).map(|(id, _)| id).collect();
        if !replaced.is_empty() {
            self.store.update(|records| {
                replaced.iter().for_each(|id| records.revoke_key(*id, now));
                Ok(())
            })?;
            let mut boards = self.board_keys.lock().unwrap_or_else(PoisonError::into_inner);
            boards.retain(|_, id| !replaced.contains(id));
            self.replaced.lock().unwrap_or_else(PoisonError::into_inner).extend(&replaced);
        }
        let mut known = std::mem::take(&mut keys.known);
        known.extend(file.fingerprints());
        *keys = Keys { ring: file.ring(), file, known };
        Ok(())
    }

    /// Whether a board's proof was made with the key that its id stands for now.
    fn is_of_todays_key(&self, grant: &Grant) -> bool {
        if !self.replaced.lock().unwrap_or_else(PoisonError::into_inner).contains(&grant.key_id()) {
            return true;
        }
        let boards = self.board_keys.lock().unwrap_or_else(PoisonError::into_inner);
        boards.get(grant.subject()) == Some(&grant.key_id())
    }

    /// A board knows one key, and checks the hub's proof with it: its own proof says which.
    fn remember_board_key(&self, grant: &Grant) {
        let mut boards = self.board_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if boards.len() < MAX_BOARDS || boards.contains_key(grant.subject()) {
            boards.insert(grant.subject().into(), grant.key_id());
        }
    }
}

impl Reused {
    /// Writes all that there is, until there is no more.
    fn write(&self, store: &Store, now: u64) {
        let mut written = HashSet::new();
        loop {
            let families = self.families.read().unwrap_or_else(PoisonError::into_inner).clone();
            let fresh: Vec<u64> = families.difference(&written).copied().collect();
            if fresh.is_empty() {
                self.is_being_written.store(false, Ordering::Release);
                // One that came after the look above found this still at work.
                let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
                let late = families.iter().any(|family| !written.contains(family));
                if !late || self.is_being_written.swap(true, Ordering::AcqRel) {
                    return;
                }
                continue;
            }
            let outcome = store.update(|records| {
                for family in &fresh {
                    if let Some(entry) = records.families.get_mut(family) {
                        entry.revoked = true;
                    }
                }
                Ok(())
            });
            if let Err(error) = outcome {
                // It counts no more until this process ends; the renewed token itself stays void in any case.
                tracing::error!("a reused token could not be written down at {now}: {error}");
                self.is_being_written.store(false, Ordering::Release);
                return;
            }
            // On disk now, and read from there.
            self.families
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|family| !fresh.contains(family));
            written.extend(fresh);
        }
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts")
            .field("store", &self.store)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Whether a caveat binds a token to a channel, and so stays when it is renewed.
fn is_binding(caveat: &Caveat<'_>) -> bool {
    !matches!(caveat, Caveat::Expiry(_) | Caveat::Scopes(_))
}

/// The first generation of a new family.
pub(crate) fn new_serial() -> Result<u64> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    Ok(join(u64::from_le_bytes(random) >> 16, 0))
}

const REVOKED: &str = "the token was taken back: log in again";
const REUSED: &str = "the token had been renewed before, so somebody has a copy: all that were made from it are void, log in again";
/// Seconds from the first token of a family to the end of its last.
const MAX_FAMILY_AGE_S: u64 = 30 * 24 * 3600;
/// Seconds that a token lasts at most when it is made here.
const MAX_MINTED_S: u64 = 366 * 24 * 3600;
const MAX_BOARDS: usize = 256;
