//! What a peer has told of its table: one row for each address that it offers, up to what is kept of one peer's.

use std::sync::Arc;

use visorbus_core::auth::Access;
use visorbus_core::bus::{RowKind, RowPart};
use visorbus_core::message::AddressBuf;

use crate::expect::Uses;
use crate::schema::Described;

/// What a peer's table offers, as far as it has told.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// What is told already, in the order of the table.
    pub(crate) known: Vec<Row>,
    /// The addresses of the rows that it described, by their numbers: what aliases stand for until the session ends,
    /// whatever else becomes known or is taken back. Shared with the frame that is being handled.
    pub(crate) aliases: Arc<Vec<AddressBuf>>,
    /// What is being asked for.
    pub(crate) asking: Option<Asking>,
    /// Every row is known; its schemas may still be on their way.
    pub(crate) complete: bool,
    /// Bytes that it has told so far.
    pub(crate) bytes: usize,
    /// What it was built with for addresses that it uses.
    pub(crate) uses: Uses,
}

impl Rows {
    /// Charges `bytes` more of a description; `false` when that is more than is kept of one peer's.
    pub(crate) fn make_room(&mut self, bytes: usize) -> bool {
        let cost = bytes + size_of::<Row>();
        let fits = self.bytes + cost <= MAX_TABLE_BYTES;
        self.bytes += if fits { cost } else { 0 };
        fits
    }

    /// Keeps a row that the peer told of by itself, in the place of one of the same kind and address; `false` when that
    /// is more than is kept.
    pub(crate) fn keep(&mut self, row: Row) -> bool {
        if !row.kind.is_offered() {
            let fits = self.uses.contains(&row.address) || self.make_room(row.address.len());
            if fits {
                self.uses.insert(row.kind, &row.address, row.types());
            }
            return fits;
        }
        let before =
            self.known.iter().position(|known| known.kind == row.kind && known.address == row.address);
        self.bytes = self.bytes.saturating_sub(before.map_or(0, |at| self.known[at].cost()));
        if !self.make_room(row.cost() - size_of::<Row>()) {
            self.bytes += before.map_or(0, |at| self.known[at].cost());
            return false;
        }
        match before {
            Some(at) => self.known[at] = row,
            None => self.known.push(row),
        }
        true
    }

    /// Forgets what was told of a component's addresses.
    pub(crate) fn forget_component(&mut self, component: &str) {
        let bytes = &mut self.bytes;
        self.known.retain(|row| {
            let stays = row.component() != component;
            *bytes = bytes.saturating_sub(if stays { 0 } else { row.cost() });
            stays
        });
    }

    pub(crate) fn find(&self, kind: RowKind, address: &str) -> Option<&Row> {
        self.known.iter().find(|row| row.kind == kind && row.address == address)
    }
}

/// One row of a peer's table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: RowKind,
    pub(crate) address: String,
    pub(crate) access: OwnedAccess,
    pub(crate) request_hash: u64,
    pub(crate) response_hash: u64,
    pub(crate) request_schema: Described,
    pub(crate) response_schema: Described,
}

impl Row {
    /// The component that it belongs to.
    pub(crate) fn component(&self) -> &str {
        self.address.split('/').next().unwrap_or_default()
    }

    /// Whether it tells the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.kind, row.request_hash, row.response_hash);
        let schemas = |row: &Self| [row.request_schema.bytes(), row.response_schema.bytes()].concat();
        key(self) == key(other)
            && self.address == other.address
            && self.access == other.access
            && self.request_schema.len() == other.request_schema.len()
            && schemas(self) == schemas(other)
    }

    /// Bytes that it costs to keep it, where its owner told of it by itself.
    const fn cost(&self) -> usize {
        size_of::<Self>() + self.address.len() + self.request_schema.len() + self.response_schema.len()
    }
}

/// An [`Access`] that owns its scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OwnedAccess {
    #[default]
    Permission,
    Scope(String),
    Open,
}

visorbus_core::variant_names!(OwnedAccess: "permission", "scope"(String), "open");

impl OwnedAccess {
    pub(crate) fn borrow(&self) -> Access<'_> {
        match self {
            Self::Permission => Access::Permission,
            Self::Scope(scope) => Access::Scope(scope),
            Self::Open => Access::Open,
        }
    }
}

impl From<Access<'_>> for OwnedAccess {
    fn from(access: Access<'_>) -> Self {
        match access {
            Access::Permission => Self::Permission,
            Access::Scope(scope) => Self::Scope(scope.to_owned()),
            Access::Open => Self::Open,
        }
    }
}

/// The question about its table that a peer has to answer next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) id: u64,
    pub(crate) row: u16,
    pub(crate) part: RowPart,
}

/// What is kept of one peer's table, in bytes: a thousand rows with short schemas.
const MAX_TABLE_BYTES: usize = 512 << 10;
