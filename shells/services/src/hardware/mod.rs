//! What a headset is made of: its boards, and the devices of the machine that the hub runs on.
//!
//! - [`HardwareManager`] keeps the inventory: it watches the hub for boards and reads the machine's devices from sysfs.
//! - [`HardwareMessageHandler`] makes it the component `hardware` of a hub.
//! - [`Device`] is one of them, [`DeviceChange`] what happened to one.
//!
//! Nothing here writes to a device of the machine. A command goes to the board that offers it, as a request.

mod handler;
pub mod messages;

mod inventory;
mod manager;
mod threads;

mod boards;
mod inquiries;

mod machine;
mod uevents;

mod device;
mod sysfs;

pub use device::{Command, Device, DeviceChange, DeviceSummary, Property};
pub use handler::HardwareMessageHandler;
pub use manager::{HardwareConfig, HardwareManager};
