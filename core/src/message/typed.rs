//! Typed addresses: what a component answers and announces, declared once in a crate that both ends share.

use postcard_schema::Schema;
use serde::{Serialize, de::DeserializeOwned};

use crate::auth::Access;
pub use crate::message::schema::TypeSchema;
use crate::message::{Address, MessagePriority};

/// A typed request and its response at one address.
///
/// ```
/// use visorbus_core::auth::Access;
/// use visorbus_core::message::{Address, typed::Endpoint};
///
/// struct SetRate;
/// impl Endpoint for SetRate {
///     type Request = u16;
///     type Response = u16;
///     const ADDRESS: Address<'static> = Address::literal("imu/set-rate");
///     const ACCESS: Access<'static> = Access::Scope("imu.control");
/// }
/// assert_ne!(SetRate::SCHEMA.request.hash, 0);
/// ```
pub trait Endpoint {
    /// What the caller sends.
    type Request: Serialize + DeserializeOwned + Schema;
    /// What comes back.
    type Response: Serialize + DeserializeOwned + Schema;
    /// Where it is served.
    const ADDRESS: Address<'static>;
    /// What a caller needs.
    const ACCESS: Access<'static>;
    /// The two types' structures.
    const SCHEMA: SchemaPair = SchemaPair {
        request: TypeSchema::of::<Self::Request>(),
        response: TypeSchema::of::<Self::Response>(),
    };
}

/// A typed notification on one address.
pub trait Topic {
    /// What is announced.
    type Message: Serialize + DeserializeOwned + Schema;
    /// Where it is announced.
    const ADDRESS: Address<'static>;
    /// What it takes to send a notification to this address.
    const ACCESS: Access<'static>;
    /// What goes first. High and Critical ones are acknowledged and sent again on links with a lane; of others, what is
    /// newer replaces what waits.
    const PRIORITY: MessagePriority = MessagePriority::Normal;
    /// The type's structure.
    const SCHEMA: SchemaPair =
        SchemaPair { request: TypeSchema::of::<Self::Message>(), response: TypeSchema::of::<()>() };
}

/// The structures of an endpoint's two types; of a topic's one type and `()`.
#[derive(Debug, Clone, Copy)]
pub struct SchemaPair {
    /// What goes to the address.
    pub request: TypeSchema,
    /// What comes back.
    pub response: TypeSchema,
}
