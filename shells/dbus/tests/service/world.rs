//! A bus, a service on it, and who may do what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use visorbus_auth::{Accounts, KeyFile, Policy, Store, TokenRequest};
use visorbus_dbus::{BusAddress, DBusService, MessageItem};
use visorbus_hub::{HubConfig, Limits};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_until;
use visorbus_tests::raw_peer::RawPeer;

use crate::program::Program;
use crate::thermostat::{NAME, Room, Thermostat};

pub(crate) const SERVICE: &str = "org.visorbus.Bus1";
pub(crate) const PATH: &str = "/org/visorbus/Bus1";

pub(crate) struct World {
    // Before the bus, so that it leaves one that is there.
    pub(crate) service: DBusService,
    pub(crate) bus: DbusDaemon,
    pub(crate) room: Room,
    accounts: Arc<Accounts>,
    /// Lets `Stuck` return, also when the test is over.
    pub(crate) release: SyncSender<()>,
}

impl World {
    /// Whoever runs the test is `panel`, which may do this at the thermostat.
    pub(crate) fn with_panel(allow: &str) -> Self {
        Self::with_policy(&panel(allow), PATIENCE)
    }

    /// The same, where a call has to be answered within `time`.
    pub(crate) fn with_hasty_panel(allow: &str, time: Duration) -> Self {
        Self::with_policy(&panel(allow), time)
    }

    /// Nobody is known by their user.
    pub(crate) fn with_strangers() -> Self {
        Self::with_policy("", PATIENCE)
    }

    fn with_policy(text: &str, time: Duration) -> Self {
        let policy = Arc::new(Policy::parse(text).unwrap());
        let keys = KeyFile::in_memory(1, [7; 32]);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let limits = Limits { request_ms: u32::try_from(time.as_millis()).unwrap(), ..Limits::default() };
        let config = HubConfig { limits, ..HubConfig::with_providers(Arc::clone(&accounts) as _, policy) };
        let bus = DbusDaemon::start();
        let mut service = DBusService::new(SERVICE, PATH, config).unwrap();
        service.set_bus(BusAddress::Address(bus.address().to_owned())).unwrap();
        let room = Room::default();
        let (thermostat, release) = Thermostat::new(&room);
        service.register_interface(thermostat).unwrap();
        service.start().unwrap();
        let world = Self { service, bus, room, accounts, release };
        world.wait_until_named();
        world
    }

    /// A program of whoever runs the test.
    pub(crate) fn program(&self) -> Program {
        Program::new(self.bus.connect())
    }

    /// A program that has shown a token of `subject` with these scopes.
    pub(crate) fn authenticated(&self, subject: &str, scopes: &[&str]) -> Program {
        let token = self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap();
        let program = self.program();
        let text = MessageItem::Str(token.value.as_str().to_owned());
        program.call("org.visorbus.Bus1", "Authenticate", &[text]).unwrap();
        program
    }

    /// A peer of the hub that is no program of the bus, with these scopes.
    pub(crate) fn peer(&self, subject: &str, scopes: &[&str]) -> RawPeer {
        let token = self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap();
        let mut peer = RawPeer::attach(&self.service.handle());
        peer.hello(subject).unwrap();
        peer.authenticate(&token.value.to_bytes().unwrap()).unwrap();
        peer
    }

    pub(crate) fn runs(&self) -> usize {
        self.room.runs.load(Ordering::SeqCst)
    }

    /// Demands that others are served.
    #[track_caller]
    pub(crate) fn is_unharmed(&self) {
        let sum = self.program().call(NAME, "Add", &[2i32.into(), 3i32.into()]);
        assert_eq!(sum, Ok(vec![5i32.into()]));
    }

    fn wait_until_named(&self) {
        wait_until("the service has its name", || self.service.state().is_some_and(|state| state.owns_name));
    }
}

/// A policy by which whoever runs the test is `panel`.
fn panel(allow: &str) -> String {
    let uid = nix::unistd::Uid::effective();
    format!(
        "[[unix]]\nuid = {uid}\nsubject = \"panel\"\nscopes = [\"panel\"]\n\
         [[rule]]\nscope = \"panel\"\nallow = [{allow}]\n"
    )
}
