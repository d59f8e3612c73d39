//! Compressed messages in the hub: passed on as they are to peers that expand them, expanded for all others and for the
//! hub's own handlers. What it does not have to expand it does not look into.

use visorbus_core::auth::BUS;
use visorbus_core::message::{Address, Message};

use crate::compress::expand;
use crate::hub::Hub;
use crate::owned::{Error, OwnedPayload, Result};
use crate::peer::Peer;
use crate::peers::{Notice, PeerKey};
use crate::sending::Head;
use crate::subscriptions::Selected;

impl Hub {
    /// The expanded payload of a flagged message to the hub itself or to a handler in it.
    ///
    /// # Errors
    /// `Message` when it is encrypted, which the hub has no key for, or cannot be expanded.
    pub(crate) fn plain_for_hub(&self, message: &Message<'_>) -> Result<OwnedPayload> {
        if !message.flags.encrypted {
            return self.expanded(message, self.config.limits.max_frame as usize);
        }
        let component = message.destination.map_or(BUS, Address::component);
        Err(Error::Message(format!(
            "'{component}' is in the hub, which cannot open an encrypted payload: send it plain"
        )))
    }

    /// The expanded payload of a compressed message to a peer that does not expand it itself; `None` where it may go as
    /// it is.
    ///
    /// # Errors
    /// `Message` when it cannot be expanded, or not for that peer.
    pub(crate) fn expanded_for(&self, message: &Message<'_>, to: PeerKey) -> Result<Option<OwnedPayload>> {
        if !message.flags.compressed || self.expands(to) {
            return Ok(None);
        }
        self.expanded(message, self.peers.max_frame(to)).map(Some).map_err(|error| {
            let name = self.peers.get(to).map(Peer::label).unwrap_or_default();
            Error::new(
                error.kind(),
                format!("'{name}' does not expand compressed payloads: {}", error.text()),
            )
        })
    }

    /// As [`Hub::publish`] of a compressed message to these subscribers, with the notice of it as it came.
    pub(crate) fn publish_compressed(
        &mut self,
        all: &[Selected],
        message: &Message<'_>,
        notice: &Notice<'_>,
    ) -> Result<()> {
        for selected in all.iter().filter(|selected| self.expands(selected.peer)).collect::<Vec<_>>() {
            self.peers.publish(selected.peer, selected.number, notice);
        }
        let rest: Vec<&Selected> = all.iter().filter(|selected| !self.expands(selected.peer)).collect();
        if rest.is_empty() {
            return Ok(());
        }
        let plain = match self.expanded(message, self.config.limits.max_frame as usize) {
            Ok(plain) => plain,
            Err(error) => {
                rest.iter().for_each(|selected| self.peers.miss(selected.peer, selected.number));
                return Err(error);
            }
        };
        let mut flags = message.flags;
        (flags.requires_response, flags.timeout_ms) = (false, None);
        let message = Message { flags, auth_token: None, ..*message };
        let Some(head) = Head::new(&with_plain(&message, &plain)) else { return Ok(()) };
        let notice = Notice { head: head.as_slice(), payload: plain.borrow().as_bytes(), ..*notice };
        rest.iter().for_each(|selected| self.peers.publish(selected.peer, selected.number, &notice));
        Ok(())
    }

    /// The expanded payload of a compressed message to peers of which none expands it itself, unless it is encrypted;
    /// `None` where it may go as it is.
    ///
    /// # Errors
    /// `Message` when it cannot be expanded.
    pub(crate) fn expanded_for_all(&self, message: &Message<'_>) -> Result<Option<OwnedPayload>> {
        if !message.flags.compressed {
            return Ok(None);
        }
        self.expanded(message, self.config.limits.max_frame as usize).map(Some)
    }

    fn expanded(&self, message: &Message<'_>, max: usize) -> Result<OwnedPayload> {
        if message.flags.encrypted {
            let text = "the hub cannot expand what is encrypted: send it uncompressed";
            return Err(Error::Message(text.to_owned()));
        }
        expand(message.payload, max).map_err(|error| Error::Message(error.to_string()))
    }

    fn expands(&self, key: PeerKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.session.compresses())
    }
}

/// The same message, its payload expanded.
pub(crate) fn with_plain<'m>(message: &Message<'m>, plain: &'m OwnedPayload) -> Message<'m> {
    let mut message = message.with_payload(plain.borrow());
    message.flags.compressed = false;
    message
}
