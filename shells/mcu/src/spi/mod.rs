//! An SPI target as a link of the hub: which device and which ready line, these two opened, and the link over them.

mod hardware;
mod port;
mod spec;

pub use hardware::{ReadyLine, SpiHardware, SpiOpenError, SpidevDevice, SpidevHardware, SpidevReady};
pub use port::SpiPort;
pub use spec::{SpiSpec, SpiSpecError};
