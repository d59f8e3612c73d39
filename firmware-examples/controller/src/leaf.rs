//! The node's end of its link, the same on every board.

use embedded_io::{Read, ReadReady, Write, WriteReady};
use visorbus_core::Peer;
use visorbus_core::auth::Key;
use visorbus_core::peer::DeviceKey;
use visorbus_core::session::SessionConfig;
use visorbus_device::{Line, MAX_FRAME, line};

use crate::KEY_ID;
use crate::messages::NAME;
use crate::node::ROWS;

/// The node's end of a serial link over the UART `U`.
pub type Leaf<U> = Peer<Line<U>, DeviceKey, MAX_FRAME>;

/// The end that says hello over `uart` and proves itself by `key`; callers have to prove themselves too.
pub fn leaf<U: Read + Write + ReadReady + WriteReady>(uart: U, boot_id: u64, key: Key) -> Leaf<U> {
    Peer::new(session_config(boot_id, true), line(uart), DeviceKey::new(KEY_ID, key))
}

/// What the node says of itself in its hello.
pub fn session_config(boot_id: u64, requires_authentication: bool) -> SessionConfig {
    visorbus_device::session_config(NAME, ROWS, boot_id, requires_authentication)
}
