//! What the hub asks of a transport: a descriptor to wait on, whole frames in, whole frames out, never a wait.
//!
//! Frames travel between a link and the hub behind a length prefix ([`visorbus_core::frame::length`]), whatever the
//! link does on its own wire: so a socket's bytes are looked at where they were read, and copied nowhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use visorbus_auth::Transport;
use visorbus_core::Instant;
use zeroize::Zeroize;

pub use crate::signals::LinkSignal;

/// One connection of a transport, as the hub drives it from its loop.
///
/// # For the implementer
/// No method blocks. An error means that the connection is over; faults on a line are counted inside.
pub trait HubLink: Send {
    /// The descriptor to wait on; `None` while there is none (a cable is out, see [`HubLink::reopen`]), or ever, of a link
    /// that is [signalled](LinkOptions::signalled). It may change only in [`HubLink::reopen`] and after an error.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// The link is the hub's from now on; before this nothing is received or sent. One that is
    /// [signalled](LinkOptions::signalled) keeps the signal, to say when there is something to receive or room to write.
    fn attached(&mut self, signal: LinkSignal) {
        let _ = signal;
    }

    /// Reads what has arrived, a bounded amount, and appends it to `into`: whole frames and perhaps the beginning
    /// of one more, each behind its length prefix.
    ///
    /// # Errors
    /// The connection is over: `UnexpectedEof` for a normal end.
    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()>;

    /// Takes back what [`HubLink::receive`] gave of an unfinished frame, to put it before what comes next. A link that
    /// only ever gives whole frames is never asked.
    fn keep(&mut self, rest: &[u8]) {
        let _ = rest;
    }

    /// Whether a frame of `len` bytes whose first one is `head` would be taken right now.
    fn has_room(&mut self, head: u8, len: usize) -> bool;

    /// Takes one frame, given in two parts, for which [`HubLink::has_room`]. With `at_once` it is written now if nothing
    /// is queued before it; else it waits for [`HubLink::flush`].
    ///
    /// # Errors
    /// The connection is over.
    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> io::Result<()>;

    /// Writes what is queued as far as it goes, what is due to be sent again among it; `true` when nothing is left that
    /// could be written if the descriptor took more.
    ///
    /// # Errors
    /// The connection is over.
    fn flush(&mut self, now: Instant) -> io::Result<bool>;

    /// Whether all that was taken is written, so that [`HubLink::flush`] has nothing to do; `false` where that is not
    /// known.
    fn is_idle(&self) -> bool {
        false
    }

    /// Whether something that came before the hub had the link is inside, so that the descriptor does not tell of it.
    /// Asked once; after that [`HubLink::receive`] leaves nothing inside but the beginning of something.
    fn has_input(&self) -> bool {
        false
    }

    /// When [`HubLink::flush`] next has something to do by itself, as [`visorbus_core::Link::poll_timeout`] says.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// As [`visorbus_core::Link::reset`]: a session has begun, or has ended.
    fn reset(&mut self, epoch: Option<u16>) {
        let _ = epoch;
    }

    /// The other end has authenticated: what is longer than strangers need may be taken from now on.
    fn admit(&mut self) {}

    /// The hub ends the connection: the transport says so in its own way behind everything that was sent, if it has one.
    /// Nothing is sent after that.
    fn close(&mut self, why: Goodbye, text: &str) {
        let _ = (why, text);
    }

    /// Whether the connection is to be kept for a moment though it is over or [closed](HubLink::close), because what was
    /// said last would be lost with it: its input then goes to [`HubLink::receive`] until that says that it is over.
    fn lingers(&self) -> bool {
        false
    }

    /// Tries to have the connection again after an error.
    fn reopen(&mut self, now: Instant) -> Reopen {
        let _ = now;
        Reopen::Never
    }

    /// Why the connection is not there, for people, while [`HubLink::reopen`] says that it is to be tried again; `None`
    /// while it is there.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// Who is at the other end, as far as the transport can tell.
    fn origin(&self) -> Origin;

    /// What holds for this link.
    fn options(&self) -> LinkOptions;

    /// Who the key of this link has proven to be at the other end at this moment; for links that are
    /// [keyed](LinkOptions::keyed). It changes when another board, or the same one after a restart, has proven itself.
    fn proven(&self) -> Option<Proven> {
        None
    }

    /// The keys of links have changed: a link whose key is no longer among them proves nobody from now on.
    fn recheck(&mut self) {}

    /// The DER of the certificate that the other end has proven to own when the connection was made.
    fn certificate(&self) -> Option<&[u8]> {
        None
    }

    /// Whether a CA that the transport trusts vouches for that certificate.
    fn certificate_verified(&self) -> bool {
        false
    }

    /// Counted faults of the line, by name, for people to see.
    fn faults(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Something that accepts connections.
pub trait Listener: Send {
    /// The descriptor to wait on.
    fn fd(&self) -> BorrowedFd<'_>;

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// This connection, or accepting for now, failed: the hub reports it and goes on; at the descriptor limit it
    /// pauses the listener.
    fn accept(&mut self) -> io::Result<Option<Box<dyn HubLink>>>;

    /// Whether what its links send goes through it: a hub that ends keeps it, bringing no more of them, until they are done.
    fn carries_links(&self) -> bool {
        false
    }

    /// Where it listens, for people to read.
    fn describe(&self) -> String;
}

/// Why the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Goodbye {
    /// The other end said goodbye.
    Normal,
    /// The hub stops.
    Stopping,
    /// The other end did not prove itself, may not be here any longer, or does not read.
    Refused,
    /// What it sent can be no message.
    Malformed,
    /// There is no room for it now.
    Full,
}

/// What came of [`HubLink::reopen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reopen {
    /// The link does not come back; the peer is removed.
    Never,
    /// It is back.
    Done,
    /// Not yet; ask again at this time.
    At(Instant),
}

/// Who is at the other end of a connection, tagged by transport.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A process on this machine, as the kernel told at connect (SO_PEERCRED).
    Unix {
        /// User id; policy may go by it.
        uid: u32,
        /// Group id; policy may go by it.
        gid: u32,
        /// Process id; for logs only.
        pid: i32,
    },
    /// Whatever is wired to this line.
    Serial {
        /// The device's path.
        path: String,
    },
    /// Whatever is wired to this chip select.
    Spi {
        /// The device's path.
        path: String,
    },
    /// A program at the other end of a WebSocket.
    WebSocket {
        /// Its end of the connection, as the network tells: whoever stands in between may have a part in it.
        address: SocketAddr,
        /// TLS is under it.
        tls: bool,
    },
    /// A program on the desktop's bus, as the bus itself tells (`GetConnectionCredentials`): never as the program says.
    DBus {
        /// User id; policy may go by it.
        uid: Option<u32>,
        /// Main group id; policy may go by it. The bus lists all groups of the program's user and does not say which is
        /// the main one: it is known where the list has exactly one. Else rules for groups give nothing, as rules for
        /// further groups do not on a Unix socket.
        gid: Option<u32>,
        /// Process id; for logs only.
        pid: Option<u32>,
        /// The name that the bus gave the connection and gives no other, such as `:1.42`.
        unique_name: String,
    },
    /// The transport cannot tell.
    Unknown,
}

impl Origin {
    /// What carries the connection, for policies.
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Unix { .. } => Transport::Unix,
            Self::Serial { .. } => Transport::Serial,
            Self::Spi { .. } => Transport::Spi,
            Self::WebSocket { .. } => Transport::WebSocket,
            Self::DBus { .. } => Transport::DBus,
            Self::Unknown => Transport::Unknown,
        }
    }

    /// The user at the other end, where it is a process of this machine.
    pub const fn uid(&self) -> Option<u32> {
        match self {
            Self::Unix { uid, .. } => Some(*uid),
            Self::DBus { uid, .. } => *uid,
            _ => None,
        }
    }

    /// The main group of that user, where the transport tells.
    pub const fn gid(&self) -> Option<u32> {
        match self {
            Self::Unix { gid, .. } => Some(*gid),
            Self::DBus { gid, .. } => *gid,
            _ => None,
        }
    }

    /// By which number its connections are counted against what one user may have; programs of which the bus tells no user
    /// count as one, by the number that is no user's (`(uid_t) -1`).
    pub(crate) const fn counted_as(&self) -> Option<u32> {
        match self {
            Self::DBus { uid: None, .. } => Some(u32::MAX),
            other => other.uid(),
        }
    }

    /// What all connections of the same somebody have in common: the user, the line, the IP address without its port,
    /// and of IPv6 the network of 64 bits, which is what one customer has.
    pub(crate) fn party(&self) -> String {
        match self {
            Self::Unix { uid, .. } | Self::DBus { uid: Some(uid), .. } => format!("uid {uid}"),
            // Whoever the bus knows no user of is one of many such.
            Self::DBus { uid: None, .. } => "dbus".to_owned(),
            Self::WebSocket { address, .. } => match address.ip().to_canonical() {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => {
                    let [a, b, c, d, ..] = v6.segments();
                    format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
                }
            },
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix { uid, pid, .. } => write!(f, "unix uid {uid} pid {pid}"),
            Self::Serial { path } => write!(f, "serial {path}"),
            Self::Spi { path } => write!(f, "spi {path}"),
            Self::WebSocket { address, tls: false } => write!(f, "ws {address}"),
            Self::WebSocket { address, tls: true } => write!(f, "wss {address}"),
            Self::DBus { uid, pid, unique_name, .. } => {
                write!(f, "dbus {unique_name}")?;
                uid.map_or(Ok(()), |uid| write!(f, " uid {uid}"))?;
                pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"))
            }
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// What holds for a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// The link can lose frames: heartbeats are short, and a second hello is the other end's reset.
    pub lossy: bool,
    /// The link can acknowledge and send again, as [`visorbus_core::Link::has_lane`] says.
    pub lane: bool,
    /// Longest frame that the link carries, in bytes; 0 for the hub's own limit.
    pub max_frame: u32,
    /// The one name that is believed on this link without a token.
    pub unauthenticated: Option<String>,
    /// The one name that may be proven by a token on this link; without it, any.
    pub only: Option<String>,
    /// The link has a key: whoever [`HubLink::proven`] names is believed without a token, and nobody else is.
    pub keyed: bool,
    /// The link has no descriptor, and says by its [`LinkSignal`] when it is ready: that its [`HubLink::fd`] is `None`
    /// means no lost cable.
    pub signalled: bool,
    /// The other end is not named by its hello: it goes by `SUBJECT.SUFFIX`, of whomever it has proven to be and this
    /// suffix of `[a-z0-9_-]`, not empty, so that one subject may have many such links at once. Where that is longer than 32 bytes,
    /// or another session goes by it, the proof is refused, as is that of another subject in the same session. A link that
    /// has one is neither keyed nor believed by a name.
    pub suffix: Option<String>,
    /// The other end has JSON and no postcard. The hub turns what it sends to typed addresses into their types, and what
    /// comes of them into JSON; it need not know any type's hash.
    pub json: bool,
}

/// Who has proven to own the key of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The component's name.
    pub name: String,
    /// Differs at each of its starts.
    pub boot_id: u64,
}

/// Bytes read from a link and not yet dealt with; its memory is the hub's and serves all links in turn.
#[derive(Debug, Default)]
pub struct ReceiveBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl ReceiveBuffer {
    /// At least `want` bytes of free space to read into; say with [`ReceiveBuffer::filled`] how many came.
    pub fn space(&mut self, want: usize) -> &mut [u8] {
        if self.bytes.len() < self.len + want {
            self.bytes.resize(self.len + want, 0);
        }
        &mut self.bytes[self.len..]
    }

    /// Adds the first `count` bytes of the free space to the content.
    pub fn filled(&mut self, count: usize) {
        self.len = (self.len + count).min(self.bytes.len());
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// The content.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Overwrites the content, which has a secret in it.
    pub(crate) fn wipe(&mut self) {
        self.bytes[..self.len].zeroize();
    }

    /// Drops the content, not the memory.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// Drops the first `count` bytes of the content.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(address: &str) -> String {
        let address = address.parse().unwrap();
        let [plain, tls] = [false, true].map(|tls| Origin::WebSocket { address, tls }.party());
        assert_eq!(plain, tls);
        plain
    }

    #[test]
    fn who_comes_from_another_port_or_from_the_same_network_is_the_same_party() {
        assert_eq!(party("192.0.2.7:1"), "192.0.2.7");
        assert_eq!(party("[::ffff:192.0.2.7]:2"), "192.0.2.7");
        assert_eq!(party("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::/64");
        assert_eq!(party("[2001:db8:1:2:ffff::1]:9"), "2001:db8:1:2::/64");
        assert_ne!(party("[2001:db8:1:3::1]:1"), party("[2001:db8:1:2::1]:1"));
    }

    #[test]
    fn two_processes_of_a_user_are_one_party_over_a_socket_and_over_the_bus() {
        let process = |pid| Origin::Unix { uid: 7, gid: 7, pid }.party();
        let of_bus = |uid, name: &str| {
            Origin::DBus { uid, gid: None, pid: None, unique_name: name.to_owned() }.party()
        };
        assert_eq!(process(1), process(2));
        assert_eq!(of_bus(Some(7), ":1.1"), process(1));
        assert_ne!(of_bus(Some(8), ":1.1"), process(1));
        assert_eq!(of_bus(None, ":1.1"), of_bus(None, ":1.2"));
    }

    #[test]
    fn a_program_of_the_bus_reads_as_the_bus_told() {
        let unique_name = ":1.42".to_owned();
        let known = Origin::DBus { uid: Some(7), gid: None, pid: Some(9), unique_name: unique_name.clone() };
        assert_eq!(known.to_string(), "dbus :1.42 uid 7 pid 9");
        assert_eq!((known.uid(), known.gid(), known.transport()), (Some(7), None, Transport::DBus));
        let unknown = Origin::DBus { uid: None, gid: None, pid: None, unique_name };
        assert_eq!(unknown.to_string(), "dbus :1.42");
    }
}
