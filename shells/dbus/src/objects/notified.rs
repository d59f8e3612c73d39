//! What a notification in a caller's session becomes: exactly the signals that the caller has asked for, to it alone.

use std::sync::Arc;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_core::bus::{self, Lasting, Missed, Revoked};
use visorbus_core::message::{Address, MessagePriority};
use visorbus_hub::info::{SchemaInfo, ServiceChange};
use visorbus_hub::{OwnedMessage, OwnedPayload};

use super::fixed;
use crate::carrier;
use crate::names::{interface, object_path};
use crate::router::{AddressTypes, Kind, Known, Router, ask, items, send, value, values};
use crate::step::{Caller, Step};
use crate::types::{Piece, check};

impl Router {
    /// What a notification that came in a caller's session means for it. It may be that the hub has to be asked first.
    pub(crate) fn notified(&mut self, caller: &Caller, notification: &visorbus_core::Message<'_>) -> Step {
        let Some(topic) = notification.destination else { return Step::Done };
        match topic.as_str() {
            bus::MISSED => return self.tell_missed(caller, notification),
            bus::REVOKED => return self.tell_revoked(caller, notification),
            _ => {}
        }
        let Some(known) = self.find(caller) else { return Step::Done };
        let follows = known.interfaces.values().flatten().any(|followed| followed == topic.as_str());
        let watches = topic.as_str() == bus::SERVICES_CHANGED && known.objects.is_some();
        let subscribed = known.pattern_for(topic).is_some()
            || known.topics.iter().any(|known| known.address == topic.as_str());
        if !subscribed && !follows && !watches {
            return Step::Done;
        }
        self.generation();
        let notification = OwnedMessage::from(notification);
        match self.types.find(topic.as_str()) {
            Some(types) => self.deliver(caller, &[notification], &types),
            None if subscribed => self.hold(caller, topic, notification),
            None => self.deliver(caller, &[notification], &AddressTypes::default()),
        }
    }

    /// Tells of notifications of one topic whose types are known.
    fn deliver(&mut self, caller: &Caller, notifications: &[OwnedMessage], types: &AddressTypes) -> Step {
        let messages = notifications.iter().flat_map(|one| self.signals(caller, one, types)).collect();
        let watches = self.find(caller).is_some_and(|known| known.objects.is_some());
        let is_change = |one: &&OwnedMessage| watches && one.destination == bus::SERVICES_CHANGED;
        let changes = notifications.iter().filter(is_change);
        let changes = changes.filter_map(|one| one.payload.parse::<ServiceChange>().ok()).collect();
        self.components_changed(caller, changes, messages)
    }

    /// The signals of one notification whose types are known.
    fn signals(&self, caller: &Caller, notification: &OwnedMessage, types: &AddressTypes) -> Vec<Message> {
        let (Some(known), Ok(topic)) = (self.find(caller), Address::new(&notification.destination)) else {
            return Vec::new();
        };
        let bridge = known.pattern_for(topic).and_then(|subscribed| {
            self.bridge_signal(caller, notification, types.request.as_ref(), subscribed.json)
        });
        let topics = known.topics.iter().filter(|known| known.address == topic.as_str());
        let typed = topics.filter_map(|topic| {
            if notification.flags.encrypted {
                return None;
            }
            let path = object_path(&self.root, &topic.component);
            let args = values(types.request.as_ref(), &notification.payload).ok()?;
            let name = (&*interface(&topic.component), &*topic.member);
            self.signal_with(&caller.unique_name, &path, name, &[args])
        });
        let registered = self.registered_signal(caller, known, topic, &notification.payload);
        bridge.into_iter().chain(typed).chain(registered).collect()
    }

    /// The bridge's signal: with the payload by its type, or in JSON; what is not of its topic's type is shown as it came.
    fn bridge_signal(
        &self,
        caller: &Caller,
        notification: &OwnedMessage,
        kind: Option<&Kind>,
        json: bool,
    ) -> Option<Message> {
        let payload = &notification.payload;
        let kind = if notification.flags.encrypted { None } else { kind };
        let is_typed = kind.is_some_and(|kind| kind.typed.is_some());
        let signal = |shown: Piece<'_>, format: &str| {
            let args = [
                Piece::Item(items::text(&notification.destination)),
                Piece::Item(items::text(&notification.source)),
                shown,
                Piece::Item(details(notification, format)),
            ];
            self.signal_with(&caller.unique_name, &self.root, (fixed::BUS, "Notification"), &args)
        };
        let shown = value(kind, payload, json).ok();
        let as_it_came = || signal(value(None, payload, false).ok()?, format(payload, false, false));
        shown.and_then(|shown| signal(shown, format(payload, is_typed, json))).or_else(as_it_came)
    }

    /// Keeps a notification until the types of its topic are told.
    fn hold(&mut self, caller: &Caller, topic: Address<'_>, notification: OwnedMessage) -> Step {
        let asked_at = self.generation();
        let topic = topic.as_str().to_owned();
        if !self.known(caller).hold(&topic, notification) {
            return Step::Done;
        }
        let (caller, payload) = (caller.clone(), OwnedPayload::String(topic.clone()));
        let asked = ask(bus::SCHEMA, payload, false, move |router, outcome| {
            let info = outcome.and_then(|payload| payload.parse::<SchemaInfo>());
            let types = match info {
                Ok(info) => router.types.keep(&topic, (&info.request, &info.response), asked_at),
                // Nobody has told: it is passed on as it is.
                Err(error) if error == SchemaInfo::untold(&topic) => {
                    router.types.keep(&topic, (&[], &[]), asked_at)
                }
                // That it could not be asked says nothing of the types, which are everybody's.
                Err(_) => Arc::default(),
            };
            router.release(&caller, &topic, &types)
        });
        asked.unwrap_or(Step::Done)
    }

    fn release(&mut self, caller: &Caller, topic: &str, types: &AddressTypes) -> Step {
        let mut held = self.find_mut(caller).map(|known| known.release(topic)).unwrap_or_default();
        let missed = (held.missed > 0).then(|| self.missed(caller, topic, held.missed)).flatten();
        match (self.deliver(caller, held.notifications.make_contiguous(), types), missed) {
            (Step::Send(mut messages), missed) => {
                messages.extend(missed);
                Step::Send(messages)
            }
            (Step::Done, missed) => send(missed),
            (other, _) => other,
        }
    }

    fn tell_missed(&self, caller: &Caller, notification: &visorbus_core::Message<'_>) -> Step {
        let Ok(Missed { pattern, count }) = notification.payload.parse() else { return Step::Done };
        send(self.missed(caller, pattern, count.into()))
    }

    /// The signal that tells a caller that it did not get so many notifications.
    pub(super) fn missed(&self, caller: &Caller, pattern: &str, count: u64) -> Option<Message> {
        let args = [items::text(pattern), MessageItem::UInt64(count)];
        self.signal_to(&caller.unique_name, &self.root, (fixed::BUS, "Missed"), &args)
    }

    fn tell_revoked(&mut self, caller: &Caller, notification: &visorbus_core::Message<'_>) -> Step {
        let Ok(Revoked { what: Lasting::Subscription, name, reason }) = notification.payload.parse() else {
            return Step::Done;
        };
        let was_asked_for = self.drop_subscription(caller, name);
        send(if was_asked_for { self.subscription_ended(caller, name, reason) } else { None })
    }

    /// The signal of a registered interface that was published for those who may hear it.
    fn registered_signal(
        &self,
        caller: &Caller,
        known: &Known,
        topic: Address<'_>,
        payload: &OwnedPayload,
    ) -> Option<Message> {
        let (name, _) =
            known.interfaces.iter().find(|(_, topics)| topics.iter().any(|own| own == topic.as_str()))?;
        let described = self.registered.get(name)?;
        let is_it = |name: &str| described.signal_address(name).is_ok_and(|at| at.as_str() == topic.as_str());
        let signal = described.signals.iter().find(|signal| is_it(&signal.name))?;
        let args = carrier::unpack(payload.borrow().as_bytes()).ok()?;
        let fits = check(&args).is_ok_and(|given| given == signal.signature);
        let name = (described.name.as_str(), signal.name.as_str());
        if fits { self.signal_to(&caller.unique_name, &self.root, name, &args) } else { None }
    }
}

fn format(payload: &OwnedPayload, is_typed: bool, json: bool) -> &'static str {
    match payload {
        _ if json => "json",
        OwnedPayload::Binary(_) if is_typed => "typed",
        OwnedPayload::Binary(_) => "binary",
        OwnedPayload::String(_) => "text",
        OwnedPayload::Json(_) => "json",
        OwnedPayload::Toml(_) => "toml",
        OwnedPayload::Empty => "empty",
    }
}

fn details(notification: &OwnedMessage, format: &str) -> MessageItem {
    let mut details = vec![
        ("format", items::text(format)),
        ("priority", items::text(priority(notification.flags.priority))),
        ("encrypted", MessageItem::Bool(notification.flags.encrypted)),
    ];
    details.extend(notification.timestamp.map(|at| ("timestamp_us", MessageItem::UInt64(at))));
    details.extend(notification.uncertainty_us.map(|by| ("uncertainty_us", MessageItem::UInt32(by))));
    items::details(details)
}

const fn priority(priority: MessagePriority) -> &'static str {
    match priority {
        MessagePriority::Low => "low",
        MessagePriority::Normal => "normal",
        MessagePriority::High => "high",
        MessagePriority::Critical => "critical",
    }
}
