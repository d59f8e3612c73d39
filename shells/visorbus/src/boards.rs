//! The link keys of boards, from the hub's accounts.

use std::sync::Arc;

use visorbus_auth::Store;
use visorbus_core::secure::LinkKey;
use visorbus_mcu::BoardKeys;

/// Finds link keys in a store, as it was read last.
pub(crate) struct StoredBoardKeys(Arc<Store>);

impl StoredBoardKeys {
    pub(crate) const fn new(store: Arc<Store>) -> Self {
        Self(store)
    }
}

impl BoardKeys for StoredBoardKeys {
    fn link_key(&self, name: &str, id: u8) -> Option<LinkKey> {
        match self.0.link_keys_of(name) {
            Ok(keys) => keys.into_iter().find(|key| key.id() == id),
            Err(error) => {
                tracing::error!("{}", error.text());
                None
            }
        }
    }
}
