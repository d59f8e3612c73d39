//! `org.visorbus.Bus1`, but for subscriptions: any address of the hub for any program of the bus.

use std::sync::Arc;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_auth::{Permission, TokenText};
use visorbus_core::ErrorKind;
use visorbus_core::auth::UnverifiedToken;
use visorbus_core::bus;
use visorbus_core::message::{AddressBuf, MessageType};
use visorbus_hub::info::{SchemaInfo, ServiceInfo};
use visorbus_hub::{Error, OwnedPayload};

use crate::fault::{AUTH_FAILED, Fault, MESSAGE};
use crate::router::options::{JSON, Options, PRIORITY, TIMEOUT_MS};
use crate::router::{AddressTypes, Asked, Kind, Reply, Router, ask, items, parse_address, value};
use crate::step::{Caller, Request, Step};

impl Router {
    /// `Authenticate`. The token is read where it stands, so that no copy is made that would not be wiped.
    pub(crate) fn authenticate(
        &mut self,
        call: &Message,
        caller: &Caller,
        reply: &Reply,
    ) -> Result<Step, Fault> {
        let text = call.iter_init().get::<&str>().unwrap_or_default();
        let refused = |error: &dyn std::fmt::Display| Fault::new(AUTH_FAILED, error.to_string());
        let token = TokenText::parse(text).map_err(|error| refused(&error))?;
        let claims = session_details(&token);
        let (caller, reply) = (caller.clone(), reply.clone());
        Ok(Step::Authenticate(
            token,
            Box::new(move |router, outcome| match outcome {
                Ok(_) => {
                    let subject = router.find(&caller).map_or("", |known| known.subject.as_str());
                    let subject = items::text(subject);
                    let details = [("subject", subject)].into_iter().chain(claims);
                    let answer = items::details(details);
                    // Before the reply, so that nothing is missed from then on.
                    router.restore_then(&caller, Box::new(move |_| reply.send(&[answer])))
                }
                Err(error) => reply.fail(&error.into()),
            }),
        ))
    }

    /// `Call`.
    pub(crate) fn call_address(&mut self, asked: Asked) -> Result<Step, Fault> {
        let options = asked.options(2, &[TIMEOUT_MS, PRIORITY, JSON])?;
        self.send_to(asked, options, MessageType::Request)
    }

    /// `Notify`.
    pub(crate) fn notify_address(&mut self, asked: Asked) -> Result<Step, Fault> {
        let options = asked.options(2, &[PRIORITY, JSON])?;
        self.send_to(asked, options, MessageType::Notification)
    }

    /// `ListServices`.
    pub(crate) fn list_services(&mut self, asked: Asked) -> Result<Step, Fault> {
        let reply = asked.reply;
        ask(bus::SERVICES, OwnedPayload::Empty, false, move |_, outcome| {
            let services = outcome.and_then(|payload| payload.parse::<Vec<ServiceInfo>>());
            reply.finish(services.map_err(Fault::from).map(|services| {
                vec![items::array("(sssa(sss))", services.into_iter().map(service).collect())]
            }))
        })
    }

    /// `Describe`.
    pub(crate) fn describe(&mut self, asked: Asked) -> Result<Step, Fault> {
        let address = parse_address(asked.text(0))?;
        let payload = OwnedPayload::String(address.as_str().to_owned());
        let reply = asked.reply;
        ask(bus::SCHEMA, payload, true, move |_, outcome| {
            let info = outcome.and_then(|payload| payload.parse::<SchemaInfo>());
            reply.finish(info.map_err(Fault::from).map(|info| {
                let types = AddressTypes::new(&info.request, &info.response);
                [types.request, types.response].iter().flat_map(shown).collect()
            }))
        })
    }

    /// `Permissions`.
    pub(crate) fn permissions(&mut self, asked: Asked) -> Result<Step, Fault> {
        let reply = asked.reply;
        ask(bus::PERMISSIONS, OwnedPayload::Empty, false, move |_, outcome| {
            let permissions = outcome.and_then(|payload| payload.parse::<Vec<Permission>>());
            reply.finish(permissions.map_err(Fault::from).map(|permissions| {
                vec![items::array("(ssa{ss})", permissions.into_iter().map(permission).collect())]
            }))
        })
    }

    /// Sends to an address, once its types are known.
    fn send_to(&mut self, asked: Asked, options: Options, message_type: MessageType) -> Result<Step, Fault> {
        let address = parse_address(asked.text(0))?;
        if let Some(instead) = instead_of(address.as_str()) {
            return Err(Fault::new(MESSAGE, format!("'{}' is not for this: {instead}", address.as_str())));
        }
        let out = Out { address, options, message_type };
        let asked_at = self.generation();
        if let Some(types) = self.types.find(out.address.as_str()) {
            // What is wrong with the payload tells of the address's type: first it is asked whether the caller may know.
            let payload = types.payload(&mut asked.variant(1)?, options.json);
            return match payload {
                Ok(payload) => Ok(out.send(payload, types, asked.reply)),
                Err(fault) => out.ask_types(move |_, told| {
                    asked.reply.fail(&told.map_or_else(|refused| refused, |_| fault))
                }),
            };
        }
        let reply = asked.reply.clone();
        out.clone().ask_types(move |router, told| {
            let step = told.and_then(|(request, response)| {
                let types = router.types.keep(out.address.as_str(), (&request, &response), asked_at);
                let payload = types.payload(&mut asked.variant(1)?, options.json)?;
                Ok(out.send(payload, types, asked.reply.clone()))
            });
            reply.or_fail(step)
        })
    }
}

/// What goes to an address.
#[derive(Clone)]
struct Out {
    address: AddressBuf,
    options: Options,
    message_type: MessageType,
}

impl Out {
    fn send(self, payload: OwnedPayload, types: Arc<AddressTypes>, reply: Reply) -> Step {
        let flags = self.options.flags();
        let Self { address: destination, message_type, options } = self;
        let request = Request { message_type, destination, payload, flags, as_guest: true };
        Step::Ask(
            request,
            Box::new(move |_, outcome| match (outcome, message_type) {
                (Err(error), _) => reply.fail(&error.into()),
                (Ok(answer), MessageType::Request) => {
                    reply.finish_with(value(types.response.as_ref(), &answer, options.json))
                }
                (Ok(_), _) => reply.send(&[]),
            }),
        )
    }

    /// Asks for both schemas of the address; none where nobody has told.
    fn ask_types(
        self,
        then: impl FnOnce(&mut Router, Result<(Vec<u8>, Vec<u8>), Fault>) -> Step + Send + 'static,
    ) -> Result<Step, Fault> {
        let payload = OwnedPayload::String(self.address.as_str().to_owned());
        ask(bus::SCHEMA, payload, true, move |router, outcome| {
            let told = match outcome.and_then(|payload| payload.parse::<SchemaInfo>()) {
                Ok(info) => Ok((info.request, info.response)),
                Err(error) if error == SchemaInfo::untold(self.address.as_str()) => {
                    Ok((Vec::new(), Vec::new()))
                }
                Err(error) => Err(not_told(self.address.as_str(), error)),
            };
            then(router, told)
        })
    }
}

/// Who may not know the types of an address may not use it either.
fn not_told(address: &str, error: Error) -> Fault {
    match error.kind() {
        ErrorKind::Authorization => {
            let mut fault = Fault::from(error);
            fault.text = format!("you may not use '{address}': {}", fault.text);
            fault
        }
        _ => error.into(),
    }
}

/// What is to be used in the place of an address of the hub's own that belongs to a session, not to its user.
fn instead_of(address: &str) -> Option<&'static str> {
    Some(match address {
        bus::HELLO | bus::IDENTITY | bus::GOODBYE | bus::CANCEL => "the service does that itself",
        bus::AUTHENTICATE => "use the method Authenticate",
        bus::SUBSCRIBE => "use the method Subscribe",
        bus::UNSUBSCRIBE => "use the method Unsubscribe",
        bus::REGISTER | bus::UNREGISTER | bus::ANNOUNCE | bus::DESCRIBE => {
            "a program of the bus cannot be a component; connect over a Unix socket, or register an interface"
        }
        _ => return None,
    })
}

/// What a token says of the session that it makes; believed once it was accepted.
fn session_details(token: &TokenText) -> Vec<(&'static str, MessageItem)> {
    let Ok(bytes) = token.to_bytes() else { return Vec::new() };
    let Ok(token) = UnverifiedToken::read(&bytes) else { return Vec::new() };
    let Some((expires, scopes)) = token.narrowed() else { return Vec::new() };
    vec![
        ("expires", MessageItem::UInt64(expires)),
        ("scopes", items::array("s", scopes.iter().map(items::text).collect())),
        ("issuer", items::text(token.claims().issuer)),
    ]
}

fn shown(kind: &Option<Kind>) -> [MessageItem; 2] {
    let signature =
        kind.as_ref().and_then(|kind| kind.typed.as_ref()).map_or("", |typed| typed.value_signature());
    let ty = kind.as_ref().map_or_else(String::new, |kind| kind.shape.to_string());
    [items::text(signature), items::text(ty)]
}

fn service(service: ServiceInfo) -> MessageItem {
    let address = |row: visorbus_hub::info::AddressInfo| {
        MessageItem::Struct([row.address, row.kind, row.access].map(items::text).into())
    };
    let addresses = service.addresses.into_iter().map(address).collect();
    let mut fields: Vec<MessageItem> =
        [service.component, service.peer, service.transport].map(items::text).into();
    fields.push(items::array("(sss)", addresses));
    MessageItem::Struct(fields)
}

fn permission(permission: Permission) -> MessageItem {
    let constraints = permission.constraints.unwrap_or_default().into_iter();
    let constraints = items::dictionary("s", constraints.map(|(name, value)| (name, items::text(value))));
    MessageItem::Struct(vec![
        items::text(permission.operation),
        items::text(permission.resource),
        constraints,
    ])
}
