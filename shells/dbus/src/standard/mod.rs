//! The standard interfaces: what the services of a headset are on a bus.

mod config;
mod hardware;
mod monitoring;
mod value;

pub use config::ConfigInterface;
pub use hardware::HardwareInterface;
pub use monitoring::MonitoringInterface;
