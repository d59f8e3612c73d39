//! Types of one address in two programs: what its owner tells is held against what those who use it were built with.
//!
//! Each refusal is of one peer and one address, made when a message comes, from what is known then: it begins by itself
//! when a service comes back changed, and ends by itself when it comes back as it was. A hash of 0 is not known, and
//! agrees with all.

use std::collections::BTreeSet;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::{Access, Grant, Operation};
use visorbus_core::bus::{self, Mismatch, RowKind};
use visorbus_core::message::{Address, Message, MessagePayload};

use crate::HashMap;
use crate::bus::said;
use crate::gate::Denied;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::owned::{Error, OwnedPayload, Result};
use crate::peers::PeerKey;
use crate::rows::{OwnedAccess, Row};
use crate::schema::Shape;
use crate::subscriptions::Selected;

/// The types of an address, by their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Types {
    /// Of what goes to the address, or is published there.
    pub(crate) request: u64,
    /// Of what comes back.
    pub(crate) response: u64,
}

/// What a peer was built with for addresses that it uses.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    by_address: HashMap<Box<str>, Use>,
    /// What the log says of them already.
    logged: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Use {
    calls: Option<Types>,
    sends: Option<Types>,
    expects: Option<Types>,
}

impl Uses {
    /// Whether the peer has said nothing: then nothing of it is looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    pub(crate) fn contains(&self, address: &str) -> bool {
        self.by_address.contains_key(address)
    }

    pub(crate) fn insert(&mut self, kind: RowKind, address: &str, types: Types) {
        if let Some(place) = self.by_address.entry(address.into()).or_default().of_mut(kind) {
            *place = Some(types);
        }
    }

    pub(crate) fn get(&self, kind: RowKind, address: &str) -> Option<Types> {
        let used = self.by_address.get(address)?;
        match kind {
            RowKind::Calls => used.calls,
            RowKind::Sends => used.sends,
            RowKind::Expects => used.expects,
            _ => None,
        }
    }

    /// Whether the log is to have `text`: each once, and so many of a session, whatever it and others send.
    fn is_news(&mut self, text: &str) -> bool {
        self.logged.len() < MAX_LOGGED && self.logged.insert(text.to_owned())
    }
}

impl Use {
    fn of_mut(&mut self, kind: RowKind) -> Option<&mut Option<Types>> {
        match kind {
            RowKind::Calls => Some(&mut self.calls),
            RowKind::Sends => Some(&mut self.sends),
            RowKind::Expects => Some(&mut self.expects),
            _ => None,
        }
    }
}

impl Hub {
    /// Takes a row that a peer tells of by itself.
    pub(crate) fn take_row(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let told: OwnedAnnounce = OwnedPayload::from(incoming.message.payload).parse()?;
        let mut row = told.into_row()?;
        row.fill_hashes()?;
        let address = Address::new(&row.address)
            .map_err(|e| Error::Message(format!("'{}' is not an address: {e}", said(&row.address))))?;
        let (kind, types) = (row.kind, row.types());
        let component = Address::new(address.component()).map_err(|e| Error::Message(e.to_string()))?;
        let owns = self.peers.get(incoming.from).is_some_and(|peer| peer.owns(address.component()));
        if kind.is_offered() && !owns {
            // It is not registered yet: it is only asked whether it may be.
            let gate = self.gate(incoming, own);
            let may = gate.would(Operation::Register, component.into(), Access::Permission);
            let may = may.map_err(|denial| Denied::new(Operation::Register, component.as_str(), denial));
            may.map_err(|denied| self.deny(incoming.from, denied))?;
        } else {
            self.require_live_grant(incoming, own)?;
        }
        self.keep_row(incoming.from, row.clone())?;
        if kind == RowKind::Expects {
            self.matches.clear();
        }
        if !kind.is_offered() {
            self.compare_now(&with_destination(incoming, address), own, kind, types)?;
        }
        self.respond(incoming, MessagePayload::Empty);
        Ok(())
    }

    fn keep_row(&mut self, key: PeerKey, row: Row) -> Result<()> {
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        if !peer.rows.complete {
            return Err(Error::Connection("the hub still asks for this peer's rows: try again".to_owned()));
        }
        // What is told of a component before it is registered is shown from then on.
        let is_shown = row.kind.is_offered() && self.names.get(row.component()) == Some(&key);
        let is_new = is_shown && !peer.rows.known.iter().any(|known| known.is_same(&row));
        let component = row.component().to_owned();
        let offers = |known: &Row| known.kind.is_offered() && known.component() == component;
        let is_first = is_new && !peer.rows.known.iter().any(offers);
        let name = peer.name.clone();
        if peer.rows.keep(row) {
            if is_new {
                self.handle.types_changed();
            }
            // Who watches may have been told of it when it offered nothing yet.
            if is_first {
                self.announce(&component, &name, true);
            }
            return Ok(());
        }
        Err(Error::Message("this session has told of more rows than the hub keeps".to_owned()))
    }

    /// Says at once what would be refused later; nothing to one who may not use the address anyway.
    fn compare_now(
        &self,
        asked: &Incoming<'_>,
        own: Option<&Grant>,
        kind: RowKind,
        types: Types,
    ) -> Result<()> {
        let address = asked.message.destination.unwrap_or(BUS_ADDRESS);
        let (offered, operation) = match kind {
            RowKind::Calls => (RowKind::Endpoint, Operation::Request),
            RowKind::Sends => (RowKind::Hears, Operation::Notify),
            _ => (RowKind::Publishes, Operation::Subscribe),
        };
        let Some(row) = self.row_of(address, offered) else { return Ok(()) };
        let access = if kind == RowKind::Expects { Access::Permission } else { row.access.borrow() };
        if self.gate(asked, own).would(operation, address.into(), access).is_err() {
            return Ok(());
        }
        compare(address, offered, row.types(), types)
    }

    /// Refuses a request, or a notification to its owner, whose sender was built with other types than the address has.
    pub(crate) fn check_types(&self, incoming: &Incoming<'_>, offered: RowKind) -> Result<()> {
        let Some(peer) = self.peers.get(incoming.from).filter(|peer| !peer.rows.uses.is_empty()) else {
            return Ok(());
        };
        let address = incoming.message.destination.unwrap_or(BUS_ADDRESS);
        let used = if offered == RowKind::Endpoint { RowKind::Calls } else { RowKind::Sends };
        let Some(types) = peer.rows.uses.get(used, address.as_str()) else { return Ok(()) };
        let Some(row) = self.row_of(address, offered) else { return Ok(()) };
        compare(address, offered, row.types(), types)
    }

    /// The row of an address, from whoever has its component.
    pub(crate) fn row_of(&self, address: Address<'_>, kind: RowKind) -> Option<&Row> {
        self.rows_of(address.component())
            .iter()
            .find(|row| row.kind == kind && row.address == address.as_str())
    }

    /// What is known of a component's addresses.
    pub(crate) fn rows_of(&self, component: &str) -> &[Row] {
        match self.names.get(component).and_then(|key| self.peers.get(*key)) {
            Some(peer) => &peer.rows.known,
            None => self.registry.rows(component),
        }
    }

    /// The hash of what `from` publishes on `topic`, as far as it told; else 0.
    pub(crate) fn published_type(&self, from: Option<PeerKey>, topic: Address<'_>) -> u64 {
        let Some(peer) = from.and_then(|from| self.peers.get(from)) else { return 0 };
        let own = peer.rows.find(RowKind::Publishes, topic.as_str()).map(Row::types);
        own.or_else(|| peer.rows.uses.get(RowKind::Sends, topic.as_str())).map_or(0, |types| types.request)
    }

    /// Whether a subscriber may have what is published with this type; one that may not is told when that begins.
    pub(crate) fn suits(&mut self, selected: &Selected, topic: Address<'_>, told: u64) -> bool {
        if selected.expects == 0 {
            return true;
        }
        let (told, expected) =
            (Types { request: told, response: 0 }, Types { request: selected.expects, response: 0 });
        let outcome = compare(topic, RowKind::Publishes, told, expected);
        let peer = self.peers.get_mut(selected.peer);
        let subscription = peer.and_then(|peer| peer.subscription_mut(selected.number));
        let refused = if outcome.is_ok() { 0 } else { told.request };
        let before = subscription.map(|own| std::mem::replace(&mut own.refused_type, refused));
        let Err(error) = outcome else { return true };
        if before != Some(refused) {
            self.tell_mismatch(selected.peer, topic, &error);
        }
        false
    }

    /// Tells a peer why what it sends to an address, or awaits from it, does not arrive. Not over a line: what a board
    /// was built with, no board can change.
    pub(crate) fn tell_mismatch(&mut self, key: PeerKey, address: Address<'_>, error: &Error) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.rows.uses.is_news(error.text()) {
            tracing::warn!("{}: {}", peer.label(), error.text());
        }
        if peer.options.lossy {
            return;
        }
        let mismatch = Mismatch { address: address.as_str(), text: error.text() };
        let Ok(payload) = self.value_for(key, &mismatch) else { return };
        let mut notice = Message::notification(self.take_id(), const { Address::literal(bus::MISMATCH) });
        notice.source = Some(BUS_ADDRESS);
        self.send_notice(key, &notice.with_payload(payload.borrow()));
    }
}

impl Row {
    pub(crate) const fn types(&self) -> Types {
        Types { request: self.request_hash, response: self.response_hash }
    }

    /// A hash that was not told is that of the schema, where one was.
    fn fill_hashes(&mut self) -> Result<()> {
        for (hash, schema) in
            [(&mut self.request_hash, &self.request_schema), (&mut self.response_hash, &self.response_schema)]
        {
            if *hash == 0 && schema.len() > 0 {
                let unread = || {
                    Error::Serialization(format!(
                        "a schema of '{}' is not one, or longer or deeper than is read",
                        self.address
                    ))
                };
                // Not kept: perhaps nobody with JSON ever comes.
                *hash = Shape::read(schema.bytes()).ok_or_else(unread)?.hash();
            }
        }
        Ok(())
    }
}

/// [`bus::Announce`] with its own texts and bytes.
#[derive(Deserialize, Serialize, Schema)]
pub(crate) struct OwnedAnnounce {
    row: OwnedRowInfo,
    #[serde(default)]
    request_schema: Vec<u8>,
    #[serde(default)]
    response_schema: Vec<u8>,
}

#[derive(Deserialize, Serialize, Schema)]
struct OwnedRowInfo {
    kind: OwnedRowKind,
    address: String,
    #[serde(default)]
    access: OwnedAccess,
    #[serde(default)]
    request_hash: u64,
    #[serde(default)]
    response_hash: u64,
}

/// [`RowKind`] as the schema of the hub's own address shows it.
#[derive(Deserialize, Serialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum OwnedRowKind {
    Endpoint,
    Publishes,
    Hears,
    Calls,
    Sends,
    Expects,
}

visorbus_core::variant_names!(OwnedRowKind: "endpoint", "publishes", "hears", "calls", "sends", "expects");

impl OwnedAnnounce {
    fn into_row(self) -> Result<Row> {
        let OwnedRowInfo { kind, address, access, request_hash, response_hash } = self.row;
        let (request_schema, response_schema) = (self.request_schema.into(), self.response_schema.into());
        Ok(Row {
            kind: kind.into(),
            address,
            access,
            request_hash,
            response_hash,
            request_schema,
            response_schema,
        })
    }
}

impl From<OwnedRowKind> for RowKind {
    fn from(kind: OwnedRowKind) -> Self {
        match kind {
            OwnedRowKind::Endpoint => Self::Endpoint,
            OwnedRowKind::Publishes => Self::Publishes,
            OwnedRowKind::Hears => Self::Hears,
            OwnedRowKind::Calls => Self::Calls,
            OwnedRowKind::Sends => Self::Sends,
            OwnedRowKind::Expects => Self::Expects,
        }
    }
}

/// Says which hashes differ, by name.
fn compare(address: Address<'_>, offered: RowKind, told: Types, used: Types) -> Result<()> {
    let differ = |told: u64, used: u64| told != 0 && used != 0 && told != used;
    let verb = if offered == RowKind::Publishes { "publishes" } else { "takes" };
    let (told, used) = match (differ(told.request, used.request), differ(told.response, used.response)) {
        (false, false) => return Ok(()),
        (true, false) => (format!("{verb} {:#018x}", told.request), format!("{:#018x}", used.request)),
        (false, true) => {
            (format!("answers with {:#018x}", told.response), format!("{:#018x}", used.response))
        }
        (true, true) => (
            format!("{verb} {:#018x} and answers with {:#018x}", told.request, told.response),
            format!("{:#018x} and {:#018x}", used.request, used.response),
        ),
    };
    Err(Error::Serialization(format!(
        "'{address}' {told}, this program was built with {used}: build both from the same message crate"
    )))
}

/// The same, as if sent to `address`: for asking what its sender may do there.
fn with_destination<'m>(incoming: &Incoming<'m>, address: Address<'m>) -> Incoming<'m> {
    Incoming { message: Message { destination: Some(address), ..incoming.message }, ..*incoming }
}

/// What the log has of differing types from one session.
const MAX_LOGGED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_each_difference_once_and_not_without_end() {
        let mut uses = Uses::default();
        let address = Address::literal("lamp/warm");
        let text = |told| {
            let types = |request| Types { request, response: 0 };
            compare(address, RowKind::Hears, types(told), types(1)).unwrap_err().text().clone()
        };
        for told in [2, 3] {
            assert!(uses.is_news(&text(told)));
        }
        for _ in 0..1000 {
            assert!(!uses.is_news(&text(2)) && !uses.is_news(&text(3)), "however they alternate");
        }
        let news = (4..1000).filter(|told| uses.is_news(&text(*told))).count();
        assert_eq!(news, MAX_LOGGED - 2);
        assert_eq!(uses.logged.len(), MAX_LOGGED);
    }
}
