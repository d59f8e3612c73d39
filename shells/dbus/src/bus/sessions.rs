//! Sessions of senders: when one is made, what the hub says to its proof, when another takes its place, and its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use visorbus_auth::TokenText;
use visorbus_core::message::{Message, MessageType};
use visorbus_core::{ErrorKind, codec};
use visorbus_hub::{Error, Goodbye, OwnedPayload, Result};
use zeroize::Zeroizing;

use super::Bus;
use super::chain::Chain;
use super::senders::SenderKey;
use super::session::{Asked, HELLO_ID, Proof, Proven, Session, SessionKey, Stage, Waiting, outcome};
use crate::step::{GUEST, Request, Step, Then};

impl Bus {
    /// The session that a sender's requests go to; one is made where there is none.
    pub(super) fn session_for(&mut self, key: SenderKey, as_guest: bool, now: Instant) -> Result<SessionKey> {
        let gone = || Error::Connection("this program has left the bus".to_owned());
        let sender = self.senders.get_mut(key).ok_or_else(gone)?;
        if let Some(session) = sender.session {
            return Ok(session);
        }
        match &sender.refused {
            Some((_, until)) if *until <= now => sender.refused = None,
            Some(_) if as_guest => return Ok(self.guest(now)),
            Some((error, _)) => return Err(error.clone()),
            None => {}
        }
        let session = self.open_session(Some(key), Proof::Peer, now);
        self.set_session(key, Some(session));
        Ok(session)
    }

    /// Has a sender prove who it is by a token; gives back who waits when that cannot be.
    pub(super) fn authenticate(
        &mut self,
        chain: Chain,
        token: &TokenText,
        then: Then,
        now: Instant,
    ) -> Option<(Then, Error)> {
        let sender = self.senders.get_mut(chain.sender)?;
        if sender.proving.is_some() {
            let text = "another token of yours is being looked at: wait for the answer";
            return Some((then, Error::Authentication(text.to_owned())));
        }
        if let Some((error, _)) = sender.turned_away.as_ref().filter(|(_, until)| now < *until) {
            return Some((then, error.clone()));
        }
        let proof = match Proof::token(token, then, chain) {
            Ok(proof) => proof,
            Err(refused) => return Some(refused),
        };
        let session = self.open_session(Some(chain.sender), proof, now);
        if let Some(sender) = self.senders.get_mut(chain.sender) {
            sender.proving = Some(session);
        }
        None
    }

    /// As [`Bus::take_frame`], whatever may break over it.
    pub(super) fn take_frame_safely(&mut self, key: SessionKey, frame: &[u8], now: Instant) {
        if catch_unwind(AssertUnwindSafe(|| self.take_frame(key, frame, now))).is_err() {
            self.note_fault();
        }
    }

    /// Takes a frame of the hub's for a session.
    fn take_frame(&mut self, key: SessionKey, frame: &[u8], now: Instant) {
        // The hub's own frames can always be read.
        let Ok(message) = codec::decode(frame) else { return };
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.stage != Stage::Over) else {
            return;
        };
        match message.message_type {
            MessageType::Response | MessageType::Error if message.id == HELLO_ID => {
                self.take_greeting(key, &message, now)
            }
            MessageType::Response | MessageType::Error => match session.answered(message.id) {
                Some(Waiting::Call(then, chain)) => {
                    let is_guest = session.owner.is_none();
                    let outcome = outcome(&message).map_err(|error| self.reason(chain, is_guest, error));
                    self.go_on(then, outcome, chain, now);
                }
                Some(Waiting::Proof) => self.take_verdict(key, &message, now),
                // It is about the session as a whole.
                None if message.message_type == MessageType::Error => {
                    session.goodbye = outcome(&message).err().map(|error| error.text().clone());
                }
                None => {}
            },
            MessageType::Notification => self.take_notification(key, &message, now),
            MessageType::Request => session.refuse(&message),
            MessageType::Heartbeat => {}
        }
    }

    /// The hub has dropped a session's link.
    pub(super) fn drop_session(&mut self, key: SessionKey, now: Instant) {
        let why = self.sessions.get_mut(key).and_then(|session| session.goodbye.take());
        let why = why.unwrap_or_else(|| "the hub has ended the session".to_owned());
        self.end_session(key, &why, now);
        self.sessions.remove(key);
    }

    /// The hub says why it ends a session.
    pub(super) fn take_goodbye(&mut self, key: SessionKey, why: Goodbye, text: &str) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if why == Goodbye::Stopping || session.goodbye.is_none() {
            session.goodbye = Some(text.to_owned());
        }
        if why == Goodbye::Stopping {
            // No other takes its place.
            session.since = Instant::now();
        }
    }

    /// What is kept of a sender goes, its sessions at once.
    pub(super) fn forget_sender(&mut self, key: SenderKey) {
        let Some(sender) = self.senders.remove(key) else { return };
        for session in sender.session.into_iter().chain(sender.proving) {
            // Nobody is left to hear of it.
            if let Some(session) = self.sessions.get_mut(session) {
                session.owner = None;
                drop(session.end());
                if let Proof::Token(_, waiting) = &mut session.proof {
                    drop(waiting.take());
                }
            }
        }
        self.router.forget(&sender.caller);
        self.forget_gone();
    }

    /// Nothing is kept of callers whose senders are gone.
    pub(super) fn forget_gone(&mut self) {
        for caller in self.senders.take_gone() {
            self.router.forget(&caller);
        }
        debug_assert!(self.router.callers() <= self.senders.len(), "something is kept of who has left");
    }

    /// Ends what has expired, and has proofs shown again in time.
    pub(super) fn serve_sessions(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let expired: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, session)| is_due(session.expires)).map(|(key, _)| key).collect();
        for key in expired {
            self.end_session(key, "what it was proven by has expired", now);
        }
        for session in self.sessions.values_mut().filter(|session| is_due(session.renew)) {
            session.prove();
        }
        self.note_due();
    }

    /// Makes a session, which the hub has yet to take.
    fn open_session(&mut self, owner: Option<SenderKey>, proof: Proof, now: Instant) -> SessionKey {
        let suffix = if owner.is_some() { next_suffix() } else { String::new() };
        let key = self.sessions.insert(Session::new(owner, proof, suffix, now));
        self.new.push(key);
        key
    }

    /// Why a sender is refused: one that asks as a guest because the hub does not know it may do more once it is known.
    fn reason(&self, chain: Chain, is_guest: bool, error: Error) -> Error {
        if !is_guest || error.kind() != ErrorKind::Authorization {
            return error;
        }
        let refused = self.senders.get(chain.sender).and_then(|sender| sender.refused.as_ref());
        refused.map_or_else(
            || error.clone(),
            |(why, _)| {
                Error::new(why.kind(), format!("{} (as somebody unknown: {})", why.text(), error.text()))
            },
        )
    }

    /// The session of those who have none.
    fn guest(&mut self, now: Instant) -> SessionKey {
        let usable =
            |key: &SessionKey| self.sessions.get(*key).is_some_and(|session| session.stage != Stage::Over);
        if let Some(guest) = self.guest.filter(usable) {
            return guest;
        }
        let name = if self.number == 0 { GUEST.to_owned() } else { format!("{GUEST}-{}", self.number) };
        let guest = self.open_session(None, Proof::Guest(name), now);
        self.guest = Some(guest);
        guest
    }

    fn take_greeting(&mut self, key: SessionKey, message: &Message<'_>, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match outcome(message) {
            Ok(_) => {
                session.greeted(&message.payload);
                if matches!(session.proof, Proof::Guest(_)) {
                    self.open(key, None, now);
                }
            }
            Err(error) => self.refuse_session(key, error, now),
        }
    }

    /// Takes what the hub says to a session's proof.
    fn take_verdict(&mut self, key: SessionKey, message: &Message<'_>, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        // There may be a token in the answer: no copy is made.
        let refused =
            if message.message_type == MessageType::Error { outcome(message).map(drop) } else { Ok(()) };
        match refused {
            Ok(()) => {
                let proven = session.proven(message.payload.as_bytes());
                self.open(key, proven, now);
            }
            // The old proof is good until it expires.
            Err(error) if session.stage == Stage::Open => {
                session.goodbye = Some(error.text().clone());
            }
            Err(error) => self.refuse_session(key, error, now),
        }
    }

    fn open(&mut self, key: SessionKey, proven: Option<Proven>, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let is_new = session.stage == Stage::Proving;
        let early = session.open(proven.as_ref(), now);
        let asked = match &mut session.proof {
            Proof::Token(token, waiting) => {
                // It is not shown again.
                *token = Zeroizing::default();
                waiting.take()
            }
            _ => None,
        };
        let owner = session.owner;
        self.note_due();
        if let Some(owner) = owner.filter(|_| is_new) {
            self.install(owner, key, proven.as_ref(), now);
        }
        for (request, waiting) in early {
            self.ask_again(key, request, waiting, now);
        }
        if let Some((then, chain)) = asked {
            return self.go_on(then, Ok(OwnedPayload::Empty), chain, now);
        }
        let caller = owner.and_then(|owner| Some((owner, self.senders.get(owner)?.caller.clone())));
        if let Some((owner, caller)) = caller.filter(|_| is_new) {
            // What the session before it was subscribed to goes on.
            let step = self.router.restore(&caller);
            if !matches!(step, Step::Done) {
                self.run(step, Chain { sender: owner, call: None }, now);
            }
        }
    }

    /// A session takes the place of the one that its owner had, with what that was subscribed to.
    fn install(&mut self, owner: SenderKey, key: SessionKey, proven: Option<&Proven>, now: Instant) {
        let Some(sender) = self.senders.get_mut(owner) else { return };
        sender.refused = None;
        sender.is_held = false;
        sender.proving = sender.proving.filter(|proving| *proving != key);
        let before = sender.session.replace(key).filter(|before| *before != key);
        let caller = sender.caller.clone();
        if let Some(proven) = proven {
            self.router.opened(&caller, &proven.subject);
        }
        if let Some(before) = before {
            let is_open = self.sessions.get(before).is_some_and(|before| before.stage == Stage::Open);
            self.fail_waiting(before, if is_open { REPLACED } else { REPLACED_EARLY }, now);
        }
    }

    fn ask_again(&mut self, key: SessionKey, request: Request, waiting: Waiting, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (waiting, outcome) = match session.ask(request, waiting) {
            Ok(Asked::Waits) => return,
            Ok(Asked::Sent(waiting)) => (waiting, Ok(OwnedPayload::Empty)),
            Err((waiting, error)) => (waiting, Err(error)),
        };
        if let Waiting::Call(then, chain) = waiting {
            self.go_on(then, outcome, chain, now);
        }
    }

    /// The hub does not take a session's proof.
    fn refuse_session(&mut self, key: SessionKey, error: Error, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let owner = session.owner;
        let asked = match &mut session.proof {
            Proof::Token(_, waiting) => waiting.take(),
            _ => None,
        };
        let guests = owner.map_or_else(Vec::new, |_| session.take_guests());
        let waiting = session.end();
        if let Some(sender) = owner.and_then(|owner| self.senders.get_mut(owner)) {
            if sender.proving == Some(key) {
                sender.proving = None;
                // Nothing was said about the token: there was no place to show it at.
                if error.kind() == ErrorKind::Connection {
                    sender.turned_away = Some((error.clone(), now + TURNED_AWAY_FOR));
                }
            } else if sender.session == Some(key) {
                sender.session = None;
                // Whatever else was in the way may be over with the next call.
                let is_verdict = matches!(error, Error::Authentication(_) | Error::Authorization(_));
                sender.refused = is_verdict.then(|| (error.clone(), now + REFUSED_FOR));
                let caller = sender.caller.clone();
                match self.router.has_subscriptions(&caller) {
                    true => self.tell_ended(owner, error.text(), now),
                    false => self.router.closed(&caller),
                }
            }
        }
        for (then, chain) in calls(waiting).into_iter().chain(asked) {
            self.go_on(then, Err(error.clone()), chain, now);
        }
        if !guests.is_empty() {
            let guest = self.guest(now);
            guests.into_iter().for_each(|(request, waiting)| self.ask_again(guest, request, waiting, now));
        }
    }

    /// A session is over, though its owner may still be there: another takes its place where that can be, or the owner is
    /// told.
    fn end_session(&mut self, key: SessionKey, why: &str, now: Instant) {
        let Some(session) = self.sessions.get(key).filter(|session| session.stage != Stage::Over) else {
            return;
        };
        if session.stage == Stage::Proving {
            return self.refuse_session(key, Error::Connection(why.to_owned()), now);
        }
        let (owner, is_peer) = (session.owner, matches!(session.proof, Proof::Peer));
        let has_lasted = now.saturating_duration_since(session.since) >= LASTING;
        let current = owner.filter(|owner| self.senders.get(*owner).is_some_and(|s| s.session == Some(key)));
        self.fail_waiting(key, why, now);
        let Some(owner) = current else { return };
        let Some(caller) = self.senders.get(owner).map(|sender| sender.caller.clone()) else { return };
        let subscribes = self.router.has_subscriptions(&caller);
        self.set_session(owner, None);
        if !is_peer && let Some(sender) = self.senders.get_mut(owner) {
            sender.hold(why, now);
        }
        match (is_peer, subscribes) {
            // The next call makes one.
            (true, false) => self.router.closed(&caller),
            (true, true) if has_lasted => {
                // What it was subscribed to is asked for again once it is open.
                let _ = self.session_for(owner, false, now);
            }
            _ => self.tell_ended(Some(owner), why, now),
        }
    }

    /// Fails all that waits for a session's answers, and has the hub drop it.
    fn fail_waiting(&mut self, key: SessionKey, why: &str, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        for (then, chain) in calls(session.end()) {
            self.go_on(then, Err(Error::Connection(why.to_owned())), chain, now);
        }
    }

    fn tell_ended(&mut self, owner: Option<SenderKey>, why: &str, now: Instant) {
        let Some((key, sender)) = owner.and_then(|key| Some((key, self.senders.get(key)?))) else { return };
        let caller = sender.caller.clone();
        let step = self.router.ended(&caller, why);
        self.run(step, Chain { sender: key, call: None }, now);
    }

    fn take_notification(&mut self, key: SessionKey, message: &Message<'_>, now: Instant) {
        let owner = self.sessions.get(key).and_then(|session| session.owner);
        let Some((owner, sender)) = owner.and_then(|key| Some((key, self.senders.get(key)?))) else { return };
        let step = self.router.notified(&sender.caller, message);
        if !matches!(step, Step::Done) {
            self.run(step, Chain { sender: owner, call: None }, now);
        }
    }

    fn set_session(&mut self, key: SenderKey, session: Option<SessionKey>) {
        if let Some(sender) = self.senders.get_mut(key) {
            sender.session = session;
        }
    }

    fn note_due(&mut self) {
        self.session_due =
            self.sessions.values().flat_map(|session| [session.expires, session.renew]).flatten().min();
    }
}

/// The calls among those who wait.
fn calls(waiting: Vec<Waiting>) -> Vec<(Then, Chain)> {
    let call = |waiting| if let Waiting::Call(then, chain) = waiting { Some((then, chain)) } else { None };
    waiting.into_iter().filter_map(call).collect()
}

/// By what a session's name in the hub differs from all others: of the same length for each, so that a subject that is
/// short enough once is so always. Who it is on the bus stands in its origin.
fn next_suffix() -> String {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    suffix(SESSIONS.fetch_add(1, Ordering::Relaxed))
}

/// The last digits of a number, to the base 36.
fn suffix(mut number: u64) -> String {
    let mut digits = [b'0'; SUFFIX_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 36) as usize];
        number /= 36;
    }
    digits.iter().copied().map(char::from).collect()
}

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Two thousand million sessions, before one is called like the first.
const SUFFIX_LEN: usize = 6;
/// What a call is told whose session another has taken the place of.
const REPLACED: &str = "its sender has proven itself anew before the answer came: it may have been done";
/// The same, where nothing has been asked yet.
const REPLACED_EARLY: &str =
    "its sender has proven itself anew before it was asked: it was not done, ask again";
/// For how long a user whom the hub has refused is not shown to it again, unless by a token.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// For how long a sender for whose token the hub had no place is told the same again.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(1);
/// A session that has not lasted so long is not made again by itself.
const LASTING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nix::sys::eventfd::EventFd;
    use visorbus_auth::{Accounts, KeyFile, Policy, Store};
    use visorbus_hub::{Hub, HubConfig};

    use super::*;
    use crate::config::DBusConfig;
    use crate::step::Caller;

    /// A service on no bus, with one sender whose session waits for the hub.
    fn bus_with_sender() -> (Hub, Bus, SenderKey, SessionKey) {
        let policy = Arc::new(Policy::empty());
        let keys = KeyFile::in_memory(1, [7; 32]);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let hub = Hub::new(HubConfig::with_providers(accounts, policy)).unwrap();
        let waker = Arc::new(EventFd::new().unwrap());
        let mut bus = Bus::new(DBusConfig::default(), &hub.handle(), waker, 0);
        let (sender, _) = bus.senders.enter(":1.9").unwrap();
        let session = bus.session_for(sender, false, Instant::now()).unwrap();
        (hub, bus, sender, session)
    }

    fn caller(bus: &Bus, sender: SenderKey) -> Caller {
        bus.senders.get(sender).unwrap().caller.clone()
    }

    #[test]
    fn an_answer_to_who_has_left_is_not_gone_on_with() {
        let (_hub, mut bus, sender, _) = bus_with_sender();
        let caller = caller(&bus, sender);
        bus.forget_sender(sender);
        let then: Then = Box::new(move |router, _| {
            router.opened(&caller, "panel");
            Step::Done
        });
        bus.go_on(then, Ok(OwnedPayload::Empty), Chain { sender, call: None }, Instant::now());
        assert_eq!(bus.router.callers(), 0);
    }

    #[test]
    fn of_who_goes_for_another_nothing_is_kept() {
        let (_hub, mut bus, sender, session) = bus_with_sender();
        bus.router.opened(&caller(&bus, sender), "panel");
        bus.refuse_session(session, Error::Connection("no".to_owned()), Instant::now());
        bus.router.opened(&caller(&bus, sender), "panel");
        for number in 0..=DBusConfig::default().max_senders {
            bus.senders.enter(&format!(":2.{number}")).unwrap();
            bus.forget_gone();
        }
        assert!(bus.senders.by_name(":1.9").is_none());
        assert_eq!(bus.router.callers(), 0);
    }

    #[test]
    fn only_what_the_hub_says_of_a_user_is_remembered() {
        let refused = |error: Error| {
            let (_hub, mut bus, sender, session) = bus_with_sender();
            bus.refuse_session(session, error, Instant::now());
            let sender = bus.senders.get(sender).unwrap();
            assert!(sender.session.is_none());
            sender.refused.is_some()
        };
        assert!(refused(Error::Authentication("the policy knows nobody".to_owned())));
        assert!(refused(Error::Authorization("not from here".to_owned())));
        assert!(!refused(Error::Connection("the hub stops".to_owned())));
        assert!(!refused(Error::Message("so many peers, the limit".to_owned())));
        assert!(!refused(Error::Timeout("later".to_owned())));
    }

    #[test]
    fn nobody_is_somebody_by_a_session_that_is_over() {
        let (_hub, mut bus, sender, session) = bus_with_sender();
        let caller = caller(&bus, sender);
        bus.open(session, None, Instant::now());
        bus.router.opened(&caller, "panel");
        bus.end_session(session, "the hub has ended it", Instant::now());
        assert_eq!(bus.router.find(&caller).map(|known| known.subject.clone()), None);
    }

    #[test]
    fn all_suffixes_are_of_one_length_and_no_two_the_same() {
        assert_eq!([0, 35, 36].map(suffix), ["000000", "00000z", "000010"]);
        assert_eq!(suffix(36_u64.pow(6) - 1), "zzzzzz");
        assert_eq!(suffix(u64::MAX).len(), SUFFIX_LEN);
        assert_ne!(next_suffix(), next_suffix());
    }
}
