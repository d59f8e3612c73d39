//! The standard services: what they are set to, their handlers in the hub, and what others use them by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use visorbus_hub::{HubHandle, Result, Value};
use visorbus_services::hardware::{Device, HardwareConfig, HardwareManager, HardwareMessageHandler};
use visorbus_services::monitoring::{
    Metric, MonitoringConfig, MonitoringManager, MonitoringMessageHandler, Source,
};

use super::scrape::Scrape;
use crate::settings::{HardwareSettings, MonitoringSettings, Scraping};

/// The services that there are.
#[derive(Default)]
pub(super) struct Services {
    pub(super) hardware: Option<HardwareManager>,
    pub(super) monitoring: Option<MonitoringManager>,
    /// The inventory as it is now, for what measures.
    inventory: Inventory,
    /// What of the figures is a page.
    pub(super) scrape: Scrape,
}

impl Services {
    /// Has looked after what the settings say. The inventory stays where it only changes how.
    pub(super) fn apply_hardware(&mut self, settings: &HardwareSettings, hub: &HubHandle) -> Result<()> {
        match &self.hardware {
            Some(manager) if settings.enabled => manager.reconfigure(hardware(settings)),
            Some(_) => {
                // With it goes who tells of devices: that nobody looks after them is not that they are gone.
                hub.unregister_handler(HARDWARE)?;
                self.end_hardware();
            }
            None if settings.enabled => {
                let manager = HardwareManager::new(hardware(settings), hub.clone())?;
                let handler = HardwareMessageHandler::new(manager.clone());
                hub.register_handler(Box::new(handler)).inspect_err(|_| manager.stop())?;
                self.inventory.set(Some(manager.clone()));
                self.hardware = Some(manager);
            }
            None => {}
        }
        Ok(())
    }

    /// Has measured what the settings say. What was measured before stays where it only changes how.
    pub(super) fn apply_monitoring(&mut self, settings: &MonitoringSettings, hub: &HubHandle) -> Result<()> {
        match &self.monitoring {
            Some(manager) if settings.enabled => manager.reconfigure(monitoring(settings)),
            Some(_) => {
                hub.unregister_handler(MONITORING)?;
                self.monitoring = None;
            }
            None if settings.enabled => {
                let manager = MonitoringManager::new(
                    monitoring(settings),
                    hub.clone(),
                    vec![self.inventory.readings()],
                )?;
                hub.register_handler(Box::new(MonitoringMessageHandler::new(manager.clone())))?;
                self.monitoring = Some(manager);
            }
            None => {}
        }
        self.scrape.set(settings.prometheus, self.monitoring.clone());
        Ok(())
    }

    /// Ends their threads.
    pub(super) fn end(&mut self) {
        self.end_hardware();
        self.monitoring = None;
        self.scrape.set(Scraping::Off, None);
    }

    fn end_hardware(&mut self) {
        self.inventory.set(None);
        if let Some(hardware) = self.hardware.take() {
            hardware.stop();
        }
    }
}

/// The inventory, which may be exchanged, as what measures has it. Cloning it is cheap.
#[derive(Clone, Default)]
struct Inventory(Arc<Mutex<Option<HardwareManager>>>);

impl Inventory {
    fn set(&self, manager: Option<HardwareManager>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = manager;
    }

    /// What devices show of themselves all the time: `device.reading{device="…",property="…",unit="…"}`.
    fn readings(&self) -> Source {
        let inventory = self.clone();
        Box::new(move || {
            let manager = inventory.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let devices = manager.map(|manager| manager.list()).unwrap_or_default();
            devices.iter().flat_map(readings).collect()
        })
    }
}

fn readings(device: &Device) -> impl Iterator<Item = Metric> {
    device.properties.iter().filter(|property| property.reading).filter_map(|property| {
        let value = match property.value {
            Value::Float(value) => value,
            #[expect(
                clippy::cast_precision_loss,
                reason = "a reading of 2^53 has lost nothing that a graph shows"
            )]
            Value::Integer(value) => value as f64,
            _ => return None,
        };
        let metric = Metric::gauge("device.reading", value).with("device", &device.id);
        Some(metric.with("property", &property.name).with("unit", &property.unit))
    })
}

fn hardware(settings: &HardwareSettings) -> HardwareConfig {
    let mut config = HardwareConfig::default();
    config.sysfs_root.clone_from(&settings.sysfs_root);
    config.scan_interval = settings.scan_interval;
    config.kernel_events = settings.kernel_events;
    config.max_devices = settings.max_devices;
    config.command_timeout = settings.command_timeout;
    config
}

fn monitoring(settings: &MonitoringSettings) -> MonitoringConfig {
    MonitoringConfig {
        interval: settings.interval,
        publish: Some(settings.publish).filter(|publish| *publish != Duration::ZERO),
        history: settings.history,
        history_bytes: settings.history_bytes,
        max_series: settings.max_series,
        thresholds: settings.thresholds.clone(),
        proc_root: settings.proc_root.clone(),
    }
}

const HARDWARE: &str = "hardware";
const MONITORING: &str = "monitoring";
