//! How the hub learns what a peer's table offers: it asks for one row after the other, then for their schemas.

use std::sync::Arc;

use visorbus_core::IpcError;
use visorbus_core::bus::{self, Describe, RowInfo, RowPart};
use visorbus_core::message::{Address, AddressBuf, Message, MessagePayload};
use visorbus_core::{Instant, codec};

use crate::hub::Hub;
use crate::peer::Peer;
use crate::peers::PeerKey;
use crate::rows::{Asking, Row};
use crate::schema::Described;

impl Hub {
    /// Asks for the description of the first row that is not known, or announces the peer where there is none left.
    pub(crate) fn describe_rows(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let ready = peer.session.is_ready() && !peer.name.is_empty();
        if !ready || peer.rows.asking.is_some() {
            return;
        }
        let rows = peer.session.remote().map_or(0, |remote| remote.rows);
        let row = u16::try_from(peer.rows.aliases.len()).unwrap_or(rows);
        if row < rows && !peer.rows.complete {
            return self.ask(key, row, RowPart::Info, now);
        }
        self.announce_peer(key);
        self.ask_for_schemas(key, 0, RowPart::Request, now);
    }

    /// Takes the answer to the question that was asked last.
    pub(crate) fn handle_description(
        &mut self,
        key: PeerKey,
        id: u64,
        outcome: Result<&[u8], IpcError<&str>>,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(asking) = peer.rows.asking.take_if(|asking| asking.id == id) else { return };
        let told = size_of::<AddressBuf>() + outcome.as_ref().map_or(0, |bytes| bytes.len());
        let room = peer.rows.make_room(told);
        let next = match (asking.part, outcome) {
            (RowPart::Info, Ok(bytes)) => match postcard::from_bytes::<RowInfo<'_>>(bytes) {
                _ if !room => return self.give_up_on(key, "its table is longer than the hub keeps"),
                Ok(info) if is_own(&info, &peer.name) => {
                    let Ok(address) = Address::new(info.address) else { return };
                    let row = Row::from(&info);
                    if info.kind.is_offered() {
                        self.handle.types_changed();
                    } else {
                        peer.rows.uses.insert(info.kind, info.address, row.types());
                    }
                    // One that is only used keeps the place that its number says.
                    peer.rows.known.push(row);
                    Arc::make_mut(&mut peer.rows.aliases).push(address.into());
                    return self.describe_rows(key, now);
                }
                _ => return self.give_up_on(key, "a row of its table is not one of its own"),
            },
            (RowPart::Info, Err(error)) => {
                let text = format!("it does not describe its table: {error}");
                return self.give_up_on(key, &text);
            }
            (part, outcome) => {
                // A leaf whose frames are too short for a schema goes without: its hashes are known.
                let schema = outcome.ok().filter(|_| room).unwrap_or_default();
                if let Some(row) = peer.rows.known.get_mut(usize::from(asking.row)) {
                    if !schema.is_empty() && row.kind.is_offered() {
                        self.handle.types_changed();
                    }
                    match part {
                        RowPart::Request => row.request_schema = schema.into(),
                        _ => row.response_schema = schema.into(),
                    }
                }
                match part {
                    RowPart::Request => (asking.row, RowPart::Response),
                    _ => (asking.row + 1, RowPart::Request),
                }
            }
        };
        self.ask_for_schemas(key, next.0, next.1, now);
    }

    /// Asks for a schema of the row, or of the next one that has some: what a peer only uses, its owner describes.
    fn ask_for_schemas(&mut self, key: PeerKey, row: u16, part: RowPart, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        let rows = peer.session.remote().map_or(0, |remote| remote.rows);
        // Whoever is asked for a schema takes it that all its rows are known.
        if peer.rows.aliases.len() < usize::from(rows) {
            return;
        }
        let uses = |row: u16| peer.rows.known.get(usize::from(row)).is_some_and(|row| !row.kind.is_offered());
        match (row..rows).find(|row| !uses(*row)) {
            Some(next) if next == row => self.ask(key, row, part, now),
            Some(next) => self.ask(key, next, RowPart::Request, now),
            None => {}
        }
    }

    /// Asks again what was lost on the way.
    pub(crate) fn describe_again(&mut self, key: PeerKey, id: u64, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(asking) = peer.rows.asking.take_if(|asking| asking.id == id) {
            self.ask(key, asking.row, asking.part, now);
        }
    }

    fn ask(&mut self, key: PeerKey, row: u16, part: RowPart, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Ok(id) = peer.session.begin_request(now.plus_millis(DESCRIBE_MS)) else { return };
        peer.rows.asking = Some(Asking { id, row, part });
        let mut payload = [0; 8];
        // Two small numbers always fit.
        let Ok(payload) = postcard::to_slice(&Describe { row, part }, &mut payload) else { return };
        let mut request = Message::request(id, Address::literal(bus::DESCRIBE));
        request.payload = MessagePayload::Binary(payload);
        let len = codec::encode(&request, &mut self.out).unwrap_or(0);
        self.send_out(key, len, true);
    }

    fn give_up_on(&mut self, key: PeerKey, why: &str) {
        let label = self.peers.get(key).map(Peer::label).unwrap_or_default();
        tracing::warn!("{label}: {why}; its addresses are served by permission alone");
        self.announce_peer(key);
    }

    fn announce_peer(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !std::mem::replace(&mut peer.rows.complete, true) {
            let name = peer.name.clone();
            self.announce(&name, &name, true);
        }
    }
}

impl From<&RowInfo<'_>> for Row {
    fn from(info: &RowInfo<'_>) -> Self {
        Self {
            kind: info.kind,
            address: info.address.to_owned(),
            access: info.access.into(),
            request_hash: info.request_hash,
            response_hash: info.response_hash,
            request_schema: Described::default(),
            response_schema: Described::default(),
        }
    }
}

/// Whether a row's address belongs to the peer that describes it, or is one that it only uses.
fn is_own(info: &RowInfo<'_>, name: &str) -> bool {
    let own = |address: Address<'_>| !info.kind.is_offered() || address.component() == name;
    Address::new(info.address).is_ok_and(own)
}

/// For an answer to one question; lost ones are asked again.
const DESCRIBE_MS: u32 = 500;
