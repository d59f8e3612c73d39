//! What `call`, `publish`, `subscribe` and `services` share: a client of the hub, and JSON for its typed addresses.

use std::collections::HashMap;
use std::time::Duration;

use visorbus_auth::TokenRequest;
use visorbus_core::auth::UnverifiedToken;
use visorbus_core::bus;
use visorbus_hub::info::SchemaInfo;
use visorbus_hub::schema::{Schemas, to_json};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use visorbus_unix::{Token, UnixSocketClient};

use crate::args;

/// A connected, authenticated client.
pub(crate) struct Client {
    pub(crate) inner: UnixSocketClient,
    schemas: HashMap<String, Option<Schemas>>,
}

impl Client {
    /// Connects with the token given, else with one made from the hub's own key file.
    pub(crate) fn connect(args: &args::Client) -> Result<Self> {
        let text = match &args.token {
            Some(text) => text.clone(),
            None => {
                let token = args.place.keys()?.mint(&TokenRequest::new("cli", &["*"]));
                token.map_err(|e| Error::Internal(e.to_string()))?.as_str().to_owned()
            }
        };
        let bytes = visorbus_auth::TokenText::parse(&text).map_err(|e| Error::Authentication(e.to_string()))?;
        let bytes = bytes.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
        let unverified = UnverifiedToken::read(&bytes).map_err(|e| Error::Authentication(e.to_string()))?;
        let name = format!("{}.{}", unverified.claims().subject, std::process::id());
        let client = UnixSocketClient::new(args.place.socket(), &name)?;
        client.connect()?;
        client.authenticate(text.parse::<Token>()?)?;
        Ok(Self { inner: client, schemas: HashMap::new() })
    }

    /// Calls `address` with a JSON request; the answer as JSON.
    pub(crate) fn call(
        &mut self,
        address: &str,
        request: Option<&serde_json::Value>,
        timeout: Duration,
    ) -> Result<serde_json::Value> {
        let payload = self.payload(address, request)?;
        let answer = self.inner.send_request(OwnedMessage::request(address, payload), Some(timeout))?;
        match self.schemas(address)? {
            Some(schemas) => schemas.decode_response(&answer.payload),
            None => to_json(&answer.payload),
        }
    }

    /// The payload of `json` for `address`: of its type where that is known, else JSON as it is.
    pub(crate) fn payload(&mut self, address: &str, json: Option<&serde_json::Value>) -> Result<OwnedPayload> {
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

    /// The types of an address, asked for once; `None` where nobody has told them.
    fn schemas(&mut self, address: &str) -> Result<Option<&Schemas>> {
        if !self.schemas.contains_key(address) {
            let ask = OwnedMessage::request(bus::SCHEMA, OwnedPayload::String(address.to_owned()));
            let known = match self.inner.send_request(ask, None) {
                Ok(answer) => Some(Schemas::new(&answer.payload.parse::<SchemaInfo>()?)?),
                // Nobody told, or this token may not ask: then the payload goes as it is.
                Err(Error::Message(_) | Error::Authorization(_)) => None,
                Err(error) => return Err(error),
            };
            self.schemas.insert(address.to_owned(), known);
        }
        Ok(self.schemas.get(address).and_then(Option::as_ref))
    }
}
