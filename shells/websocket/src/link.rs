//! An accepted WebSocket as a link of the hub: whole frames in and out, no wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use visorbus_core::Instant;
use visorbus_core::frame::length::prefix;
use visorbus_hub::{Goodbye, HubLink, LinkOptions, Origin, ReceiveBuffer};

use crate::channel::Channel;
use crate::dialog::Dialog;
use crate::frames::{Event, Fault, wipe};
use crate::json::{Refusal, Translator};
use crate::protocol::{Subprotocol, WebSocketProtocol};
use crate::seat::Seat;

/// One connection of a WebSocket whose handshake is over.
///
/// It reads and writes as far as the socket goes and never waits. What it holds while nothing is going on is its own few
/// hundred bytes and, under TLS, what rustls keeps; what it may hold is bounded: one message of each direction and 128 KiB.
pub struct WebSocketLink {
    channel: Channel,
    dialog: Dialog,
    /// For a connection of JSON.
    translator: Option<Box<Translator>>,
    /// What had come before the hub had the link.
    tail: Vec<u8>,
    origin: Origin,
    config: LinkConfig,
    heartbeat: Heartbeat,
    /// The message that is not whole, and until when it may be so.
    slow: Option<(u32, Instant)>,
    seat: Seat,
}

/// What one connection may cost, and how often it has to be heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// What is announced to clients; its longest message and its heartbeat hold for all of them. A client that is silent
    /// for one heartbeat is sent a ping, after another it is gone.
    pub protocol: Arc<WebSocketProtocol>,
    /// From the first byte of a message to its last. Default 30 s.
    pub message_time: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self { protocol: Arc::default(), message_time: Duration::from_secs(30) }
    }
}

impl LinkConfig {
    /// Longest message of whoever has authenticated, in bytes.
    fn max_message(&self) -> usize {
        self.protocol.max_message_size as usize
    }
}

impl WebSocketLink {
    /// Takes over a connection that has been answered with 101. `tail` is what had come behind the request already.
    pub fn accepted(
        channel: Channel,
        tail: Vec<u8>,
        protocol: Subprotocol,
        origin: Origin,
        config: &LinkConfig,
        seat: Seat,
    ) -> Self {
        seat.open(&channel.share());
        let translator = || Box::new(Translator::new(Arc::clone(&config.protocol)));
        Self {
            channel,
            dialog: Dialog::server(protocol, config.max_message().min(STRANGERS_LEN)),
            translator: (protocol == Subprotocol::Json).then(translator),
            tail,
            origin,
            config: config.clone(),
            heartbeat: Heartbeat::default(),
            slow: None,
            seat,
        }
    }

    /// Writes what is queued as far as the socket takes it; `true` when nothing is left.
    fn push(&mut self) -> io::Result<bool> {
        let is_done = self.dialog.write_to(|bytes| self.channel.write(bytes))? && self.channel.flush()?;
        if is_done && self.dialog.is_broken() {
            self.channel.finish();
        }
        Ok(is_done)
    }

    fn keep_time(&mut self, now: Instant) -> io::Result<()> {
        if !self.dialog.is_open() {
            return Ok(());
        }
        self.slow = match (self.dialog.unfinished(), self.slow) {
            (Some(number), Some((known, by))) if number == known => Some((known, by)),
            (unfinished, _) => {
                unfinished.map(|number| (number, now.plus_millis(millis(self.config.message_time))))
            }
        };
        if self.slow.is_some_and(|(_, by)| by <= now) {
            self.dialog.fail(Fault::Slow);
            return self.dialog.end_reason().map_or(Ok(()), Err);
        }
        let every = self.config.protocol.heartbeat_interval_ms;
        match self.heartbeat.beat(now, every, self.dialog.take_heard()) {
            Beat::Fine => Ok(()),
            Beat::Ask => {
                self.dialog.ping();
                Ok(())
            }
            Beat::Gone => {
                self.dialog.part(1008, "nothing was heard of this end, not even the answer to a ping");
                // As far as it goes at once: nobody may be there who would read it.
                let _ = self.push();
                let silent = 2 * u64::from(every);
                let text = format!("the other end was silent for {silent} ms and does not answer a ping");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// Its place is another's: says so, as far as that goes at once.
    fn give_way(&mut self) -> io::Error {
        self.dialog.part(1013, DISPLACED);
        // Whoever has gone already need not know.
        let _ = self.push();
        io::Error::new(io::ErrorKind::ConnectionAborted, DISPLACED)
    }

    /// What was read is over: a goodbye that was answered just now leaves at once.
    fn end(&mut self, read: io::Result<bool>) -> io::Result<()> {
        match self.dialog.end_reason() {
            Some(reason) => {
                // Whoever has gone already need not know.
                let _ = self.push();
                Err(reason)
            }
            None => read.map(drop),
        }
    }
}

impl HubLink for WebSocketLink {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.channel.as_fd())
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        if self.dialog.is_broken() {
            // It is only read so that what was said last is not lost.
            return self.channel.read_all(usize::MAX, |_| {}).map(drop);
        }
        if self.seat.is_lost() {
            return Err(self.give_way());
        }
        let Self { channel, dialog, translator, .. } = self;
        let mut take = |bytes: &mut [u8]| dialog.handle(bytes, |event| accept(event, translator, into));
        take(&mut std::mem::take(&mut self.tail));
        let read = channel.read_all(usize::MAX, take);
        self.end(read)
    }

    fn has_room(&mut self, _head: u8, _len: usize) -> bool {
        self.dialog.is_open() && self.dialog.output().len() < QUEUE_LEN
    }

    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> io::Result<()> {
        let is_first = self.is_written();
        match &mut self.translator {
            None => self.dialog.send(head, payload),
            Some(translator) => {
                // There may be a token in either.
                let mut frame = [head, payload].concat();
                match translator.outgoing(&frame) {
                    Ok(text) => {
                        let mut text = text.into_bytes();
                        self.dialog.send(&text, &[]);
                        wipe(&mut text);
                    }
                    // The hub made it: it is a fault of this program, and no reason to go.
                    Err(error) => {
                        tracing::error!("{}: a frame could not be turned into JSON: {error}", self.origin)
                    }
                }
                wipe(&mut frame);
            }
        }
        if at_once && is_first {
            self.push()?;
        }
        Ok(())
    }

    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        self.keep_time(now)?;
        self.push()
    }

    fn is_idle(&self) -> bool {
        self.is_written() && self.dialog.unfinished() == self.slow.map(|(number, _)| number)
    }

    fn has_input(&self) -> bool {
        !self.tail.is_empty() || self.channel.is_tls()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let beat =
            (self.config.protocol.heartbeat_interval_ms > 0).then(|| self.heartbeat.at.unwrap_or_default());
        let slow = self.slow.map(|(_, by)| by);
        [beat, slow].into_iter().flatten().min().filter(|_| self.dialog.is_open())
    }

    fn admit(&mut self) {
        self.seat.admit();
        self.dialog.allow(self.config.max_message());
    }

    fn close(&mut self, why: Goodbye, text: &str) {
        let code = match why {
            Goodbye::Normal => 1000,
            Goodbye::Stopping => 1001,
            Goodbye::Malformed => 1002,
            Goodbye::Full => 1013,
            _ => 1008,
        };
        self.dialog.close(code, text);
    }

    fn lingers(&self) -> bool {
        self.dialog.is_closing()
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn options(&self) -> LinkOptions {
        LinkOptions {
            max_frame: self.config.protocol.max_message_size,
            json: self.translator.is_some(),
            ..LinkOptions::default()
        }
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.channel.certificate()
    }

    fn certificate_verified(&self) -> bool {
        // A server asks for certificates only to have them vouched for.
        self.channel.certificate().is_some()
    }
}

impl WebSocketLink {
    fn is_written(&self) -> bool {
        self.dialog.output().is_empty() && !self.channel.wants_write()
    }
}

impl Drop for WebSocketLink {
    fn drop(&mut self) {
        self.channel.finish();
        // What is unread when a socket is closed has it reset, and then what was said last may be lost.
        let _ = self.channel.read_all(usize::MAX, |_| {});
    }
}

impl std::fmt::Debug for WebSocketLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is being said may be secret.
        let mut shown = f.debug_struct("WebSocketLink");
        shown.field("origin", &self.origin).field("dialog", &self.dialog).field("tail", &self.tail.len());
        shown.finish_non_exhaustive()
    }
}

/// When the other end is next looked for.
#[derive(Debug, Default)]
struct Heartbeat {
    at: Option<Instant>,
    /// A ping was sent, and nothing has come since.
    has_asked: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Beat {
    Fine,
    Ask,
    Gone,
}

impl Heartbeat {
    /// Whether there is something to do about the other end, which was, or was not, heard of since the last time.
    fn beat(&mut self, now: Instant, every_ms: u32, has_heard: bool) -> Beat {
        self.has_asked &= !has_heard;
        if every_ms == 0 || self.at.is_some_and(|at| now < at) {
            return Beat::Fine;
        }
        let is_first = self.at.replace(soon_after(now.plus_millis(every_ms), every_ms)).is_none();
        match (is_first || has_heard, self.has_asked) {
            (true, _) => Beat::Fine,
            (false, true) => Beat::Gone,
            (false, false) => {
                self.has_asked = true;
                Beat::Ask
            }
        }
    }
}

/// Gives one message to the hub.
fn accept(
    event: Event<'_>,
    translator: &mut Option<Box<Translator>>,
    into: &mut ReceiveBuffer,
) -> Result<(), Refusal> {
    match (event, translator) {
        (Event::Text(text), Some(translator)) => translator.incoming(text, into),
        // The prefix of nothing is refused there.
        (Event::Binary(frame), _) => {
            into.extend(&prefix(frame.len()));
            into.extend(frame);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The next of the times that all connections look at: one wake is for many of them, and what they answer comes together.
fn soon_after(at: Instant, every_ms: u32) -> Instant {
    let grid = u64::from(every_ms / 64).max(1) * 1000;
    Instant::from_micros(at.as_micros().next_multiple_of(grid))
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Longest message before the other end has authenticated, in bytes: what any hello and any credentials need, and not what a
/// crowd could fill the memory with.
const STRANGERS_LEN: usize = 64 * 1024;

/// What one is told who has to go for another of his address.
const DISPLACED: &str =
    "its address has too many connections, and this one has not authenticated: try again later";

/// What may be queued before [`HubLink::has_room`] says no, in bytes; one more message may go above it.
const QUEUE_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
