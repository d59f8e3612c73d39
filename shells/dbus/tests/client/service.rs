//! The client against a service of this project.

use std::sync::mpsc;

use visorbus_auth::{Accounts, AuthToken, KeyFile, Policy, Store, TokenRequest};
use visorbus_core::ErrorKind;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::{IpcError, Message};
use visorbus_dbus::{BusAddress, DBusChange, DBusClient, DBusClientConfig, DBusService, MessageItem};
use visorbus_hub::{HubConfig, OwnedMessage};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;

use std::sync::Arc;

use crate::home::{await_change, changes};

const BUS1: &str = "org.visorbus.Bus1";
const ROOT: &str = "/org/visorbus/Bus1";

/// A service with a component `echo`, and who makes its tokens.
struct World {
    service: DBusService,
    accounts: Arc<Accounts>,
}

/// Answers with what it was sent.
struct Echo;

impl MessageHandler for Echo {
    fn id(&self) -> &str {
        "echo"
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        reply.payload(message.payload)
    }
}

impl World {
    fn start(bus: &DbusDaemon) -> Self {
        let policy = Arc::new(Policy::parse("").unwrap());
        let keys = KeyFile::in_memory(1, [7; 32]);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let config = HubConfig::with_providers(Arc::clone(&accounts) as _, policy);
        let mut service = DBusService::new(BUS1, ROOT, config).unwrap();
        service.set_bus(BusAddress::Address(bus.address().to_owned())).unwrap();
        service.register_handler(Box::new(Echo)).unwrap();
        service.start().unwrap();
        Self { service, accounts }
    }

    fn token(&self) -> AuthToken {
        let scopes = ["request:echo/**", "subscribe:news/**"];
        self.accounts.mint(&TokenRequest::new("panel", &scopes)).unwrap()
    }
}

fn client_on(bus: &DbusDaemon) -> DBusClient {
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.retry_ms = 5;
    config.timeout = PATIENCE;
    DBusClient::with_config(BUS1, ROOT, config).unwrap()
}

/// The arguments of `Call`: this text to the component.
fn call_of(text: &str) -> [MessageItem; 3] {
    let options = MessageItem::new_dict(vec![("json".into(), MessageItem::Variant(Box::new(false.into())))]);
    ["echo/say".into(), MessageItem::Variant(Box::new(text.into())), options.unwrap()]
}

#[test]
fn a_token_decides_what_may_be_called_and_an_error_keeps_its_kind() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let client = client_on(&bus);
        client.connect().unwrap();
        let changes = changes(&client);
        let world = World::start(&bus);
        await_change(&changes, |change| matches!(change, DBusChange::ServiceAppeared { .. }));
        assert!(matches!(client.get_property(BUS1, "Version").unwrap(), MessageItem::Str(_)));
        let error = client.call_method(BUS1, "Call", &call_of("hello")).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Authorization),
            "nobody is known by their user: {error}"
        );
        client.set_auth_token(world.token()).unwrap();
        assert_eq!(client.get_property(BUS1, "Subject").unwrap(), "panel".into());
        let said = MessageItem::Variant(Box::new("hello".into()));
        assert_eq!(client.call_method(BUS1, "Call", &call_of("hello")).unwrap(), [said]);
        let error = client.call_method(BUS1, "ListServices", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
        assert!(error.text().starts_with("org.freedesktop.DBus.Error.AccessDenied: "), "{error}");
        let error = client.call_method(BUS1, "NoSuchMethod", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Message, "{error}");
    }
}

#[test]
fn a_subscription_is_heard_and_a_restarted_service_is_shown_the_token_before_anything_else() {
    let bus = DbusDaemon::start();
    let mut world = World::start(&bus);
    let client = client_on(&bus);
    client.connect().unwrap();
    let changes = changes(&client);
    let (heard, told) = mpsc::channel();
    let handler = move |signal: &dbus::Message| heard.send(DBusClient::signal_args(signal).unwrap()).unwrap();
    client.register_signal_handler(BUS1, "Notification", handler).unwrap();
    if client.get_property(BUS1, "Version").is_err() {
        await_change(&changes, |change| matches!(change, DBusChange::ServiceAppeared { .. }));
    }
    client.set_auth_token(world.token()).unwrap();
    let subscribe = || {
        let options =
            MessageItem::new_dict(vec![("policy".into(), MessageItem::Variant(Box::new("latest".into())))]);
        client.call_method(BUS1, "Subscribe", &["news/**".into(), options.unwrap()])
    };
    subscribe().unwrap();
    let publish = |world: &World, text: &str| {
        world
            .service
            .broadcast_message(OwnedMessage::notification("news/today", text_payload(text)))
            .unwrap();
    };
    publish(&world, "first");
    let news = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(news[0], "news/today".into());
    assert_eq!(news[2], MessageItem::Variant(Box::new("first".into())));

    // The same keys, so that the token is as good there.
    world.service.stop().unwrap();
    await_change(&changes, |change| *change == DBusChange::ServiceGone);
    let world = World::start(&bus);
    await_change(&changes, |change| *change == DBusChange::Authenticated);
    subscribe().unwrap();
    publish(&world, "second");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap()[2], MessageItem::Variant(Box::new("second".into())));
}

#[test]
fn a_bus_that_is_killed_brings_service_and_client_together_again() {
    let mut bus = DbusDaemon::start();
    let world = World::start(&bus);
    let client = client_on(&bus);
    client.connect().unwrap();
    let changes = changes(&client);
    if client.get_property(BUS1, "Version").is_err() {
        await_change(&changes, |change| matches!(change, DBusChange::ServiceAppeared { .. }));
    }
    client.set_auth_token(world.token()).unwrap();
    await_change(&changes, |change| *change == DBusChange::Authenticated);
    for _ in 0..3 {
        bus.kill();
        await_change(&changes, |change| matches!(change, DBusChange::Lost(_)));
        bus.restart();
        await_change(&changes, |change| *change == DBusChange::Authenticated);
        assert!(client.call_method(BUS1, "Call", &call_of("again")).is_ok());
    }
}

fn text_payload(text: &str) -> visorbus_hub::OwnedPayload {
    visorbus_hub::OwnedPayload::String(text.to_owned())
}
