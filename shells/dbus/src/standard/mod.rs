//! The standard interfaces: what the services of a headset are on a bus.

mod monitoring;

pub use monitoring::MonitoringInterface;
