//! The handlers that a program has given to its manager. A hub has them only on loan: when it ends, or never comes to run,
//! they are back on the shelf for the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::dispatch::{Caller, MessageHandler, Reply, RowHead};
use visorbus_core::message::{Address, Message, MessageType};
use visorbus_hub::{BoxedHandler, Error, Result};

/// The handlers by their components; empty where one is lent out.
#[derive(Default)]
pub(super) struct Shelf {
    slots: BTreeMap<String, Slot>,
}

impl Shelf {
    /// Keeps a handler, and lends it at once.
    ///
    /// # Errors
    /// `Message` when its id is taken.
    pub(super) fn put(&mut self, handler: BoxedHandler) -> Result<BoxedHandler> {
        let id = handler.id().to_owned();
        if self.slots.contains_key(&id) {
            return Err(Error::Message(format!("a handler called '{id}' is there already")));
        }
        let slot = Slot::default();
        self.slots.insert(id, Arc::clone(&slot));
        Ok(Box::new(Lent { handler: Some(handler), slot }))
    }

    /// Lends every handler that is here.
    pub(super) fn lend(&self) -> Vec<BoxedHandler> {
        let lend = |slot: &Slot| -> Option<BoxedHandler> {
            let handler = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            Some(Box::new(Lent { handler: Some(handler), slot: Arc::clone(slot) }))
        };
        self.slots.values().filter_map(lend).collect()
    }

    /// Keeps a handler no more; `false` where none has this id. One that is lent is dropped when it comes back.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        self.slots.remove(id).is_some()
    }
}

/// A handler's place.
type Slot = Arc<Mutex<Option<BoxedHandler>>>;

/// A handler that goes back to its place when whoever has it drops it.
struct Lent {
    /// There until it is dropped.
    handler: Option<BoxedHandler>,
    slot: Slot,
}

impl Lent {
    fn inner(&self) -> &BoxedHandler {
        self.handler.as_ref().expect("a handler is there until it is dropped")
    }

    fn inner_mut(&mut self) -> &mut BoxedHandler {
        self.handler.as_mut().expect("a handler is there until it is dropped")
    }
}

impl MessageHandler for Lent {
    fn id(&self) -> &str {
        self.inner().id()
    }

    fn supported_message_types(&self) -> &[MessageType] {
        self.inner().supported_message_types()
    }

    fn access(&self, address: Address<'_>) -> Access<'_> {
        self.inner().access(address)
    }

    fn may_block(&self) -> bool {
        self.inner().may_block()
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        self.inner().row(number)
    }

    fn handle_message(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        self.inner_mut().handle_message(message, reply)
    }

    fn handle_until(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> std::result::Result<(), IpcError> {
        self.inner_mut().handle_until(message, reply, cancelled)
    }

    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> std::result::Result<(), IpcError> {
        self.inner_mut().handle_for(caller, message, reply, cancelled)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.handler.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    impl MessageHandler for Named {
        fn id(&self) -> &str {
            self.0
        }

        fn handle_message(
            &mut self,
            _: &Message<'_>,
            _: &mut Reply<'_>,
        ) -> std::result::Result<(), IpcError> {
            Ok(())
        }
    }

    #[test]
    fn a_handler_is_lent_once_and_is_back_when_it_is_dropped() {
        let mut shelf = Shelf::default();
        drop(shelf.put(Box::new(Named("lamp"))).unwrap());
        let lent = shelf.lend();
        assert_eq!(lent.iter().map(|handler| handler.id().to_owned()).collect::<Vec<_>>(), ["lamp"]);
        assert!(shelf.lend().is_empty(), "there is only one of it");
        drop(lent);
        assert_eq!(shelf.lend().len(), 1);
    }

    #[test]
    fn a_second_handler_of_a_name_is_refused_while_the_first_is_lent() {
        let mut shelf = Shelf::default();
        let _lent = shelf.put(Box::new(Named("lamp"))).unwrap();
        assert!(shelf.put(Box::new(Named("lamp"))).is_err());
        assert!(shelf.remove("lamp") && !shelf.remove("lamp"));
        drop(shelf.put(Box::new(Named("lamp"))).unwrap());
    }
}
