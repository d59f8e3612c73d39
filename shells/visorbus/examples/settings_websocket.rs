//! A setting over a WebSocket: reads it, changes it where a value is given, and prints what anybody changes from then on.
//!
//! ```text
//! VISORBUS_URL=ws://127.0.0.1:7400 VISORBUS_TOKEN=vb1.… settings_websocket display/brightness [JSON]
//! ```
//!
//! The token is one of the subject `panel`: a client is called as its token says, or that and a dot and more.

use std::env;
use std::time::Duration;

use visorbus_client::{Credentials, Delivery};
use visorbus_core::bus::SlowConsumer;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use visorbus_services::config::{ConfigChange, ConfigEntry};
use visorbus_websocket::WebSocketClient;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let setting = arguments.next().ok_or_else(|| missing("CATEGORY/KEY as the first argument"))?;
    let url = env::var("VISORBUS_URL").map_err(|_| missing("VISORBUS_URL"))?;
    let token = env::var("VISORBUS_TOKEN").map_err(|_| missing("VISORBUS_TOKEN"))?;

    let client = WebSocketClient::new(&url, "panel.websocket")?;
    client.connect()?;
    let token =
        token.parse().map_err(|e| Error::Authentication(format!("VISORBUS_TOKEN is no token: {e}")))?;
    client.authenticate(&Credentials::Token(token))?;

    // First the subscription, so that no change falls between reading and hearing.
    let changes = client.subscribe(&format!("config/changed/{setting}"), SlowConsumer::DropOldest(64))?;
    let request = OwnedMessage::request(format!("config/get/{setting}"), OwnedPayload::Empty);
    let entry: ConfigEntry = client.send_request(request, Some(Duration::from_secs(2)))?.payload.parse()?;
    println!("{setting} is {}", entry.value);
    if let Some(json) = arguments.next() {
        let request = OwnedMessage::request(format!("config/set/{setting}"), OwnedPayload::Json(json));
        client.send_request(request, None)?;
    }
    loop {
        if let Some(Delivery::Message(message)) = changes.recv(None)? {
            let change: ConfigChange = message.payload.parse()?;
            println!("{setting} is now {}, by {}", change.value, change.by);
        }
    }
}

fn missing(what: &str) -> Error {
    Error::Message(format!("say {what}"))
}
