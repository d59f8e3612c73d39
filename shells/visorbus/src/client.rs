//! What `call`, `publish`, `subscribe` and `services` share: a client of the hub, and JSON for its typed addresses.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visorbus_auth::{KeyFile, TokenRequest, TokenText};
use visorbus_core::auth::{Caveat, UnverifiedToken};
use visorbus_core::bus;
use visorbus_hub::info::SchemaInfo;
use visorbus_hub::schema::{Schemas, to_json};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use visorbus_unix::{Credentials, Delivery, StateChange, Subscription, UnixSocketClient};

use crate::args;

/// A connected, authenticated client.
pub(crate) struct Client {
    pub(crate) inner: UnixSocketClient,
    schemas: HashMap<String, Option<Schemas>>,
    /// The hub's own keys, where this client makes its tokens itself.
    keys: Option<KeyFile>,
    /// When the token in use is over, or is to be replaced.
    renew_at: SystemTime,
}

impl Client {
    /// Connects with the token given, else with one made from the hub's own key file.
    pub(crate) fn connect(args: &args::Client) -> Result<Self> {
        let given = args.token.as_deref().filter(|text| !text.is_empty());
        let given = given.map(given_token).transpose()?;
        let (subject, expiry) = match &given {
            Some(given) => (given.subject.as_str(), given.expiry),
            None => (SUBJECT, SystemTime::now()),
        };
        let name = format!("{subject}.{}", std::process::id());
        let inner = UnixSocketClient::new(args.place.socket(), &name)?;
        // Before the keys are looked for: where there is no hub, nobody has made them.
        inner.connect().map_err(|error| no_hub(&error))?;
        let mut client = Self { inner, schemas: HashMap::new(), keys: None, renew_at: expiry };
        match given {
            Some(given) => drop(client.inner.authenticate(&Credentials::Token(given.token))?),
            None => {
                client.keys = Some(args.place.keys()?);
                client.renew().map_err(|error| other_keys(args, error))?;
            }
        }
        Ok(client)
    }

    /// Shares the key that was given, if one was, with the component that `address` or a pattern begins with.
    pub(crate) fn share_key(&self, sealing: &args::Sealing, address: &str) -> Result<()> {
        let Some(key) = sealing.key()? else { return Ok(()) };
        let component = address.split('/').next().unwrap_or_default();
        self.inner.share_key(component, key)
    }

    /// Calls `address` with a JSON request; the answer as JSON.
    pub(crate) fn call(
        &mut self,
        address: &str,
        request: Option<&serde_json::Value>,
        compressed: bool,
        timeout: Duration,
    ) -> Result<serde_json::Value> {
        let mut request = OwnedMessage::request(address, self.payload(address, request)?);
        request.flags.compressed = compressed;
        let answer = self.inner.send_request(request, Some(timeout))?;
        match self.schemas(address)? {
            Some(schemas) => schemas.decode_response(&answer.payload),
            None => to_json(&answer.payload),
        }
    }

    /// The payload of `json` for `address`: of its type where that is known, else JSON as it is.
    pub(crate) fn payload(
        &mut self,
        address: &str,
        json: Option<&serde_json::Value>,
    ) -> Result<OwnedPayload> {
        let null = serde_json::Value::Null;
        match (self.schemas(address)?, json) {
            (Some(schemas), json) => schemas.encode_request(json.unwrap_or(&null)),
            (None, Some(json)) => OwnedPayload::json(json),
            (None, None) => Ok(OwnedPayload::Empty),
        }
    }

    /// What a notification says, as JSON.
    pub(crate) fn notification_json(&mut self, message: &OwnedMessage) -> Result<serde_json::Value> {
        if !matches!(message.payload, OwnedPayload::Binary(_)) {
            return to_json(&message.payload);
        }
        match self.schemas(&message.destination)? {
            Some(schemas) => schemas.decode_request(&message.payload),
            None => to_json(&message.payload),
        }
    }

    /// Says on standard error when the hub goes and comes back, for those who stay longer than one call.
    pub(crate) fn tell_changes(&self) -> Result<()> {
        self.inner.on_state_change(|change| match change {
            StateChange::Connected => eprintln!("visorbus: the hub is back"),
            StateChange::Disconnected(error) => eprintln!("visorbus: {error}; waiting for the hub"),
            StateChange::NotRestored { what, error } => {
                eprintln!("visorbus: the hub refuses {what}: {error}")
            }
            _ => {}
        })
    }

    /// The next delivery, however long it takes; the token is kept fresh meanwhile.
    pub(crate) fn next(&mut self, subscription: &Subscription) -> Result<Delivery> {
        loop {
            let left = self.renew_at.duration_since(SystemTime::now()).unwrap_or_default();
            if left.is_zero() {
                match self.renew() {
                    // The hub is away; it is shown the token when it is back.
                    Ok(()) | Err(Error::Connection(_) | Error::Timeout(_)) => continue,
                    Err(error) => return Err(error),
                }
            }
            // Not for the whole time at once: this clock goes on while the machine sleeps, that of the wait does not.
            if let Some(delivery) = subscription.recv(Some(left.min(LONGEST_WAIT)))? {
                return Ok(delivery);
            }
        }
    }

    /// Shows the hub a new token. One that was given cannot be replaced.
    fn renew(&mut self) -> Result<()> {
        let Some(keys) = &self.keys else {
            return Err(Error::Authentication("the token has expired: get a new one".to_owned()));
        };
        let request = TokenRequest::new(SUBJECT, &["*"]);
        self.renew_at = SystemTime::now() + request.lifetime / 2;
        let token = keys.mint(&request).map_err(|e| Error::Internal(e.to_string()))?;
        self.inner.authenticate(&Credentials::Token(token)).map(|_| ())
    }

    /// The types of an address, asked for once; `None` where nobody has told them.
    fn schemas(&mut self, address: &str) -> Result<Option<&Schemas>> {
        if !self.schemas.contains_key(address) {
            let known = match self.ask_schema(address) {
                Ok(info) if info.request.is_empty() => None,
                Ok(info) => Some(Schemas::new(&info)?),
                // Nobody told them, or the token may not use the address: the call itself is told what is missing.
                Err(Error::Message(_) | Error::Authorization(_)) => None,
                Err(error) => return Err(error),
            };
            self.schemas.insert(address.to_owned(), known);
        }
        Ok(self.schemas.get(address).and_then(Option::as_ref))
    }

    /// Asks the hub for the types of an address. It has them a moment after a board came.
    fn ask_schema(&self, address: &str) -> Result<SchemaInfo> {
        let deadline = Instant::now() + SCHEMA_TIME;
        loop {
            let ask = OwnedMessage::request(bus::SCHEMA, OwnedPayload::String(address.to_owned()));
            let info: SchemaInfo = self.inner.send_request(ask, None)?.payload.parse()?;
            if !(info.request.is_empty() || info.response.is_empty()) || Instant::now() >= deadline {
                return Ok(info);
            }
            thread::sleep(SCHEMA_PAUSE);
        }
    }
}

/// A token from outside, and what it says of itself.
struct Given {
    token: TokenText,
    subject: String,
    expiry: SystemTime,
}

fn given_token(text: &str) -> Result<Given> {
    let token: TokenText = text.parse()?;
    let bytes = token.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
    let unverified = UnverifiedToken::read(&bytes).map_err(|e| Error::Authentication(e.to_string()))?;
    let narrowed = unverified.caveats().filter_map(|caveat| match caveat {
        Caveat::Expiry(at) => Some(at),
        _ => None,
    });
    let expiry = narrowed.fold(unverified.claims().expiry, u64::min);
    // One that no clock reaches does not expire.
    let expiry = UNIX_EPOCH + Duration::from_secs(expiry.min(LAST_EXPIRY));
    Ok(Given { token, subject: unverified.claims().subject.to_owned(), expiry })
}

/// What a newcomer needs to know beside why there is no connection.
fn no_hub(error: &Error) -> Error {
    let hint = "; `visorbus serve` starts one, --socket or VISORBUS_SOCKET names another";
    Error::new(error.kind(), format!("{}{hint}", error.text()))
}

/// What to do when the hub does not take what the key file made.
fn other_keys(args: &args::Client, error: Error) -> Error {
    match error {
        Error::Authentication(text) => Error::Authentication(format!(
            "{text}: the hub at {} has other keys than {}; name its file with --key-file, or give a --token",
            args.place.socket().display(),
            args.place.key_file().display()
        )),
        other => other,
    }
}

/// Whom the tokens speak for that this command makes itself.
const SUBJECT: &str = "cli";
/// A board at 9 600 baud takes so long for the schemas of some ten addresses.
const SCHEMA_TIME: Duration = Duration::from_secs(2);
const SCHEMA_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A time that every clock can tell: the year 9999.
const LAST_EXPIRY: u64 = 253_402_300_799;
