//! The hub's answers to requests to the reserved component `bus`.

use postcard_schema::Schema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use visorbus_core::MessagePriority;
use visorbus_core::auth::{Access, BUS, Grant, Operation};
use visorbus_core::bus::{self, Mismatch, Missed, Revoked, SlowConsumer};
use visorbus_core::message::address::is_name;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType, Pattern};

use crate::gate::Denied;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::info::{
    AddressInfo, Ended, Fault, InterfaceInfo, PeerInfo, Revoke, SchemaInfo, ServiceChange, ServiceInfo,
    kind_name,
};
use crate::interfaces::may_use;
use crate::owned::{Error, OwnedPayload, Result};
use crate::peer::{Component, Peer, Subscription};
use crate::peers::PeerKey;
use crate::rows::{OwnedAccess, Row};
use crate::schema::Shape;
use crate::watch::HubEvent;

impl Hub {
    /// Answers a request to the hub itself.
    pub(crate) fn answer_bus(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let address = incoming.message.destination.map_or(BUS, Address::as_str);
        if address == bus::CANCEL && incoming.message.message_type == MessageType::Notification {
            return self.handle_cancel(incoming);
        }
        if incoming.message.message_type != MessageType::Request {
            return Err(Error::Message("the hub takes requests, no notifications".to_owned()));
        }
        match address {
            bus::SUBSCRIBE => self.subscribe(incoming, own),
            bus::UNSUBSCRIBE => self.unsubscribe(incoming),
            bus::REGISTER => self.register(incoming, own),
            bus::UNREGISTER => self.unregister(incoming),
            bus::ANNOUNCE => self.take_row(incoming, own),
            bus::REFRESH => self.refresh(incoming, own),
            bus::REVOKE => self.revoke(incoming, own),
            bus::AUTH_RELOAD | bus::POLICY_RELOAD => self.reload(incoming, own),
            bus::PERMISSIONS => self.tell_permissions(incoming, own),
            bus::SERVICES | bus::PEERS => {
                self.authorize(incoming, own, Operation::Request, Access::Permission)?;
                match address {
                    bus::SERVICES => self.answer_with(incoming, &self.services()),
                    _ => self.answer_with(incoming, &self.peer_infos()),
                }
            }
            bus::INTERFACES => self.tell_interfaces(incoming, own),
            bus::SCHEMA => {
                let asked = parse_text(&incoming.message.payload)?;
                // Whoever may use an address may know its types: only where neither is so anything is refused.
                if !self.may_use(incoming, own, &asked) {
                    self.authorize_schema(incoming, own, &asked)?;
                }
                let info = self.schemas(&asked)?;
                let is_json = matches!(incoming.message.payload, MessagePayload::Json(_));
                match is_json || self.has_json(incoming.from) {
                    true => self.answer_with(incoming, &ReadableSchema::from(info)),
                    false => self.answer_with(incoming, &info),
                }
            }
            _ => Err(Error::Message(format!(
                "the hub has no '{address}': its addresses are in docs/wire-format.md"
            ))),
        }
    }

    /// Whether whoever may not use an address may know its types. What is noted where not is which address it was about.
    fn authorize_schema(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>, asked: &str) -> Result<()> {
        let (resource, len) =
            (const { Address::literal(bus::SCHEMA) }, incoming.message.payload.as_bytes().len());
        let may = self.gate(incoming, own).ask(Operation::Request, resource.into(), Access::Permission, len);
        let denied = may.map_err(|denial| Denied {
            resource: said(asked).to_owned(),
            ..Denied::new(Operation::Request, resource.as_str(), denial)
        });
        denied.map_err(|denied| self.deny(incoming.from, denied))
    }

    fn subscribe(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let asked: OwnedSubscribe = parse(&incoming.message.payload)?;
        let text = asked.pattern;
        let pattern = Pattern::new(&text)
            .map_err(|e| Error::Message(format!("'{}' is not a pattern: {e}", said(&text))))?;
        let len = incoming.message.payload.as_bytes().len();
        let may = self.gate(incoming, own).ask(Operation::Subscribe, pattern, Access::Permission, len);
        let may = may.map_err(|denial| Denied::new(Operation::Subscribe, &text, denial));
        may.map_err(|denied| self.deny(incoming.from, denied))?;
        let grant = Box::new(self.require_live_grant(incoming, own)?.clone());
        let (policy, until) = (asked.policy, grant.expires());
        let limit = self.config.limits.subscriptions;
        let Some(peer) = self.peers.get_mut(incoming.from) else { return Ok(()) };
        if let Some(known) = peer.subscriptions.iter_mut().find(|known| known.pattern == text) {
            (known.policy, known.grant, known.until) = (policy, grant, until);
        } else if peer.subscriptions.len() >= limit {
            return Err(Error::Message(format!("this session has {limit} subscriptions, the limit")));
        } else {
            let number = peer.next_subscription;
            peer.next_subscription += 1;
            peer.subscriptions.push(Subscription {
                number,
                pattern: text,
                policy,
                grant,
                until,
                missed: 0,
                refused_type: 0,
            });
            self.matches.clear();
        }
        self.respond(incoming, MessagePayload::Empty);
        Ok(())
    }

    fn unsubscribe(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let pattern = parse_text(&incoming.message.payload)?;
        let Some(peer) = self.peers.get_mut(incoming.from) else { return Ok(()) };
        let before = peer.subscriptions.len();
        peer.subscriptions.retain(|subscription| subscription.pattern != pattern);
        if peer.subscriptions.len() == before {
            return Err(Error::Message(format!("this session has no subscription '{}'", said(&pattern))));
        }
        self.matches.clear();
        self.respond(incoming, MessagePayload::Empty);
        Ok(())
    }

    fn register(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let component = parse::<OwnedRegister>(&incoming.message.payload)?.component;
        if !is_name(&component) || component == BUS {
            return Err(Error::Message(format!("'{}' cannot be a component's name", said(&component))));
        }
        let address = Address::new(&component).map_err(|e| Error::Message(e.to_string()))?;
        let asked =
            Incoming { message: Message { destination: Some(address), ..incoming.message }, ..*incoming };
        self.authorize(&asked, own, Operation::Register, Access::Permission)?;
        let grant = Box::new(self.require_live_grant(incoming, own)?.clone());
        let limit = self.config.limits.components;
        if self.registry.contains(&component) || self.names.contains_key(&component) {
            return Err(Error::Connection(format!("the name '{component}' is taken: it is served already")));
        }
        let Some(peer) = self.peers.get_mut(incoming.from) else { return Ok(()) };
        if peer.components.len() >= limit {
            return Err(Error::Message(format!("this session serves {limit} components, the limit")));
        }
        peer.components.push(Component { name: component.clone(), grant });
        let name = peer.name.clone();
        self.names.insert(component.clone(), incoming.from);
        self.handle.types_changed();
        self.respond(incoming, MessagePayload::Empty);
        self.announce(&component, &name, true);
        Ok(())
    }

    fn unregister(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let component = parse_text(&incoming.message.payload)?;
        let Some(peer) = self.peers.get_mut(incoming.from) else { return Ok(()) };
        if !peer.components.iter().any(|own| own.name == component) {
            return Err(Error::Message(format!("this session does not serve '{}'", said(&component))));
        }
        self.remove_component(incoming.from, &component);
        self.respond(incoming, MessagePayload::Empty);
        Ok(())
    }

    /// Has a peer not serve a component any more.
    pub(crate) fn remove_component(&mut self, key: PeerKey, component: &str) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.components.retain(|own| own.name != component);
        peer.rows.forget_component(component);
        let name = peer.name.clone();
        self.names.remove(component);
        self.handle.types_changed();
        self.announce(component, &name, false);
    }

    /// The caller itself gives up a request. One that was answered meanwhile is over anyway.
    fn handle_cancel(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let key = (incoming.from, parse::<OwnedCancel>(&incoming.message.payload)?.id);
        if let Some(call) = self.calls.give_up(key) {
            self.uncount_call(incoming.from);
            self.cancel_call(key, &call);
        }
        self.acknowledge(incoming);
        Ok(())
    }

    pub(crate) fn services(&self) -> Vec<ServiceInfo> {
        let local = self.registry.names().map(|name| ServiceInfo {
            component: name.to_owned(),
            peer: String::new(),
            transport: "hub".to_owned(),
            addresses: self.registry.rows(name).iter().map(AddressInfo::from).collect(),
        });
        let service = |component: &String, key: &PeerKey| {
            let peer = self.peers.get(*key)?;
            let own = |row: &&Row| row.kind.is_offered() && row.component() == component;
            Some(ServiceInfo {
                component: component.clone(),
                peer: peer.name.clone(),
                transport: peer.origin.to_string(),
                addresses: peer.rows.known.iter().filter(own).map(AddressInfo::from).collect(),
            })
        };
        let remote = self.names.iter().filter_map(|(component, key)| service(component, key));
        let mut services: Vec<ServiceInfo> = local.chain(remote).collect();
        services.sort_by(|a, b| a.component.cmp(&b.component));
        services
    }

    /// Whether the asker may call an address or hear it: then it may know its types.
    fn may_use(&self, incoming: &Incoming<'_>, own: Option<&Grant>, address: &str) -> bool {
        let Ok(address) = Address::new(address) else { return false };
        let row = self.offered(address);
        let access = row.map_or(Access::Permission, |row| row.access.borrow());
        may_use(&self.gate(incoming, own), address, access)
    }

    /// What is told of an address by whoever offers it.
    fn offered(&self, address: Address<'_>) -> Option<&Row> {
        let mut rows = self.rows_of(address.component()).iter();
        rows.find(|row| row.kind.is_offered() && row.address == address.as_str())
    }

    fn schemas(&self, address: &str) -> Result<SchemaInfo> {
        if let Some((request, response)) = own_schemas(address) {
            return Ok(SchemaInfo { address: address.to_owned(), request, response });
        }
        let asked = Address::new(address)
            .map_err(|e| Error::Message(format!("'{}' is not an address: {e}", said(address))))?;
        let row = self.offered(asked).ok_or_else(|| SchemaInfo::untold(address))?;
        Ok(SchemaInfo {
            address: address.to_owned(),
            request: row.request_schema.bytes().to_vec(),
            response: row.response_schema.bytes().to_vec(),
        })
    }

    pub(crate) fn peer_infos(&self) -> Vec<PeerInfo> {
        let mut infos: Vec<PeerInfo> = self.peers.iter().map(|(_, peer)| self.peer_info(peer)).collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    fn peer_info(&self, peer: &Peer) -> PeerInfo {
        let counters = &peer.counters;
        let faults = peer.link.faults().into_iter();
        let remote = peer.session.remote();
        PeerInfo {
            name: peer.label(),
            origin: peer.origin.to_string(),
            transport: peer.origin.transport().as_str().to_owned(),
            authenticated: !peer.name.is_empty(),
            connected_at_us: self.start_unix_us.saturating_add(peer.connected_at.as_micros()),
            boot_id: remote.map(|remote| format!("{:016x}", remote.boot_id)),
            // What is not spoken is refused at the hello.
            wire_version: remote.map(|_| bus::WIRE_VERSION),
            capabilities: peer.capabilities().into_iter().map(str::to_owned).collect(),
            round_trip_us: peer.round_trip_us,
            frames_in: counters.taken.messages() + counters.undecodable,
            frames_out: counters.given.messages(),
            bytes_in: counters.taken.bytes,
            bytes_out: counters.given.bytes,
            queued_bytes: peer.queue.bytes() as u64,
            undecodable: counters.undecodable,
            refused: counters.refused,
            missed: counters.missed,
            late: counters.late,
            sessions: counters.sessions,
            faults: faults.map(|(name, count)| Fault { name: name.to_owned(), count }).collect(),
            clock: self.clock_info(peer),
        }
    }

    /// Answers in the form in which was asked, and JSON to whoever has no postcard.
    pub(crate) fn answer_with<T: Serialize>(&mut self, incoming: &Incoming<'_>, value: &T) -> Result<()> {
        let payload = match incoming.message.payload {
            MessagePayload::Json(_) => OwnedPayload::json(value)?,
            _ => self.value_for(incoming.from, value)?,
        };
        self.respond(incoming, payload.borrow());
        Ok(())
    }

    /// Tells those who watch that a component came or went.
    pub(crate) fn announce(&mut self, component: &str, peer: &str, up: bool) {
        let change = ServiceChange { component: component.to_owned(), peer: peer.to_owned(), up };
        self.watchers.tell(|| match change.clone() {
            ServiceChange { component, peer, up: true } => HubEvent::ComponentUp { component, peer },
            ServiceChange { component, peer, up: false } => HubEvent::ComponentDown { component, peer },
        });
        self.publish_own(const { Address::literal(bus::SERVICES_CHANGED) }, &change);
    }

    /// Tells a subscriber that reads again what it missed.
    pub(crate) fn tell_missed(&mut self, key: PeerKey) {
        let missed = |subscription: &&mut Subscription| subscription.missed > 0;
        loop {
            let id = self.next_id;
            let Some(peer) = self.peers.get_mut(key) else { return };
            let Some(subscription) = peer.subscriptions.iter_mut().find(missed) else { return };
            let (number, count) = (subscription.number, subscription.missed);
            let missed = Missed { pattern: &subscription.pattern, count };
            let json = peer.options.json;
            let payload = if json { OwnedPayload::json(&missed) } else { OwnedPayload::postcard(&missed) };
            let Ok(payload) = payload else { return };
            let mut message = Message::notification(id, Address::literal(bus::MISSED));
            message.source = Some(BUS_ADDRESS);
            message.payload = payload.borrow();
            let len = visorbus_core::encode(&message, &mut self.out).unwrap_or(0);
            // Before what waits; what does not fit is told of later, with what is missed until then.
            if self.peers.send(key, &self.out[..len], &[], MessagePriority::High, false).is_err() {
                return;
            }
            self.next_id += 1;
            let own = |subscription: &&mut Subscription| subscription.number == number;
            let peer = self.peers.get_mut(key);
            if let Some(told) = peer.and_then(|peer| peer.subscriptions.iter_mut().find(own)) {
                told.missed = 0;
            }
        }
    }
}

/// [`bus::Subscribe`] with its own text, so that JSON with escapes reads too.
#[derive(serde::Deserialize, Serialize, Schema)]
struct OwnedSubscribe {
    pattern: String,
    #[serde(default)]
    policy: SlowConsumer,
}

/// [`bus::Cancel`] with its own text.
#[derive(serde::Deserialize, Serialize, Schema)]
pub(crate) struct OwnedCancel {
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    id: u64,
    #[serde(default)]
    source: String,
}

impl OwnedCancel {
    pub(crate) fn new(id: u64, source: &str) -> Self {
        Self { id, source: source.to_owned() }
    }
}

/// In JSON ids are texts: JavaScript has no numbers that are long enough.
fn write_id<S: serde::Serializer>(id: &u64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match serializer.is_human_readable() {
        true => serializer.collect_str(id),
        false => serializer.serialize_u64(*id),
    }
}

/// In JSON a number is taken too.
fn read_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Text(String),
    }
    if !deserializer.is_human_readable() {
        return serde::Deserialize::deserialize(deserializer);
    }
    match serde::Deserialize::deserialize(deserializer)? {
        Id::Number(id) => Ok(id),
        Id::Text(text) => text.parse().map_err(|_| serde::de::Error::custom("an id is a number")),
    }
}

/// [`SchemaInfo`] for whoever has no postcard: with the types as they read in a Rust program, `null` where not known.
#[derive(Serialize)]
struct ReadableSchema {
    #[serde(flatten)]
    info: SchemaInfo,
    request_type: Option<String>,
    response_type: Option<String>,
}

impl From<SchemaInfo> for ReadableSchema {
    fn from(info: SchemaInfo) -> Self {
        let text = |schema: &[u8]| Shape::read(schema).map(|shape| shape.to_string());
        Self { request_type: text(&info.request), response_type: text(&info.response), info }
    }
}

/// [`bus::Register`] with its own text.
#[derive(serde::Deserialize, Serialize, Schema)]
struct OwnedRegister {
    component: String,
}

impl From<&Row> for AddressInfo {
    fn from(row: &Row) -> Self {
        Self {
            address: row.address.clone(),
            kind: kind_name(row.kind).to_owned(),
            access: match &row.access {
                OwnedAccess::Open => "open".to_owned(),
                OwnedAccess::Permission => "permission".to_owned(),
                OwnedAccess::Scope(scope) => format!("scope {scope}"),
            },
            request_hash: format!("{:016x}", row.request_hash),
            response_hash: format!("{:016x}", row.response_hash),
        }
    }
}

/// The schemas of the hub's own addresses.
fn own_schemas(address: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    fn bytes<T: Schema + ?Sized>() -> Vec<u8> {
        postcard::to_stdvec(T::SCHEMA).unwrap_or_default()
    }
    Some(match address {
        bus::SUBSCRIBE => (bytes::<OwnedSubscribe>(), bytes::<()>()),
        bus::ANNOUNCE => (bytes::<crate::expect::OwnedAnnounce>(), bytes::<()>()),
        bus::REGISTER => (bytes::<OwnedRegister>(), bytes::<()>()),
        bus::UNSUBSCRIBE | bus::UNREGISTER => (bytes::<String>(), bytes::<()>()),
        bus::SERVICES => (bytes::<()>(), bytes::<Vec<ServiceInfo>>()),
        bus::PEERS => (bytes::<()>(), bytes::<Vec<PeerInfo>>()),
        bus::INTERFACES => (bytes::<String>(), bytes::<Vec<InterfaceInfo>>()),
        bus::SCHEMA => (bytes::<String>(), bytes::<SchemaInfo>()),
        bus::SERVICES_CHANGED => (bytes::<ServiceChange>(), bytes::<()>()),
        bus::CANCEL => (bytes::<OwnedCancel>(), bytes::<()>()),
        bus::MISSED => (bytes::<Missed<'static>>(), bytes::<()>()),
        bus::REFRESH => (bytes::<String>(), bytes::<visorbus_auth::AuthToken>()),
        bus::REVOKE => (bytes::<Revoke>(), bytes::<()>()),
        bus::AUTH_RELOAD | bus::POLICY_RELOAD => (bytes::<()>(), bytes::<Ended>()),
        bus::PERMISSIONS => (bytes::<()>(), bytes::<Vec<visorbus_auth::Permission>>()),
        bus::AUDIT => (bytes::<visorbus_auth::AuditEvent>(), bytes::<()>()),
        bus::REVOKED => (bytes::<Revoked<'static>>(), bytes::<()>()),
        bus::MISMATCH => (bytes::<Mismatch<'static>>(), bytes::<()>()),
        _ => return None,
    })
}

/// Reads a value from JSON or from postcard, whichever the payload is.
pub(crate) fn parse<T: DeserializeOwned>(payload: &MessagePayload<'_>) -> Result<T> {
    OwnedPayload::from(*payload).parse()
}

/// What somebody has said, to say it back to them; not what begins like a token or a key, and got into the wrong place:
/// that would be in the log.
pub(crate) fn said(text: &str) -> &str {
    let is_secret =
        ["vb1.", "vbk1.", "vbl1.", "vbp1."].iter().any(|start| text.trim_start().starts_with(start));
    if is_secret { "(a secret)" } else { text }
}

/// Reads a text: a String payload as it is, else a JSON or postcard string.
pub(crate) fn parse_text(payload: &MessagePayload<'_>) -> Result<String> {
    match payload {
        MessagePayload::String(text) => Ok((*text).to_owned()),
        other => parse(other),
    }
}
