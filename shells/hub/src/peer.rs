//! One connection of a hub: its session, its queue, its subscriptions and its counters.

use visorbus_auth::Channel;
use visorbus_core::auth::Grant;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::clock::ClockSync;
use visorbus_core::message::{Address, AddressBuf, Pattern};
use visorbus_core::time::earlier;
use visorbus_core::{Instant, MessagePriority, Session};

use crate::admission::suffixed;
use crate::budget::Budget;
use crate::config::Limits;
use crate::link::{Goodbye, HubLink, LinkOptions, Origin, Proven};
use crate::listeners::{LinkState, Via};
use crate::queue::Queue;
use crate::rows::Rows;
use crate::tally::Counters;

/// One connection.
pub(crate) struct Peer {
    pub(crate) link: Box<dyn HubLink>,
    pub(crate) options: LinkOptions,
    pub(crate) origin: Origin,
    /// By whom somebody is slowed down who guesses: the user, the line, or the network address.
    pub(crate) guesser: String,
    pub(crate) via: Via,
    pub(crate) connected_at: Instant,
    /// Whom the link's key had proven when the session began, on a link that has one.
    pub(crate) proven: Option<Proven>,
    pub(crate) session: Session,
    /// What is known of its clock, where it has its own.
    pub(crate) clock: Option<Box<ClockSync>>,
    /// When it was last asked what its clock shows.
    pub(crate) probed_at: Instant,
    /// How long the last exchange that counted took.
    pub(crate) round_trip_us: Option<u32>,
    /// The name that the session has proven; empty before that.
    pub(crate) name: String,
    /// The same as an address, once there is one.
    pub(crate) address: Option<AddressBuf>,
    /// Components that it serves beside its name.
    pub(crate) components: Vec<Component>,
    pub(crate) rows: Rows,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) queue: Queue,
    pub(crate) presence: Presence,
    /// What the transport is to say behind all that waits.
    pub(crate) goodbye: Option<Box<(Goodbye, String)>>,
    /// What epoll watches its descriptor for; `None` while there is none.
    pub(crate) watched: Option<Watched>,
    /// The link has taken all that it takes for now.
    pub(crate) stuck: bool,
    /// Something was sent without `at_once` and waits for the end of the turn.
    pub(crate) dirty: bool,
    /// Not before this is it told again of what it misses, unless it has caught up.
    pub(crate) tell_missed_at: Instant,
    /// When the link is tried again, while it is gone.
    pub(crate) reopen_at: Option<Instant>,
    /// Why whoever was at the other end of a line is there no more; `None` before somebody was.
    pub(crate) parted: Option<String>,
    /// Until when it must have authenticated.
    pub(crate) handshake_by: Instant,
    /// The time for which a timer is set.
    pub(crate) timer: Option<Instant>,
    pub(crate) pending_calls: usize,
    pub(crate) next_subscription: u32,
    /// What is done for it on another thread, by its number: it may have one such thing done at a time.
    pub(crate) errand: Option<u64>,
    /// Notifications that it left to the hub to number, so far.
    pub(crate) numbered: u64,
    /// What may be turned into its other form for it.
    pub(crate) translating: Budget,
    pub(crate) counters: Counters,
}

impl Peer {
    /// Whoever is at the other end of a link, before they have said anything.
    pub(crate) fn new(
        link: Box<dyn HubLink>,
        via: Via,
        session: Session,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let (options, origin) = (link.options(), link.origin());
        Self {
            guesser: origin.party(),
            origin,
            via,
            connected_at: now,
            proven: None,
            link,
            clock: Self::new_clock(options.lossy),
            options,
            session,
            probed_at: now,
            round_trip_us: None,
            name: String::new(),
            address: None,
            components: Vec::new(),
            rows: Rows::default(),
            subscriptions: Vec::new(),
            queue: Queue::default(),
            presence: Presence::Here,
            goodbye: None,
            watched: None,
            stuck: false,
            dirty: false,
            tell_missed_at: now,
            reopen_at: None,
            parted: None,
            handshake_by: now.plus_millis(limits.handshake_ms),
            timer: None,
            pending_calls: 0,
            next_subscription: 0,
            errand: None,
            numbered: 0,
            translating: Budget::new(now, limits.translated_bytes),
            counters: Counters::default(),
        }
    }

    pub(crate) fn subscription_mut(&mut self, number: u32) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.number == number)
    }

    /// Whether it is to be told that notifications were dropped.
    pub(crate) fn misses_any(&self) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.missed > 0)
    }

    /// Whether the session has proven that it is `component`.
    pub(crate) fn owns(&self, component: &str) -> bool {
        !self.name.is_empty()
            && (self.name == component || self.components.iter().any(|own| own.name == component))
    }

    /// Whether it speaks over a wire that nothing protects, and what is to be done about that.
    pub(crate) fn overheard(&self) -> Option<&'static str> {
        match self.origin {
            Origin::WebSocket { tls: false, address } if !address.ip().to_canonical().is_loopback() => {
                Some(OVERHEARD_NETWORK)
            }
            Origin::Serial { .. } | Origin::Spi { .. } if !self.options.keyed => Some(OVERHEARD_LINE),
            _ if self.options.lossy && !self.options.keyed => Some(OVERHEARD_LINE),
            _ => None,
        }
    }

    /// What its transport tells of it, and what the hub has told it.
    pub(crate) fn channel(&self) -> Channel<'_> {
        Channel {
            transport: self.origin.transport(),
            uid: self.origin.uid(),
            gid: self.origin.gid(),
            certificate: self.link.certificate(),
            certificate_verified: self.link.certificate_verified(),
            address: &self.guesser,
            boot_id: Some(self.session.boot_id()),
        }
    }

    /// What it has said that it can, and what its link is, as [`PeerInfo`](crate::info::PeerInfo) names it.
    pub(crate) fn capabilities(&self) -> Vec<&'static str> {
        let remote = self.session.remote();
        let words = [
            (remote.is_some_and(|remote| remote.requires_authentication), "requires-authentication"),
            (remote.is_some_and(|remote| remote.has_lane), "lane"),
            (self.session.compresses(), "compression"),
            (self.options.keyed, "keyed"),
            (self.options.json, "json"),
        ];
        words.into_iter().filter_map(|(is_so, word)| is_so.then_some(word)).collect()
    }

    /// The longest frame that may go to it: its own limit, its link's, the hub's.
    pub(crate) fn max_frame(&self, hub: u32) -> usize {
        let own = self.session.remote().map_or(hub, |remote| remote.max_frame);
        let link = if self.options.max_frame == 0 { hub } else { self.options.max_frame };
        own.min(link).min(hub) as usize
    }

    /// When it next needs the time.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.presence {
            Presence::Leaving => None,
            Presence::Lingering { until } => Some(until),
            Presence::Here => {
                let unproven = self.name.is_empty() && !self.options.lossy;
                let handshake = unproven.then_some(self.handshake_by);
                let session = if self.watched.is_some() { self.session.poll_timeout() } else { None };
                let due =
                    earlier(earlier(session, handshake), earlier(self.link.poll_timeout(), self.reopen_at));
                match &self.clock {
                    Some(clock) if self.is_probed() => earlier(due, Some(clock.poll_timeout())),
                    _ => due,
                }
            }
        }
    }

    /// Lets a frame wait behind all others, whatever the limits say: nothing comes after it.
    pub(crate) fn say_last(&mut self, frame: &[u8], now: Instant) {
        if !frame.is_empty() {
            self.queue.push(frame.into(), MessagePriority::Low, None, usize::MAX, now);
        }
    }

    /// Whether a frame of `len` bytes can go into the link right now, nothing waiting before it.
    pub(crate) fn has_room(&mut self, head: &[u8], len: usize) -> bool {
        self.queue.is_empty() && self.link.has_room(first(head), len)
    }

    /// Moves what waits into the link and onwards.
    pub(crate) fn flush(&mut self, now: Instant) -> std::io::Result<Flushed> {
        let mut moved = false;
        loop {
            while let Some(frame) = self.queue.front(now) {
                if !self.link.has_room(first(frame), frame.len()) {
                    break;
                }
                self.counters.gives(first(frame), frame.len());
                self.link.send(frame, &[], false)?;
                if let Some(since) = self.queue.pop() {
                    self.counters.waited.get_or_insert_default().note(since, now);
                }
                moved = true;
            }
            let flushed = self.link.flush(now)?;
            match self.queue.front(now) {
                Some(next) if flushed && self.link.has_room(first(next), next.len()) => {}
                None if self.goodbye.is_some() => {
                    let goodbye = self.goodbye.take();
                    goodbye.inspect(|goodbye| self.link.close(goodbye.0, &goodbye.1));
                }
                next => {
                    self.stuck = !flushed || next.is_some();
                    return Ok(Flushed { moved, left: self.stuck, blocked: !flushed });
                }
            }
        }
    }

    /// The alias by which it knows `address`: only on a line, where bytes count.
    pub(crate) fn alias_of(&self, address: Option<Address<'_>>) -> Option<u16> {
        let address = address.filter(|_| self.options.lossy)?;
        let row = self.rows.aliases.iter().position(|told| told.as_address() == address)?;
        u16::try_from(row).ok()
    }

    /// The id of a notification that came without.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbered += 1;
        FIRST_NUMBER + self.numbered
    }

    /// The name in its hello.
    pub(crate) fn said_name(&self) -> Option<String> {
        self.session.remote().map(|remote| remote.name.to_string())
    }

    /// The name that its session goes by now that it has a grant: the one in its hello, or that of the grant's subject
    /// where the hub gives the name.
    pub(crate) fn session_name(&self) -> Option<String> {
        match &self.options.suffix {
            Some(suffix) => self.session.grant().map(|grant| suffixed(grant.subject(), suffix)),
            None => self.said_name(),
        }
    }

    /// How its link stands, for people who look at the link and not at who is there.
    pub(crate) fn link_state(&self) -> LinkState {
        if !self.name.is_empty() {
            return LinkState::Up(self.name.clone());
        }
        if self.reopen_at.is_some() {
            let why = self.link.trouble().or(self.parted.as_deref());
            return LinkState::Gone(why.unwrap_or("the device is not there").to_owned());
        }
        LinkState::Waiting(match (self.session.remote(), &self.parted) {
            (Some(remote), _) => format!("'{}' is there, and has not proven that it is", remote.name),
            (None, Some(why)) => why.clone(),
            (None, None) => "no board has answered yet".to_owned(),
        })
    }

    /// For texts: the proven name, else the claimed one with a question mark, else where it is.
    pub(crate) fn label(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        match self.session.remote() {
            Some(remote) if self.options.suffix.is_none() => format!("{}?", remote.name),
            _ => self.origin.to_string(),
        }
    }
}

/// Whether a peer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It does.
    Here,
    /// It goes at the end of this turn.
    Leaving,
    /// It has gone for everybody else; only what tells it why is still on its way, and no longer than this.
    Lingering { until: Instant },
}

/// What came of writing what waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flushed {
    /// Something went from the queue into the link.
    pub(crate) moved: bool,
    /// Something still waits, in the queue or in the link.
    pub(crate) left: bool,
    /// The link would write more if its descriptor took it.
    pub(crate) blocked: bool,
}

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) output: bool,
}

/// A component that a peer serves beside its name.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: String,
    /// By which it was registered.
    pub(crate) grant: Box<Grant>,
}

/// One subscription of a peer.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) number: u32,
    pub(crate) pattern: String,
    pub(crate) policy: SlowConsumer,
    /// By which it was made, or renewed.
    pub(crate) grant: Box<Grant>,
    /// Until when it is allowed, in Unix seconds: as long as that grant.
    pub(crate) until: u64,
    /// Notifications dropped since the subscriber was told last.
    pub(crate) missed: u32,
    /// Hash of the type of what was published last, where that is not what the subscriber expects; else 0.
    pub(crate) refused_type: u64,
}

impl Subscription {
    pub(crate) fn matches(&self, topic: Address<'_>) -> bool {
        Pattern::new(&self.pattern).is_ok_and(|pattern| pattern.matches(topic))
    }
}

/// The byte with which a frame begins: the type of its message is in it.
pub(crate) fn first(frame: &[u8]) -> u8 {
    frame.first().copied().unwrap_or(0)
}

/// The hub numbers from here on, where no peer that counts from 1 gets; a number in JavaScript holds it.
const FIRST_NUMBER: u64 = 1 << 52;
const OVERHEARD_LINE: &str = "this line has no key, so that whoever is at the wire reads along: no password and no API key is \
                              taken over it; give the line a key (`visorbus key provision NAME`), or show a token";
const OVERHEARD_NETWORK: &str = "this connection has no TLS, so that whoever is on the network reads along: no password and no \
                                 API key is taken over it; connect by wss, or show a token";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PeerKey;
    use crate::rows::Row;

    #[test]
    fn an_idle_peer_costs_less_than_two_kib() {
        let heap = 2 * size_of::<Row>() + size_of::<(Instant, PeerKey)>() + size_of::<(String, PeerKey)>();
        let cost = size_of::<Peer>() + heap;
        assert!(cost < 2048, "{cost} bytes");
    }
}
