//! What is kept of each caller: what it has asked for, and what it was shown.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::message::{Address, Pattern};
use visorbus_hub::OwnedMessage;

use crate::objects::component::Component;

/// One caller.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Who it is to the hub; empty while it is nobody.
    pub(crate) subject: String,
    /// The components that it was shown, with the generation in which that was.
    components: HashMap<String, (u64, Arc<Component>)>,
    /// Its subscriptions by the bridge.
    pub(crate) patterns: Vec<Subscribed>,
    /// Its subscriptions at components.
    pub(crate) topics: Vec<Topic>,
    /// The components that it is told of when they go, once it has asked for the objects.
    pub(crate) objects: Option<BTreeSet<String>>,
    /// The registered interfaces that it has used and gets the signals of, and the topics of these.
    pub(crate) interfaces: HashMap<String, Vec<String>>,
    /// Notifications that wait until the types of their topics are told.
    held: HashMap<String, Held>,
    /// Bytes of their payloads.
    held_bytes: usize,
}

impl Known {
    /// The caller has a session as `subject`: what it was shown as somebody else, and what it used so, counts no more.
    pub(crate) fn open(&mut self, subject: &str) {
        self.components.clear();
        if self.subject != subject {
            self.interfaces.clear();
            self.objects = None;
        }
        subject.clone_into(&mut self.subject);
    }

    /// A component as it was shown in this generation.
    pub(crate) fn component(&self, name: &str, generation: u64) -> Option<Arc<Component>> {
        let (shown_in, component) = self.components.get(name)?;
        (*shown_in == generation).then(|| Arc::clone(component))
    }

    pub(crate) fn keep(&mut self, component: &Arc<Component>, generation: u64) {
        self.components.retain(|_, (shown_in, _)| *shown_in == generation);
        self.components.insert(component.name.clone(), (generation, Arc::clone(component)));
    }

    /// The bridge's subscription that a topic comes by: the first that selects it.
    pub(crate) fn pattern_for(&self, topic: Address<'_>) -> Option<&Subscribed> {
        let selects = |pattern: &str| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(topic));
        self.patterns.iter().find(|subscribed| selects(&subscribed.pattern))
    }

    /// Whether the hub's subscription with this pattern serves anything.
    pub(crate) fn uses(&self, pattern: &str) -> bool {
        self.all_subscriptions().any(|(text, _)| text == pattern)
    }

    /// The subscriptions in the hub: patterns, no two the same, and policies.
    pub(crate) fn subscriptions(&self) -> Vec<(String, SlowConsumer)> {
        let mut all: Vec<(String, SlowConsumer)> = Vec::new();
        for (pattern, policy) in self.all_subscriptions() {
            if !all.iter().any(|(known, _)| known == pattern) {
                all.push((pattern.to_owned(), policy));
            }
        }
        all
    }

    /// Forgets the hub's subscription with this pattern; whether it was one that the caller had asked for itself.
    pub(crate) fn drop_subscription(&mut self, pattern: &str) -> bool {
        let before = self.patterns.len() + self.topics.len();
        self.patterns.retain(|subscribed| subscribed.pattern != pattern);
        self.topics.retain(|topic| topic.address != pattern);
        self.interfaces.values_mut().for_each(|topics| topics.retain(|topic| topic != pattern));
        self.patterns.len() + self.topics.len() < before
    }

    /// Keeps a notification until the types of its topic are told; whether they have to be asked for first.
    pub(crate) fn hold(&mut self, topic: &str, notification: OwnedMessage) -> bool {
        let is_first = !self.held.contains_key(topic);
        let held = self.held.entry(topic.to_owned()).or_default();
        if held.notifications.len() >= MAX_HELD
            && let Some(oldest) = held.notifications.pop_front()
        {
            self.held_bytes -= len(&oldest);
            held.missed += 1;
        }
        if self.held_bytes + len(&notification) > MAX_HELD_BYTES {
            held.missed += 1;
        } else {
            self.held_bytes += len(&notification);
            held.notifications.push_back(notification);
        }
        is_first
    }

    /// What waited for the types of a topic.
    pub(crate) fn release(&mut self, topic: &str) -> Held {
        let held = self.held.remove(topic).unwrap_or_default();
        self.held_bytes -= held.notifications.iter().map(len).sum::<usize>();
        held
    }

    /// Those that carry a policy first: another one with the same pattern takes it over.
    fn all_subscriptions(&self) -> impl Iterator<Item = (&str, SlowConsumer)> {
        let patterns =
            self.patterns.iter().map(|subscribed| (subscribed.pattern.as_str(), subscribed.policy));
        let topics = self.topics.iter().map(|topic| (topic.address.as_str(), SlowConsumer::default()));
        let objects = self.objects.iter().map(|_| (bus::SERVICES_CHANGED, SlowConsumer::default()));
        let signals =
            self.interfaces.values().flatten().map(|topic| (topic.as_str(), SlowConsumer::default()));
        patterns.chain(topics).chain(objects).chain(signals)
    }
}

/// A subscription by the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribed {
    pub(crate) pattern: String,
    pub(crate) policy: SlowConsumer,
    pub(crate) json: bool,
}

/// A subscription at a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) component: String,
    pub(crate) address: String,
    /// The signal that it comes as.
    pub(crate) member: String,
}

/// Notifications on one topic, in the order in which they came, and how many older ones had no room.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) notifications: VecDeque<OwnedMessage>,
    pub(crate) missed: u64,
}

fn len(notification: &OwnedMessage) -> usize {
    notification.payload.borrow().as_bytes().len()
}

/// Notifications on one topic that wait for its types at most.
const MAX_HELD: usize = 256;
/// Bytes of payloads of one caller's notifications that wait so.
const MAX_HELD_BYTES: usize = 4 << 20;
