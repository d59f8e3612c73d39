//! Credentials that are no token: from the message to an errand, and from the token that came of it to the session's
//! grant. Until then the session is what it was.

use serde::{Deserialize, Deserializer};
use visorbus_auth::{AuthMethod, AuthToken, Credentials, Secret, TokenText};
use visorbus_core::bus;
use visorbus_core::message::{Message, MessagePayload};
use zeroize::Zeroizing;

use crate::accounts::{Asker, Purpose, Question};
use crate::errands::{Errand, OwnedChannel};
use crate::hub::{Hub, Incoming};
use crate::owned::{Error, Result};
use crate::peers::PeerKey;

impl Hub {
    /// Has a peer's credentials checked.
    pub(crate) fn handle_credentials(&mut self, key: PeerKey, message: &Message<'_>) {
        // Whatever is in there is not to stay in memory.
        self.wipes_input = true;
        match Shown::read(&message.payload) {
            Ok(Shown::Token(token)) => match token.to_bytes() {
                Ok(bytes) => self.handle_token(key, message, &bytes, self.now()),
                Err(error) => {
                    let error = Error::Authentication(error.to_string());
                    self.refuse_login(key, message, Some(AuthMethod::Token), &error);
                }
            },
            Ok(shown) => {
                let method = shown.method();
                if let Err(error) = self.begin_login(key, message, shown) {
                    self.refuse_login(key, message, Some(method), &error);
                }
            }
            Err(error) => self.refuse_login(key, message, None, &error),
        }
    }

    fn begin_login(&mut self, key: PeerKey, message: &Message<'_>, shown: Shown) -> Result<()> {
        let method = shown.method();
        let Some(peer) = self.peers.get(key) else { return Ok(()) };
        if let (Some(why), Shown::UsernamePassword { .. } | Shown::ApiKey(_)) = (peer.overheard(), &shown) {
            return Err(Error::Authentication(why.to_owned()));
        }
        let channel = peer.channel();
        let missing = |what: &str| {
            Error::Authentication(format!(
                "this connection shows no {what}: prove yourself by something else"
            ))
        };
        let credentials = match shown {
            Shown::Token(token) => Credentials::Token(token),
            Shown::UsernamePassword { username, password } => {
                Credentials::UsernamePassword { username, password }
            }
            Shown::ApiKey(api_key) => Credentials::ApiKey(api_key),
            Shown::Certificate => {
                let certificate = channel.certificate.ok_or_else(|| missing("certificate"))?;
                Credentials::Certificate(certificate.to_vec())
            }
            Shown::Peer => {
                let uid = channel.uid.ok_or_else(|| missing("user"))?;
                Credentials::Peer { uid, gid: channel.gid }
            }
        };
        let errand = Errand::Login(credentials, OwnedChannel::from(channel));
        self.begin_errand(Asker::Peer(key, Question::of(message)), Purpose::Login(method), errand)
    }

    /// The token that was made is checked like any that is shown, and must prove the name in the hello.
    pub(crate) fn finish_login(
        &mut self,
        incoming: &Incoming<'_>,
        outcome: Result<Option<AuthToken>>,
    ) -> Result<()> {
        let token = outcome?.ok_or_else(no_token)?;
        let bytes = token.value.to_bytes().map_err(|e| Error::Internal(e.to_string()))?;
        let grant = self.admit(incoming.from, &bytes, incoming.now)?;
        if let Some(peer) = self.peers.get_mut(incoming.from) {
            peer.session.accept(grant);
        }
        self.answer_with(incoming, &token)
    }

    pub(crate) fn refuse_login(
        &mut self,
        key: PeerKey,
        message: &Message<'_>,
        method: Option<AuthMethod>,
        error: &Error,
    ) {
        if self.peers.get(key).is_none() {
            return;
        }
        self.peers.refuse(key, error.kind());
        self.audit_refused(key, method, error);
        self.send_error(key, message, error);
    }
}

/// Credentials as they are in a message: what the channel itself knows is not among them.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    Token(TokenText),
    UsernamePassword {
        username: String,
        #[serde(deserialize_with = "secret")]
        password: Secret,
    },
    #[serde(deserialize_with = "secret")]
    ApiKey(Secret),
    Certificate,
    Peer,
}

impl Shown {
    const fn method(&self) -> AuthMethod {
        match self {
            Self::Token(_) => AuthMethod::Token,
            Self::UsernamePassword { .. } => AuthMethod::Password,
            Self::ApiKey(_) => AuthMethod::ApiKey,
            Self::Certificate => AuthMethod::Certificate,
            Self::Peer => AuthMethod::Peer,
        }
    }

    fn read(payload: &MessagePayload<'_>) -> Result<Self> {
        // What is wrong with them is not said with their own words.
        let unreadable = || {
            Error::Serialization(
                "the credentials cannot be read: what bus/authenticate takes is in docs/wire-format.md"
                    .to_owned(),
            )
        };
        match payload {
            MessagePayload::Json(text) => serde_json::from_str(text).map_err(|_| unreadable()),
            MessagePayload::Binary(_) => {
                let credentials = payload.parse().map_err(|_| unreadable())?;
                // There is one encoding of each.
                let again = postcard::to_stdvec(&credentials).map(Zeroizing::new);
                let same = again.is_ok_and(|again| *again == payload.as_bytes());
                Self::from_binary(credentials).filter(|_| same).ok_or_else(unreadable)
            }
            _ => Err(unreadable()),
        }
    }

    fn from_binary(credentials: bus::Credentials<'_>) -> Option<Self> {
        Some(match credentials {
            bus::Credentials::UsernamePassword { username, password } => {
                Self::UsernamePassword { username: username.to_owned(), password: Secret::new(password) }
            }
            bus::Credentials::ApiKey(api_key) => Self::ApiKey(Secret::new(api_key)),
            bus::Credentials::Certificate => Self::Certificate,
            bus::Credentials::Peer => Self::Peer,
            // A token's bytes have gone another way.
            _ => return None,
        })
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

pub(crate) fn no_token() -> Error {
    Error::Internal("the accounts gave no token".to_owned())
}
