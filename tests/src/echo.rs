//! A handler that answers with what it was sent, and counts what reached it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::{IpcError, Message, MessageType};

/// The handler of a component.
#[derive(Debug)]
pub struct Echo {
    id: &'static str,
    runs: Arc<AtomicUsize>,
}

impl Echo {
    /// The handler of the component `id`.
    pub fn new(id: &'static str) -> Self {
        Self { id, runs: Arc::default() }
    }

    /// As [`Echo::new`], which adds one to `runs` for each message that reaches it.
    pub fn counted(id: &'static str, runs: &Arc<AtomicUsize>) -> Self {
        Self { id, runs: Arc::clone(runs) }
    }
}

impl MessageHandler for Echo {
    fn id(&self) -> &str {
        self.id
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        match message.message_type {
            MessageType::Request => reply.payload(message.payload),
            _ => Ok(()),
        }
    }
}
