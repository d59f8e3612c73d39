//! Where the hub's socket, keys, accounts and policy are: by what the command line says, else by the configuration of whoever
//! runs it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use visorbus::settings::AuthSettings;
use visorbus::{Settings, places, settings};
use visorbus_auth::{Accounts, KeyFile, KeyFileError, Policy, Store, StoreError};
use visorbus_hub::{Error, Result};
use visorbus_services::config::{ConfigManager, Overrides};

use crate::args::{Place, PolicyPlace};

impl Place {
    /// The hub's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| configured().unix_socket.path.clone())
    }

    /// The hub's key file.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.auth().key_file
    }

    /// The hub's accounts.
    pub(crate) fn store_file(&self) -> PathBuf {
        self.auth().accounts_file
    }

    /// Beside a key file that was named lies all else.
    fn auth(&self) -> AuthSettings {
        self.key_file.clone().map_or_else(|| configured().auth.clone(), AuthSettings::beside)
    }

    /// The certificates of the hub, beside its keys.
    pub(crate) fn tls_directory(&self) -> PathBuf {
        places::tls_directory(&self.key_file())
    }

    /// The keys of the hub that runs here.
    pub(crate) fn keys(&self) -> Result<KeyFile> {
        KeyFile::open(self.key_file()).map_err(|e| {
            let missing = matches!(e, KeyFileError::Missing { .. });
            let hint = if missing { "; `visorbus serve` makes one, or name it with --key-file" } else { "" };
            Error::Authentication(format!("{e}{hint}"))
        })
    }

    /// The accounts, to be changed; where there are none yet, an empty file of them. Beside keys that were here before
    /// they are taken for lost, and no token of before counts.
    pub(crate) fn store(&self) -> Result<Store> {
        if !self.has_keys() {
            return self.first_store();
        }
        let (store, is_new) = Store::open_or_replace(self.store_file()).map_err(refused)?;
        if is_new {
            eprintln!(
                "visorbus: there were keys but no accounts, so {} is made anew; no token made before counts any more, and \
                 who was shut out or removed is not known",
                self.store_file().display()
            );
        }
        Ok(store)
    }

    /// As [`Place::store`], for a hub that has just made its first key.
    pub(crate) fn first_store(&self) -> Result<Store> {
        Store::open_or_create(self.store_file()).map_err(refused)
    }

    /// Whether there is a key file, good or not.
    pub(crate) fn has_keys(&self) -> bool {
        self.key_file().symlink_metadata().is_ok()
    }

    /// The accounts, to be read: where there are none yet, none are made.
    pub(crate) fn store_to_read(&self) -> Result<Store> {
        match Store::open(self.store_file()) {
            Err(StoreError::Missing { .. }) => Ok(Store::in_memory()),
            other => other.map_err(refused),
        }
    }

    /// What makes tokens that count at the hub that runs here; by no policy.
    pub(crate) fn accounts(&self) -> Result<Accounts> {
        let keys = self.keys()?;
        Ok(Accounts::new(Arc::new(self.store_to_read()?), keys, Arc::new(Policy::empty())))
    }

    /// As [`Place::accounts`], where what is changed stays.
    pub(crate) fn accounts_to_change(&self) -> Result<Accounts> {
        let keys = self.keys()?;
        Ok(Accounts::new(Arc::new(self.store()?), keys, Arc::new(Policy::empty())))
    }
}

impl PolicyPlace {
    /// The policy's file: what was said, else beside the keys.
    pub(crate) fn policy_file(&self) -> PathBuf {
        let configured = || self.place.auth().policy_file;
        let beside = || self.place.key_file().with_file_name(places::POLICY);
        self.policy.clone().or_else(configured).unwrap_or_else(beside)
    }

    /// The policy. One that was named has to be there; where nobody has written any, there are no rules.
    pub(crate) fn policy(&self) -> Result<Policy> {
        let is_named = self.policy.is_some() || self.place.auth().policy_file.is_some();
        let file = self.policy_file();
        let opened = if is_named { Policy::open(file) } else { Policy::open_if_there(file) };
        opened.map_err(|e| Error::Message(e.to_string()))
    }
}

/// What the configuration says to `visorbus serve` of the same user. One that cannot be read is the hub's to complain of, and
/// that of another user may not be: then the defaults hold.
fn configured() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let config =
            ConfigManager::open(settings::schema(), places::config_file(), Overrides::from_environment());
        config.and_then(|config| Settings::read(&config)).unwrap_or_default()
    })
}

fn refused(error: StoreError) -> Error {
    Error::Authentication(error.to_string())
}
