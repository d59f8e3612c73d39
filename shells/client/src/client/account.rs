//! How a client proves who it is, and keeps the token that came of it: shown again on each connection, renewed in time.

use std::time::{Duration, Instant};

use visorbus_auth::{AuthToken, Credentials, Permission, TokenText};
use visorbus_core::auth::UnverifiedToken;
use visorbus_core::bus;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use zeroize::Zeroize;

use super::shared::Shared;
use super::state::StateChange;

impl Shared {
    /// Proves this client by a token, which is only kept while there is no connection.
    pub(crate) fn show(&self, token: &TokenText) -> Result<AuthToken> {
        let shown = AuthToken::new(token.clone())?;
        // One that somebody else made may be in use elsewhere too: to renew it would end that.
        self.keep(token, None).map(|()| shown)
    }

    /// Keeps a token that is to be renewed at `refresh_at`, and shows it. Known before it is shown: the answer has whoever
    /// reads look at when that is.
    fn keep(&self, token: &TokenText, refresh_at: Option<Instant>) -> Result<()> {
        let mut state = self.lock();
        let before =
            (state.token.replace(token.clone()), std::mem::replace(&mut state.refresh_at, refresh_at));
        drop(state);
        let proven = self.prove();
        if matches!(proven, Err(Error::Authentication(_))) {
            let mut state = self.lock();
            (state.token, state.refresh_at) = before;
        }
        proven
    }

    /// Proves this client by something else, for which the hub gives a token.
    pub(crate) fn login(&self, credentials: &Credentials, timeout: Duration) -> Result<AuthToken> {
        let shown = match credentials {
            Credentials::UsernamePassword { username, password } => {
                bus::Credentials::UsernamePassword { username, password: password.expose() }
            }
            Credentials::ApiKey(key) => bus::Credentials::ApiKey(key.expose()),
            // Those the hub knows from the connection itself.
            Credentials::Certificate(_) => bus::Credentials::Certificate,
            Credentials::Peer { .. } => bus::Credentials::Peer,
            Credentials::Token(token) => return self.show(token),
            _ => return Err(Error::Authentication("this client does not know such credentials".to_owned())),
        };
        let mut payload = OwnedPayload::postcard(&shown)?;
        let answer = self.ask_hub(bus::AUTHENTICATE, payload.borrow(), timeout);
        wipe(&mut payload);
        let mut answer = answer?.payload;
        let token: Result<AuthToken> = answer.parse();
        wipe(&mut answer);
        let token = token?;
        self.keep(&token.value, renewal(&token))?;
        self.lock().wake_worker();
        Ok(token)
    }

    /// Has the hub give a new token in the place of the one that this client has.
    pub(crate) fn refresh(&self, timeout: Duration) -> Result<AuthToken> {
        let old = self.own_token()?;
        let mut answer = self.ask_hub(bus::REFRESH, MessagePayload::String(old.as_str()), timeout)?.payload;
        let token: Result<AuthToken> = answer.parse();
        wipe(&mut answer);
        let token = token?;
        let mut state = self.lock();
        state.refresh_at = renewal(&token);
        state.token = Some(token.value.clone());
        if let Some(up) = state.up() {
            // It counts for this session already.
            up.dialog.set_token(token.value.clone());
        }
        Ok(token)
    }

    /// As [`Shared::refresh`] because it is time to; whoever watches is told when it fails.
    pub(crate) fn refresh_in_time(&self) {
        if let Err(error) = self.refresh(REFRESH_TIME) {
            let mut state = self.lock();
            if matches!(error, Error::Connection(_) | Error::Timeout(_)) {
                state.refresh_at.get_or_insert(Instant::now() + REFRESH_TIME);
            }
            state.change(StateChange::NotRestored { what: "a new token".to_owned(), error });
        }
    }

    /// Takes the token back, for everybody who has it.
    pub(crate) fn revoke(&self, timeout: Duration) -> Result<()> {
        let token = self.own_token()?;
        self.ask_hub(bus::REVOKE, MessagePayload::String(token.as_str()), timeout)?;
        let mut state = self.lock();
        (state.token, state.refresh_at) = (None, None);
        Ok(())
    }

    pub(crate) fn permissions(&self, timeout: Duration) -> Result<Vec<Permission>> {
        self.ask_hub(bus::PERMISSIONS, MessagePayload::Empty, timeout)?.payload.parse()
    }

    fn own_token(&self) -> Result<TokenText> {
        let none = || Error::Authentication("this client has no token: authenticate first".to_owned());
        self.lock().token.clone().ok_or_else(none)
    }

    fn ask_hub(
        &self,
        address: &'static str,
        payload: MessagePayload<'_>,
        timeout: Duration,
    ) -> Result<OwnedMessage> {
        self.request(Message::request(0, Address::literal(address)).with_payload(payload), timeout)
    }
}

/// When four fifths of a token's life are over.
fn renewal(token: &AuthToken) -> Option<Instant> {
    let bytes = token.value.to_bytes().ok()?;
    let issued = UnverifiedToken::read(&bytes).ok()?.claims().issued_at;
    let life = token.expiration?.saturating_sub(issued);
    let at_us = issued.saturating_mul(1_000_000).saturating_add(life.saturating_mul(800_000));
    let left = Duration::from_micros(at_us.saturating_sub(visorbus_hub::unix_micros()));
    // One that lives longer than any clock counts is not renewed.
    Instant::now().checked_add(left)
}

fn wipe(payload: &mut OwnedPayload) {
    if let OwnedPayload::Binary(bytes) = payload {
        bytes.zeroize();
    }
}

/// For the answer to a renewal, and until the next try.
const REFRESH_TIME: Duration = Duration::from_secs(5);
