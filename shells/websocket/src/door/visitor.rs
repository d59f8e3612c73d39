//! One connection from its first byte until it is a WebSocket or gone: TLS, the head of the request, the answer, and the
//! time that the other end gets to read that answer. No call waits.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use visorbus_hub::{HubLink, Origin};
use zeroize::Zeroizing;

use crate::channel::Channel;
use crate::door::answer::Answer;
use crate::door::maker::Order;
use crate::door::refusal::Refusal;
use crate::door::request::{MAX_HEAD, end_of_head};
use crate::door::rules::Verdict;
use crate::door::shared::Shared;
use crate::door::upgrade::Upgrade;
use crate::link::WebSocketLink;
use crate::live::PageAnswer;
use crate::seat::{Seat, owner};

/// One connection that is not a WebSocket yet.
pub(crate) struct Visitor {
    stage: Stage,
    address: SocketAddr,
    local: SocketAddr,
    /// When it is too late for what it is at.
    pub(crate) deadline: Instant,
    seat: Option<Seat>,
    /// Its place among those at the door.
    _waiting: Seat,
}

/// What a visitor is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) input: bool,
    pub(crate) output: bool,
}

/// What came of a step.
pub(crate) enum Step {
    Wait(Wish),
    /// The live page at this path is to be made for it: see [`Visitor::give`].
    Order(String, Order),
    /// It is a WebSocket; nothing of it is left here.
    Upgraded(Box<dyn HubLink>),
    Gone,
}

enum Stage {
    /// Nothing has come of the TLS that is to come.
    Silent(TcpStream),
    /// It is to say what it wants.
    Asking {
        channel: Channel,
        head: Vec<u8>,
        checked: usize,
    },
    /// The page that it asked for is being made.
    Awaiting {
        channel: Channel,
        is_head: bool,
    },
    /// It is being answered.
    Answered {
        channel: Channel,
        answer: Answer,
    },
    /// All is written. Were it closed while something that it sent is unread, its system would throw the answer away.
    Leaving {
        channel: Channel,
        left: usize,
    },
    Gone,
}

impl Visitor {
    /// Takes over a connection from `address`, which has a place at the door. Without one among the connections of its
    /// address it only reads why; under TLS that would cost a handshake, and it is closed.
    ///
    /// # Errors
    /// The connection is no good, or there is no place for it.
    pub(crate) fn new(
        stream: TcpStream,
        address: SocketAddr,
        (seat, waiting): (Option<Seat>, Seat),
        shared: &Shared,
        now: Instant,
    ) -> io::Result<Self> {
        let local = stream.local_addr()?;
        stream.set_nonblocking(true)?;
        let has_seat = seat.is_some();
        if !has_seat {
            shared.tally.refuse(&Refusal::Address, Some(address));
        }
        let stage = match (has_seat, shared.is_tls()) {
            (true, true) => Stage::Silent(stream),
            (true, false) => asking(Channel::plain(stream)?),
            (false, true) => return Err(io::ErrorKind::ConnectionRefused.into()),
            (false, false) => {
                let answer = Answer::refuse(&Refusal::Address, false);
                Stage::Answered { channel: Channel::plain(stream)?, answer }
            }
        };
        let deadline = now + shared.limits.handshake;
        Ok(Self { stage, address, local, deadline, seat, _waiting: waiting })
    }

    /// Where it comes from.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it counts as one of those of `address`.
    pub(crate) fn is_of(&self, address: IpAddr) -> bool {
        owner(self.address.ip()) == owner(address)
    }

    /// Whether it has a place among the connections of its address.
    pub(crate) const fn has_seat(&self) -> bool {
        self.seat.is_some()
    }

    /// Whether it is to read something and nothing else.
    pub(crate) const fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Answered { .. })
    }

    /// The descriptor to wait on; the same for all its time.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Silent(stream) => Some(stream.as_fd()),
            Stage::Asking { channel, .. }
            | Stage::Awaiting { channel, .. }
            | Stage::Answered { channel, .. }
            | Stage::Leaving { channel, .. } => Some(channel.as_fd()),
            Stage::Gone => None,
        }
    }

    /// Goes on as far as it goes without waiting.
    pub(crate) fn step(&mut self, shared: &Shared, now: Instant) -> Step {
        loop {
            let next = match std::mem::replace(&mut self.stage, Stage::Gone) {
                Stage::Silent(stream) => self.begin(stream, shared, now),
                Stage::Asking { channel, head, checked } => self.read(channel, head, checked, shared, now),
                Stage::Answered { channel, answer } => self.write(channel, answer, shared, now),
                // Nothing but its end wakes it.
                Stage::Awaiting { .. } => return Step::Gone,
                Stage::Leaving { channel, left } => leave(channel, left),
                Stage::Gone => return Step::Gone,
            };
            match next {
                Next::Stage(stage) => self.stage = stage,
                Next::Wait(stage, wish) => {
                    self.stage = stage;
                    return Step::Wait(wish);
                }
                Next::Order(stage, path, order) => {
                    self.stage = stage;
                    return Step::Order(path, order);
                }
                Next::Upgraded(link) => return Step::Upgraded(link),
            }
        }
    }

    /// Its time is over: whoever has asked half of something is told so, as far as that goes.
    pub(crate) fn expire(&mut self, shared: &Shared, now: Instant) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Gone) {
            Stage::Asking { channel, head, .. } if !head.is_empty() => {
                let Next::Stage(stage) = self.refuse(channel, &Refusal::Late, shared, now) else {
                    return Step::Gone;
                };
                self.stage = stage;
                self.step(shared, now)
            }
            Stage::Awaiting { channel, .. } => {
                let Next::Stage(stage) = self.refuse(channel, &Refusal::Unmade, shared, now) else {
                    return Step::Gone;
                };
                self.stage = stage;
                self.step(shared, now)
            }
            Stage::Leaving { .. } | Stage::Gone => Step::Gone,
            _ => {
                shared.tally.refuse(&Refusal::Late, Some(self.address));
                Step::Gone
            }
        }
    }

    /// Has it given the page that was made for it; `None` where that cannot be. One that waits for none goes on.
    pub(crate) fn give(&mut self, page: Option<PageAnswer>, shared: &Shared, now: Instant) -> Step {
        let Stage::Awaiting { channel, is_head } = std::mem::replace(&mut self.stage, Stage::Gone) else {
            return Step::Gone;
        };
        self.deadline = now + shared.limits.answer;
        let answer = match page {
            Some(page) => {
                shared.tally.count(&shared.tally.pages);
                Answer::live(page, is_head)
            }
            None => {
                shared.tally.refuse(&Refusal::Unmade, Some(self.address));
                Answer::refuse(&Refusal::Unmade, is_head)
            }
        };
        self.stage = Stage::Answered { channel, answer };
        self.step(shared, now)
    }

    /// Whether a page is being made for it.
    pub(crate) const fn is_awaiting(&self) -> bool {
        matches!(self.stage, Stage::Awaiting { .. })
    }

    /// Whether it has had its answer, or whatever it is to have.
    pub(crate) const fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. } | Stage::Gone)
    }

    /// Looks at the first byte: TLS is set up for nobody who does not begin with it (RFC 8446 section 5.1).
    fn begin(&mut self, stream: TcpStream, shared: &Shared, now: Instant) -> Next {
        let mut first = [0];
        match stream.peek(&mut first) {
            Ok(0) => Next::GONE,
            Ok(_) if first[0] == TLS_HANDSHAKE => match shared.accept_tls(stream) {
                Ok(channel) => Next::Stage(asking(channel)),
                Err(_) => self.drop_for(&Refusal::Handshake, shared),
            },
            Ok(_) if first[0].is_ascii_uppercase() => match Channel::plain(stream) {
                Ok(channel) => self.refuse(channel, &Refusal::PlainOnTls, shared, now),
                Err(_) => Next::GONE,
            },
            Ok(_) => self.drop_for(&Refusal::Handshake, shared),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Next::Wait(Stage::Silent(stream), INPUT)
            }
            Err(_) => Next::GONE,
        }
    }

    /// Reads, and decides once the head is whole.
    fn read(
        &mut self,
        mut channel: Channel,
        mut head: Vec<u8>,
        mut checked: usize,
        shared: &Shared,
        now: Instant,
    ) -> Next {
        let more = match read_into(&mut channel, &mut head) {
            Ok(more) => more,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied) =>
            {
                shared.tally.refuse(&Refusal::Handshake, Some(self.address));
                // What TLS has to say about it is on its way.
                return self.see_off(channel, now);
            }
            // It may have asked and said that it asks no more.
            Err(_) if !head.is_empty() => false,
            Err(_) => return Next::GONE,
        };
        match end_of_head(&head, &mut checked) {
            Err(refusal) => self.refuse(channel, &refusal, shared, now),
            Ok(Some(end)) => self.decide(channel, head, end, shared, now),
            Ok(None) if more => {
                let wish = Wish { input: true, output: channel.wants_write() };
                Next::Wait(Stage::Asking { channel, head, checked }, wish)
            }
            Ok(None) => Next::GONE,
        }
    }

    fn decide(
        &mut self,
        channel: Channel,
        mut head: Vec<u8>,
        end: usize,
        shared: &Shared,
        now: Instant,
    ) -> Next {
        match shared.rules.decide(&head[..end], self.local, channel.is_tls()) {
            // RFC 6455 section 4.1: a client says nothing more before it is answered.
            Verdict::Upgrade(_) if head.len() > end => self.refuse(channel, &Refusal::TooEarly, shared, now),
            Verdict::Upgrade(_) if shared.is_full() => self.refuse(channel, &Refusal::Busy, shared, now),
            Verdict::Upgrade(upgrade) => self.upgrade(channel, &upgrade, shared),
            Verdict::Live { path, is_head } => {
                head.truncate(end);
                let (peer, is_tls) = (self.address, channel.is_tls());
                let order = Order { head: Zeroizing::new(head), peer, is_tls };
                self.deadline = now + shared.limits.answer;
                Next::Order(Stage::Awaiting { channel, is_head }, path, order)
            }
            Verdict::Page(answer) => {
                shared.tally.count(&shared.tally.pages);
                self.deadline = now + shared.limits.answer;
                Next::Stage(Stage::Answered { channel, answer })
            }
            Verdict::Refuse(answer, refusal) => {
                shared.tally.refuse(&refusal, Some(self.address));
                self.deadline = now + shared.limits.answer;
                Next::Stage(Stage::Answered { channel, answer })
            }
        }
    }

    /// The answer finds room in a socket that has written nothing but its part of TLS; where not, the connection is no good.
    fn upgrade(&mut self, mut channel: Channel, upgrade: &Upgrade, shared: &Shared) -> Next {
        let answer = upgrade.answer();
        if !channel.write(&answer).is_ok_and(|written| written == answer.len()) {
            return Next::GONE;
        }
        let origin = Origin::WebSocket { address: self.address, tls: channel.is_tls() };
        let seat = self.seat.take().unwrap_or_default();
        let link = WebSocketLink::accepted(channel, Vec::new(), upgrade.protocol, origin, &shared.link, seat);
        Next::Upgraded(Box::new(link))
    }

    fn refuse(&mut self, channel: Channel, refusal: &Refusal, shared: &Shared, now: Instant) -> Next {
        shared.tally.refuse(refusal, Some(self.address));
        self.deadline = now + shared.limits.answer;
        Next::Stage(Stage::Answered { channel, answer: Answer::refuse(refusal, false) })
    }

    /// Nothing can be said that the other end would understand.
    fn drop_for(&self, refusal: &Refusal, shared: &Shared) -> Next {
        shared.tally.refuse(refusal, Some(self.address));
        Next::GONE
    }

    fn write(&mut self, mut channel: Channel, mut answer: Answer, shared: &Shared, now: Instant) -> Next {
        while !answer.rest().is_empty() {
            match channel.write(answer.rest()) {
                Ok(0) => return Next::Wait(Stage::Answered { channel, answer }, OUTPUT),
                Ok(count) => answer.advance(count),
                Err(_) => return self.drop_for(&Refusal::Late, shared),
            }
        }
        match channel.flush() {
            Ok(true) => self.see_off(channel, now),
            Ok(false) => Next::Wait(Stage::Answered { channel, answer }, OUTPUT),
            Err(_) => Next::GONE,
        }
    }

    fn see_off(&mut self, mut channel: Channel, now: Instant) -> Next {
        channel.finish();
        self.deadline = now + LINGER;
        Next::Stage(Stage::Leaving { channel, left: MOST_UNREAD })
    }
}

enum Next {
    Stage(Stage),
    Wait(Stage, Wish),
    Order(Stage, String, Order),
    Upgraded(Box<dyn HubLink>),
}

impl Next {
    const GONE: Self = Self::Stage(Stage::Gone);
}

fn asking(channel: Channel) -> Stage {
    Stage::Asking { channel, head: Vec::new(), checked: 0 }
}

/// Reads into `head` what is there, until it is longer than any head may be, but not all that a fast sender has. Says
/// whether more may come; an end after something was read is seen at the next call.
fn read_into(channel: &mut Channel, head: &mut Vec<u8>) -> io::Result<bool> {
    for _ in 0..4 {
        if head.len() >= MAX_HEAD || !channel.read_all(READ_LEN, |plain| head.extend_from_slice(plain))? {
            break;
        }
    }
    channel.flush()?;
    Ok(true)
}

/// Reads and forgets what the other end still sends, until it has seen the end of ours.
fn leave(channel: Channel, mut left: usize) -> Next {
    let mut unread = [0; 4096];
    while left > 0 {
        match (&mut channel.stream()).read(&mut unread) {
            Ok(0) => return Next::GONE,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Next::Wait(Stage::Leaving { channel, left }, INPUT);
            }
            Err(_) => return Next::GONE,
        }
    }
    Next::GONE
}

/// As a connection without TLS begins that wants it (RFC 8446 section 5.1, ContentType handshake).
const TLS_HANDSHAKE: u8 = 22;

/// Nothing but the end of the connection is waited for.
pub(crate) const NOTHING: Wish = Wish { input: false, output: false };
const INPUT: Wish = Wish { input: true, output: false };
const OUTPUT: Wish = Wish { input: false, output: true };

/// What is read at once of a head.
const READ_LEN: usize = 4096;

/// How long the other end has to read its answer.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

/// What is read after the answer and forgotten, in bytes, before the connection is closed anyway.
const MOST_UNREAD: usize = 64 * 1024;
