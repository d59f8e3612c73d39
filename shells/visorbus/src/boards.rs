//! The link keys of boards, from the hub's accounts.

use std::sync::Arc;

use visorbus_auth::Store;
use visorbus_core::secure::LinkKey;
use visorbus_mcu::BoardKeys;

/// Finds link keys in a store, as it was read last.
#[derive(Debug)]
pub struct StoredBoardKeys(Arc<Store>);

impl StoredBoardKeys {
    /// The keys of `store`.
    pub const fn new(store: Arc<Store>) -> Self {
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

#[cfg(test)]
mod tests {
    use visorbus_core::secure::Suite;

    use super::*;

    #[test]
    fn a_key_is_found_by_its_board_and_its_id() {
        let store = Arc::new(Store::in_memory());
        let keys = StoredBoardKeys::new(Arc::clone(&store));
        assert!(keys.link_key("imu", 0).is_none());
        store.provision_link_key("imu", Suite::Tag64, Some(3)).unwrap();
        store.provision_link_key("radio", Suite::Sealed, Some(4)).unwrap();
        let found = keys.link_key("imu", 3).unwrap();
        assert_eq!((found.name(), found.id(), found.suite()), ("imu", 3, Suite::Tag64));
        assert!(keys.link_key("imu", 4).is_none() && keys.link_key("radio", 3).is_none());
        store.remove_link_key("imu", 3).unwrap();
        assert!(keys.link_key("imu", 3).is_none());
    }
}
