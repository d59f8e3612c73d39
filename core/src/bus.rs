//! The reserved component `bus`: its addresses and the types of its requests, the same in postcard and in JSON.
//!
//! Each end of a session answers to `bus` for itself. `bus/hello` and `bus/identity` are frozen: any version of
//! either end can always say who it is and which versions it speaks.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::auth::Access;
use crate::wire::{Reader, Writer};

/// The component that every hub answers as, and that no peer may be called.
pub const NAME: &str = "bus";
/// Opens a session: [`Identity`] both ways.
pub const HELLO: &str = "bus/hello";
/// Asks who the other end is, in any state: [`Identity`] both ways.
pub const IDENTITY: &str = "bus/identity";
/// Proves who one is: [`Credentials`]. A token is answered with nothing, what else there is with a token.
pub const AUTHENTICATE: &str = "bus/authenticate";
/// Ends a session in order: a notification with a text.
pub const GOODBYE: &str = "bus/goodbye";
/// Asks a leaf for a row of its table: [`Describe`], then [`RowInfo`] or the postcard bytes of a schema.
pub const DESCRIBE: &str = "bus/describe";
/// Stands in for an alias of a row that is not there: nobody serves it.
pub const NO_SUCH_ROW: &str = "bus/no-such-row";
/// Asks the hub for notifications: [`Subscribe`], empty answer.
pub const SUBSCRIBE: &str = "bus/subscribe";
/// Takes a subscription back: the pattern as a text, empty answer.
pub const UNSUBSCRIBE: &str = "bus/unsubscribe";
/// Announces a component that the peer serves: [`Register`], empty answer.
pub const REGISTER: &str = "bus/register";
/// Takes a component back: its name as a text, empty answer.
pub const UNREGISTER: &str = "bus/unregister";
/// Tells the hub of one row of the peer's table: [`Announce`], empty answer.
pub const ANNOUNCE: &str = "bus/announce";
/// Tells that nobody waits for the answer to a request any more: [`Cancel`].
pub const CANCEL: &str = "bus/cancel";
/// Tells a peer that the types of an address differ from those that it was built with: [`Mismatch`].
pub const MISMATCH: &str = "bus/mismatch";
/// Asks the hub for the services that there are: JSON or postcard list.
pub const SERVICES: &str = "bus/services";
/// Asks the hub for the schemas of one address.
pub const SCHEMA: &str = "bus/schema";
/// Asks the hub for the components, or the one that is named, of which the asker may use something, and for the types of
/// that.
pub const INTERFACES: &str = "bus/interfaces";
/// Asks the hub for the peers that there are, with their counters.
pub const PEERS: &str = "bus/peers";
/// Announces that a component came or went.
pub const SERVICES_CHANGED: &str = "bus/services/changed";
/// Tells a subscriber how many notifications it missed: [`Missed`].
pub const MISSED: &str = "bus/missed";
/// Asks the hub for a new token in the place of one's own, which is void from then on: the token's text, then a token.
pub const REFRESH: &str = "bus/refresh";
/// Has the hub take tokens back; empty answer. One's own takes its text. From the hub to a board that checks tokens:
/// [`Revoke`], which tokens it takes no more.
pub const REVOKE: &str = "bus/revoke";
/// Tells a peer what was taken from it: [`Revoked`].
pub const REVOKED: &str = "bus/revoked";
/// Asks the hub what one may do.
pub const PERMISSIONS: &str = "bus/permissions";
/// Has the hub read its accounts again.
pub const AUTH_RELOAD: &str = "bus/auth/reload";
/// Has the hub read its policy again.
pub const POLICY_RELOAD: &str = "bus/policy/reload";
/// Tells who was let in, who was not, and what was refused.
pub const AUDIT: &str = "bus/audit";

/// The wire version that this crate speaks.
pub const WIRE_VERSION: u8 = 1;

/// Who an end is and what it speaks; the payload of hello and identity, and of their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity<'a> {
    /// Lowest wire version spoken; in an answer to hello, the one chosen.
    pub min_version: u8,
    /// Highest wire version spoken; in an answer to hello, the one chosen.
    pub max_version: u8,
    /// The name of the end: a component name.
    pub name: &'a str,
    /// Differs at each start of the end.
    pub boot_id: u64,
    /// Longest frame it takes, in bytes.
    pub max_frame: u32,
    /// Milliseconds between heartbeats; 0 for none.
    pub heartbeat_ms: u32,
    /// [`REQUIRES_AUTHENTICATION`], [`HAS_LANE`], [`COMPRESSES`] and bits to come; unknown bits are ignored.
    pub capabilities: u32,
    /// Rows of its table that `bus/describe` tells of.
    pub rows: u16,
    /// Microseconds since 1970 on its clock; 0 when it has none.
    pub unix_us: u64,
}

impl<'a> Identity<'a> {
    /// Reads the postcard bytes of an identity, all of them, without the generic code that serde would add to a leaf.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (min_version, max_version) = (reader.u8()?, reader.u8()?);
        let name = reader.ascii()?;
        let [boot_id, max_frame, heartbeat_ms, capabilities, rows, unix_us] = reader.varints()?;
        let identity = Self {
            min_version,
            max_version,
            name,
            boot_id,
            max_frame: u32::try_from(max_frame).ok()?,
            heartbeat_ms: u32::try_from(heartbeat_ms).ok()?,
            capabilities: u32::try_from(capabilities).ok()?,
            rows: u16::try_from(rows).ok()?,
            unix_us,
        };
        reader.rest().is_empty().then_some(identity)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.u8(self.min_version);
        writer.u8(self.max_version);
        writer.run(self.name.as_bytes());
        writer.varint(self.boot_id);
        writer.varint(self.max_frame.into());
        writer.varint(self.heartbeat_ms.into());
        writer.varint(self.capabilities.into());
        writer.varint(self.rows.into());
        writer.varint(self.unix_us);
    }
}

/// Capability bit: the end answers nothing but this component's own requests before `bus/authenticate`.
pub const REQUIRES_AUTHENTICATION: u32 = 1;

/// Capability bit: the end's link can acknowledge and send again.
pub const HAS_LANE: u32 = 2;

/// Capability bit: the end expands compressed payloads; what comes to an end that did not say so is never compressed.
pub const COMPRESSES: u32 = 4;

/// How an end proves who it is. A connecting end takes a token only.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Credentials<'a> {
    /// A token's bytes.
    #[serde(borrow)]
    Token(&'a [u8]),
    /// The name of an account and its password.
    UsernamePassword {
        /// The name.
        username: &'a str,
        /// The password.
        password: &'a str,
    },
    /// A program's key.
    ApiKey(&'a str),
    /// The certificate that this end has shown when the connection was made; it is not in the message.
    Certificate,
    /// The user that the kernel says this end runs as; it is not in the message.
    Peer,
}

impl core::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

/// Tokens that are void from now on, whatever else is good about them. A board that was told forgets it when it starts
/// again, so it is told after each proof of the hub; it takes this from the hub alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Revoke<'a> {
    /// Whom they speak for; empty for everybody. The hub's own proofs are never meant.
    pub subject: &'a str,
    /// They were issued before this moment, in Unix seconds.
    pub issued_before: u64,
}

impl<'a> Revoke<'a> {
    /// Reads the postcard bytes, all of them.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (subject, issued_before) = (reader.ascii()?, reader.varint()?);
        reader.rest().is_empty().then_some(Self { subject, issued_before })
    }
}

/// Which part of which row of a leaf's table is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Describe {
    /// The row, from 0.
    pub row: u16,
    /// The part of it.
    pub part: RowPart,
}

impl Describe {
    /// Reads the postcard bytes, all of them.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let row = reader.varint_u16()?;
        let part = match reader.u8()? {
            0 => RowPart::Info,
            1 => RowPart::Request,
            2 => RowPart::Response,
            _ => return None,
        };
        reader.rest().is_empty().then_some(Self { row, part })
    }
}

/// A part of a row's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowPart {
    /// [`RowInfo`].
    Info,
    /// The postcard bytes of the request's (or the topic's) schema.
    Request,
    /// The postcard bytes of the response's schema.
    Response,
}

/// What a row offers or uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowInfo<'a> {
    /// What is done at the address.
    pub kind: RowKind,
    /// The address.
    pub address: &'a str,
    /// What a caller needs.
    #[serde(borrow)]
    pub access: Access<'a>,
    /// Hash of the type that goes to the address.
    pub request_hash: u64,
    /// Hash of the type that comes back.
    pub response_hash: u64,
}

impl RowInfo<'_> {
    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.u8(self.kind as u8);
        writer.run(self.address.as_bytes());
        match self.access {
            Access::Permission => writer.u8(0),
            Access::Scope(name) => {
                writer.u8(1);
                writer.run(name.as_bytes());
            }
            Access::Open => writer.u8(2),
        }
        writer.varint(self.request_hash);
        writer.varint(self.response_hash);
    }
}

/// What is done at a row's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Requests are answered.
    Endpoint,
    /// Notifications are published.
    Publishes,
    /// Notifications are taken.
    Hears,
    /// Requests are sent there, to whoever answers them.
    Calls,
    /// Notifications are sent there, to whoever takes them.
    Sends,
    /// Notifications from there are awaited, whoever publishes them.
    Expects,
}

impl RowKind {
    /// Whether the row's owner offers the address itself; else it uses one that somebody else offers.
    pub const fn is_offered(self) -> bool {
        matches!(self, Self::Endpoint | Self::Publishes | Self::Hears)
    }
}

/// A row that a peer tells of by itself, where the hub does not ask: of an address that it offers, with what
/// [`RowPart::Request`] and [`RowPart::Response`] would bring, or of one that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce<'a> {
    /// The row.
    #[serde(borrow)]
    pub row: RowInfo<'a>,
    /// The postcard bytes of the request's (or the topic's) schema; empty of an address that is only used.
    pub request_schema: &'a [u8],
    /// The postcard bytes of the response's schema.
    pub response_schema: &'a [u8],
}

/// A request whose answer nobody waits for any more, by its id and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Cancel<'a> {
    /// Its id.
    pub id: u64,
    /// Its source, as its callee sees it; empty from the caller itself.
    pub source: &'a str,
}

/// What a peer sends to an address, or awaits from it, is not of the type that the address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Mismatch<'a> {
    /// The address.
    pub address: &'a str,
    /// Both hashes and what to do, for people.
    pub text: &'a str,
}

/// A subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe<'a> {
    /// A [`Pattern`](crate::message::Pattern) over topics.
    pub pattern: &'a str,
    /// What happens while the subscriber does not keep up.
    pub policy: SlowConsumer,
}

/// What a subscriber that does not keep up gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowConsumer {
    /// The newest notification of each topic.
    Latest,
    /// The newest `n`; older ones go first.
    DropOldest(u32),
    /// Everything, or the end of its session.
    Disconnect,
}

crate::variant_names!(SlowConsumer: "latest", "drop_oldest"(u32), "disconnect");

impl Default for SlowConsumer {
    fn default() -> Self {
        Self::DropOldest(1024)
    }
}

/// A component that a peer serves beside its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register<'a> {
    /// The component's name.
    pub component: &'a str,
}

/// Something that a session had and may not have any more, because its permissions have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Revoked<'a> {
    /// What kind of thing it is.
    pub what: Lasting,
    /// A subscription's pattern, or a component's name.
    pub name: &'a str,
    /// Why, for people.
    pub reason: &'a str,
}

/// What a session has for longer than a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// A subscription.
    Subscription,
    /// A component that it serves.
    Component,
}

crate::variant_names!(Lasting: "subscription", "component");

/// Notifications that a slow subscriber did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Missed<'a> {
    /// The subscription's pattern.
    pub pattern: &'a str,
    /// How many since the last word on it.
    pub count: u32,
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn identity_is_frozen_byte_for_byte() {
        let identity = Identity {
            min_version: 1,
            max_version: 1,
            name: "imu",
            boot_id: 7,
            max_frame: 256,
            heartbeat_ms: 1000,
            capabilities: 1,
            rows: 4,
            unix_us: 0,
        };
        let mut out = [0; 32];
        let bytes = postcard::to_slice(&identity, &mut out).unwrap();
        assert_eq!(bytes, [1, 1, 3, b'i', b'm', b'u', 7, 0x80, 0x02, 0xe8, 0x07, 1, 4, 0]);
        assert_eq!(Identity::read(bytes), Some(identity));
        for cut in 0..bytes.len() {
            assert_eq!(Identity::read(&bytes[..cut]), None);
        }
        assert_eq!(written(|writer| identity.write(writer)), bytes);
    }

    #[test]
    fn rows_are_told_of_as_postcard_has_them() {
        for access in [Access::Permission, Access::Scope("imu.control"), Access::Open] {
            use RowKind::{Calls, Endpoint, Expects, Hears, Publishes, Sends};
            for kind in [Endpoint, Publishes, Hears, Calls, Sends, Expects] {
                let row =
                    RowInfo { kind, address: "imu/info", access, request_hash: 1, response_hash: u64::MAX };
                let mut out = [0; 64];
                assert_eq!(written(|writer| row.write(writer)), postcard::to_slice(&row, &mut out).unwrap());
            }
        }
        for part in [RowPart::Info, RowPart::Request, RowPart::Response] {
            let mut out = [0; 8];
            let ask = Describe { row: 300, part };
            assert_eq!(Describe::read(postcard::to_slice(&ask, &mut out).unwrap()), Some(ask));
        }
        assert_eq!(Describe::read(&[0, 3]), None);
        assert_eq!(Describe::read(&[0, 0, 0]), None);
    }

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> std::vec::Vec<u8> {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        write(&mut writer);
        let len = writer.finish().unwrap();
        out[..len].to_vec()
    }
}
