//! Keeps the inventory up to date on threads of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use visorbus_core::auth::Operation;
use visorbus_core::dispatch::Caller;
use visorbus_core::message::Address;
use visorbus_hub::schema::to_json;
use visorbus_hub::{Error, HubHandle, HubWatch, OwnedMessage, OwnedPayload, Result, Value, error};

use super::boards::{Boards, Inquiry};
use super::device::{Command, Device, DeviceChange};
use super::inquiries::Inquiries;
use super::inventory::Inventory;
use super::machine::{Bell, Machine};
use super::threads::Threads;
use crate::listeners::Listening;

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
        let (inventory, config) = (Arc::<Inventory>::default(), Arc::new(Mutex::new(config)));
        let failed = |e: std::io::Error| Error::Internal(format!("hardware cannot be looked after: {e}"));
        let bell = Arc::new(Bell::new().map_err(failed)?);
        let watch = Arc::new(hub.watch(EVENTS)?);
        let (inquire, waiting) = sync_channel(INQUIRIES);
        let inquiries = Inquiries { hub: hub.clone(), inventory: Arc::clone(&inventory), waiting };
        let boards = Boards {
            hub: hub.clone(),
            inventory: Arc::clone(&inventory),
            watch: Arc::clone(&watch),
            config: Arc::clone(&config),
            inquiries: inquire.clone(),
        };
        let machine = Machine::new(Arc::clone(&config), Arc::clone(&inventory), Arc::clone(&bell));
        let shared = Arc::new(Shared {
            inventory,
            hub,
            config,
            commands: AtomicUsize::new(0),
            bell,
            watch,
            inquire: Mutex::new(Some(inquire)),
            threads: Threads::default(),
        });
        // If one cannot be started, those before it end with `shared`.
        shared.threads.start("hardware-machine", || machine.run()).map_err(failed)?;
        shared.threads.start("hardware-boards", || boards.run()).map_err(failed)?;
        shared.threads.start("hardware-info", || inquiries.run()).map_err(failed)?;
        Ok(Self { shared })
    }

    /// Goes on with another configuration, and looks at all devices now; it does not wait for that. Of a device that was
    /// there and still is nobody is told, unless it is otherwise now.
    pub fn reconfigure(&self, config: HardwareConfig) {
        *lock(&self.shared.config) = config;
        self.shared.bell.ring();
        self.shared.watch.wake();
    }

    /// How it is configured.
    pub fn config(&self) -> HardwareConfig {
        lock(&self.shared.config).clone()
    }

    /// All devices by their ids, in their order; as they were when they were last looked at.
    pub fn list(&self) -> Vec<Device> {
        self.shared.inventory.list()
    }

    /// The device called `id`.
    pub fn device(&self, id: &str) -> Option<Device> {
        self.shared.inventory.device(id)
    }

    /// As [`HardwareManager::device`], for whoever is told that there is none.
    ///
    /// # Errors
    /// `Message` when there is none.
    pub fn find(&self, id: &str) -> Result<Device> {
        self.device(id).ok_or_else(|| unknown(id))
    }

    /// Has `listener` called with every change from now on, in the order in which they happen, until the answer is dropped.
    /// It runs on the manager's threads, which wait for it.
    pub fn on_change(&self, listener: impl Fn(&DeviceChange) + Send + Sync + 'static) -> Listening {
        self.shared.inventory.listeners.add(listener)
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
        let command = self.command_of(id, command)?;
        self.run(id, &command, argument, Duration::MAX)
    }

    /// As [`HardwareManager::command`] for somebody else, within `timeout` too: it is done only if `caller` may itself send
    /// the request that it takes. Which commands there are, anybody may know who gets here.
    ///
    /// # Errors
    /// As [`HardwareManager::command`]; as [`Caller::may`], with the address that the caller may not send to; and `Message`
    /// when two commands for somebody else are under way already, over all ways in: each holds a thread that others may
    /// need. The device is not reached then.
    pub fn command_for(
        &self,
        caller: &Caller<'_>,
        id: &str,
        command: &str,
        argument: Option<Value>,
        timeout: Duration,
    ) -> Result<Value> {
        let command = self.command_of(id, command)?;
        let address = Address::new(&command.address)
            .map_err(|_| Error::Internal(format!("'{}' is no address", command.address)))?;
        caller
            .may(Operation::Request, address, command.needs())
            .map_err(|refusal| error(refusal.kind(), format!("{address}: {}", refusal.text())))?;
        let _turn = self.shared.begin_command()?;
        self.run(id, &command, argument, timeout)
    }

    pub(crate) fn hub(&self) -> &HubHandle {
        &self.shared.hub
    }

    /// Ends its threads, and waits for that, two seconds at most: one that hangs in a device it reads, or in a listener, is
    /// left to itself, and tells of nothing when it comes back. Boards are no longer in the inventory then; what was known of
    /// the machine stays. Not for a listener, nor for an inline handler.
    pub fn stop(&self) {
        self.shared.end();
        let hanging = self.shared.threads.join(STOPPING);
        if !hanging.is_empty() {
            let hanging = hanging.join(", ");
            tracing::warn!(
                "{hanging}: something that is looked at does not answer, and is waited for no more"
            );
        }
    }

    fn run(&self, id: &str, command: &Command, argument: Option<Value>, timeout: Duration) -> Result<Value> {
        let json = argument.unwrap_or_default().to_string();
        let request = OwnedMessage::request(command.address.clone(), OwnedPayload::Json(json));
        // Before, as an answer of the board to another question may be the first that shows what it did; and behind, as the
        // board may do it only then.
        self.shared.inventory.note_commanded(id);
        let answer = self.shared.hub.request(request, timeout.min(self.config().command_timeout));
        self.shared.inventory.note_commanded(id);
        self.shared.inquire(Inquiry(id.to_owned()));
        to_json(&answer?.payload).map(Value::from)
    }

    fn command_of(&self, id: &str, command: &str) -> Result<Command> {
        let device = self.find(id)?;
        device.command(command).cloned().ok_or_else(|| no_command(&device, command))
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
    /// How long a board has to answer a command. Default 2 s.
    pub command_timeout: Duration,
}

impl Default for HardwareConfig {
    fn default() -> Self {
        Self {
            sysfs_root: PathBuf::from("/sys"),
            scan_interval: Duration::from_secs(5),
            kernel_events: true,
            max_devices: 1024,
            command_timeout: Duration::from_secs(2),
        }
    }
}

struct Shared {
    inventory: Arc<Inventory>,
    hub: HubHandle,
    config: Arc<Mutex<HardwareConfig>>,
    /// So many are under way for somebody else.
    commands: AtomicUsize,
    bell: Arc<Bell>,
    watch: Arc<HubWatch>,
    /// While boards are asked.
    inquire: Mutex<Option<SyncSender<Inquiry>>>,
    threads: Threads,
}

impl Shared {
    /// Counts a command for somebody else until the answer is dropped.
    fn begin_command(&self) -> Result<Turn<'_>> {
        let turn = Turn(&self.commands);
        match self.commands.fetch_add(1, Ordering::SeqCst) {
            under_way if under_way < MOST_COMMANDS => Ok(turn),
            under_way => Err(Error::Message(format!(
                "{under_way} commands wait for their boards already, the limit: try again when one has answered"
            ))),
        }
    }

    fn inquire(&self, inquiry: Inquiry) {
        if let Some(inquire) = &*lock(&self.inquire) {
            // Where many wait to be asked, the next look asks again.
            let _ = inquire.try_send(inquiry);
        }
    }

    /// Has the threads end, and waits for none.
    fn end(&self) {
        self.bell.end();
        self.watch.end();
        *lock(&self.inquire) = None;
    }
}

/// Does not wait: a thread may wait for the hub, and the hub be what drops the last handler.
impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
    }
}

/// One of the commands that are under way.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn no_command(device: &Device, command: &str) -> Error {
    let Device { id, commands, .. } = device;
    let names: Vec<&str> = commands.iter().map(|command| command.name.as_str()).collect();
    let there = match &*names {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    Error::Message(format!("the device '{id}' has no command '{}': {there}", command.escape_debug()))
}

fn unknown(id: &str) -> Error {
    Error::Message(format!("there is no device '{}': hardware/list tells which there are", id.escape_debug()))
}

/// What is behind a lock is whole between any two lines that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of the hub's, until they are taken; of more the oldest are lost, and all is looked at again.
const EVENTS: usize = 256;

/// Commands for somebody else at a time: one by the component `hardware`, and one by its interface on a D-Bus.
const MOST_COMMANDS: usize = 2;

/// Boards that wait to be asked.
const INQUIRIES: usize = 64;

/// For the threads to end.
const STOPPING: Duration = Duration::from_secs(2);
