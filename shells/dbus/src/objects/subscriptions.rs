//! Subscriptions: by the bridge over patterns, at components by topic, and those that go with objects and registered
//! interfaces. The hub has one subscription for each text of a pattern in a session, so what two of these share is asked for
//! once, and taken back with the last.

use dbus::Message;
use visorbus_core::bus::{self, SlowConsumer, Subscribe};
use visorbus_core::message::{MessageFlags, MessageType, Pattern};
use visorbus_hub::OwnedPayload;

use crate::fault::{CONNECTION, Fault, MESSAGE};
use crate::router::options::{JSON, KEEP, POLICY};
use crate::router::{Asked, Reply, Router, Subscribed, Topic, ask, items, parse_address, send};
use crate::step::{Caller, Request, Step};

impl Router {
    /// `org.visorbus.Bus1.Subscribe`.
    pub(crate) fn subscribe(&mut self, asked: Asked) -> Result<Step, Fault> {
        let pattern = asked.text(0).to_owned();
        check_pattern(&pattern)?;
        let options = asked.options(1, &[POLICY, KEEP, JSON])?;
        let Asked { caller, reply, .. } = asked;
        let request = request(&pattern, options.policy)?;
        let subscribed = Subscribed { pattern, policy: options.policy, json: options.json };
        Ok(then(request, move |router, outcome| {
            reply.finish(outcome.map(|()| {
                let patterns = &mut router.known(&caller).patterns;
                match patterns.iter_mut().find(|known| known.pattern == subscribed.pattern) {
                    Some(known) => *known = subscribed,
                    None => patterns.push(subscribed),
                }
                Vec::new()
            }))
        }))
    }

    /// `org.visorbus.Bus1.Unsubscribe`.
    pub(crate) fn unsubscribe(&mut self, asked: &Asked) -> Result<Step, Fault> {
        let pattern = asked.text(0);
        let Some(known) = self.find_mut(&asked.caller) else { return Err(not_subscribed(pattern)) };
        let patterns = &mut known.patterns;
        let before = patterns.len();
        patterns.retain(|subscribed| subscribed.pattern != pattern);
        if patterns.len() == before {
            return Err(not_subscribed(pattern));
        }
        self.release_subscription(pattern, asked)
    }

    /// `org.visorbus.Component1.Subscribe`.
    pub(crate) fn subscribe_at(&mut self, component: &str, asked: Asked) -> Result<Step, Fault> {
        let (caller, reply) = (asked.caller.clone(), asked.reply.clone());
        let of = (&caller, &reply);
        let now = self.generation();
        let known = self.find(&caller).and_then(|known| known.component(component, now));
        let fresh = known.is_none_or(|component| component.signal_of(asked.text(0)).is_none());
        self.with_component(of, component, fresh, move |router, component| {
            let Asked { caller, reply, .. } = &asked;
            let address = asked.text(0).to_owned();
            let Some(member) = component.signal_of(&address).map(str::to_owned) else {
                let text = format!(
                    "'{}' has no topic '{address}' for you: it has {}",
                    component.name,
                    component.topics()
                );
                return Err(Fault::new(MESSAGE, text));
            };
            let topic = Topic { component: component.name.clone(), address, member };
            router.subscribe_topic(caller.clone(), reply.clone(), topic)
        })
    }

    /// `org.visorbus.Component1.Unsubscribe`.
    pub(crate) fn unsubscribe_at(&mut self, component: &str, asked: &Asked) -> Result<Step, Fault> {
        let address = asked.text(0);
        let Some(known) = self.find_mut(&asked.caller) else { return Err(not_subscribed(address)) };
        let topics = &mut known.topics;
        let before = topics.len();
        topics.retain(|topic| topic.component != component || topic.address != address);
        if topics.len() == before {
            return Err(not_subscribed(address));
        }
        self.release_subscription(address, asked)
    }

    /// A new session has by itself taken the place of the one that a caller had: asks again for what that one was
    /// subscribed to. What the new one may not have is gone, and the caller is told of it.
    pub(crate) fn restore(&mut self, caller: &Caller) -> Step {
        self.restore_then(caller, Box::new(|_| Step::Done))
    }

    /// As [`Router::restore`], before what comes `next`.
    pub(crate) fn restore_then(&mut self, caller: &Caller, next: Next) -> Step {
        let left = self.find(caller).map(|known| known.subscriptions()).unwrap_or_default();
        self.restore_next(caller.clone(), left, Vec::new(), next)
    }

    /// Subscribes to the signals of a registered interface that are not for everybody, once for each caller that has used
    /// it, and goes on. Those that the caller may not have it does not get.
    pub(crate) fn follow(&mut self, caller: Caller, interface: &str, next: Next) -> Step {
        let known = self.find(&caller).is_some_and(|known| known.interfaces.contains_key(interface));
        let Some(described) = self.registered.get(interface).filter(|_| !known) else { return next(self) };
        let signals = described.signals.iter().filter(|signal| signal.requires_auth);
        let topics = signals.filter_map(|signal| described.signal_address(&signal.name).ok());
        let topics = topics.map(|address| address.as_str().to_owned()).collect();
        self.known(&caller).interfaces.insert(interface.to_owned(), Vec::new());
        self.follow_next(caller, interface.to_owned(), topics, next)
    }

    fn subscribe_topic(&mut self, caller: Caller, reply: Reply, topic: Topic) -> Result<Step, Fault> {
        let known = self.known(&caller);
        if known.uses(&topic.address) {
            if !known.topics.contains(&topic) {
                known.topics.push(topic);
            }
            return Ok(reply.send(&[]));
        }
        let request = request(&topic.address, SlowConsumer::default())?;
        Ok(then(request, move |router, outcome| {
            reply.finish(outcome.map(|()| {
                let topics = &mut router.known(&caller).topics;
                if !topics.contains(&topic) {
                    topics.push(topic);
                }
                Vec::new()
            }))
        }))
    }

    /// Has the hub forget a subscription that nothing uses any more.
    fn release_subscription(&mut self, pattern: &str, asked: &Asked) -> Result<Step, Fault> {
        if self.find(&asked.caller).is_some_and(|known| known.uses(pattern)) {
            return Ok(asked.reply.send(&[]));
        }
        let reply = asked.reply.clone();
        let payload = OwnedPayload::String(pattern.to_owned());
        ask(bus::UNSUBSCRIBE, payload, false, move |_, outcome| {
            reply.finish(outcome.map(|_| Vec::new()).map_err(Fault::from))
        })
    }

    fn restore_next(
        &mut self,
        caller: Caller,
        mut left: Vec<(String, SlowConsumer)>,
        mut told: Vec<Message>,
        next: Next,
    ) -> Step {
        let first = left.pop().and_then(|(pattern, policy)| Some((request(&pattern, policy).ok()?, pattern)));
        let Some((request, pattern)) = first else { return followed_by(next(self), told) };
        then(request, move |router, outcome| {
            match outcome {
                // This session is over too: the next one begins again.
                Err(fault) if fault.name == CONNECTION => return followed_by(next(router), told),
                Err(fault) if router.drop_subscription(&caller, &pattern) => {
                    told.extend(router.subscription_ended(&caller, &pattern, &fault.text));
                }
                _ => {}
            }
            router.restore_next(caller, left, told, next)
        })
    }

    /// As [`Known::drop_subscription`](crate::router::Known::drop_subscription), of a caller of whom nothing may be kept.
    pub(crate) fn drop_subscription(&mut self, caller: &Caller, pattern: &str) -> bool {
        self.find_mut(caller).is_some_and(|known| known.drop_subscription(pattern))
    }

    /// The signal that tells a caller that a subscription is over.
    pub(crate) fn subscription_ended(&self, caller: &Caller, pattern: &str, why: &str) -> Option<Message> {
        let args = [items::text(pattern), items::text(why)];
        self.signal_to(&caller.unique_name, &self.root, (super::fixed::BUS, "SubscriptionEnded"), &args)
    }

    fn follow_next(&mut self, caller: Caller, interface: String, mut left: Vec<String>, next: Next) -> Step {
        let Some(topic) = left.pop() else { return next(self) };
        let Ok(request) = request(&topic, SlowConsumer::default()) else { return next(self) };
        then(request, move |router, outcome| {
            if outcome.is_ok()
                && let Some(topics) =
                    router.find_mut(&caller).and_then(|known| known.interfaces.get_mut(&interface))
            {
                topics.push(topic);
            }
            router.follow_next(caller, interface, left, next)
        })
    }
}

/// What comes last.
pub(crate) type Next = Box<dyn FnOnce(&mut Router) -> Step + Send>;

/// The request for a subscription.
///
/// # Errors
/// It cannot be written, which does not happen.
pub(crate) fn request(pattern: &str, policy: SlowConsumer) -> Result<Request, Fault> {
    let payload = OwnedPayload::postcard(&Subscribe { pattern, policy })?;
    let flags = MessageFlags { requires_response: true, ..MessageFlags::NONE };
    let destination = parse_address(bus::SUBSCRIBE)?;
    Ok(Request { message_type: MessageType::Request, destination, payload, flags, as_guest: false })
}

/// Asks, of the answer only whether it is one.
pub(crate) fn then(
    request: Request,
    then: impl FnOnce(&mut Router, Result<(), Fault>) -> Step + Send + 'static,
) -> Step {
    Step::Ask(request, Box::new(move |router, outcome| then(router, outcome.map(drop).map_err(Fault::from))))
}

/// Sends messages behind what a step sends.
fn followed_by(step: Step, told: Vec<Message>) -> Step {
    match step {
        Step::Send(mut messages) => {
            messages.extend(told);
            Step::Send(messages)
        }
        Step::Done => send(told),
        other => other,
    }
}

fn check_pattern(pattern: &str) -> Result<(), Fault> {
    let checked = Pattern::new(pattern).map(drop);
    checked.map_err(|error| Fault::invalid_args(format!("'{pattern}' is no pattern: {error}")))
}

fn not_subscribed(pattern: &str) -> Fault {
    Fault::new(MESSAGE, format!("there is no subscription '{pattern}' of yours here"))
}
