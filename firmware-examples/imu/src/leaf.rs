//! The node's end of its link, the same on every board.

use embedded_io::{Read, ReadReady, Write, WriteReady};
use visorbus_core::Peer;
use visorbus_core::auth::Key;
use visorbus_core::peer::{DeviceKey, HubByLink};
use visorbus_core::secure::{LinkKey, NonceSeed, WrongSuite};
use visorbus_core::session::SessionConfig;
use visorbus_device::{AsyncLine, KeyedLine, Line, MAX_FRAME, async_line, keyed_line, line};

use crate::KEY_ID;
use crate::messages::NAME;
use crate::node::ROWS;

/// The node's end of a serial link over the UART `U`.
pub type Leaf<U> = Peer<Line<U>, DeviceKey, MAX_FRAME>;

/// The end that says hello over `uart` and proves itself by `key`; callers have to prove themselves too.
pub fn leaf<U: Read + Write + ReadReady + WriteReady>(uart: U, boot_id: u64, key: Key) -> Leaf<U> {
    Peer::new(session_config(boot_id, true), line(uart), DeviceKey::new(KEY_ID, key))
}

/// The node's end of a serial line with a key.
pub type KeyedLeaf<U> = Peer<KeyedLine<U>, HubByLink, MAX_FRAME>;

/// The end that says hello over `uart` once the key of the line has proven both of its ends. It needs no token beside
/// that, and asks for none: the hub answers for its callers. `seed` is for the nonces of this start.
///
/// # Errors
/// The key is of another suite than `tag64`.
pub fn keyed_leaf<U: Read + Write + ReadReady + WriteReady>(
    uart: U,
    boot_id: u64,
    key: LinkKey,
    seed: NonceSeed,
) -> Result<KeyedLeaf<U>, WrongSuite> {
    Ok(Peer::new(session_config(boot_id, false), keyed_line(uart, key, boot_id, seed)?, HubByLink))
}

/// As [`Leaf`], for `visorbus_hal::serve_serial`.
pub type AsyncLeaf = Peer<AsyncLine, DeviceKey, MAX_FRAME>;

/// As [`leaf`], over a UART that `visorbus_hal::serve_serial` is given.
pub fn async_leaf(boot_id: u64, key: Key) -> AsyncLeaf {
    Peer::new(session_config(boot_id, true), async_line(), DeviceKey::new(KEY_ID, key))
}

/// What the node says of itself in its hello.
pub fn session_config(boot_id: u64, requires_authentication: bool) -> SessionConfig {
    visorbus_device::session_config(NAME, ROWS, boot_id, requires_authentication)
}
