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

    /// Shows those of the services that have come, and no longer those that have gone.
    pub(super) fn follow(&mut self, service: &mut DBusService, services: &Services) -> Result<()> {
        if self.hardware.is_some() != services.hardware.is_some() {
            self.show_hardware(service, services)?;
        }
        if self.monitoring.is_some() != services.monitoring.is_some() {
            self.show_monitoring(service, services)?;
        }
        Ok(())
    }

    /// Tells of no device any more, until the hardware is shown again.
    pub(super) fn tell_of_no_hardware(&mut self) {
        self.hardware = None;
    }

    /// Shows the inventory that there is now, in the place of the one before.
    fn show_hardware(&mut self, service: &mut DBusService, services: &Services) -> Result<()> {
        self.hardware = None;
        // There may have been none.
        let _ = service.unregister_interface(HARDWARE);
        if let (Some(manager), Some(door)) = (&services.hardware, service.door()) {
            self.hardware = Some(HardwareInterface::register(manager, &door)?);
        }
        Ok(())
    }

    /// Shows what measures now, in the place of what did before.
    fn show_monitoring(&mut self, service: &mut DBusService, services: &Services) -> Result<()> {
        self.monitoring = None;
        // There may have been none.
        let _ = service.unregister_interface(MONITORING);
        if let (Some(manager), Some(door)) = (&services.monitoring, service.door()) {
            self.monitoring = Some(MonitoringInterface::register(manager, &door)?);
        }
        Ok(())
    }
}

const HARDWARE: &str = "org.visorbus.Hardware1";
const MONITORING: &str = "org.visorbus.Monitoring1";
