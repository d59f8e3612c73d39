//! What the hub tells of itself over `bus/…`: owned types, the same in postcard and in JSON.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_auth::TokenText;
use visorbus_core::bus::RowKind;

use crate::bus::said;
use crate::owned::Error;

/// A component that can be reached, and what it offers. `bus/services` answers with a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ServiceInfo {
    /// The component.
    pub component: String,
    /// The peer that serves it; empty: the hub itself.
    pub peer: String,
    /// How that peer is connected.
    pub transport: String,
    /// Its typed addresses, as far as it told.
    pub addresses: Vec<AddressInfo>,
}

/// One typed address of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct AddressInfo {
    /// The address.
    pub address: String,
    /// `endpoint`, `publishes` or `hears`.
    pub kind: String,
    /// What a caller needs: `open`, `permission`, or `scope NAME`.
    pub access: String,
    /// Hash of the type that goes there, in hexadecimal.
    pub request_hash: String,
    /// Hash of the type that comes back, in hexadecimal.
    pub response_hash: String,
}

/// The schemas of one address. `bus/schema` takes the address as a text and answers with this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct SchemaInfo {
    /// The address.
    pub address: String,
    /// The postcard bytes of the schema of what goes there; empty when its owner did not tell.
    pub request: Vec<u8>,
    /// The postcard bytes of the schema of what comes back.
    pub response: Vec<u8>,
}

impl SchemaInfo {
    /// What `bus/schema` answers to whoever may know the types of `address` where nobody has told them: by it this is told
    /// from what is wrong with the asking itself.
    pub fn untold(address: &str) -> Error {
        Error::Message(format!("nobody has told the types of '{address}'"))
    }
}

/// A component that offers something, as far as the asker may use it. `bus/interfaces` takes a component's name as a text,
/// or nothing for all of them, and answers with a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct InterfaceInfo {
    /// The component.
    pub component: String,
    /// The peer that serves it; empty: the hub itself.
    pub peer: String,
    /// How that peer is connected.
    pub transport: String,
    /// Its typed addresses, as far as it told, that the asker may use; whoever may request `bus/services` has the others
    /// too, without the schemas.
    pub addresses: Vec<InterfaceAddress>,
}

impl InterfaceInfo {
    /// What `bus/interfaces` answers where there is no such component, or none of which the asker may use anything: by it
    /// this is told from what is wrong with the asking itself.
    pub fn unknown(component: &str) -> Error {
        Error::Message(format!("there is no component '{}' that you may use", said(component)))
    }
}

/// One typed address of a component, with its types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct InterfaceAddress {
    /// The address.
    pub address: String,
    /// `endpoint`, `publishes` or `hears`.
    pub kind: String,
    /// What a caller needs: `open`, `permission`, or `scope NAME`.
    pub access: String,
    /// Whether the asker may use it: request, notify or subscribe to it, whichever it is.
    pub usable: bool,
    /// Hash of the type that goes there, in hexadecimal.
    pub request_hash: String,
    /// Hash of the type that comes back, in hexadecimal.
    pub response_hash: String,
    /// The postcard bytes of the schema of what goes there. Empty where its owner did not tell (yet), where the asker may
    /// not use it, and, when all components were asked for, where the answer would be longer than 256 KiB.
    pub request: Vec<u8>,
    /// The postcard bytes of the schema of what comes back, as far as those of `request` are told.
    pub response: Vec<u8>,
}

/// A connection of the hub. `bus/peers` answers with a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct PeerInfo {
    /// Its proven name; before that its claimed one with a question mark.
    pub name: String,
    /// Who is at the other end, as far as the transport can tell.
    pub origin: String,
    /// How it is connected: `unix`, `serial`, `spi`, `websocket`, `dbus`, or `unknown`.
    pub transport: String,
    /// Whether it has authenticated.
    pub authenticated: bool,
    /// When its connection was made, or its line attached, in microseconds since 1970 by the hub's clock.
    pub connected_at_us: u64,
    /// Which start of it this is, as it says: 16 hexadecimal digits that differ at each. Null, as the next two, before its
    /// hello.
    pub boot_id: Option<String>,
    /// The version of the wire that it speaks with the hub.
    pub wire_version: Option<u8>,
    /// What it has said in its hello that it can: `requires-authentication` (it serves whoever proves itself), `lane` (its
    /// link sends again what was lost), `compression`; and what its link is: `keyed` (what is sent is protected by the
    /// line's key), `json` (it has JSON and no postcard).
    pub capabilities: Vec<String>,
    /// How long the last exchange with its clock took there and back, in microseconds; null while there was none, and of a
    /// process on this machine.
    pub round_trip_us: Option<u32>,
    /// Frames taken from it.
    pub frames_in: u64,
    /// Frames given to it.
    pub frames_out: u64,
    /// Bytes taken from it.
    pub bytes_in: u64,
    /// Bytes given to it.
    pub bytes_out: u64,
    /// Bytes that wait for it, and what it costs to keep them.
    pub queued_bytes: u64,
    /// Frames of it that were no message.
    pub undecodable: u64,
    /// Messages of it that were refused.
    pub refused: u64,
    /// Notifications that it missed because it did not read.
    pub missed: u64,
    /// Answers of it that came too late or to nothing.
    pub late: u64,
    /// Times that its session began.
    pub sessions: u64,
    /// Faults of its line, by name.
    pub faults: Vec<Fault>,
    /// What is known of its clock; nothing of a process on this machine, which has the hub's.
    pub clock: Option<ClockInfo>,
}

/// What the hub knows of a board's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ClockInfo {
    /// When the board's clock was 0, in microseconds since 1970 by the hub's: add what the board's clock shows. Null, as
    /// the next two, while nothing is known.
    pub offset_us: Option<i64>,
    /// What the board's clock gains on the hub's, in billionths.
    pub drift_ppb: Option<i32>,
    /// By how many microseconds the offset may be wrong at present.
    pub bound_us: Option<u32>,
    /// Times that the board told what its clock shows.
    pub exchanges: u64,
    /// Its answers that came too late or twice.
    pub refused: u64,
    /// Times that the answers contradicted each other, and all was begun again: its clock stepped, or is none.
    pub restarts: u64,
}

/// A counted fault of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Fault {
    /// What it is.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// A component came or went; published on `bus/services/changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ServiceChange {
    /// The component.
    pub component: String,
    /// The peer that serves it; empty: the hub itself.
    pub peer: String,
    /// Whether it came.
    pub up: bool,
}

/// What is to be taken back; a request to `bus/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoke {
    /// One token, and all that were made from it: for whoever has it.
    Token(TokenText),
    /// All tokens that a subject has until now: for whoever may administer `bus/revoke`.
    Subject(String),
    /// All tokens that were made with the key of this id until now: as well.
    KeyEpoch(u8),
}

visorbus_core::variant_names!(Revoke: "token"(TokenText), "subject"(String), "key_epoch"(u8));

/// What came to its end because accounts or the policy have changed; the answer of `bus/auth/reload` and
/// `bus/policy/reload`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Ended {
    /// Sessions.
    pub sessions: u32,
    /// Subscriptions of sessions that go on.
    pub subscriptions: u32,
    /// Components of sessions that go on.
    pub components: u32,
}

/// A row's kind as [`AddressInfo`] names it.
pub(crate) fn kind_name(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Endpoint => "endpoint",
        RowKind::Publishes => "publishes",
        RowKind::Hears => "hears",
        RowKind::Calls => "calls",
        RowKind::Sends => "sends",
        RowKind::Expects => "expects",
    }
}
