//! The standard interfaces: what the services of a headset are on a bus.

mod hardware;
mod monitoring;
mod value;

pub use hardware::HardwareInterface;
pub use monitoring::MonitoringInterface;
