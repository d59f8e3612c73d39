//! A bus, a service on it, and a component behind it that does what a test says.

use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use dbus::channel::Channel;
use dbus::message::MessageType as Kind;
use postcard_schema::Schema;
use postcard_schema::schema::NamedType;
use serde::{Deserialize, Serialize};
use visorbus_auth::{Accounts, KeyFile, Policy, Store, TokenRequest};
use visorbus_core::auth::Access;
use visorbus_core::bus::{self, Announce, RowInfo, RowKind};
use visorbus_core::message::{Address, MessagePayload, MessageType};
use visorbus_dbus::{BusAddress, DBusService};
use visorbus_hub::{HubConfig, OwnedPayload};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_until;
use visorbus_tests::raw_peer::RawPeer;

pub(crate) const SERVICE: &str = "org.visorbus.Bus1";
pub(crate) const ROOT: &str = "/org/visorbus/Bus1";
pub(crate) const IMU: &str = "/org/visorbus/Bus1/components/imu";
pub(crate) const IMU_INTERFACE: &str = "org.visorbus.components.Imu";
/// What the tests' own user may do, as `panel`.
pub(crate) const PANEL: &str = "\"request:imu/*\", \"notify:imu/*\", \"subscribe:imu/*\", \"request:bus/services\", \
                                \"subscribe:bus/services/changed\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub(crate) enum Axis {
    X,
    Y,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Schema)]
pub(crate) struct Rate {
    pub(crate) hz: u32,
    pub(crate) axis: Axis,
}

#[derive(Debug, Serialize, Deserialize, Schema)]
pub(crate) struct Old {
    pub(crate) hz: u32,
}

#[derive(Debug, Serialize, Deserialize, Schema)]
pub(crate) struct Sample {
    pub(crate) at: u64,
    pub(crate) values: [i16; 3],
}

pub(crate) struct World {
    // Before the bus, so that it leaves one that is there.
    service: DBusService,
    pub(crate) bus: DbusDaemon,
    accounts: Arc<Accounts>,
}

impl World {
    /// Whoever runs the test is `panel`, which may do this.
    pub(crate) fn with_panel(allow: &str) -> Self {
        let uid = nix::unistd::Uid::effective();
        Self::with_policy(&format!(
            "[[unix]]\nuid = {uid}\nsubject = \"panel\"\nscopes = [\"panel\"]\n\
             [[rule]]\nscope = \"panel\"\nallow = [{allow}]\n"
        ))
    }

    /// Nobody is known by their user.
    pub(crate) fn with_strangers() -> Self {
        Self::with_policy("")
    }

    fn with_policy(text: &str) -> Self {
        let policy = Arc::new(Policy::parse(text).unwrap());
        let keys = KeyFile::in_memory(1, [7; 32]);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let config = HubConfig::with_providers(Arc::clone(&accounts) as _, policy);
        let bus = DbusDaemon::start();
        let mut service = DBusService::new(SERVICE, ROOT, config).unwrap();
        service.set_bus(BusAddress::Address(bus.address().to_owned())).unwrap();
        service.start().unwrap();
        wait_until("the service has its name", || service.state().is_some_and(|state| state.owns_name));
        Self { service, bus, accounts }
    }

    /// The component, which has told its types.
    pub(crate) fn imu(&self) -> RawPeer {
        let mut imu = RawPeer::attach(&self.service.handle());
        imu.hello("imu").unwrap();
        imu.authenticate(&self.token("imu", &["*"]).to_bytes().unwrap()).unwrap();
        announce(&mut imu, RowKind::Endpoint, "imu/set-rate", Rate::SCHEMA, Old::SCHEMA);
        announce(&mut imu, RowKind::Publishes, "imu/samples", Sample::SCHEMA, <()>::SCHEMA);
        announce(&mut imu, RowKind::Hears, "imu/reset", <()>::SCHEMA, <()>::SCHEMA);
        imu
    }

    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> visorbus_auth::TokenText {
        self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap().value
    }

    /// What a program says that ends by itself, while `meanwhile` happens.
    pub(crate) fn run(&self, program: &str, args: &[&str], meanwhile: impl FnOnce()) -> Said {
        let mut command = self.bus.command(program);
        command.args(args).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().expect("the program is installed");
        meanwhile();
        Said::of(&child.wait_with_output().unwrap())
    }

    /// A program with libdbus.
    pub(crate) fn program(&self) -> Program {
        Program { channel: self.bus.connect() }
    }
}

/// What a program has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { success: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What it printed, without the last line's end.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert!(self.success, "{}", self.err);
        self.out.trim_end().to_owned()
    }

    /// What it complained of.
    #[track_caller]
    pub(crate) fn bad(self) -> String {
        assert!(!self.success, "{}", self.out);
        self.err
    }
}

/// A program on the bus that sees every message.
pub(crate) struct Program {
    channel: Channel,
}

impl Program {
    pub(crate) fn call(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        args: &[MessageItem],
    ) -> Result<Vec<MessageItem>, String> {
        let mut call = Message::new_method_call(SERVICE, path, interface, member).unwrap();
        call.append_items(args);
        let answer = self.channel.send_with_reply_and_block(call, PATIENCE);
        answer.map(|answer| answer.get_items()).map_err(|error| error.name().unwrap_or_default().to_owned())
    }

    /// Asks the bus for every signal of the service.
    pub(crate) fn listen(&self) {
        let (rule, bus) = (format!("type='signal',sender='{SERVICE}'"), "org.freedesktop.DBus");
        let ask = Message::call_with_args(bus, "/org/freedesktop/DBus", bus, "AddMatch", (rule,));
        self.channel.send_with_reply_and_block(ask, PATIENCE).unwrap();
    }

    /// The next signal of this name.
    #[track_caller]
    pub(crate) fn signal(&self, member: &str) -> (String, Vec<MessageItem>) {
        let is_it = |message: &Message| {
            message.msg_type() == Kind::Signal && message.member().is_some_and(|m| &*m == member)
        };
        let signal = self.next(is_it).unwrap_or_else(|| panic!("no signal '{member}' came"));
        (signal.path().unwrap().to_string(), signal.get_items())
    }

    /// The members of the service's signals that have come so far: what it sent before it answered this was.
    pub(crate) fn signals_so_far(&self) -> Vec<String> {
        let ping = Message::new_method_call(SERVICE, ROOT, "org.freedesktop.DBus.Peer", "Ping").unwrap();
        let ping = self.channel.send(ping).unwrap();
        let mut signals = Vec::new();
        self.next(|message| {
            let is_ours = message.path().is_some_and(|path| path.starts_with(ROOT));
            if message.msg_type() == Kind::Signal && is_ours {
                signals.push(message.member().map(|member| member.to_string()).unwrap_or_default());
            }
            message.get_reply_serial() == Some(ping)
        });
        signals
    }

    fn next(&self, mut is_it: impl FnMut(&Message) -> bool) -> Option<Message> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            while let Some(message) = self.channel.pop_message() {
                if is_it(&message) {
                    return Some(message);
                }
            }
            self.channel.read_write(Some(Duration::from_millis(100))).expect("the bus is there");
        }
        None
    }
}

/// Answers the next request to `imu/set-rate`, and says what it was.
pub(crate) fn serve(imu: &mut RawPeer) -> Rate {
    let request = imu.read_where(|message| message.message_type == MessageType::Request);
    let asked: Rate = request.payload.parse().unwrap();
    let bytes = OwnedPayload::postcard(&Old { hz: 50 }).unwrap();
    let mut answer = visorbus_core::Message::request(request.id, Address::new(&request.source).unwrap());
    answer.message_type = MessageType::Response;
    answer.flags = visorbus_core::message::MessageFlags::NONE;
    answer.payload = bytes.borrow();
    imu.send(&answer);
    asked
}

pub(crate) fn publish(imu: &mut RawPeer, at: u64) {
    let sample = OwnedPayload::postcard(&Sample { at, values: [1, -2, 3] }).unwrap();
    imu.notify("imu/samples", sample.borrow());
}

fn announce(
    imu: &mut RawPeer,
    kind: RowKind,
    address: &str,
    request: &'static NamedType,
    response: &'static NamedType,
) {
    let [request, response] = [request, response].map(|schema| postcard::to_stdvec(schema).unwrap());
    let row = RowInfo { kind, address, access: Access::Permission, request_hash: 0, response_hash: 0 };
    let told = Announce { row, request_schema: &request, response_schema: &response };
    let told = postcard::to_stdvec(&told).unwrap();
    imu.request(bus::ANNOUNCE, MessagePayload::Binary(&told)).unwrap();
}
