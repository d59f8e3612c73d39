//! The hub that is held against the bare limits: on a bus and on a Unix socket, with a component of its own.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbus::Message;
use dbus::arg::Variant;
use dbus::channel::Channel;
use tempfile::TempDir;
use visorbus_auth::{Accounts, Policy, Store};
use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::dispatch::{Answers, Row, Typed};
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_dbus::{BusAddress, DBusConfig, DBusListener};
use visorbus_hub::{HubConfig, OwnedMessage, OwnedPayload};
use visorbus_unix::{Credentials, UnixSocketClient, UnixSocketServer};

use crate::contest::{Against, Contender, RoundTrip};
use crate::dbus::bare::{BareMethod, BareSignals};
use crate::dbus::bytes::Bytes;
use crate::dbus::caller::{EchoMethod, Form, ask, await_owner, connect};
use crate::dbus::signals::{Receivers, signals_trip};
use crate::part::{self, Part};
use crate::through_hub::{binary, keys, other};

/// Plays the part here, if it is it.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (HUB_PART, [bus, service, home]) => Some(be_hub(bus, service, Path::new(home))),
        _ => None,
    }
}

/// The method of a component on its object, with typed arguments.
#[derive(Debug)]
pub struct ComponentMethod<'b> {
    program: PathBuf,
    bus: &'b str,
}

/// The same address by the method `Call` of `org.visorbus.Bus1`.
#[derive(Debug)]
pub struct BridgeCall<'b> {
    program: PathBuf,
    bus: &'b str,
}

/// Notifications through the hub to all subscribers, as [`BareSignals`].
#[derive(Debug)]
pub struct HubSignals<'b> {
    program: PathBuf,
    bus: &'b str,
    is_typed: bool,
}

impl<'b> ComponentMethod<'b> {
    /// Starts its hub on `bus` from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { program: program.into(), bus }
    }
}

impl<'b> BridgeCall<'b> {
    /// Starts its hub on `bus` from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { program: program.into(), bus }
    }
}

impl<'b> HubSignals<'b> {
    /// As signals of the component that publishes, with typed arguments; starts its hub on `bus` from `program`, whose
    /// `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { program: program.into(), bus, is_typed: true }
    }

    /// The same as signals `Notification` of `org.visorbus.Bus1`.
    pub fn bridge(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { is_typed: false, ..Self::new(program, bus) }
    }
}

impl Contender for ComponentMethod<'_> {
    fn name(&self) -> &'static str {
        "hub, component's method"
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: BareMethod::NAME, at_most: Some(MOST) })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let hub = BusHub::start(&self.program, self.bus, "org.visorbus.bench.Method")?;
        hub.echo().round_trip(self.bus, size, hub)
    }
}

impl Contender for BridgeCall<'_> {
    fn name(&self) -> &'static str {
        "hub, Bus1.Call"
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: BareMethod::NAME, at_most: None })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let hub = BusHub::start(&self.program, self.bus, "org.visorbus.bench.Bridge")?;
        let (path, interface) = (ROOT.to_owned(), BRIDGE.to_owned());
        let form = Form::Bridge(Echo::ADDRESS.as_str());
        let method = EchoMethod { service: hub.service.clone(), path, interface, member: "Call", form };
        method.round_trip(self.bus, size, hub)
    }
}

impl Contender for HubSignals<'_> {
    fn name(&self) -> &'static str {
        if self.is_typed { "hub, component's signal" } else { "hub, Bus1.Notification" }
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: BareSignals::NAME, at_most: self.is_typed.then_some(MOST) })
    }

    fn start(&self, batch: usize) -> io::Result<RoundTrip> {
        let service =
            if self.is_typed { "org.visorbus.bench.Signals" } else { "org.visorbus.bench.Notifications" };
        let hub = BusHub::start(&self.program, self.bus, service)?;
        await_owner(&connect(self.bus)?, service)?;
        let publisher = hub.client("publisher")?;
        publisher.register_handler(Box::new(Typed::new("source", SOURCE, Source))).map_err(other)?;
        let receivers = if self.is_typed {
            Receivers::connect(self.bus, "org.visorbus.components.Source", "Tick", |channel| {
                subscribe_to_component(channel, service)
            })
        } else {
            Receivers::connect(self.bus, BRIDGE, "Notification", |channel| subscribe(channel, service))
        }?;
        let publish = move |bytes: &[u8]| publisher.publish::<Tick>(&Bytes(bytes.to_vec())).map_err(other);
        signals_trip(publish, receivers, batch, hub)
    }
}

/// A hub that is a process of its own. It ends before its directory is removed.
#[derive(Debug)]
pub(crate) struct BusHub {
    _part: Part,
    service: String,
    home: TempDir,
}

impl BusHub {
    /// Starts one that serves `bus` as `service`. When this returns, it serves its socket; it gets its name soon.
    pub(crate) fn start(program: &Path, bus: &str, service: &str) -> io::Result<Self> {
        let home = TempDir::with_prefix("bench-")?;
        let part = Part::start(program, HUB_PART, [bus.as_ref(), service.as_ref(), home.path().as_os_str()])?;
        Ok(Self { _part: part, service: service.to_owned(), home })
    }

    /// The method of its component.
    pub(crate) fn echo(&self) -> EchoMethod {
        let (path, interface) =
            (format!("{ROOT}/components/bench"), "org.visorbus.components.Bench".to_owned());
        EchoMethod { service: self.service.clone(), path, interface, member: "Echo", form: Form::Typed }
    }

    /// A client of its socket, who may do everything.
    pub(crate) fn client(&self, name: &str) -> io::Result<UnixSocketClient> {
        let name = format!("{SUBJECT}.{name}");
        let client = UnixSocketClient::new(socket(self.home.path()), &name).map_err(other)?;
        client.connect().map_err(other)?;
        // The kernel tells the hub which user this is, whatever stands here.
        client.authenticate(&Credentials::Peer { uid: 0, gid: None }).map_err(other)?;
        Ok(client)
    }

    /// A round trip of a client of its socket to its component.
    pub(crate) fn local_trip(&self, size: usize) -> io::Result<RoundTrip> {
        let client = self.client("client")?;
        let payload = OwnedPayload::postcard(&Bytes(binary(size))).map_err(other)?;
        let request = OwnedMessage::request(Echo::ADDRESS.as_str(), payload);
        let once = move || client.send_request(&request, None).map_err(other).map(drop);
        once()?;
        Ok(Box::new(once))
    }
}

fn be_hub(bus: &str, service: &str, home: &Path) -> io::Result<()> {
    let rules = home.join("policy.toml");
    let uid = rustix::process::getuid().as_raw();
    fs::write(&rules, format!("[[unix]]\nuid = {uid}\nsubject = \"{SUBJECT}\"\nscopes = [\"*\"]\n"))?;
    let policy = Arc::new(Policy::open(rules).map_err(io::Error::other)?);
    let accounts = Accounts::new(Arc::new(Store::in_memory()), keys(), Arc::clone(&policy));
    let config = HubConfig::with_providers(Arc::new(accounts), policy);
    let mut server = UnixSocketServer::new(socket(home), config).map_err(other)?;
    server.register_handler(Box::new(Typed::new("bench", BENCH, Bench))).map_err(other)?;
    server.start().map_err(other)?;
    let mut config = DBusConfig::default();
    config.bus = BusAddress::Address(bus.to_owned());
    config.service_name = service.to_owned();
    config.object_path = ROOT.to_owned();
    let (listener, _door) = DBusListener::new(config, &server.handle()).map_err(other)?;
    server.handle().listen(Box::new(listener)).map_err(other)?;
    part::ready("");
    part::stay()
}

fn socket(home: &Path) -> PathBuf {
    home.join("run/bus.sock")
}

fn subscribe_to_component(channel: &Channel, service: &str) -> io::Result<()> {
    let path = format!("{ROOT}/components/source");
    let call = Message::new_method_call(service, path, "org.visorbus.Component1", "Subscribe");
    ask(channel, call.map_err(io::Error::other)?.append1(Tick::ADDRESS.as_str())).map(drop)
}

fn subscribe(channel: &Channel, service: &str) -> io::Result<()> {
    let call = Message::new_method_call(service, ROOT, BRIDGE, "Subscribe").map_err(io::Error::other)?;
    let options = HashMap::<&str, Variant<&str>>::new();
    ask(channel, call.append2(Tick::ADDRESS.as_str(), options)).map(drop)
}

/// Gives back what it gets.
struct Echo;

impl Endpoint for Echo {
    type Request = Bytes;
    type Response = Bytes;
    const ADDRESS: Address<'static> = Address::literal("bench/echo");
    const ACCESS: Access<'static> = Access::Permission;
}

/// What is published.
struct Tick;

impl Topic for Tick {
    type Message = Bytes;
    const ADDRESS: Address<'static> = Address::literal("source/tick");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Bench;

impl Answers<Echo> for Bench {
    fn answer(&mut self, bytes: Bytes) -> Result<Bytes, IpcError> {
        Ok(bytes)
    }
}

struct Source;

static BENCH: &[Row<Bench>] = &[Row::endpoint::<Echo>()];
static SOURCE: &[Row<Source>] = &[Row::publishes::<Tick>()];

/// The highest ratio to the bare limit that passes.
const MOST: f64 = 1.2;
const SUBJECT: &str = "desktop";
const ROOT: &str = "/org/visorbus/Bus1";
const BRIDGE: &str = "org.visorbus.Bus1";
const HUB_PART: &str = "--part=dbus-hub";
