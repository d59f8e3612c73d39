//! A setting of the headset that one program changes, and two of other kinds hear of.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use visorbus_client::{Client, Delivery};
use visorbus_core::bus::SlowConsumer;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result, Value};
use visorbus_services::config::{Category, ConfigChange, Key};

use super::PATIENCE;
use super::desktop::Desktop;

/// What becomes of the setting.
pub(super) const BRIGHTNESS: i64 = 60;

/// From the moment at which an app begins to ask for it.
pub(super) struct Heard {
    /// Until a service has heard of the change.
    pub(super) by_service: Duration,
    /// Until a desktop program has, where there is a bus.
    pub(super) by_desktop: Option<Duration>,
}

/// A category of settings beside those of the hub.
pub(super) fn display() -> Category {
    let brightness = Key::integer("brightness", 0..=100, 70, "Brightness of both panels").unit("%");
    Category::new("display", "What the user sees").key(brightness)
}

/// Has `app` change it while `service`, and a program on the bus, listen.
pub(super) fn change(app: &Client, service: &Client, desktop: Option<&Desktop>) -> Result<Heard> {
    let changes = service.subscribe("config/changed/display/*", SlowConsumer::default())?;
    let (told, signals) = channel();
    let listener = desktop.map(|desktop| {
        desktop.listen("org.visorbus.Config1", ["display", "brightness"], move || {
            // Nobody waits for a second one.
            let _ = told.send(Instant::now());
        })
    });
    let listener = listener.transpose()?;
    let started = Instant::now();
    let request =
        OwnedMessage::request("config/set/display/brightness", OwnedPayload::Json(BRIGHTNESS.to_string()));
    app.send_request(request, None)?;
    let late = || Error::Timeout("a change of a setting was not told in time".to_owned());
    let Some(Delivery::Message(message)) = changes.recv(Some(PATIENCE))? else { return Err(late()) };
    let by_service = started.elapsed();
    let change: ConfigChange = message.payload.parse()?;
    if change.value != Value::Integer(BRIGHTNESS) {
        return Err(Error::Internal(format!(
            "the brightness was set to {BRIGHTNESS} and is {}",
            change.value
        )));
    }
    let by_desktop = listener.map(|_| signals.recv_timeout(PATIENCE).map_err(|_| late())).transpose()?;
    Ok(Heard { by_service, by_desktop: by_desktop.map(|at| at.saturating_duration_since(started)) })
}
