//! Handlers that come and go while running take the same path as the rows of a table.

extern crate std;

use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::auth::{Claims, Context, Key, KeyRing, Scopes, Slot};
use crate::codec::{MAX_HEADER, decode};

#[test]
fn a_registered_handler_answers_and_an_unregistered_one_does_not() {
    let mut registry = Registry::with(Store::default());
    let answer = registry.ask(&request("store/get"), None).unwrap();
    assert_eq!(decode(&answer).unwrap().payload, MessagePayload::String("value"));
    registry.0.retain(|handler| handler.id() != "store");
    assert_eq!(registry.ask(&request("store/get"), None), Err(NOBODY));
}

#[test]
fn a_handler_that_says_nothing_has_answered_with_an_empty_payload() {
    let mut registry = Registry::with(Store::default());
    let answer = registry.ask(&request("store/silent"), None).unwrap();
    let answer = decode(&answer).unwrap();
    assert_eq!((answer.message_type, answer.payload), (MessageType::Response, MessagePayload::Empty));
}

#[test]
fn who_may_not_is_refused_before_the_handler_is_asked() {
    let mut registry = Registry::with(Store::default());
    let refused = registry.ask(&request("store/set"), None);
    assert_eq!(refused, Err(IpcError::Authentication(sentence::NOT_AUTHENTICATED)));
    let missing = grant(&["store.read", "request:store/other"]);
    let refused = registry.ask(&request("store/set"), Some(&missing));
    assert_eq!(refused, Err(IpcError::Authorization("missing permission")));
    assert_eq!(registry.calls(), 0);
    let allowed = grant(&["request:store/*"]);
    assert!(registry.ask(&request("store/set"), Some(&allowed)).is_ok());
    assert_eq!(registry.calls(), 1);
    let notification = Message::notification(5, Address::literal("store/set"));
    let refused = registry.ask(&notification, Some(&allowed));
    assert_eq!(
        refused,
        Err(IpcError::Authorization("missing permission")),
        "a request is not a notification"
    );
}

#[test]
fn a_type_that_the_handler_does_not_take_is_refused_before_it_is_asked() {
    let mut registry = Registry::with(Store { types: &[MessageType::Request], ..Store::default() });
    let everything = grant(&["*"]);
    let notification = Message::notification(5, Address::literal("store/get"));
    assert_eq!(registry.ask(&notification, Some(&everything)), Err(NOBODY));
    for message_type in [MessageType::Response, MessageType::Error, MessageType::Heartbeat] {
        let message = Message { message_type, ..request("store/get") };
        assert!(matches!(registry.ask(&message, Some(&everything)), Err(IpcError::Protocol(_))));
    }
    assert_eq!(registry.calls(), 0);
}

#[test]
fn what_is_sealed_or_packed_is_refused_for_those_who_may_and_not_confirmed_to_those_who_may_not() {
    let mut registry = Registry::with(Store::default());
    let mut message = request("store/set");
    message.flags.encrypted = true;
    assert!(matches!(registry.ask(&message, None), Err(IpcError::Authentication(_))));
    assert!(matches!(registry.ask(&message, Some(&grant(&["*"]))), Err(IpcError::Message(_))));
    assert_eq!(registry.calls(), 0);
}

#[test]
fn an_error_after_half_an_answer_replaces_it() {
    let mut registry = Registry::with(Store::default());
    let mut out = [0; 128];
    let dispatched = dispatch(&mut registry, Caller::new(None, NOW), &request("store/fail"), &mut out);
    assert_eq!(dispatched.refused, Some(IpcError::Internal("it broke")));
    let answer = decode(&out[..dispatched.answer]).unwrap();
    assert_eq!(answer.payload, MessagePayload::Binary(b"\x08it broke"));
}

#[test]
fn a_handlers_own_words_reach_the_caller() {
    let mut registry = Registry::with(Store::default());
    let answer = registry.ask(&request("store/explain"), None).unwrap();
    let answer = decode(&answer).unwrap();
    assert_eq!((answer.id, answer.message_type), (5, MessageType::Error));
    assert_eq!(answer.destination, Some(Address::literal("cli.1")));
    assert_eq!(IpcError::from_payload(answer.payload.as_bytes()), IpcError::Message("no key 'x7'"));
}

#[test]
fn a_message_to_nobody_in_particular_has_no_handler() {
    let mut registry = Registry::with(Store::default());
    let message = Message { destination: None, ..request("store/get") };
    assert_eq!(registry.ask(&message, None), Err(NOBODY));
}

#[test]
fn an_answer_of_any_length_fits_or_is_an_error_and_never_a_panic() {
    let mut registry = Registry::with(Store::default());
    let mut out = [0; MAX_HEADER + 64];
    for room in 0..out.len() {
        for address in ["store/get", "store/silent", "store/fail", "store/set", "other/x"] {
            let dispatched =
                dispatch(&mut registry, Caller::new(None, NOW), &request(address), &mut out[..room]);
            assert!(dispatched.answer <= room);
            assert!(dispatched.answer == 0 || decode(&out[..dispatched.answer]).is_ok());
        }
    }
}

#[test]
fn a_table_serves_as_a_handler_and_of_two_rows_with_one_address_only_the_first() {
    struct Lamp(u8);
    struct Set;
    impl Endpoint for Set {
        type Request = u8;
        type Response = u8;
        const ADDRESS: Address<'static> = Address::literal("lamp/set");
        const ACCESS: Access<'static> = Access::Scope("lamp.control");
    }
    struct Heard;
    impl Topic for Heard {
        type Message = u8;
        const ADDRESS: Address<'static> = Address::literal("lamp/set");
        const ACCESS: Access<'static> = Access::Open;
    }
    impl Answers<Set> for Lamp {
        fn answer(&mut self, level: u8) -> Result<u8, IpcError> {
            Ok(core::mem::replace(&mut self.0, level))
        }
    }
    impl Hears<Heard> for Lamp {
        fn hear(&mut self, level: u8) -> Result<(), IpcError> {
            self.0 = level;
            Ok(())
        }
    }
    static ROWS: &[Row<Lamp>] = &[Row::calls::<Set>(), Row::endpoint::<Set>(), Row::hears::<Heard>()];
    let mut registry = Registry::with(Typed::new("lamp", ROWS, Lamp(3)));
    let (payload, holder) = (MessagePayload::Binary(&[9]), grant(&["lamp.control"]));
    let refused = registry.ask(&request("lamp/set").with_payload(payload), None);
    assert_eq!(refused, Err(IpcError::Authentication(sentence::NOT_AUTHENTICATED)));
    let answer = registry.ask(&request("lamp/set").with_payload(payload), Some(&holder)).unwrap();
    assert_eq!(decode(&answer).unwrap().payload, MessagePayload::Binary(&[3]));
    let open = Message::notification(5, Heard::ADDRESS).with_payload(payload);
    assert_eq!(registry.ask(&open, None), Err(IpcError::Authentication(sentence::NOT_AUTHENTICATED)));
    assert_eq!(registry.ask(&open, Some(&holder)), Err(NOBODY));
    assert_eq!(registry.ask(&request("lamp/get"), Some(&grant(&["*"]))), Err(NOBODY));
}

#[test]
fn a_row_of_what_a_node_calls_tells_the_hashes_and_keeps_no_description() {
    struct Ping;
    impl Endpoint for Ping {
        type Request = u32;
        type Response = ();
        const ADDRESS: Address<'static> = Address::literal("echo/ping");
        const ACCESS: Access<'static> = Access::Permission;
    }
    let row = Row::<Store>::calls::<Ping>().info;
    let told = row.describe();
    assert_eq!((told.kind, told.address), (RowKind::Calls, "echo/ping"));
    let (request, response) = (Ping::SCHEMA.request.hash, Ping::SCHEMA.response.hash);
    assert_eq!((told.request_hash, told.response_hash), (request, response));
    assert!(row.schema.request.bytes.is_empty() && row.schema.response.bytes.is_empty());
}

/// Handlers by component, as the hub will have them.
struct Registry(Vec<Box<dyn MessageHandler>>);

impl Registry {
    fn with(handler: impl MessageHandler + 'static) -> Self {
        Self(Vec::from([Box::new(handler) as Box<dyn MessageHandler>]))
    }

    /// The answer's frame, or why there is none but an error.
    fn ask(&mut self, message: &Message<'_>, grant: Option<&Grant>) -> Result<Vec<u8>, IpcError> {
        let mut out = [0; 128];
        let dispatched = dispatch(self, Caller::new(grant, NOW), message, &mut out);
        if !message.wants_answer() {
            assert_eq!(dispatched.answer, 0);
        }
        dispatched.refused.map_or_else(|| Ok(out[..dispatched.answer].to_vec()), Err)
    }

    /// How often the handler was asked.
    fn calls(&mut self) -> u32 {
        let answer = self.ask(&request("store/count"), None).unwrap();
        let MessagePayload::Binary([calls]) = decode(&answer).unwrap().payload else { panic!("no count") };
        u32::from(*calls)
    }
}

impl Handlers for Registry {
    type Key = usize;

    fn find(&self, address: Address<'_>, message_type: MessageType) -> Result<(usize, Access<'_>), IpcError> {
        let at = self.0.iter().position(|handler| handler.id() == address.component()).ok_or(NOBODY)?;
        let handler = &self.0[at];
        if !handler.supported_message_types().contains(&message_type) {
            return Err(NOBODY);
        }
        Ok((at, handler.access(address)))
    }

    fn call(&mut self, key: usize, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.0[key].handle_message(message, reply)
    }
}

struct Store {
    types: &'static [MessageType],
    calls: u8,
}

impl Default for Store {
    fn default() -> Self {
        Self { types: &[MessageType::Request, MessageType::Notification], calls: 0 }
    }
}

impl MessageHandler for Store {
    fn id(&self) -> &str {
        "store"
    }

    fn supported_message_types(&self) -> &[MessageType] {
        self.types
    }

    fn access(&self, address: Address<'_>) -> Access<'_> {
        if address.path() == "set" { Access::Permission } else { Access::Open }
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let path = message.destination.map_or("", Address::path);
        if path == "count" {
            return reply.payload(MessagePayload::Binary(&[self.calls]));
        }
        self.calls = self.calls.wrapping_add(1);
        match path {
            "get" => reply.payload(MessagePayload::String("value")),
            "fail" => reply.send(&7u32).and(Err(IpcError::Internal("it broke"))),
            "explain" => reply.error(&IpcError::Message(&["no key '", "x7", "'"].concat().to_string())),
            _ => Ok(()),
        }
    }
}

fn request(address: &'static str) -> Message<'static> {
    Message { source: Some(Address::literal("cli.1")), ..Message::request(5, Address::literal(address)) }
}

fn grant(scopes: &[&str]) -> Grant {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([9; 32]))).unwrap();
    let claims = Claims {
        issuer: "bus",
        subject: "alice",
        audience: "bus",
        serial: 1,
        issued_at: 1_000,
        expiry: 2_000,
        epoch: 0,
        scopes: Scopes::new(scopes),
    };
    let mut token = [0; crate::limits::MAX_TOKEN];
    let len = ring.mint(1, &claims, &mut token).unwrap();
    ring.check(&token[..len], &Context::new("bus", Some(1_500))).unwrap()
}

const NOW: Option<u64> = Some(1_500);
