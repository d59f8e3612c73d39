//! What only an accepting end does: it answers hellos and heartbeats, and takes the echoes of its probes. A leaf links
//! nothing of this.

use super::{CREDENTIALS_TOKEN, Remote, Session, UNPROVEN, Verdict, encode_or_nothing, identity_in, refuse};
use crate::bus;
use crate::codec;
use crate::error::IpcError;
use crate::message::{Message, MessagePayload, MessageType};
use crate::time::Instant;

impl Session {
    /// Takes the other end's hello: a new session, unless it is the one that opened this one, said again.
    pub(super) fn handle_hello<'f>(
        &mut self,
        message: &Message<'f>,
        now: Instant,
        out: &mut [u8],
    ) -> Verdict<'f> {
        if self.is_open() && !self.config.lossy {
            return refuse(message, IpcError::Protocol("hello was said before: a session has one"), out);
        }
        let Some(identity) = identity_in(&message.payload) else {
            return refuse(message, IpcError::Serialization("the hello is not an identity"), out);
        };
        if !(identity.min_version..=identity.max_version).contains(&bus::WIRE_VERSION) {
            return refuse(
                message,
                IpcError::Protocol("no common wire version: this end speaks version 1"),
                out,
            );
        }
        let Some(remote) = Remote::new(&identity) else {
            return refuse(message, IpcError::Message("the name in the hello is not a component name"), out);
        };
        // Said by its source to be such an answer: it goes before and beside everything that a lane counts.
        let answer = Message { source: message.destination, ..message.answer(MessageType::Response) };
        let same_start = self.remote.as_ref().is_some_and(|known| known.boot_id == remote.boot_id);
        if same_start && self.hello_id == message.id {
            if !self.used {
                // The same hello again, because the answer was late or lost: nothing has changed.
                return Verdict::Answer(self.encode_own_identity(&answer, now, out));
            }
            // Of a board that starts with the same boot id each time, or a copy that came late. Nothing would tell the
            // new session from the old: it says hello under another id, or learns from its heartbeat that it has to.
            self.reset(now);
            let said_before =
                IpcError::Protocol("this hello has opened a session before: say it under another id");
            return Verdict::Restarted {
                answer: codec::encode_error(&answer, &said_before, out).unwrap_or(0),
            };
        }
        self.reset(now);
        self.ask_identity = false;
        (self.hello_id, self.used) = (message.id, false);
        self.open(remote);
        self.note_capabilities(identity.capabilities);
        Verdict::Opened { answer: self.encode_own_identity(&answer, now, out) }
    }

    /// Takes a heartbeat at the accepting end: that of the other end, or its echo of a probe of this one's.
    pub(super) fn handle_beat<'f>(
        &mut self,
        message: &Message<'f>,
        now: Instant,
        out: &mut [u8],
    ) -> Verdict<'f> {
        if !message.wants_answer() {
            return Verdict::Echoed { id: message.id, stamp: message.timestamp };
        }
        if self.lacks_grant() {
            return refuse(message, UNPROVEN, out);
        }
        let mut echo = Message::heartbeat(message.id);
        echo.timestamp = self.unix_micros(now);
        Verdict::Answer(encode_or_nothing(&echo, out))
    }
}

/// Whether the other end proves itself by something else than the bytes of a token.
pub(super) fn is_login(message: &Message<'_>) -> bool {
    let is_token = match message.payload {
        MessagePayload::Binary(bytes) => bytes.first().is_none_or(|first| *first == CREDENTIALS_TOKEN),
        MessagePayload::Json(_) => false,
        _ => true,
    };
    !is_token
        && matches!(message.message_type, MessageType::Request | MessageType::Notification)
        && message.destination.is_some_and(|to| to.as_str() == bus::AUTHENTICATE)
}

/// Whether it is the other end's hello.
pub(super) fn is_hello(message: &Message<'_>) -> bool {
    matches!(message.message_type, MessageType::Request | MessageType::Notification)
        && message.destination.is_some_and(|to| to.as_str() == bus::HELLO)
}
