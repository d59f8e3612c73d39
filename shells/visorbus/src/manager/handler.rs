//! The component `manager`: how the hub's program is, and having it read its files again or end.

use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::{MessageHandler, NOBODY, Reply, RowHead};
use visorbus_core::message::typed::Endpoint;
use visorbus_core::message::{Address, Message, MessageType};

use super::control::ManagerControl;
use super::reload::Reloaded;
use super::status::ManagerStatus;

/// `manager/status`: how the hub's program is.
#[derive(Debug, Clone, Copy)]
pub struct GetStatus;

impl Endpoint for GetStatus {
    type Request = ();
    type Response = ManagerStatus;
    const ADDRESS: Address<'static> = Address::literal("manager/status");
    const ACCESS: Access<'static> = Access::Permission;
}

/// `manager/reload`: reads the configuration, accounts, keys, policy and certificates again.
#[derive(Debug, Clone, Copy)]
pub struct Reload;

impl Endpoint for Reload {
    type Request = ();
    type Response = Reloaded;
    const ADDRESS: Address<'static> = Address::literal("manager/reload");
    const ACCESS: Access<'static> = Access::Permission;
}

/// `manager/shutdown`: ends the hub's program once it has answered.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown;

impl Endpoint for Shutdown {
    type Request = ();
    type Response = ();
    const ADDRESS: Address<'static> = Address::literal("manager/shutdown");
    const ACCESS: Access<'static> = Access::Permission;
}

/// Answers these three.
pub(super) struct ManagerHandler {
    control: ManagerControl,
}

impl ManagerHandler {
    pub(super) const fn new(control: ManagerControl) -> Self {
        Self { control }
    }
}

impl MessageHandler for ManagerHandler {
    fn id(&self) -> &str {
        "manager"
    }

    fn supported_message_types(&self) -> &[MessageType] {
        &[MessageType::Request]
    }

    /// A reload is waited for.
    fn may_block(&self) -> bool {
        true
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        ROWS.get(number).copied()
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let address = message.destination.ok_or(NOBODY)?;
        if address == GetStatus::ADDRESS {
            return reply.send(&self.control.status());
        }
        if address != Reload::ADDRESS && address != Shutdown::ADDRESS {
            return Err(NOBODY);
        }
        if !self.control.is_served() {
            return Err(IpcError::Connection("the program that has this hub takes no orders from here"));
        }
        if address == Shutdown::ADDRESS {
            tracing::info!("told to end by {}", message.source.map_or("nobody", |source| source.as_str()));
            self.control.shutdown();
            return reply.send(&());
        }
        match self.control.reload() {
            Ok(reloaded) => reply.send(&reloaded),
            Err(error) => reply.error(&IpcError::new(error.kind(), error.text().as_str())),
        }
    }
}

static ROWS: [RowHead<'static>; 3] = [row::<GetStatus>(), row::<Reload>(), row::<Shutdown>()];

const fn row<E: Endpoint>() -> RowHead<'static> {
    RowHead::new(RowKind::Endpoint, E::ADDRESS, E::ACCESS, E::SCHEMA)
}
