//! Where a message goes once its session let it pass: who may, to whom, with which header.

use std::borrow::Cow;

use visorbus_auth::AuthMethod;
use visorbus_core::ErrorKind;
use visorbus_core::auth::{Access, BUS, Grant, Operation, Refusal, UnverifiedToken};
use visorbus_core::bus::{self, RowKind};
use visorbus_core::codec;
use visorbus_core::dispatch::NOBODY;
use visorbus_core::message::{Address, AddressBuf, Message, MessageFlags, MessagePayload, MessageType};
use visorbus_core::route::{Route, proven_source, route};
use visorbus_core::session::is_forgotten;

use crate::bus::OwnedCancel;
use crate::calls::{Call, CallKey, Callee};
use crate::expand::with_plain;
use crate::gate::{Denied, Gate, operation_of};
use crate::handle::Needed;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::listeners::stops;
use crate::owned::{Error, Result};
use crate::peer::Peer;
use crate::peers::{Frame, Notice, PeerKey, Unsent};
use crate::queue::Timed;
use crate::sending::{Head, too_long_answer};
use crate::subscriptions::Selected;
use crate::tally::{Count, Given};
use crate::translate::{Side, typed};

impl Hub {
    /// Routes one message of an authenticated peer; a refusal goes back to it where it waits for one.
    pub(crate) fn deliver(&mut self, incoming: &Incoming<'_>) {
        if incoming.message.is_reply() {
            return self.forward_reply(incoming);
        }
        if let Err(error) = self.try_deliver(incoming) {
            self.peers.refuse(incoming.from, error.kind());
            let Some(peer) = self.peers.get(incoming.from) else { return };
            let to = incoming.message.destination.map_or(BUS, Address::as_str);
            tracing::debug!(
                "{}: a {:?} to {to} was refused: {error}",
                peer.label(),
                incoming.message.message_type
            );
            self.send_error(incoming.from, &incoming.message, &error);
        }
    }

    fn try_deliver(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let Incoming { from, ref message, .. } = *incoming;
        let peer = self.peers.get(from).ok_or_else(not_authenticated)?;
        // A copy, because the peer may change while its message is delivered.
        let name = peer.address.clone().ok_or_else(not_authenticated)?;
        let source = proven_source(message, name.as_address(), |component| peer.owns(component));
        let source = source.map_err(|error| {
            let resource = message.destination.map_or(BUS, Address::as_str).to_owned();
            self.deny(from, Denied { operation: operation_of(message), resource, error: owned(error) })
        })?;
        let grant = self.message_grant(incoming);
        if let Err(error) = &grant {
            self.audit_refused(from, Some(AuthMethod::Token), error);
        }
        let grant = grant?;
        let auth_token = message.auth_token.filter(|_| grant.is_none());
        let incoming =
            Incoming { message: Message { source: Some(source), auth_token, ..*message }, ..*incoming };
        let message = &incoming.message;
        if self.ending.is_some() && message.message_type == MessageType::Request {
            return Err(stops());
        }
        let names = &self.names;
        match route(message.destination, |own| self.registry.contains(own), |other| names.get(other).copied())
        {
            own @ (Route::Bus | Route::Local) if message.flags.encrypted || message.flags.compressed => {
                let plain = self.plain_for_hub(message)?;
                let incoming = Incoming { message: with_plain(message, &plain), ..incoming };
                match own {
                    Route::Bus => self.answer_bus(&incoming, grant.as_ref()),
                    _ => self.call_handler(&incoming, grant.as_ref()),
                }
            }
            Route::Bus => {
                self.answer_bus(&incoming, grant.as_ref())?;
                self.count(message);
                Ok(())
            }
            Route::Local => self.call_handler(&incoming, grant.as_ref()),
            Route::Peer(to) if message.message_type == MessageType::Request => {
                self.forward_request(&incoming, grant.as_ref(), to)
            }
            Route::Peer(to) if to == from => {
                self.require_live_grant(&incoming, grant.as_ref())?;
                self.publish_and_answer(&incoming)
            }
            Route::Peer(to) => self.forward_notification(&incoming, grant.as_ref(), to),
            Route::Unroutable if message.message_type == MessageType::Notification => {
                self.authorize(&incoming, grant.as_ref(), Operation::Notify, Access::Permission)?;
                self.publish_and_answer(&incoming)
            }
            Route::Unroutable => {
                let component = message.destination.map_or(BUS, Address::component);
                let text = format!("nobody serves '{component}': bus/services lists who is there");
                Err(Error::Message(text))
            }
        }
    }

    /// The grant of the token that the message itself carries for the hub. A token for the destination is none of
    /// the hub's business and travels on; one for anybody else is refused, not shown around.
    fn message_grant(&self, incoming: &Incoming<'_>) -> Result<Option<Grant>> {
        let Incoming { from, ref message, now, .. } = *incoming;
        let Some(token) = message.auth_token else { return Ok(None) };
        let refused =
            |error: visorbus_core::auth::TokenError| Error::Authentication(error.for_peer().to_owned());
        let audience = UnverifiedToken::read(token).map_err(refused)?.claims().audience;
        if audience == BUS {
            let channel = self.peers.get(from).map(Peer::channel).unwrap_or_default();
            return self.config.auth.validate_token(token, &channel, self.unix_s(now)).map(Some);
        }
        if message.destination.map(Address::component) == Some(audience) {
            return Ok(None);
        }
        Err(Error::Authentication(format!(
            "the message's token is for '{audience}', which it does not go to"
        )))
    }

    /// What a peer may do with its own addresses it may only while its token lives.
    pub(crate) fn require_live_grant<'a>(
        &'a self,
        incoming: &Incoming<'_>,
        own: Option<&'a Grant>,
    ) -> Result<&'a Grant> {
        let session = self.peers.get(incoming.from).and_then(|peer| peer.session.grant());
        let refused = |refusal: Refusal<'_>| Error::new(refusal.kind(), refusal.to_string());
        let grant = own.or(session).ok_or_else(|| refused(Refusal::NoGrant))?;
        if grant.is_expired(self.unix_s(incoming.now)) {
            return Err(refused(Refusal::Expired));
        }
        Ok(grant)
    }

    fn forward_request(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>, to: PeerKey) -> Result<()> {
        let Incoming { from, ref message, at_once, now } = *incoming;
        self.authorize_row(incoming, own, to, RowKind::Endpoint)?;
        self.check_types(incoming, RowKind::Endpoint)?;
        let held = self.payload_for(message, from, to, typed(incoming, RowKind::Endpoint))?;
        let expanded;
        let message = match &held {
            None => message,
            Some(plain) => {
                expanded = with_plain(message, plain);
                &expanded
            }
        };
        let timeout_ms = self.timeout_ms(message);
        if message.wants_answer() {
            self.begin_call(incoming, Callee::Peer(to))?;
        }
        self.count(message);
        let flags = MessageFlags { timeout_ms: Some(timeout_ms), ..message.flags };
        let row = self.peers.get(to).and_then(|peer| peer.alias_of(message.destination));
        let head = codec::encode_header_to(&Message { flags, ..*message }, row, &mut self.out);
        let head = &self.out[..head.map_err(|_| too_long_header())?];
        let payload = message.payload.as_bytes();
        let call = message.wants_answer().then(|| {
            let deadline = now.plus_millis(timeout_ms);
            Timed::new((from, message.id), deadline, timeout_ms, head.len(), message.auth_token)
        });
        let priority = message.flags.priority;
        let (len, frame) = (head.len() + payload.len(), Frame { head, payload, priority, at_once, call });
        self.peers.send_frame(to, &frame).map_err(|unsent| {
            self.end_call((from, message.id), Callee::Peer(to));
            self.unsent_error(to, len, unsent)
        })
    }

    fn forward_notification(
        &mut self,
        incoming: &Incoming<'_>,
        own: Option<&Grant>,
        to: PeerKey,
    ) -> Result<()> {
        let Incoming { message, at_once, .. } = *incoming;
        self.authorize_row(incoming, own, to, RowKind::Hears)?;
        if let Err(error) = self.check_types(incoming, RowKind::Hears) {
            if !message.wants_answer() {
                let address = message.destination.unwrap_or(BUS_ADDRESS);
                self.tell_mismatch(incoming.from, address, &error);
            }
            return Err(error);
        }
        let held = self.payload_for(&message, incoming.from, to, typed(incoming, RowKind::Hears));
        if let Err(error) = &held
            && !message.wants_answer()
            && let Some(address) = message.destination
        {
            self.tell_misfit(incoming.from, address, error);
        }
        let (held, mut message) = (held?, message);
        if let Some(plain) = &held {
            message = with_plain(&message, plain);
        }
        let flags = MessageFlags { requires_response: false, ..message.flags };
        let row = self.peers.get(to).and_then(|peer| peer.alias_of(message.destination));
        let head = Head::to_row(&Message { flags, ..message }, row).ok_or_else(too_long_header)?;
        let payload = message.payload.as_bytes();
        let sent = self.peers.send(to, head.as_slice(), payload, message.flags.priority, at_once);
        sent.map_err(|unsent| self.unsent_error(to, head.as_slice().len() + payload.len(), unsent))?;
        if let Some(address) = message.destination {
            self.tally.addresses.note(address, Count { deliveries: 1, ..Count::message(payload.len()) });
        }
        self.acknowledge(incoming);
        Ok(())
    }

    /// Counts a message that was let through.
    pub(crate) fn count(&mut self, message: &Message<'_>) {
        let address = message.destination.unwrap_or(BUS_ADDRESS);
        self.tally.addresses.note(address, Count::message(message.payload.as_bytes().len()));
    }

    /// Brings an answer to the peer that asked; one that nobody waits for is counted and dropped.
    pub(crate) fn forward_reply(&mut self, incoming: &Incoming<'_>) {
        let Incoming { from, ref message, at_once, now } = *incoming;
        let asker = message.destination.and_then(|to| self.names.get(to.component()).copied());
        if asker.is_none() && self.take_answer(incoming) {
            return;
        }
        let call = asker.and_then(|asker| self.end_call((asker, message.id), Callee::Peer(from)));
        let (Some(asker), Some(call), Some(callee)) = (asker, call, self.peers.get_mut(from)) else {
            if let Some(peer) = self.peers.get_mut(from) {
                peer.counters.late += 1;
            }
            return;
        };
        let name = callee.address.clone();
        self.tally.peers.note(call.began, now);
        let asked = call.destination.as_address();
        let held = match self.payload_for(message, from, asker, (asked, Side::Answered)) {
            Ok(held) => held,
            Err(error) => {
                self.tell_misfit(from, asked, &error);
                return self.fail_call((asker, message.id), &call, &error);
            }
        };
        let expanded;
        let message = match &held {
            None => message,
            Some(plain) => {
                expanded = with_plain(message, plain);
                &expanded
            }
        };
        let answer = Message {
            source: name.as_ref().map(AddressBuf::as_address),
            destination: Some(call.source.as_address()),
            auth_token: None,
            ..*message
        };
        let Ok(len) = codec::encode_header(&answer, &mut self.out) else { return };
        let payload = answer_payload(message, &call);
        match self.peers.send(asker, &self.out[..len], &payload, call.priority, at_once) {
            Ok(()) => {}
            Err(Unsent::TooLong { max }) => {
                let error = too_long_answer(len + payload.len(), max);
                self.fail_call((asker, message.id), &call, &error);
            }
            Err(unsent) => self.dismiss_unsent(asker, unsent),
        }
    }

    fn publish_and_answer(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let Incoming { from, ref message, at_once, now } = *incoming;
        let published = self.publish(Some(from), message, None, at_once, now);
        if let (Err(error), Some(topic), false) = (&published, message.destination, message.wants_answer()) {
            self.tell_misfit(from, topic, error);
        }
        published?;
        self.acknowledge(incoming);
        Ok(())
    }

    /// Gives a notification to whoever subscribed to its topic and may still have it, and may do what is `needed` besides.
    ///
    /// # Errors
    /// What is wrong with its compressed payload, which then only those have who asked for such.
    pub(crate) fn publish(
        &mut self,
        from: Option<PeerKey>,
        message: &Message<'_>,
        needed: Option<&Needed>,
        at_once: bool,
        now: visorbus_core::Instant,
    ) -> Result<()> {
        let Some(topic) = message.destination else { return Ok(()) };
        let before = self.peers.given;
        let mut selected = self.matches.find(topic, &self.peers);
        if let Some(needed) = needed {
            let unix_s = self.unix_s(now);
            selected =
                selected.iter().filter(|one| self.is_permitted(one, needed, unix_s)).copied().collect();
        }
        let published = self.publish_on(topic, (from, &selected), message, at_once, now);
        let Given { deliveries, missed } = self.peers.given;
        let (deliveries, missed) = (deliveries - before.deliveries, missed - before.missed);
        let count = Count { deliveries, missed, ..Count::message(message.payload.as_bytes().len()) };
        self.tally.addresses.note(topic, count);
        published
    }

    fn publish_on(
        &mut self,
        topic: Address<'_>,
        (from, selected): (Option<PeerKey>, &[Selected]),
        message: &Message<'_>,
        at_once: bool,
        now: visorbus_core::Instant,
    ) -> Result<()> {
        if selected.is_empty() {
            return Ok(());
        }
        let flags = MessageFlags { requires_response: false, timeout_ms: None, ..message.flags };
        let Some(head) = Head::new(&Message { flags, auth_token: None, ..*message }) else { return Ok(()) };
        let notice = Notice {
            topic: topic.as_str(),
            head: head.as_slice(),
            payload: message.payload.as_bytes(),
            priority: flags.priority,
            // One reader is served at once, many in one write each at the end of the turn.
            at_once: at_once && selected.len() == 1,
            unix_s: self.unix_s(now),
        };
        let is_expected = selected.iter().any(|selected| selected.expects != 0);
        let told = if is_expected { self.published_type(from, topic) } else { 0 };
        let suited = |hub: &mut Self, selected: &&Selected| hub.suits(selected, topic, told);
        if selected.iter().any(|selected| selected.json) || from.is_some_and(|from| self.has_json(from)) {
            let all: Vec<Selected> = selected.iter().filter(|one| suited(self, one)).copied().collect();
            return self.publish_translated(from, message, &all, &notice, now);
        }
        if message.flags.compressed {
            let all: Vec<Selected> = selected.iter().filter(|one| suited(self, one)).copied().collect();
            return self.publish_compressed(&all, message, &notice);
        }
        for selected in selected {
            if suited(self, &selected) {
                self.peers.publish(selected.peer, selected.number, &notice);
            }
        }
        Ok(())
    }

    /// Whether a subscriber may do what is needed, by the grant of its subscription.
    fn is_permitted(&self, selected: &Selected, needed: &Needed, unix_s: u64) -> bool {
        let subscriptions = self.peers.get(selected.peer).map_or(&[][..], |peer| &peer.subscriptions);
        let Some(own) = subscriptions.iter().find(|own| own.number == selected.number) else { return false };
        let gate = Gate::new(&*self.config.policy, &self.peers, selected.peer, Some(&own.grant), unix_s);
        let address = needed.address.as_address();
        gate.would(needed.operation, address.into(), Access::Permission).is_ok()
    }

    /// Tells the sender of a notification that it was taken, if it asked.
    pub(crate) fn acknowledge(&mut self, incoming: &Incoming<'_>) {
        if incoming.message.wants_answer() {
            self.respond(incoming, MessagePayload::Empty);
        }
    }

    /// Answers a message with a payload of the hub's.
    pub(crate) fn respond(&mut self, incoming: &Incoming<'_>, payload: MessagePayload<'_>) {
        let answer = Message { payload, ..incoming.message.answer(MessageType::Response) };
        match visorbus_core::encode(&answer, &mut self.out) {
            Ok(len) => self.send_answer(incoming.from, &incoming.message, len, incoming.at_once),
            Err(_) => {
                let text = "the answer does not fit into a frame of the hub".to_owned();
                self.send_error(incoming.from, &incoming.message, &Error::Internal(text));
            }
        }
    }

    /// Notes a request that somebody will answer, or the hub in its place when the time is over.
    pub(crate) fn begin_call(&mut self, incoming: &Incoming<'_>, callee: Callee) -> Result<()> {
        let Incoming { from, ref message, now, .. } = *incoming;
        let limit = self.config.limits.pending_calls;
        let deadline = now.plus_millis(self.timeout_ms(message));
        let peer = self.peers.get_mut(from).ok_or_else(not_authenticated)?;
        if peer.pending_calls >= limit {
            let text =
                format!("{limit} requests of this session wait for their answers, the limit: wait for some");
            return Err(Error::Message(text));
        }
        let own = |address: Option<Address<'_>>| AddressBuf::from(address.unwrap_or(BUS_ADDRESS));
        let call = Call {
            callee,
            began: now,
            deadline,
            source: own(message.source),
            destination: own(message.destination),
            priority: message.flags.priority,
        };
        if !self.calls.insert((from, message.id), call) {
            let text =
                format!("the id {} is in use by a request that still waits: use each id once", message.id);
            return Err(Error::Protocol(text));
        }
        peer.pending_calls += 1;
        Ok(())
    }

    /// Ends a request that `callee` was to answer; `None` when there is none of that kind any more.
    pub(crate) fn end_call(&mut self, key: CallKey, callee: Callee) -> Option<Call> {
        let call = self.calls.take(key, callee)?;
        self.uncount_call(key.0);
        Some(call)
    }

    /// Has the callee know that nobody waits for its answer any more, where it can have a use for that: a request that
    /// still waits for it is not sent at all. A board is done with a request before it hears of anything else.
    pub(crate) fn cancel_call(&mut self, key: CallKey, call: &Call) {
        let to = match call.callee {
            Callee::Job(number) => return self.pool.iter_mut().for_each(|pool| pool.cancel(number)),
            Callee::Peer(to) => to,
        };
        let Some(peer) = self.peers.get_mut(to) else { return };
        if peer.queue.cancel(key) || peer.options.lossy {
            return;
        }
        let Ok(payload) = self.value_for(to, &OwnedCancel::new(key.1, call.source.as_str())) else { return };
        let mut notice = Message::notification(self.take_id(), const { Address::literal(bus::CANCEL) });
        notice.source = Some(BUS_ADDRESS);
        notice.flags.priority = call.priority;
        self.send_notice(to, &notice.with_payload(payload.borrow()));
    }

    fn timeout_ms(&self, message: &Message<'_>) -> u32 {
        let limits = &self.config.limits;
        message.flags.timeout_ms.unwrap_or(limits.request_ms).min(limits.max_request_ms)
    }

    /// Whether this sender may do what the owner of an address asks of those who use it, as far as it told. An owner that
    /// has not finished telling is not called: what it asks is not known yet.
    fn authorize_row(
        &mut self,
        incoming: &Incoming<'_>,
        own: Option<&Grant>,
        to: PeerKey,
        kind: RowKind,
    ) -> Result<()> {
        let Incoming { from, ref message, .. } = *incoming;
        let peer = self.peers.get(to).ok_or_else(|| owned(NOBODY))?;
        if !peer.rows.complete {
            return Err(Error::Connection(format!("'{}' has only just connected: try again", peer.name)));
        }
        let row = peer.rows.find(kind, message.destination.map_or(BUS, Address::as_str));
        let access = row.map_or(Access::Permission, |row| row.access.borrow());
        let asked = self.gate(incoming, own).ask_for(message, access);
        asked.map_err(|denied| self.deny(from, denied))
    }

    pub(crate) fn unsent_error(&self, to: PeerKey, len: usize, unsent: Unsent) -> Error {
        let name = self.peers.get(to).map(Peer::label).unwrap_or_default();
        match unsent {
            Unsent::Gone => Error::Connection(format!("'{name}' is gone")),
            Unsent::Full { waiting } => Error::Message(format!(
                "'{name}' does not keep up: {waiting} bytes wait for it, try again later"
            )),
            Unsent::TooLong { max } => Error::Message(format!(
                "the message has {len} bytes with its header, '{name}' takes at most {max}"
            )),
        }
    }
}

/// What an answer carries on to the asker: its own bytes, but for an Error that a leaf says by number, which becomes a
/// sentence here, and for one that only says that the leaf has restarted.
pub(crate) fn answer_payload<'m>(message: &Message<'m>, call: &Call) -> Cow<'m, [u8]> {
    let bytes = message.payload.as_bytes();
    if message.message_type != MessageType::Error || message.flags.encrypted || message.flags.compressed {
        return Cow::Borrowed(bytes);
    }
    let error = visorbus_core::IpcError::from_payload(bytes);
    if is_forgotten(&error) {
        let component = call.destination.as_address().component();
        let text = format!("'{component}' has restarted: '{}' was not answered", call.destination.as_str());
        return Cow::Owned([&[ErrorKind::Connection.code()], text.as_bytes()].concat());
    }
    match error.text().len() + 1 == bytes.len() {
        true => Cow::Borrowed(bytes),
        false => Cow::Owned([&[error.kind().code()], error.text().as_bytes()].concat()),
    }
}

pub(crate) fn owned(error: visorbus_core::IpcError) -> Error {
    error.map(str::to_owned)
}

fn not_authenticated() -> Error {
    Error::Authentication("this session has not proven a name: send a token to bus/authenticate".to_owned())
}

pub(crate) fn too_long_header() -> Error {
    Error::Internal("the header does not fit".to_owned())
}
