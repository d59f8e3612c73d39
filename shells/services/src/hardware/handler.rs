//! The component `hardware`: what anybody on the bus asks of the manager, and what it tells.

use std::time::Duration;

use serde::Deserialize;
use visorbus_core::IpcError;
use visorbus_core::dispatch::{Caller, MessageHandler, Reply, RowHead};
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::message::{Message, MessageType};
use visorbus_hub::{Error, HubHandle, OwnedMessage, OwnedPayload};

use super::device::{Device, DeviceChange, DeviceSummary};
use super::manager::HardwareManager;
use super::messages::{
    COMPONENT, ChangedDevice, CommandDevice, CommandRequest, DeviceAdded, DeviceChanged, DeviceRemoved,
    GetDevice, ListDevices, ROWS, RemovedDevice,
};
use crate::answer::{Asked, answer};
use crate::listeners::Listening;

/// Answers `hardware/list`, `hardware/device` and `hardware/command`, and publishes `hardware/added`, `hardware/removed` and
/// `hardware/changed` as long as it lives. [`messages`](super::messages) has all of them.
///
/// Payloads come as postcard, JSON, TOML or text, and are answered in the same form. One command runs at a time, and what is
/// asked meanwhile waits for it: at most as long as [`HardwareConfig::command_timeout`](super::HardwareConfig) says.
#[derive(Debug)]
pub struct HardwareMessageHandler {
    manager: HardwareManager,
    /// Publishes.
    _listening: Listening,
}

impl HardwareMessageHandler {
    /// The handler over `manager`, for the hub that the manager knows.
    pub fn new(manager: HardwareManager) -> Self {
        let hub = manager.hub().clone();
        let listening = manager.on_change(move |change| publish(&hub, change));
        Self { manager, _listening: listening }
    }

    fn list(&self, kind: &str) -> Vec<DeviceSummary> {
        let devices = self.manager.list();
        let asked = devices.iter().filter(|device| kind.is_empty() || device.kind == kind);
        asked.map(Device::summary).collect()
    }
}

impl MessageHandler for HardwareMessageHandler {
    fn id(&self) -> &str {
        COMPONENT
    }

    fn supported_message_types(&self) -> &[MessageType] {
        &[MessageType::Request]
    }

    /// A command waits for its board.
    fn may_block(&self) -> bool {
        true
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        ROWS.get(number).copied()
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        // Without a caller nobody may do what needs more than the address.
        self.handle_for(&Caller::new(None, None), message, reply, &|| false)
    }

    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        _cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        match message.destination {
            Some(ListDevices::ADDRESS) => {
                answer(message, reply, |Kind(kind)| Ok(self.list(&kind.unwrap_or_default())))
            }
            Some(GetDevice::ADDRESS) => answer(message, reply, |id: String| self.manager.find(&id)),
            Some(CommandDevice::ADDRESS) => {
                let timeout =
                    message.flags.timeout_ms.map_or(Duration::MAX, |ms| Duration::from_millis(ms.into()));
                answer(message, reply, |CommandRequest { device, command, argument }| {
                    self.manager.command_for(caller, &device, &command, Some(argument), timeout)
                })
            }
            _ => Err(IpcError::Message(
                "the component hardware has only hardware/list, hardware/device and hardware/command",
            )),
        }
    }
}

/// The kind of devices that is asked for; nothing, or an empty text: any.
#[derive(Deserialize)]
struct Kind(Option<String>);

impl Asked for Kind {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self(Some(text.trim().to_owned())))
    }

    fn from_nothing() -> Option<Self> {
        Some(Self(None))
    }
}

/// Tells whoever has subscribed.
fn publish(hub: &HubHandle, change: &DeviceChange) {
    let message = match change {
        DeviceChange::Added(device) => notification::<DeviceAdded>(device),
        DeviceChange::Removed { device, why } => {
            let DeviceSummary { id, kind, name, .. } = device.summary();
            notification::<DeviceRemoved>(&RemovedDevice { id, kind, name, why: why.clone() })
        }
        DeviceChange::Changed { device, changed } => {
            let (device, changed) = (device.clone(), changed.clone());
            notification::<DeviceChanged>(&ChangedDevice { device, changed })
        }
    };
    // Before the handler is registered nobody has subscribed, and after the hub has ended nobody is there.
    if let Err(error) = message.and_then(|message| hub.publish(message)) {
        tracing::debug!("nobody was told of the device '{}': {error}", change.device().id);
    }
}

fn notification<T: Topic>(message: &T::Message) -> Result<OwnedMessage, Error> {
    Ok(OwnedMessage::notification(T::ADDRESS.as_str(), OwnedPayload::postcard(message)?))
}
