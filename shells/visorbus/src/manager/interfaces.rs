//! The interfaces of the standard services on the hub's bus, and what keeps the bus told.

use visorbus_dbus::{ConfigInterface, DBusService, HardwareInterface, MonitoringInterface};
use visorbus_hub::Result;
use visorbus_services::Listening;
use visorbus_services::config::ConfigManager;

use super::services::Services;

/// What tells the bus of changes, as long as it is there.
#[derive(Default)]
pub(super) struct Interfaces {
    config: Option<Listening>,
    hardware: Option<Listening>,
    monitoring: Option<Listening>,
}

impl Interfaces {
    /// Shows all of them on `service`.
    pub(super) fn show(
        &mut self,
        service: &mut DBusService,
        config: &ConfigManager,
        services: &Services,
    ) -> Result<()> {
        if let Some(door) = service.door() {
            self.config = Some(ConfigInterface::register(config, &door)?);
        }
        self.show_hardware(service, services)?;
        self.show_monitoring(service, services)
    }

    /// Shows the inventory where there is one that is not shown yet, and shows none where there is none.
    pub(super) fn show_hardware(&mut self, service: &mut DBusService, services: &Services) -> Result<()> {
        match (&services.hardware, service.door()) {
            (Some(_), _) if self.hardware.is_some() => {}
            (Some(manager), Some(door)) => {
                self.hardware = Some(HardwareInterface::register(manager, &door)?);
            }
            _ => self.hide_hardware(service),
        }
        Ok(())
    }

    /// Shows no inventory, and tells of no device any more.
    pub(super) fn hide_hardware(&mut self, service: &mut DBusService) {
        if self.hardware.take().is_some() {
            // Where it is not to be had any more either, it is gone.
            let _ = service.unregister_interface(HARDWARE);
        }
    }

    /// As [`Interfaces::show_hardware`], for what measures.
    pub(super) fn show_monitoring(&mut self, service: &mut DBusService, services: &Services) -> Result<()> {
        match (&services.monitoring, service.door()) {
            (Some(_), _) if self.monitoring.is_some() => {}
            (Some(manager), Some(door)) => {
                self.monitoring = Some(MonitoringInterface::register(manager, &door)?);
            }
            _ if self.monitoring.take().is_some() => {
                let _ = service.unregister_interface(MONITORING);
            }
            _ => {}
        }
        Ok(())
    }
}

const HARDWARE: &str = "org.visorbus.Hardware1";
const MONITORING: &str = "org.visorbus.Monitoring1";
