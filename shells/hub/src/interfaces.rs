//! What each may use of what components offer, with the types: the answer to `bus/interfaces`. It shows nobody more than
//! `bus/schema` and `bus/services` do.

use serde::Serialize;
use visorbus_core::auth::{Access, Grant, Operation};
use visorbus_core::bus;
use visorbus_core::message::{Address, MessagePayload};

use crate::bus::{parse, parse_text};
use crate::gate::Gate;
use crate::hub::{Hub, Incoming};
use crate::info::{AddressInfo, InterfaceAddress, InterfaceInfo};
use crate::owned::{Error, Result};
use crate::rows::Row;
use crate::schema::Shape;

impl Hub {
    /// Answers with the components that the asker may use something of, and that.
    pub(crate) fn tell_interfaces(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let asked = match incoming.message.payload {
            MessagePayload::Empty | MessagePayload::Binary([]) => None,
            ref payload @ MessagePayload::Json(_) => parse::<Option<String>>(payload)?,
            ref payload => Some(parse_text(payload)?),
        };
        self.check_interfaces_budget(incoming)?;
        let gate = self.gate(incoming, own);
        let sees_all = sees_all(&gate);
        let mut room = if asked.is_some() { usize::MAX } else { MAX_SCHEMAS };
        let mut looked = 0;
        let mut infos = Vec::new();
        for (component, peer, transport, rows) in self.offers(asked.as_deref()) {
            looked += rows.len();
            let rows = rows.iter().filter(|row| row.kind.is_offered() && row.component() == component);
            let addresses: Vec<InterfaceAddress> =
                rows.filter_map(|row| interface_address(&gate, row, sees_all, &mut room)).collect();
            if sees_all || addresses.iter().any(|address| address.usable) {
                let component = component.to_owned();
                infos.push(InterfaceInfo { component, peer: peer.to_owned(), transport, addresses });
            }
        }
        infos.sort_by(|a, b| a.component.cmp(&b.component));
        if let (Some(asked), true) = (&asked, infos.is_empty()) {
            // Whether there is such a component is nobody's business who may use nothing of it.
            return Err(InterfaceInfo::unknown(asked));
        }
        let is_json =
            matches!(incoming.message.payload, MessagePayload::Json(_)) || self.has_json(incoming.from);
        self.charge_interfaces(incoming, looked, &infos);
        match is_json {
            true => self.answer_with(incoming, &infos.into_iter().map(Readable::from).collect::<Vec<_>>()),
            false => self.answer_with(incoming, &infos),
        }
    }

    /// All components that offer something, or the one that is asked for: name, peer, transport, and rows among which
    /// are its own.
    fn offers<'h>(
        &'h self,
        asked: Option<&'h str>,
    ) -> impl Iterator<Item = (&'h str, &'h str, String, &'h [Row])> {
        let is_asked = move |name: &str| asked.is_none_or(|asked| asked == name);
        let local = self.registry.names().filter(move |name| is_asked(name));
        let local = local.map(|name| (name, "", "hub".to_owned(), self.registry.rows(name)));
        let remote = self.names.iter().filter(move |(name, _)| is_asked(name)).filter_map(|(name, key)| {
            let peer = self.peers.get(*key)?;
            let offers = |row: &Row| row.kind.is_offered() && row.component() == name;
            let serves = *name != peer.name || peer.rows.known.iter().any(offers);
            serves.then(|| (name.as_str(), peer.name.as_str(), peer.origin.to_string(), &*peer.rows.known))
        });
        local.chain(remote)
    }

    /// Whoever has had much told waits until that is made good.
    fn check_interfaces_budget(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let limit = self.config.limits.translated_bytes;
        let Some(peer) = self.peers.get_mut(incoming.from) else { return Ok(()) };
        if peer.translating.has_some(incoming.now, limit) {
            return Ok(());
        }
        Err(Error::Message(format!(
            "this session has asked for more than {limit} bytes of types in a second, the limit: ask again later, or \
             only when bus/services/changed tells of something new"
        )))
    }

    fn charge_interfaces(&mut self, incoming: &Incoming<'_>, looked: usize, infos: &[InterfaceInfo]) {
        let addresses = infos.iter().flat_map(|info| &info.addresses);
        let told: usize =
            addresses.map(|told| told.address.len() + told.request.len() + told.response.len()).sum();
        if let Some(peer) = self.peers.get_mut(incoming.from) {
            peer.translating.take(ASKING_COST * (looked + infos.len()) + told);
        }
    }
}

/// Whether the asker may do anything at an address: call it, tell it something, or hear it. Then it may know its types.
pub(crate) fn may_use(gate: &Gate<'_>, address: Address<'_>, access: Access<'_>) -> bool {
    gate.would(Operation::Request, address.into(), access).is_ok()
        || gate.would(Operation::Notify, address.into(), access).is_ok()
        || gate.would(Operation::Subscribe, address.into(), Access::Permission).is_ok()
}

fn sees_all(gate: &Gate<'_>) -> bool {
    let services = const { Address::literal(bus::SERVICES) };
    gate.would(Operation::Request, services.into(), Access::Permission).is_ok()
}

/// What is told of a row; nothing of one that is not to be seen.
fn interface_address(
    gate: &Gate<'_>,
    row: &Row,
    sees_all: bool,
    room: &mut usize,
) -> Option<InterfaceAddress> {
    let usable = Address::new(&row.address).is_ok_and(|address| may_use(gate, address, row.access.borrow()));
    if !usable && !sees_all {
        return None;
    }
    let (request, response) = (row.request_schema.bytes(), row.response_schema.bytes());
    let left = room.checked_sub(request.len() + response.len()).filter(|_| usable);
    *room = left.unwrap_or(*room);
    let told = |bytes: &[u8]| if left.is_some() { bytes.to_vec() } else { Vec::new() };
    let (request, response) = (told(request), told(response));
    let AddressInfo { address, kind, access, request_hash, response_hash } = row.into();
    Some(InterfaceAddress { address, kind, access, usable, request_hash, response_hash, request, response })
}

/// [`InterfaceInfo`] for whoever has no postcard: with the types as they read in a Rust program, `null` where not known.
#[derive(Serialize)]
struct Readable {
    component: String,
    peer: String,
    transport: String,
    addresses: Vec<ReadableAddress>,
}

#[derive(Serialize)]
struct ReadableAddress {
    #[serde(flatten)]
    told: InterfaceAddress,
    request_type: Option<String>,
    response_type: Option<String>,
}

impl From<InterfaceInfo> for Readable {
    fn from(info: InterfaceInfo) -> Self {
        let InterfaceInfo { component, peer, transport, addresses } = info;
        let addresses = addresses.into_iter().map(ReadableAddress::from).collect();
        Self { component, peer, transport, addresses }
    }
}

impl From<InterfaceAddress> for ReadableAddress {
    fn from(told: InterfaceAddress) -> Self {
        let text = |schema: &[u8]| Shape::read(schema).map(|shape| shape.to_string());
        Self { request_type: text(&told.request), response_type: text(&told.response), told }
    }
}

/// Bytes of schemas in an answer with all components.
const MAX_SCHEMAS: usize = 256 << 10;
/// What it costs to ask about one row, in bytes that are turned in the meantime.
const ASKING_COST: usize = 64;
