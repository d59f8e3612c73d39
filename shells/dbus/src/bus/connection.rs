//! One connection to a bus: what is asked of the bus itself, what waits for the bus to take it, and what the socket is
//! watched for. It knows nothing of callers and sessions.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::arg::AppendAll;
use dbus::channel::Channel;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollOp};

use super::HashMap;
use super::senders::SenderKey;

/// A connection that is registered with its bus. Nothing in it waits.
pub(super) struct Connection {
    channel: Channel,
    /// The name that the bus gave it.
    unique_name: String,
    socket: RawFd,
    /// What the socket is watched for: input, output.
    watched: Option<(bool, bool)>,
    /// The number of the message that was sent last: given here, so that what waits can be measured before it is sent.
    serial: u32,
    /// libdbus keeps a message until the bus has taken all of it.
    is_writing: bool,
    /// The messages after it: libdbus gets one at a time, so that what waits can be counted.
    queue: VecDeque<(Message, usize)>,
    /// Bytes of these.
    output: usize,
    /// When the bus last took all that was written, or the first of what waits began to.
    moved: Instant,
    /// From so many on nothing more is taken from the bus, until half of them are gone.
    most_output: usize,
    is_full: bool,
    /// What the bus was asked and has not answered.
    queries: HashMap<u32, Query>,
}

/// What the bus itself is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// To tell of names that are gone.
    Rule,
    /// For the service's name.
    Name,
    /// Who somebody is.
    Credentials(SenderKey),
}

impl Connection {
    /// Takes a connection whose watches are told of.
    pub(super) fn new(channel: Channel, most_output: usize) -> Self {
        let (unique_name, socket) =
            (channel.unique_name().unwrap_or_default().to_owned(), channel.watch().fd);
        // Below is what libdbus has numbered itself, to register.
        let serial = 1 << 16;
        let queries = HashMap::default();
        Self {
            channel,
            unique_name,
            socket,
            watched: None,
            serial,
            is_writing: false,
            queue: VecDeque::new(),
            output: 0,
            moved: Instant::now(),
            most_output,
            is_full: false,
            queries,
        }
    }

    pub(super) fn unique_name(&self) -> &str {
        &self.unique_name
    }

    /// Reads and writes as much as libdbus does at a time, about 2 KiB; `false` when the connection is over.
    pub(super) fn read_and_write(&mut self) -> bool {
        let goes_on = self.channel.read_write(Some(Duration::ZERO)).is_ok();
        self.write();
        goes_on
    }

    /// The next message that was read.
    pub(super) fn next(&self) -> Option<Message> {
        self.channel.pop_message()
    }

    /// Sends a message, at once where nothing waits.
    pub(super) fn send(&mut self, mut message: Message) -> u32 {
        self.serial = self.serial.wrapping_add(1).max(1);
        message.set_serial(self.serial);
        if self.is_idle() {
            self.hand_over(message);
        } else {
            let len = length(&message);
            self.output += len;
            self.queue.push_back((message, len));
        }
        self.write();
        self.serial
    }

    /// Asks the bus itself for something.
    pub(super) fn ask(&mut self, member: &'static str, arguments: impl AppendAll, query: Query) {
        let call = Message::call_with_args(BUS, "/org/freedesktop/DBus", BUS, member, arguments);
        let serial = self.send(call);
        self.queries.insert(serial, query);
    }

    /// What was asked that this answers.
    pub(super) fn answered(&mut self, answer: &Message) -> Option<Query> {
        self.queries.remove(&answer.get_reply_serial()?)
    }

    /// Bytes that wait for the bus to take them.
    pub(super) const fn output(&self) -> usize {
        self.output
    }

    /// Since when the bus has taken nothing of what waits for it.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        (!self.is_idle()).then_some(self.moved)
    }

    /// Whether so much waits that nothing is to be taken from the bus or given to it.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Has `epoll` tell of what libdbus waits for at this moment.
    pub(super) fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        let watch = self.channel.watch();
        let wishes = (watch.read && !self.is_full, watch.write || !self.queue.is_empty());
        if self.watched == Some(wishes) || !self.channel.is_connected() {
            return Ok(());
        }
        let operation = if self.watched.is_none() { EpollOp::EpollCtlAdd } else { EpollOp::EpollCtlMod };
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, wishes.0);
        flags.set(EpollFlags::EPOLLOUT, wishes.1);
        let mut event = EpollEvent::new(flags, SOCKET);
        // The descriptor is libdbus's own: nothing safe borrows it, and it is open as long as the channel is connected.
        #[expect(
            deprecated,
            reason = "all others take a borrowed descriptor, which only unsafe code makes of a number"
        )]
        nix::sys::epoll::epoll_ctl(epoll.0.as_raw_fd(), operation, self.socket, &mut event)?;
        self.watched = Some(wishes);
        Ok(())
    }

    /// Whether nothing waits for the bus.
    fn is_idle(&self) -> bool {
        !self.is_writing && self.queue.is_empty()
    }

    /// Gives libdbus what waits, one message after the other, as long as the bus takes them and for a short time.
    fn write(&mut self) {
        if self.is_idle() {
            return;
        }
        let begun = Instant::now();
        while !self.is_idle() && !self.channel.has_messages_to_send() {
            self.is_writing = false;
            self.moved = Instant::now();
            if self.moved.duration_since(begun) >= WRITING {
                break;
            }
            let Some((message, len)) = self.queue.pop_front() else { break };
            self.output -= len;
            self.hand_over(message);
        }
        let most = if self.is_full { self.most_output.div_ceil(2) } else { self.most_output };
        self.is_full = self.output >= most;
    }

    /// Has libdbus write a message, while it has no other.
    fn hand_over(&mut self, message: Message) {
        // It fails when there is no memory left, and then nobody can be told.
        let _ = self.channel.send(message);
        self.is_writing = self.channel.has_messages_to_send();
        if self.is_writing {
            self.moved = Instant::now();
        }
    }
}

/// The length of a numbered message on a bus, in bytes.
pub(crate) fn length(message: &Message) -> usize {
    let mut len = 0;
    let Ok(()) = message.marshal(|bytes| {
        len += bytes.len();
        Ok::<(), std::convert::Infallible>(())
    });
    len
}

/// The bus's own name, and that of its interface.
pub(super) const BUS: &str = "org.freedesktop.DBus";

/// By what an epoll tells of the socket.
pub(super) const SOCKET: u64 = 0;

/// For how long it is written at a time, while the bus takes what it gets.
const WRITING: Duration = Duration::from_micros(100);
