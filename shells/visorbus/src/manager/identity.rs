//! Who says who somebody is and what they may do: the program's own providers, or accounts and policy from files.

use std::path::Path;
use std::sync::Arc;

use visorbus_auth::{
    Accounts, AuthenticationProvider, AuthorizationProvider, KeyFile, Policy, Store, StoreError,
};
use visorbus_hub::{Error, Result};
use visorbus_mcu::{BoardKeys, NoBoardKeys};

use crate::boards::StoredBoardKeys;
use crate::places;
use crate::settings::AuthSettings;

/// What a hub asks.
#[derive(Clone)]
pub(super) struct Providers {
    pub(super) auth: Arc<dyn AuthenticationProvider>,
    pub(super) policy: Arc<dyn AuthorizationProvider>,
}

/// Providers, and what belongs to them where they are those of the files.
pub(super) struct Identity {
    pub(super) providers: Providers,
    pub(super) board_keys: Arc<dyn BoardKeys>,
    pub(super) policy: Option<Arc<Policy>>,
}

impl Identity {
    /// Those of the program, else those of the files; a first start makes keys and accounts.
    pub(super) fn open(auth: &AuthSettings, providers: Option<&Providers>) -> Result<Self> {
        if let Some(providers) = providers {
            return Ok(Self {
                providers: providers.clone(),
                board_keys: Arc::new(NoBoardKeys),
                policy: None,
            });
        }
        let is_first = auth.key_file.symlink_metadata().is_err();
        let keys = KeyFile::open_or_create(auth.key_file.clone())
            .map_err(|e| Error::Authentication(e.to_string()))?;
        let store = Arc::new(open_store(&auth.accounts_file, is_first)?);
        let policy = match &auth.policy_file {
            Some(named) => Policy::open(named.clone()),
            None => Policy::open_if_there(auth.key_file.with_file_name(places::POLICY)),
        };
        let policy = Arc::new(policy.map_err(|e| Error::Message(e.to_string()))?);
        let accounts = Accounts::new(Arc::clone(&store), keys, Arc::clone(&policy));
        let providers = Providers {
            auth: Arc::new(accounts),
            policy: Arc::clone(&policy) as Arc<dyn AuthorizationProvider>,
        };
        Ok(Self { providers, board_keys: Arc::new(StoredBoardKeys::new(store)), policy: Some(policy) })
    }
}

/// The accounts. Where there are none beside keys that were here before, they are taken for lost, and no token of before
/// counts.
fn open_store(path: &Path, is_first: bool) -> Result<Store> {
    let refused = |e: StoreError| Error::Authentication(e.to_string());
    if is_first {
        return Store::open_or_create(path).map_err(refused);
    }
    let (store, is_new) = Store::open_or_replace(path).map_err(refused)?;
    if is_new {
        tracing::warn!(
            "there were keys but no accounts, so {} is made anew; no token made before counts any more, and who was shut \
             out or removed is not known",
            path.display()
        );
    }
    Ok(store)
}
