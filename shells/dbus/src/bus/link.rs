//! A session's end of its link to the hub: there is no wire behind it, only what the service and the hub give each other.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use visorbus_core::Instant;
use visorbus_core::codec::MAX_HEADER;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_hub::{Goodbye, HubLink, LinkOptions, LinkSignal, Origin, ReceiveBuffer};
use zeroize::Zeroize as _;

use super::Shared;
use super::session::SessionKey;

/// The link of one session; that is over when the hub drops it.
pub(super) struct BusLink {
    pub(super) shared: Arc<Shared>,
    pub(super) key: SessionKey,
    pub(super) origin: Origin,
    pub(super) options: LinkOptions,
}

impl HubLink for BusLink {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn attached(&mut self, signal: LinkSignal) {
        self.shared.attached(self.key, signal);
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        self.shared.receive(self.key, into)
    }

    fn has_room(&mut self, _: u8, _: usize) -> bool {
        self.shared.has_room()
    }

    fn send(&mut self, head: &[u8], payload: &[u8], _: bool) -> io::Result<()> {
        if payload.is_empty() {
            self.shared.take_frame(self.key, head);
        } else {
            // There may be a token in the answer to a proof, which is not longer than this.
            let mut frame = [head, payload].concat();
            self.shared.take_frame(self.key, &frame);
            if frame.len() <= MAX_SECRET {
                frame.zeroize();
            }
        }
        Ok(())
    }

    fn flush(&mut self, _: Instant) -> io::Result<bool> {
        Ok(self.shared.flush(self.key))
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn close(&mut self, why: Goodbye, text: &str) {
        self.shared.take_goodbye(self.key, why, text);
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn options(&self) -> LinkOptions {
        self.options.clone()
    }
}

impl Drop for BusLink {
    fn drop(&mut self) {
        self.shared.drop_session(self.key);
    }
}

/// Bytes of a frame that may carry a token: a header with one, and one in text.
const MAX_SECRET: usize = MAX_HEADER + 4 * MAX_TOKEN;
