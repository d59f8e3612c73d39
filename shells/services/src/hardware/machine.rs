//! Looks after the machine's devices on a thread of its own: a device that hangs while it is read holds up nobody else.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::device::BOARD;
use super::inventory::Inventory;
use super::manager::HardwareConfig;
use super::sysfs::{self, KINDS, Unread};
use super::uevents::Uevents;

/// The machine's devices, and when to look at them again.
pub(crate) struct Machine {
    /// May be otherwise at each look.
    config: Arc<Mutex<HardwareConfig>>,
    inventory: Arc<Inventory>,
    bell: Arc<Bell>,
    /// Whether the kernel is to tell, as it was configured for the last look.
    is_hearing: bool,
    uevents: Option<Uevents>,
    /// What the log was told of the last look.
    told: Told,
}

impl Machine {
    pub(crate) fn new(
        config: Arc<Mutex<HardwareConfig>>,
        inventory: Arc<Inventory>,
        bell: Arc<Bell>,
    ) -> Self {
        Self { config, inventory, bell, is_hearing: false, uevents: None, told: Told::default() }
    }

    /// Looks until the bell says that it is over.
    pub(crate) fn run(mut self) {
        while !self.bell.is_over() {
            let looked = Instant::now();
            let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Before the look: what happens during it is not missed.
            self.hear(config.kernel_events);
            self.look(&config);
            self.wait(looked, config.scan_interval.max(LEAST_REST));
        }
    }

    /// Has the kernel tell, or no longer.
    fn hear(&mut self, is_wanted: bool) {
        if std::mem::replace(&mut self.is_hearing, is_wanted) == is_wanted {
            return;
        }
        let open = || {
            let told = |e| tracing::warn!("the kernel's device events cannot be heard, only looks tell: {e}");
            Uevents::open().map_err(told).ok()
        };
        self.uevents = is_wanted.then(open).flatten();
    }

    fn look(&mut self, config: &HardwareConfig) {
        let found = sysfs::scan(&config.sysfs_root, config.max_devices);
        if self.bell.is_over() {
            // It may have taken long, and nobody waits for it any more.
            return;
        }
        let scan = match found {
            Ok(scan) => {
                self.note(Told { left_out: scan.left_out, ..Told::default() }, config);
                scan
            }
            Err(Unread::NoRoot(error)) => {
                let fault = Some(format!("no devices of this machine are known: {error}"));
                self.note(Told { fault, ..Told::default() }, config);
                sysfs::Scan::default()
            }
            Err(Unread::Scarce(error)) => {
                let fault = Some(format!("the devices of this machine stay as they were last seen: {error}"));
                return self.note(Told { fault, left_out: self.told.left_out }, config);
            }
        };
        self.inventory.replace(
            scan.devices,
            |device| device.kind != BOARD,
            |_, _| {},
            "the kernel has it no more",
        );
    }

    /// Has the log know of what is otherwise than at the look before.
    fn note(&mut self, told: Told, config: &HardwareConfig) {
        if told != self.told {
            told.log(config);
            self.told = told;
        }
    }

    /// Until the next look: not at once again, for a thousand events may come of one device.
    fn wait(&self, looked: Instant, interval: Duration) {
        let rest = |since: Instant, whole: Duration| whole.saturating_sub(since.elapsed());
        loop {
            match self.wait_for(rest(looked, interval)) {
                Heard::Nothing | Heard::Bell => break,
                Heard::Kernel(true) => break,
                Heard::Kernel(false) => {}
            }
        }
        let rest = rest(looked, LEAST_REST);
        if !rest.is_zero() && !self.bell.is_over() {
            self.bell.wait(rest);
        }
    }

    fn wait_for(&self, left: Duration) -> Heard {
        let mut fds = vec![PollFd::new(&self.bell.fd, PollFlags::IN)];
        fds.extend(
            self.uevents.as_ref().map(|events| PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)),
        );
        let count = poll(&mut fds, timespec(left).as_ref()).unwrap_or(0);
        let rang = !fds[0].revents().is_empty();
        let told = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        match (&self.uevents, rang, told) {
            (_, true, _) => {
                self.bell.hear();
                Heard::Bell
            }
            (Some(events), _, true) => Heard::Kernel(events.take(&KINDS)),
            _ if count == 0 && left.is_zero() => Heard::Nothing,
            // Interrupted, or over: the time says which.
            _ => Heard::Kernel(false),
        }
    }
}

/// Wakes the thread from others.
#[derive(Debug)]
pub(crate) struct Bell {
    fd: OwnedFd,
    over: AtomicBool,
}

impl Bell {
    /// # Errors
    /// What the system says when it has no more descriptors.
    pub(crate) fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, over: AtomicBool::new(false) })
    }

    pub(crate) fn ring(&self) {
        // One that is full rings already.
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ring();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn hear(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }

    /// Until it rings; that it has is still to be heard.
    fn wait(&self, at_most: Duration) {
        let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timespec(at_most).as_ref());
    }
}

enum Heard {
    Nothing,
    Bell,
    /// Whether it was of a device that is looked at.
    Kernel(bool),
}

/// What the log says once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    fault: Option<String>,
    left_out: usize,
}

impl Told {
    fn log(&self, config: &HardwareConfig) {
        let HardwareConfig { sysfs_root, max_devices, .. } = config;
        if let Some(fault) = &self.fault {
            tracing::warn!("{}: {fault}", sysfs_root.display());
        }
        if self.left_out > 0 {
            let left_out = self.left_out;
            tracing::warn!("{left_out} devices of this machine are left out: at most {max_devices} are kept");
        }
    }
}

fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}

/// From one look to the next.
const LEAST_REST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::hardware::device::DeviceChange;

    /// A machine with two batteries, and where its tree is.
    fn furnished() -> (tempfile::TempDir, HardwareConfig) {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("class/power_supply")).unwrap();
        for name in ["BAT0", "BAT1"] {
            let folder = tree.path().join("devices").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("type"), "Battery\n").unwrap();
            fs::write(folder.join("status"), "Full\n").unwrap();
            symlink(format!("../../devices/{name}"), tree.path().join("class/power_supply").join(name))
                .unwrap();
        }
        let config = HardwareConfig { sysfs_root: tree.path().to_owned(), ..HardwareConfig::default() };
        (tree, config)
    }

    #[test]
    fn devices_stay_while_this_process_has_no_descriptors_to_look_at_them() {
        if std::env::var_os("VISORBUS_TEST_SCARCE").is_some() {
            return look_with_few_descriptors();
        }
        // The limit is one of the whole process.
        let own =
            "hardware::machine::tests::devices_stay_while_this_process_has_no_descriptors_to_look_at_them";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let done =
            alone.args(["--exact", own, "--nocapture"]).env("VISORBUS_TEST_SCARCE", "1").output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(done.status.success() && said.contains("looked with few"), "{said}");
    }

    fn look_with_few_descriptors() {
        let (tree, config) = furnished();
        let inventory = Arc::<Inventory>::default();
        let told = Arc::<Mutex<Vec<DeviceChange>>>::default();
        let teller = Arc::clone(&told);
        let _listening = inventory.listeners.add(move |change| teller.lock().unwrap().push(change.clone()));
        let bell = Arc::new(Bell::new().unwrap());
        let mut machine = Machine::new(Arc::default(), Arc::clone(&inventory), bell);
        machine.look(&config);
        assert_eq!(std::mem::take(&mut *told.lock().unwrap()).len(), 2, "both are there");

        let before = getrlimit(Resource::Nofile);
        let used = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        for more in 0..8 {
            setrlimit(Resource::Nofile, Rlimit { current: Some(used - 1 + more), ..before }).unwrap();
            machine.look(&config);
        }
        setrlimit(Resource::Nofile, before).unwrap();
        assert_eq!(*told.lock().unwrap(), [], "nothing has happened to them");
        fs::remove_file(tree.path().join("class/power_supply/BAT1")).unwrap();
        machine.look(&config);
        assert!(matches!(&**told.lock().unwrap(), [DeviceChange::Removed { .. }]));
        println!("looked with few");
    }
}
