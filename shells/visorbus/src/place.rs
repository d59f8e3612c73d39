//! Where the hub's socket, keys, accounts and policy are, by what the command line says.

use std::path::PathBuf;
use std::sync::Arc;

use visorbus::places;
use visorbus_auth::{Accounts, KeyFile, KeyFileError, Policy, Store, StoreError};
use visorbus_hub::{Error, Result};

use crate::args::{Place, PolicyPlace};

impl Place {
    /// The hub's socket: what was said, else in the runtime directory of the user.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(places::socket)
    }

    /// The hub's key file: what was said, else in the state directory of the user.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(places::key_file)
    }

    /// The hub's accounts, beside its keys.
    pub(crate) fn store_file(&self) -> PathBuf {
        self.key_file().with_file_name(places::ACCOUNTS)
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
        self.policy.clone().unwrap_or_else(|| self.place.key_file().with_file_name(places::POLICY))
    }

    /// The policy. One that was named has to be there; where nobody has written any, there are no rules.
    pub(crate) fn policy(&self) -> Result<Policy> {
        let opened = match self.policy {
            Some(_) => Policy::open(self.policy_file()),
            None => Policy::open_if_there(self.policy_file()),
        };
        opened.map_err(|e| Error::Message(e.to_string()))
    }
}

fn refused(error: StoreError) -> Error {
    Error::Authentication(error.to_string())
}
