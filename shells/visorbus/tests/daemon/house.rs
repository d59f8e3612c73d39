//! A hub with a configuration, a port and settings of somebody's own, and those who use it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use visorbus_auth::{Accounts, KeyFile, Policy, Store, TokenRequest};
use visorbus_client::{Client, Credentials};
use visorbus_hub::{OwnedMessage, OwnedPayload, Result};
use visorbus_unix::UnixSocketClient;
use visorbus_websocket::WebSocketClient;

use crate::place::{PATIENCE, Place, Process};

pub(crate) struct House {
    pub(crate) place: Place,
    pub(crate) hub: Process,
    /// Of its port.
    pub(crate) url: String,
}

impl House {
    /// One whose configuration says this too.
    pub(crate) fn new(text: &str) -> Self {
        let place = Place::new();
        fs::write(place.path().join("display.toml"), DISPLAY).unwrap();
        fs::write(file(&place), format!("{PORT}{text}")).unwrap();
        Self::on(place)
    }

    /// One that serves what is there.
    pub(crate) fn on(place: Place) -> Self {
        let mut hub = place.start(&["serve", "--config", file(&place).to_str().unwrap()]);
        let said = hub.wait_for_error("visorbus serves on");
        let url =
            said.split([' ', ',']).find(|word| word.starts_with("ws://")).unwrap_or_default().to_owned();
        Self { place, hub, url }
    }

    pub(crate) fn file(&self) -> PathBuf {
        file(&self.place)
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// Host and port of its port.
    pub(crate) fn address(&self) -> String {
        self.url.trim_start_matches("ws://").trim_end_matches('/').to_owned()
    }

    /// A token for `subject`, of its text.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str], lifetime: Duration) -> String {
        let keys = KeyFile::open(self.place.key_file()).unwrap();
        let store = Store::open(self.place.store_file()).unwrap();
        let accounts = Accounts::new(Arc::new(store), keys, Arc::new(Policy::empty()));
        let request = TokenRequest { lifetime, ..TokenRequest::new(subject, scopes) };
        accounts.mint(&request).unwrap().value.as_str().to_owned()
    }

    /// A client on the socket.
    pub(crate) fn client(&self, name: &str, scopes: &[&str]) -> Client {
        let client = UnixSocketClient::new(self.place.socket(), name).unwrap();
        self.enter(Client::clone(&client), name, scopes)
    }

    /// A client at the port.
    pub(crate) fn web_client(&self, name: &str, scopes: &[&str]) -> Client {
        let client = WebSocketClient::new(&self.url, name).unwrap();
        self.enter(Client::clone(&client), name, scopes)
    }

    fn enter(&self, client: Client, name: &str, scopes: &[&str]) -> Client {
        client.connect().unwrap();
        let token = self.token(name, scopes, Duration::from_secs(3600));
        client.authenticate(&Credentials::Token(token.parse().unwrap())).unwrap();
        client
    }
}

pub(crate) fn ask(client: &Client, address: &str, payload: OwnedPayload) -> Result<OwnedMessage> {
    client.send_request(OwnedMessage::request(address, payload), Some(PATIENCE))
}

pub(crate) fn text(text: impl Into<String>) -> OwnedPayload {
    OwnedPayload::String(text.into())
}

pub(crate) fn json(text: impl Into<String>) -> OwnedPayload {
    OwnedPayload::Json(text.into())
}

fn file(place: &Place) -> PathBuf {
    place.path().join("visorbus.toml")
}

const PORT: &str = "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n\
    [settings]\ndeclarations = [\"display.toml\"]\n";
const DISPLAY: &str = "\
[display.brightness]\nkind = \"integer\"\ndefault = 1\nmin = 0\nmax = 100000\ndescription = \"How bright it is.\"\n\
[display.pin]\nkind = \"text\"\ndefault = \"\"\nsecret = true\ndescription = \"What opens it.\"\n\
[sound.volume]\nkind = \"integer\"\ndefault = 3\ndescription = \"How loud it is.\"\n";
