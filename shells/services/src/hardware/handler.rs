//! The component `hardware`: what anybody on the bus asks of the manager.

use visorbus_core::IpcError;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::message::Message;

use super::manager::HardwareManager;

/// Answers `hardware/list`, `hardware/device` and `hardware/command`, and publishes `hardware/added`, `hardware/removed` and
/// `hardware/changed` as long as it lives.
#[derive(Debug)]
pub struct HardwareMessageHandler {
    manager: HardwareManager,
}

impl HardwareMessageHandler {
    /// The handler over `manager`.
    pub fn new(manager: HardwareManager) -> Self {
        Self { manager }
    }
}

impl MessageHandler for HardwareMessageHandler {
    fn id(&self) -> &str {
        "hardware"
    }

    fn may_block(&self) -> bool {
        true
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        match message.destination.map(|to| to.as_str()) {
            Some("hardware/list") => {
                let devices: Vec<_> = self.manager.list().iter().map(|device| device.summary()).collect();
                reply.send(&devices)
            }
            _ => Err(IpcError::Message("nobody answers there")),
        }
    }
}
