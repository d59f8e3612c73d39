//! Logging in: credentials become a token. Every refusal of what can be guessed reads the same and takes as long.

use std::sync::PoisonError;
use std::time::Duration;

use visorbus_core::auth::{BUS, Caveat, Grant, Scopes};

use super::{Accounts, api_key, certificate, new_serial, password};
use crate::policy::Mapping;
use crate::store::{records::User, sha256};
use crate::{
    AuthMethod, AuthToken, AuthenticationProvider, Channel, Credentials, Error, Result, Secret, TokenRequest,
    TokenText,
};

impl Accounts {
    /// [`AuthenticationProvider::authenticate`].
    pub(super) fn login(&self, credentials: &Credentials, channel: &Channel<'_>) -> Result<AuthToken> {
        match credentials {
            Credentials::Token(token) => self.show_token(token, channel),
            Credentials::UsernamePassword { username, password } => {
                self.login_with_password(username, password, channel)
            }
            Credentials::ApiKey(key) => self.login_with_api_key(key, channel),
            Credentials::Certificate(der) => self.login_with_certificate(der, channel),
            Credentials::Peer { uid, gid } => self.login_as_peer(*uid, *gid, channel),
        }
    }

    fn show_token(&self, token: &TokenText, channel: &Channel<'_>) -> Result<AuthToken> {
        let bytes = token.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
        self.validate_token(&bytes, channel, self.unix_now())?;
        AuthToken::new(token.clone())
    }

    fn login_with_password(&self, name: &str, given: &Secret, channel: &Channel<'_>) -> Result<AuthToken> {
        if crate::store::check_subject(name).is_err() {
            return Err(refused());
        }
        let now = self.started.elapsed();
        let attempt = self.backoff().begin(name, channel.address, now).map_err(too_often)?;
        let records = self.store.records();
        let user = records.users.get(name);
        let right = match password::verify(given, user.map(|user| &user.password)) {
            Ok(right) => right,
            Err(busy) => {
                self.backoff().cancel(&attempt);
                return Err(busy);
            }
        };
        // Shut out reads as wrong: who guesses learns nothing of it.
        let Some(user) = user.filter(|_| right && !records.disabled.contains(name)) else {
            return Err(refused());
        };
        self.backoff().succeed(attempt);
        if password::is_outdated(&user.password) {
            self.rehash(name, given, user);
        }
        self.log_in(name, &user.scopes, AuthMethod::Password, channel, records.issuing)
    }

    /// Hashes a password that was right with today's parameters. When that does not work out, there will be another login.
    fn rehash(&self, name: &str, given: &Secret, old: &User) {
        let Ok(fresh) = password::hash(given) else { return };
        let outcome = self.store.update(|records| {
            // Unless it was changed meanwhile.
            if let Some(user) = records.users.get_mut(name).filter(|user| user.password == old.password) {
                user.password = fresh;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            tracing::warn!("the password of '{name}' could not be hashed anew: {error}");
        }
    }

    fn login_with_api_key(&self, key: &Secret, channel: &Channel<'_>) -> Result<AuthToken> {
        let (prefix, hash) = api_key::parse(key.expose()).ok_or_else(refused)?;
        let records = self.store.records();
        let known = records.api_keys.get(prefix).filter(|known| api_key::is_same(&known.sha256, &hash));
        let known = known.ok_or_else(refused)?;
        // Only who has the whole key gets to know more.
        if known.disabled || records.disabled.contains(&known.subject) {
            return Err(Error::Authentication("this API key is stopped: ask for another".to_owned()));
        }
        if known.expires.is_some_and(|expires| expires <= self.unix_now()) {
            return Err(Error::Authentication("this API key has expired: ask for another".to_owned()));
        }
        let epoch = records.issuing;
        self.log_in_until(&known.subject, &known.scopes, AuthMethod::ApiKey, channel, epoch, known.expires)
    }

    fn login_with_certificate(&self, der: &[u8], channel: &Channel<'_>) -> Result<AuthToken> {
        // What a client says of itself is no proof; what its channel has seen it own is.
        let own = channel.certificate.filter(|own| *own == der).ok_or_else(not_vouched)?;
        let unusable =
            || Error::Authentication("the certificate is not one, or not of today: renew it".to_owned());
        if certificate::identities(own, false, self.unix_now()).is_none() {
            return Err(unusable());
        }
        let epoch = self.store.with_records(|records| records.issuing);
        let Mapping { subject, scopes } = self.owner_of(channel).ok_or_else(|| {
            Error::Authentication(
                "the certificate is not known here: pin it, or map its URI in the policy".to_owned(),
            )
        })?;
        self.log_in(&subject, &scopes, AuthMethod::Certificate, channel, epoch)
    }

    fn login_as_peer(&self, uid: u32, gid: Option<u32>, channel: &Channel<'_>) -> Result<AuthToken> {
        if (channel.uid, channel.gid) != (Some(uid), gid) {
            return Err(not_vouched());
        }
        let epoch = self.store.with_records(|records| records.issuing);
        let mapping = self.policy.unix(uid, gid).ok_or_else(|| {
            Error::Authentication(match gid {
                Some(gid) => format!(
                    "the policy knows neither user {uid} nor group {gid}: add a [[unix]] entry, or show a token"
                ),
                None => format!(
                    "the policy knows neither user {uid} nor, over this connection, the main group: add a [[unix]] entry with \
                     this uid, or show a token"
                ),
            })
        })?;
        self.log_in(&mapping.subject, &mapping.scopes, AuthMethod::Peer, channel, epoch)
    }

    /// Whom the owner of the channel's certificate is taken for: by the narrowest of what it is known by, the store
    /// before the policy.
    fn owner_of(&self, channel: &Channel<'_>) -> Option<Mapping> {
        let ids =
            certificate::identities(channel.certificate?, channel.certificate_verified, self.unix_now())?;
        let records = self.store.records();
        ids.iter().find_map(|id| {
            let known = records.certificates.iter().find(|known| known.id == *id);
            let known =
                known.map(|known| Mapping { subject: known.subject.clone(), scopes: known.scopes.clone() });
            known.or_else(|| self.policy.certificate(id))
        })
    }

    /// Whether the channel would still let in whom a token that is bound to it was made for, with as much.
    pub(super) fn is_still_mapped(&self, grant: &Grant, caveat: &Caveat<'_>, channel: &Channel<'_>) -> bool {
        let mapping = match caveat {
            Caveat::Uid(_) => channel.uid.and_then(|uid| self.policy.unix(uid, channel.gid)),
            Caveat::Certificate(_) => self.owner_of(channel),
            _ => None,
        };
        let Some(mapping) = mapping.filter(|mapping| mapping.subject == grant.subject()) else {
            return false;
        };
        let scopes: Vec<&str> = mapping.scopes.iter().map(String::as_str).collect();
        let own: Vec<&str> = grant.scopes().collect();
        Scopes::new(&scopes).cover(Scopes::new(&own))
    }

    fn log_in(
        &self,
        subject: &str,
        scopes: &[String],
        method: AuthMethod,
        channel: &Channel<'_>,
        epoch: u32,
    ) -> Result<AuthToken> {
        self.log_in_until(subject, scopes, method, channel, epoch, None)
    }

    /// The token of somebody who has proven to be `subject`, by what was read in `epoch` and is good until `end`.
    fn log_in_until(
        &self,
        subject: &str,
        scopes: &[String],
        method: AuthMethod,
        channel: &Channel<'_>,
        epoch: u32,
        end: Option<u64>,
    ) -> Result<AuthToken> {
        if self.store.with_records(|records| records.disabled.contains(subject)) {
            return Err(Error::Authentication("this subject is shut out: ask who runs the hub".to_owned()));
        }
        let request = TokenRequest {
            subject: subject.to_owned(),
            audience: BUS.to_owned(),
            scopes: scopes.to_vec(),
            lifetime: LOGIN_LIFETIME,
        };
        let certificate = channel.certificate.map(sha256);
        // A token with this caveat is not renewed, so it cannot outlast what it was got by.
        let end = end.map(|end| Caveat::Expiry(end.min(self.unix_now() + LOGIN_LIFETIME.as_secs())));
        let bound = match (method, channel.uid, &certificate) {
            (AuthMethod::Peer, Some(uid), _) => Some(Caveat::Uid(uid)),
            (AuthMethod::Certificate, _, Some(hash)) => Some(Caveat::Certificate(hash)),
            _ => None,
        };
        let caveats: Vec<Caveat<'_>> = end.into_iter().chain(bound).collect();
        self.issue(&request, new_serial()?, &caveats, epoch)
    }

    fn backoff(&self) -> std::sync::MutexGuard<'_, super::Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one answer to all that could be guessed.
fn refused() -> Error {
    Error::Authentication("the name or the secret is wrong".to_owned())
}

fn not_vouched() -> Error {
    Error::Authentication(
        "the channel does not vouch for this: it is proven by the connection, not by a message".to_owned(),
    )
}

fn too_often(wait: Duration) -> Error {
    Error::Message(format!("too many wrong attempts: try again in {} s", wait.as_millis().div_ceil(1000)))
}

/// How long a token of a login holds; its holder refreshes it.
const LOGIN_LIFETIME: Duration = Duration::from_secs(3600);
