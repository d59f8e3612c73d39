//! A WebSocket as a client uses it: one thread reads while others write.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use visorbus_client::{Inbox, MAX_FRAME, Wait, Wire};

use crate::channel::Channel;
use crate::dialog::Dialog;
use crate::frames::Event;
use crate::protocol::Subprotocol;

/// One connection of a client, after its handshake.
#[derive(Debug)]
pub(crate) struct WebSocketWire {
    stream: Arc<std::net::TcpStream>,
    talk: Mutex<Talk>,
    /// Something may be inside of which the socket does not tell.
    is_inside: AtomicBool,
    /// What [`Talk::queued`] says, for those who only ask that.
    queued: AtomicUsize,
}

struct Talk {
    channel: Channel,
    dialog: Dialog,
    tail: Vec<u8>,
    /// How many bytes of the dialog the socket has.
    written: u64,
}

impl WebSocketWire {
    /// A wire over a connection that is upgraded; `tail` is what came behind the answer.
    pub(crate) fn new(channel: Channel, tail: Vec<u8>) -> Self {
        let is_inside = !tail.is_empty() || channel.is_tls();
        let dialog = Dialog::client(Subprotocol::Postcard, MAX_FRAME as usize);
        Self {
            stream: channel.share(),
            talk: Mutex::new(Talk { channel, dialog, tail, written: 0 }),
            is_inside: AtomicBool::new(is_inside),
            queued: AtomicUsize::new(0),
        }
    }

    /// Does something with the connection, and tells the others what is queued then.
    fn with<T>(&self, act: impl FnOnce(&mut Talk) -> T) -> T {
        let mut talk = self.lock();
        let done = act(&mut talk);
        self.queued.store(talk.queued(), Ordering::Release);
        done
    }

    fn lock(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Talk {
    fn read(&mut self, into: &mut Inbox) -> io::Result<()> {
        let before = into.len();
        let Self { channel, dialog, tail, .. } = self;
        let mut take = |bytes: &mut [u8]| {
            dialog.handle(bytes, |event| {
                if let Event::Binary(frame) = event {
                    into.push(frame);
                }
                Ok(())
            });
        };
        take(&mut std::mem::take(tail));
        let read = channel.read_all(usize::MAX, take);
        let end = self.dialog.end_reason();
        if end.is_some() {
            // The answer to a goodbye. Whoever has gone already need not know.
            let _ = self.push();
        }
        if into.len() > before {
            // The end comes with the next read.
            return Ok(());
        }
        end.map_or(read.map(drop), Err)
    }

    /// Writes what is queued as far as the socket takes it; `true` when nothing is left.
    fn push(&mut self) -> io::Result<bool> {
        let is_done = self.dialog.write_to(|bytes| self.channel.write(bytes))? && self.channel.flush()?;
        if is_done {
            self.written = self.dialog.accepted();
        }
        Ok(is_done)
    }

    fn queued(&self) -> usize {
        let waiting = self.dialog.accepted() - self.written;
        usize::try_from(waiting).unwrap_or(usize::MAX).max(usize::from(self.channel.wants_write()))
    }
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is being said may be secret.
        let mut shown = f.debug_struct("Talk");
        shown.field("channel", &self.channel).field("dialog", &self.dialog).field("tail", &self.tail.len());
        shown.field("written", &self.written).finish()
    }
}

impl Wire for WebSocketWire {
    fn read(&self, into: &mut Inbox, wait: Wait) -> io::Result<()> {
        if wait != Wait::No && !self.is_inside.load(Ordering::Acquire) {
            self.wait(wait, false)?;
        }
        self.is_inside.store(false, Ordering::Release);
        self.with(|talk| talk.read(into))
    }

    fn wait(&self, wait: Wait, for_room: bool) -> io::Result<bool> {
        let wait = if self.is_inside.load(Ordering::Acquire) { Wait::No } else { wait };
        wait.poll(self.stream.as_fd(), for_room)
    }

    fn send(&self, head: &[u8], payload: &[u8]) -> io::Result<()> {
        self.with(|talk| {
            if !talk.dialog.is_open() {
                return Err(talk.dialog.end_reason().unwrap_or_else(|| io::ErrorKind::NotConnected.into()));
            }
            let is_first = talk.queued() == 0;
            talk.dialog.send(head, payload);
            if is_first { talk.push().map(drop) } else { Ok(()) }
        })
    }

    fn flush(&self) -> io::Result<bool> {
        self.with(Talk::push)
    }

    fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    fn accepted(&self) -> u64 {
        self.lock().dialog.accepted()
    }

    fn written(&self) -> u64 {
        self.lock().written
    }

    fn shutdown(&self) {
        self.with(|talk| {
            talk.dialog.close(1000, "");
            // One that is not connected any more has nobody who hears it.
            let _ = talk.push();
            talk.channel.finish();
        });
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
