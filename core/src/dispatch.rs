//! From a message to the handler of its address, and to the answer. One path for all handlers: who may is asked before
//! anything is decoded, and a handler sees a message and a [`Reply`], no link, no session, no clock.

use serde::Serialize;

use crate::auth::{Access, Grant, Operation, Refusal, authorize};
use crate::bus::{RowInfo, RowKind};
use crate::codec;
use crate::error::IpcError;
use crate::message::typed::{Endpoint, SchemaPair, Topic, TypeSchema};
use crate::message::{Address, Message, MessagePayload, MessageType, PayloadKind};
use crate::sentence;

/// A handler of messages to one component, added and removed while running.
///
/// A handler that wants an answer sent writes it to the [`Reply`]; one that returns `Ok` without writing any has
/// answered with an empty payload. It must not block; one that has to says so in [`MessageHandler::may_block`].
pub trait MessageHandler {
    /// The component that it handles: the first segment of the addresses it gets.
    fn id(&self) -> &str;

    /// The types that it takes; others are refused before it is asked.
    fn supported_message_types(&self) -> &[MessageType] {
        &[MessageType::Request, MessageType::Notification]
    }

    /// What it takes to reach `address`.
    fn access(&self, address: Address<'_>) -> Access<'_> {
        let _ = address;
        Access::Permission
    }

    /// Whether [`MessageHandler::handle_message`] may take longer than a few microseconds. Such a handler runs on a
    /// pool where there is one.
    fn may_block(&self) -> bool {
        false
    }

    /// The typed addresses that it serves, counted from 0, and `None` after the last: what the bus is told of them, and
    /// what the types of those who call are held against. [`Typed`] has them from its table.
    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        let _ = number;
        None
    }

    /// Acts on one message.
    ///
    /// # Errors
    /// What the caller is told, as an Error message.
    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError>;

    /// As [`MessageHandler::handle_message`], for a handler that takes its time: it may ask `cancelled` now and then, and
    /// stop with any outcome once that says true, because nobody waits for the answer any more. What runs handlers while
    /// nothing is heard of in the meantime says false.
    ///
    /// # Errors
    /// As [`MessageHandler::handle_message`].
    fn handle_until(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        let _ = cancelled;
        self.handle_message(message, reply)
    }

    /// As [`MessageHandler::handle_until`], for a handler that treats callers differently: `caller` is who has asked, as
    /// it was proven when the message came, and that this one may was checked before. The hub calls nothing else.
    ///
    /// # Errors
    /// As [`MessageHandler::handle_message`].
    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        let _ = caller;
        self.handle_until(message, reply, cancelled)
    }
}

/// A collection of handlers that [`dispatch`] can ask: a static [`Table`], a registry of [`MessageHandler`]s.
pub trait Handlers {
    /// What identifies a handler between the two calls.
    type Key;

    /// The handler of `address` for messages of `message_type`, and what it takes to reach it.
    ///
    /// # Errors
    /// `Message` when there is none, or none for this type.
    fn find(
        &self,
        address: Address<'_>,
        message_type: MessageType,
    ) -> Result<(Self::Key, Access<'_>), IpcError>;

    /// Runs the handler.
    ///
    /// # Errors
    /// What the caller is told.
    fn call(&mut self, key: Self::Key, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError>;
}

/// Finds the handler, asks whether `caller` may, runs it, and writes the answer to `out`.
pub fn dispatch<H: Handlers>(
    handlers: &mut H,
    caller: Caller<'_>,
    message: &Message<'_>,
    out: &mut [u8],
) -> Dispatched {
    let (answer, refused) = match find_and_call(handlers, caller, message, out) {
        Ok(answer) => (Some(answer), None),
        Err(Stop::Refused { answer, reason }) => (answer, Some(reason)),
        Err(Stop::Failed(error)) => (codec::encode_error(message, &error, out), Some(error)),
    };
    Dispatched { answer: answer.filter(|_| message.wants_answer()).unwrap_or(0), refused }
}

/// Who is calling, as far as it was proven, and when.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// What the calling session has proven; `None` for nothing.
    pub grant: Option<&'a Grant>,
    /// Seconds since 1970, where the time is known.
    pub unix_now: Option<u64>,
    /// Who decides what else it may do; without, the grant alone.
    authority: Option<&'a dyn Authority>,
}

impl<'a> Caller<'a> {
    /// A caller that may do what its grant says.
    pub const fn new(grant: Option<&'a Grant>, unix_now: Option<u64>) -> Self {
        Self { grant, unix_now, authority: None }
    }

    /// A caller that may do what `authority` says, which knows more than the grant.
    #[must_use]
    pub const fn with_authority(mut self, authority: &'a dyn Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Whether this caller may also do `operation` to `address`, which needs `access`: for a handler that does more for a
    /// message than its address says, such as one that reads a key that stands in the payload. In a hub it is asked where
    /// all else is: the policy decides, by the token of the message where it has one, a limit on how often counts it, and
    /// a refusal is told to the audit. On a leaf, and for a caller of whom nobody has said who decides, the grant decides.
    ///
    /// # Errors
    /// `Authentication` where a new token would help, `Authorization` else; the text does not name the address.
    pub fn may(
        &self,
        operation: Operation,
        address: Address<'_>,
        access: Access<'_>,
    ) -> Result<(), IpcError> {
        self.decide(&Question { operation, address, access, is_done: true })
    }

    /// As [`Caller::may`] of what is not done now: what a list shows to whom. It counts for no limit and no audit hears of
    /// it.
    ///
    /// # Errors
    /// As [`Caller::may`].
    pub fn might(
        &self,
        operation: Operation,
        address: Address<'_>,
        access: Access<'_>,
    ) -> Result<(), IpcError> {
        self.decide(&Question { operation, address, access, is_done: false })
    }

    fn decide(&self, question: &Question<'_>) -> Result<(), IpcError> {
        if let Some(authority) = self.authority {
            return authority.decide(question);
        }
        let Question { operation, address, access, .. } = *question;
        let refused = |refusal: Refusal<'_>| IpcError::new(refusal.kind(), refusal.reason());
        authorize(self.grant, operation, address, access, self.unix_now).map_err(refused)
    }
}

impl core::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { grant, unix_now, authority } = self;
        let mut fields = f.debug_struct("Caller");
        fields.field("grant", grant).field("unix_now", unix_now);
        fields.field("authority", &authority.is_some()).finish()
    }
}

/// Who decides what a [`Caller`] may do beyond what it was let through for.
pub trait Authority {
    /// Whether the caller may.
    ///
    /// # Errors
    /// `Authentication` where a new token would help, `Authorization` else.
    fn decide(&self, question: &Question<'_>) -> Result<(), IpcError>;
}

/// What an [`Authority`] is asked of its caller.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// What is to be done.
    pub operation: Operation,
    /// To what.
    pub address: Address<'q>,
    /// What that needs.
    pub access: Access<'q>,
    /// It is done if the answer is yes; else it is only known that it could be.
    pub is_done: bool,
}

/// What became of a dispatched message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatched {
    /// Bytes of the answer in `out`; 0 for none.
    pub answer: usize,
    /// Why it failed, if it did; the caller is told when it waits.
    pub refused: Option<IpcError>,
}

/// Why a message did not reach its handler's end.
enum Stop {
    /// The caller may not; the answer that says so is written.
    Refused {
        answer: Option<usize>,
        reason: IpcError,
    },
    Failed(IpcError),
}

impl From<IpcError> for Stop {
    fn from(error: IpcError) -> Self {
        Self::Failed(error)
    }
}

fn find_and_call<H: Handlers>(
    handlers: &mut H,
    caller: Caller<'_>,
    message: &Message<'_>,
    out: &mut [u8],
) -> Result<usize, Stop> {
    let address = message.destination.ok_or(NOBODY)?;
    let operation = match message.message_type {
        MessageType::Request => Operation::Request,
        MessageType::Notification => Operation::Notify,
        _ => return Err(IpcError::Protocol(sentence::NOT_SERVABLE).into()),
    };
    let (key, access) = handlers.find(address, message.message_type)?;
    if let Err(refusal) = authorize(caller.grant, operation, address, access, caller.unix_now) {
        let answer = codec::encode_error_parts(message, refusal.kind(), &refusal.parts(), out);
        return Err(Stop::Refused { answer, reason: IpcError::new(refusal.kind(), refusal.reason()) });
    }
    if message.flags.encrypted || message.flags.compressed {
        return Err(IpcError::Message(sentence::SEALED).into());
    }
    let mut reply = Reply::new(message, out);
    handlers.call(key, message, &mut reply)?;
    Ok(reply.finish()?)
}

/// Where a handler writes its answer: straight into the frame that goes out.
#[derive(Debug)]
pub struct Reply<'o> {
    answer: Message<'o>,
    out: &'o mut [u8],
    len: usize,
}

impl<'o> Reply<'o> {
    /// An answer to `request` that will stand in `out`.
    pub fn new<'m: 'o>(request: &Message<'m>, out: &'o mut [u8]) -> Self {
        Self { answer: request.answer(MessageType::Response), out, len: 0 }
    }

    /// Answers with a typed value, as postcard.
    ///
    /// # Errors
    /// `Internal` when the answer does not fit into a frame of this end.
    pub fn send<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), IpcError> {
        let mut writer = codec::begin(&self.answer, PayloadKind::Binary, self.out);
        writer.value(value);
        self.len = writer.finish().ok_or(TOO_LONG)?;
        Ok(())
    }

    /// Answers with a payload.
    ///
    /// # Errors
    /// `Internal` when the answer does not fit into a frame of this end.
    pub fn payload(&mut self, payload: MessagePayload<'_>) -> Result<(), IpcError> {
        let answer = Message { payload, ..self.answer };
        self.len = codec::encode(&answer, self.out).map_err(|_| TOO_LONG)?;
        Ok(())
    }

    /// Answers with an error whose text was made while running, which no `Err` of a handler can carry.
    ///
    /// # Errors
    /// `Internal` when not even the header of the answer fits.
    pub fn error(&mut self, error: &IpcError<&str>) -> Result<(), IpcError> {
        let mut request = self.answer;
        request.source = self.answer.destination;
        self.len = codec::encode_error(&request, error, self.out).ok_or(TOO_LONG)?;
        Ok(())
    }

    /// Bytes of the answer, which is empty if the handler gave none.
    fn finish(self) -> Result<usize, IpcError> {
        if self.len != 0 {
            return Ok(self.len);
        }
        codec::encode(&self.answer, self.out).map_err(|_| TOO_LONG)
    }
}

/// A static table of typed handlers, and the node that they are methods of.
#[derive(Debug)]
pub struct Table<'t, N: 'static> {
    /// The rows; they usually stand in flash.
    pub rows: &'static [Row<N>],
    /// The node.
    pub node: &'t mut N,
}

impl<N> Handlers for Table<'_, N> {
    type Key = Call<N>;

    fn find(
        &self,
        address: Address<'_>,
        message_type: MessageType,
    ) -> Result<(Call<N>, Access<'_>), IpcError> {
        let kind = match message_type {
            MessageType::Request => RowKind::Endpoint,
            _ => RowKind::Hears,
        };
        let row = self
            .rows
            .iter()
            .find(|row| row.info.kind == kind && row.info.address == address)
            .ok_or(NOBODY)?;
        Ok((row.call, row.info.access))
    }

    fn call(&mut self, call: Call<N>, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        call(self.node, message, reply)
    }
}

/// A table for a caller that may do everything: the hub, on a link whose key has proven it.
pub(crate) struct Proven<'n, N: 'static>(pub(crate) Table<'n, N>);

impl<N> Handlers for Proven<'_, N> {
    type Key = Call<N>;

    fn find(&self, address: Address<'_>, kind: MessageType) -> Result<(Call<N>, Access<'_>), IpcError> {
        Ok((self.0.find(address, kind)?.0, Access::Open))
    }

    fn call(&mut self, call: Call<N>, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.0.call(call, message, reply)
    }
}

/// One address of a node: what it is, what it needs, and the method behind it.
///
/// ```
/// use visorbus_core::IpcError;
/// use visorbus_core::auth::Access;
/// use visorbus_core::dispatch::{Answers, Row};
/// use visorbus_core::message::{Address, typed::Endpoint};
///
/// struct Ping;
/// impl Endpoint for Ping {
///     type Request = u32;
///     type Response = u32;
///     const ADDRESS: Address<'static> = Address::literal("echo/ping");
///     const ACCESS: Access<'static> = Access::Permission;
/// }
///
/// struct Echo;
/// impl Answers<Ping> for Echo {
///     fn answer(&mut self, number: u32) -> Result<u32, IpcError> {
///         Ok(number)
///     }
/// }
/// static ROWS: &[Row<Echo>] = &[Row::endpoint::<Ping>()];
/// # let _ = ROWS;
/// ```
#[derive(Debug)]
pub struct Row<N> {
    /// What the row offers.
    pub info: RowHead<'static>,
    call: Call<N>,
}

impl<N> Row<N> {
    /// A row that answers the requests of `E`.
    pub const fn endpoint<E: Endpoint>() -> Self
    where
        N: Answers<E>,
    {
        Self {
            info: RowHead::new(RowKind::Endpoint, E::ADDRESS, E::ACCESS, E::SCHEMA),
            call: call_endpoint::<N, E>,
        }
    }

    /// A row that takes the notifications of `T`.
    pub const fn hears<T: Topic>() -> Self
    where
        N: Hears<T>,
    {
        Self {
            info: RowHead::new(RowKind::Hears, T::ADDRESS, T::ACCESS, T::SCHEMA),
            call: call_topic::<N, T>,
        }
    }

    /// A row that says that the node publishes `T`.
    pub const fn publishes<T: Topic>() -> Self {
        Self {
            info: RowHead::new(RowKind::Publishes, T::ADDRESS, T::ACCESS, T::SCHEMA),
            call: call_nothing::<N>,
        }
    }

    /// A row that says that the node calls `E`, which somebody else answers: where the types of both differ, its requests
    /// are refused before they reach anybody.
    pub const fn calls<E: Endpoint>() -> Self {
        let info = RowHead::used(RowKind::Calls, E::ADDRESS, E::ACCESS, E::SCHEMA);
        Self { info, call: call_nothing::<N> }
    }

    /// A row that says that the node sends `T` to an address that is not its own. As [`Row::calls`].
    pub const fn sends<T: Topic>() -> Self {
        let info = RowHead::used(RowKind::Sends, T::ADDRESS, T::ACCESS, T::SCHEMA);
        Self { info, call: call_nothing::<N> }
    }
}

/// A node and its table as a [`MessageHandler`]: the same rows serve on a leaf, in a hub and in a client of one.
#[derive(Debug)]
pub struct Typed<N: 'static> {
    id: &'static str,
    rows: &'static [Row<N>],
    node: N,
}

impl<N> Typed<N> {
    /// Serves the component `id` from `rows`, whose addresses begin with it. Of several rows with one address the first
    /// counts.
    pub const fn new(id: &'static str, rows: &'static [Row<N>], node: N) -> Self {
        Self { id, rows, node }
    }

    fn served(&self, address: Address<'_>) -> Option<&'static Row<N>> {
        let serves = |row: &&Row<N>| matches!(row.info.kind, RowKind::Endpoint | RowKind::Hears);
        self.rows.iter().filter(serves).find(|row| row.info.address == address)
    }
}

impl<N> MessageHandler for Typed<N> {
    fn id(&self) -> &str {
        self.id
    }

    fn access(&self, address: Address<'_>) -> Access<'_> {
        self.served(address).map_or(Access::Permission, |row| row.info.access)
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        self.rows.get(number).map(|row| row.info)
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let row = message.destination.and_then(|address| self.served(address)).ok_or(NOBODY)?;
        // What was asked of the caller was asked for this row.
        let is_request = message.message_type == MessageType::Request;
        if is_request != (row.info.kind == RowKind::Endpoint) {
            return Err(NOBODY);
        }
        (row.call)(&mut self.node, message, reply)
    }
}

/// What a row offers, without the method behind it.
#[derive(Debug, Clone, Copy)]
pub struct RowHead<'a> {
    /// What is done at the address.
    pub kind: RowKind,
    /// The address.
    pub address: Address<'a>,
    /// What a caller needs.
    pub access: Access<'a>,
    /// The types that go there and come back.
    pub schema: SchemaPair,
}

impl<'a> RowHead<'a> {
    /// The row of an address that its owner offers.
    pub const fn new(kind: RowKind, address: Address<'a>, access: Access<'a>, schema: SchemaPair) -> Self {
        Self { kind, address, access, schema }
    }

    /// The row of an address that somebody else offers. Its description stays with that one: the hash is enough.
    pub const fn used(kind: RowKind, address: Address<'a>, access: Access<'a>, schema: SchemaPair) -> Self {
        let SchemaPair { request, response } = schema;
        let schema = SchemaPair {
            request: TypeSchema { bytes: &[], ..request },
            response: TypeSchema { bytes: &[], ..response },
        };
        Self { kind, address, access, schema }
    }

    /// The row as `bus/describe` tells of it.
    pub const fn describe(&self) -> RowInfo<'a> {
        RowInfo {
            kind: self.kind,
            address: self.address.as_str(),
            access: self.access,
            request_hash: self.schema.request.hash,
            response_hash: self.schema.response.hash,
        }
    }
}

/// A node that answers the requests of `E`.
pub trait Answers<E: Endpoint> {
    /// Acts on one request.
    ///
    /// # Errors
    /// What the caller is told.
    fn answer(&mut self, request: E::Request) -> Result<E::Response, IpcError>;
}

/// A node that takes the notifications of `T`.
pub trait Hears<T: Topic> {
    /// Acts on one notification.
    ///
    /// # Errors
    /// What is counted, and told to a sender that asked for a receipt.
    fn hear(&mut self, message: T::Message) -> Result<(), IpcError>;
}

/// The method behind a row, its types erased.
type Call<N> = fn(&mut N, &Message<'_>, &mut Reply<'_>) -> Result<(), IpcError>;

fn call_endpoint<N: Answers<E>, E: Endpoint>(
    node: &mut N,
    message: &Message<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), IpcError> {
    let response = node.answer(message.payload.parse()?)?;
    reply.send(&response)
}

fn call_topic<N: Hears<T>, T: Topic>(
    node: &mut N,
    message: &Message<'_>,
    _reply: &mut Reply<'_>,
) -> Result<(), IpcError> {
    node.hear(message.payload.parse()?)
}

fn call_nothing<N>(_node: &mut N, _message: &Message<'_>, _reply: &mut Reply<'_>) -> Result<(), IpcError> {
    Err(NOBODY)
}

/// Nobody serves the address.
pub const NOBODY: IpcError = IpcError::Message(sentence::NOBODY);
const TOO_LONG: IpcError = IpcError::Internal(sentence::ANSWER_TOO_LONG);

#[cfg(test)]
mod tests;
