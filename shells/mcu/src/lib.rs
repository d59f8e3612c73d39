//! The Linux end of the links to microcontrollers: serial lines, and SPI by spidev.
//!
//! [`SerialSpec`] says which device, how fast and as whom; [`Tty`] is that device, opened raw and non-blocking behind
//! the traits of `embedded-io`, so that a serial link cannot tell it from a microcontroller's own UART; [`Reopener`]
//! says when to look for a device again that was pulled out; [`SerialPort`] puts these together as a link of the hub.
//! [`SpiSpec`], [`SpidevDevice`] with [`SpidevReady`] and [`SpiPort`] are the same for an SPI target.
//!
//! ```no_run
//! use embedded_io::{Read, ReadReady};
//! use visorbus_mcu::{SerialSpec, Tty};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec: SerialSpec = "/dev/ttyACM0@921600".parse()?;
//! let mut tty = Tty::open(&spec.path, spec.baud)?;
//! let mut bytes = [0; 256];
//! while tty.read_ready()? {
//!     let n = tty.read(&mut bytes)?;
//!     println!("{:02x?}", &bytes[..n]);
//! }
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod guarded;
mod lookout;
mod port;
mod reopener;
mod spec;
mod spi;
mod trust;
mod tty;

pub use guarded::{BoardKeys, NoBoardKeys};
pub use port::SerialPort;
pub use reopener::Reopener;
pub use spec::{SerialSpec, SpecError};
pub use spi::{
    ReadyLine, SpiHardware, SpiOpenError, SpiPort, SpiSpec, SpiSpecError, SpidevDevice, SpidevHardware,
    SpidevReady,
};
pub use trust::Trust;
pub use tty::{OpenError, Tty, TtyError};
