//! Where a test's manager has its files, and what it is looked at with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visorbus::{IpcManager, settings};
use visorbus_auth::{Accounts, AuthToken, KeyFile, Policy, Store, TokenRequest};
use visorbus_client::{Client, Credentials};
use visorbus_hub::{OwnedMessage, OwnedPayload, Result};
use visorbus_services::config::{ConfigManager, Overrides};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a configuration, and room for all files of a hub.
pub(crate) struct World {
    directory: TempDir,
    /// Nobody counts threads or descriptors meanwhile.
    _shared: RwLockReadGuard<'static, ()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let shared = COUNTING.read().unwrap_or_else(PoisonError::into_inner);
        Self { directory: directory(), _shared: shared }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/bus.sock")
    }

    /// A manager whose configuration says this.
    pub(crate) fn manager(&self, text: &str) -> IpcManager {
        IpcManager::new(self.config(text)).unwrap()
    }

    /// One that runs.
    pub(crate) fn running(&self, text: &str) -> IpcManager {
        let mut manager = self.manager(text);
        manager.initialize().unwrap();
        manager
    }

    pub(crate) fn config(&self, text: &str) -> ConfigManager {
        self.write(text);
        open(self.directory.path())
    }

    /// Writes the configuration as an editor would.
    pub(crate) fn write(&self, text: &str) {
        write(self.directory.path(), text);
    }

    /// A client that may do everything, connected to the socket.
    pub(crate) fn client(&self, manager: &IpcManager, name: &str) -> Client {
        let client = manager.create_unix_socket_client(name).unwrap();
        client.connect().unwrap();
        client.authenticate(&self.token(name, &["*"])).unwrap();
        Client::clone(&client)
    }

    /// A token for `subject`.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> Credentials {
        Credentials::Token(self.auth_token(subject, scopes).value)
    }

    /// As [`World::token`], as programs on a D-Bus show it.
    pub(crate) fn auth_token(&self, subject: &str, scopes: &[&str]) -> AuthToken {
        let keys = KeyFile::open(self.path("state/root.key")).unwrap();
        let store = Store::open(self.path("state/accounts.json")).unwrap();
        let accounts = Accounts::new(Arc::new(store), keys, Arc::new(Policy::empty()));
        accounts.mint(&TokenRequest::new(subject, scopes)).unwrap()
    }

    /// What stands in the directory of the socket.
    pub(crate) fn left(&self) -> Vec<String> {
        entries(&self.path("run"))
    }
}

/// A world that has the process to itself, so that threads and descriptors can be counted.
pub(crate) struct OwnWorld {
    directory: TempDir,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl OwnWorld {
    pub(crate) fn new() -> Self {
        let alone = COUNTING.write().unwrap_or_else(PoisonError::into_inner);
        Self { directory: directory(), _alone: alone }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration as an editor would.
    pub(crate) fn write(&self, text: &str) {
        write(self.directory.path(), text);
    }

    pub(crate) fn manager(&self, text: &str) -> IpcManager {
        self.write(text);
        IpcManager::new(open(self.directory.path())).unwrap()
    }

    pub(crate) fn left(&self) -> Vec<String> {
        entries(&self.path("run"))
    }
}

/// Threads and descriptors of this process, but for those of the tests themselves.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    threads: Vec<String>,
    descriptors: usize,
}

impl Held {
    pub(crate) fn now() -> Self {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let threads = tasks.filter_map(name).map(|name| name.trim().to_owned());
        let mut threads: Vec<String> = threads.filter(|name| !is_tests_own(name)).collect();
        threads.sort();
        Self { threads, descriptors: fs::read_dir("/proc/self/fd").unwrap().count() }
    }

    /// What is there once no more threads are than before: who was only told to end has until then what it holds.
    #[track_caller]
    pub(crate) fn settled(before: &Self) -> Self {
        let is_settled = || Self::now().threads.len() <= before.threads.len();
        eventually(is_settled, || format!("{:?} instead of {before:?}", Self::now()));
        Self::now()
    }

    /// Waits until no more is there than before: a thread that was joined may still be in the list.
    #[track_caller]
    pub(crate) fn expect_no_more(&self) {
        let is_back = || {
            let now = Self::now();
            now.threads.len() <= self.threads.len() && now.descriptors <= self.descriptors
        };
        eventually(is_back, || format!("{:?} instead of {self:?}", Self::now()));
    }
}

/// Whether a thread is the harness's or that of a test, which is called like it.
fn is_tests_own(thread: &str) -> bool {
    ["attacks::", "following:", "handlers::", "life::", "metrics::", "parts::", "standard::", "manager-"]
        .iter()
        .any(|own| thread.starts_with(own))
}

/// Waits for something that no call tells of.
#[track_caller]
pub(crate) fn eventually(is_so: impl Fn() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{}", what());
        std::thread::yield_now();
    }
}

/// What a component answers, as JSON.
pub(crate) fn call(client: &Client, address: &str) -> Result<OwnedMessage> {
    client.send_request(OwnedMessage::request(address, OwnedPayload::Empty), Some(PATIENCE))
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("visorbus-manager-").tempdir().unwrap()
}

/// With the place of the socket, unless the text says where it is.
fn write(directory: &Path, text: &str) {
    let socket = directory.join("run/bus.sock");
    let place = match text.contains("[unix_socket]") {
        true => String::new(),
        false => format!("[unix_socket]\npath = \"{}\"\n", socket.display()),
    };
    fs::write(directory.join("visorbus.toml"), place + text).unwrap();
}

fn open(directory: &Path) -> ConfigManager {
    let path = |name: &str| directory.join(name).display().to_string();
    let places =
        [("VISORBUS_AUTH_KEY_FILE", path("state/root.key")), ("VISORBUS_HARDWARE_SYSFS_ROOT", path("sys"))];
    let overrides = Overrides::none().environment(places);
    let file = directory.join("visorbus.toml");
    ConfigManager::open(settings::schema(), file, overrides).unwrap()
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

static COUNTING: RwLock<()> = RwLock::new(());
