//! The client of a service on a bus.

mod dispatch;
mod line;
mod refusal;
mod shared;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use dbus::arg::messageitem::MessageItem;
use dbus::strings::{BusName, Interface, Member, Path};
use dbus::{Message, MessageType};
use visorbus_auth::AuthToken;
use visorbus_hub::{Error, Result};

use crate::config::BusAddress;
use crate::types;
use dispatch::{Handler, Select};
use shared::{Shared, To};

/// A client of one object of a service on a bus. Cloning it is cheap: clones are the same client.
///
/// # Threads
/// Every method may be called from any thread, and waits on it. One thread of the client's own has the connection and waits
/// for nobody. Signal handlers run on one more, one after the other; they may call the client, and a panic in one ends
/// nothing else. Who falls behind misses the oldest signals, and is [told](DBusChange::SignalsMissed).
///
/// # Connection
/// When the bus ends, the calls that wait fail at once, and the connection is made again by itself, later and later up to
/// 30 s; handlers and the token are brought along. When the service ends, the bus says so to those who wait for it; when
/// it comes back it is shown the token again, and calls wait for that. What a service says is believed only of the
/// connection that owns the service's name. What was asked of the service, such as `Subscribe` of `org.visorbus.Bus1`, ends
/// with it: who hears [`DBusChange::ServiceAppeared`] asks again. Dropping the last clone ends the connection; a handler that holds a clone
/// keeps it until it is taken back.
///
/// ```no_run
/// use visorbus_dbus::{DBusClient, MessageItem};
///
/// let client = DBusClient::new("org.visorbus.Bus1", "/org/visorbus/Bus1")?;
/// client.connect()?;
/// client.set_auth_token(visorbus_auth::AuthToken::new("vb1.…".parse()?)?)?;
/// let services = client.call_method("org.visorbus.Bus1", "ListServices", &[])?;
/// let version = client.get_property("org.visorbus.Bus1", "Version")?;
/// println!("{version:?}: {services:?}");
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Clone)]
pub struct DBusClient {
    handle: Arc<Handle>,
    object_path: Path<'static>,
}

/// How a client behaves, and which bus it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DBusClientConfig {
    /// The bus. By default that of the session.
    pub bus: BusAddress,
    /// How long to wait for an answer where the caller does not say. Default 5 s.
    pub timeout: Duration,
    /// Whether a lost connection is made again. Default true.
    pub reconnect: bool,
    /// Milliseconds until a lost bus is tried again, doubled up to 30 s. Default 200.
    pub retry_ms: u32,
    /// Calls at once that wait for their answers. Default 1024; further ones are refused.
    pub open_calls: usize,
    /// Signals that wait for their handlers. Default 1024; of more the oldest are lost.
    pub queued_signals: usize,
    /// Their bytes. Default 8 MiB.
    pub queued_bytes: usize,
}

impl Default for DBusClientConfig {
    fn default() -> Self {
        Self {
            bus: BusAddress::Session,
            timeout: Duration::from_secs(5),
            reconnect: true,
            retry_ms: 200,
            open_calls: 1024,
            queued_signals: 1024,
            queued_bytes: 8 << 20,
        }
    }
}

impl DBusClientConfig {
    /// The defaults, on `bus`.
    pub fn on(bus: BusAddress) -> Self {
        Self { bus, ..Self::default() }
    }
}

/// Whether a client is connected.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum DBusClientState {
    /// It is not, and shall not be.
    #[default]
    Idle,
    /// The first connection is being made.
    Connecting,
    /// It is.
    Connected {
        /// The name that the bus has given to the client.
        unique_name: String,
        /// The connection that owns the service's name; `None` while the service is not there.
        service: Option<String>,
        /// Whether that has accepted the client's token.
        authenticated: bool,
    },
    /// It was, and shall be again.
    Lost(Error),
}

/// What has changed between a client, its bus and its service.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DBusChange {
    /// The bus is reached, and knows of the signal handlers.
    Connected {
        /// The name that the bus has given to the client.
        unique_name: String,
    },
    /// The bus is gone. The text says why, and whether it is tried again.
    Lost(Error),
    /// The service is there, or another program has taken its place: `owner` is the connection that has its name.
    ServiceAppeared {
        /// The connection.
        owner: String,
    },
    /// The service is not there any more.
    ServiceGone,
    /// The service has accepted the token.
    Authenticated,
    /// The service has refused the token after it or the bus came back. Calls go on as those of this process's user.
    AuthenticationRefused(Error),
    /// The service has ended the client's session, and says why (`SessionEnded` of `org.visorbus.Bus1`): what the client
    /// subscribed to is forgotten, and from the next call on it is who its user is, until it shows a token.
    SessionEnded(String),
    /// The bus has refused a signal handler's rule after it came back: that handler hears nothing.
    HandlerRefused(Error),
    /// So many signals were lost because handlers were busy.
    SignalsMissed(u64),
}

impl DBusClient {
    /// A client of the object `object_path` of the service that owns `service_name` on the session bus, not connected yet.
    ///
    /// # Errors
    /// `Message` when one of them is none (D-Bus specification, "Valid Names" and "Valid Object Paths").
    pub fn new(service_name: &str, object_path: &str) -> Result<Self> {
        Self::with_config(service_name, object_path, DBusClientConfig::default())
    }

    /// As [`DBusClient::new`], with `config`.
    ///
    /// # Errors
    /// As [`DBusClient::new`].
    pub fn with_config(service_name: &str, object_path: &str, config: DBusClientConfig) -> Result<Self> {
        let service = name(service_name, "name of a service", BusName::new)?;
        let object_path = path(object_path)?;
        let shared = Arc::new(Shared::new(service, object_path.clone(), config));
        Ok(Self { handle: Arc::new(Handle { shared }), object_path })
    }

    /// Reaches the bus, has it tell of the signals that there are handlers for, and shows the token, if there is one, to the
    /// service, if it is there. A service that is not there is no error: it may be started by the first call, and is noticed
    /// when it comes. Nothing to do where the client is connected.
    ///
    /// # Errors
    /// `Connection` when the bus cannot be reached, `Authentication` and others when the service refuses the token,
    /// `Timeout` when it takes longer than [`DBusClientConfig::timeout`]. A client that was not connected before is not
    /// afterwards; one that has lost its bus tries on.
    pub fn connect(&self) -> Result<()> {
        worker::connect(&self.handle.shared)
    }

    /// Leaves the bus. Calls that wait fail; handlers and the token are kept for the next [`DBusClient::connect`].
    pub fn disconnect(&self) {
        self.handle.shared.disconnect(true);
    }

    /// Whether it is connected.
    pub fn state(&self) -> DBusClientState {
        self.handle.shared.state()
    }

    /// The name of the service.
    pub fn service_name(&self) -> &str {
        self.handle.shared.service()
    }

    /// The object that is called.
    pub fn object_path(&self) -> &str {
        &self.object_path
    }

    /// The same client for another object of the service.
    ///
    /// # Errors
    /// `Message` when `object_path` is none.
    pub fn object(&self, object_path: &str) -> Result<Self> {
        Ok(Self { handle: Arc::clone(&self.handle), object_path: path(object_path)? })
    }

    /// Shows the service a token, now and whenever it or the bus comes back (`Authenticate` of `org.visorbus.Bus1`). While
    /// the service is not there, or the client is not connected, the token is only kept.
    ///
    /// Whoever owns the service's name gets to see the token: on the session bus any program of the user can take a name
    /// that is free.
    ///
    /// # Errors
    /// What the service refuses it with; then the token from before stays. `Authentication` when there is no token in it.
    pub fn set_auth_token(&self, token: AuthToken) -> Result<()> {
        token.check_shown()?;
        self.handle.shared.show(token.value)
    }

    /// Forgets the token: from the next connection, or the service's next start on, the client is who its user is.
    pub fn clear_auth_token(&self) {
        self.handle.shared.forget_token();
    }

    /// Calls a method and waits for what it gives back, for at most [`DBusClientConfig::timeout`].
    ///
    /// # Errors
    /// What the service refuses it with: its text begins with the D-Bus name of the error, which also says its kind.
    /// `Connection` when there is no bus or no service, or it ends before it has answered. `Timeout`. `Message` when a name
    /// or an argument is none, or too many calls wait. `Serialization` when what came back cannot be read.
    pub fn call_method(
        &self,
        interface_name: &str,
        method_name: &str,
        args: &[MessageItem],
    ) -> Result<Vec<MessageItem>> {
        let timeout = self.handle.shared.config().timeout;
        self.call_method_with_timeout(interface_name, method_name, args, timeout)
    }

    /// As [`DBusClient::call_method`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`DBusClient::call_method`].
    pub fn call_method_with_timeout(
        &self,
        interface_name: &str,
        method_name: &str,
        args: &[MessageItem],
        timeout: Duration,
    ) -> Result<Vec<MessageItem>> {
        let (interface, method) = (interface(interface_name)?, member(method_name)?);
        let shared = &self.handle.shared;
        let mut message = Message::method_call(shared.service(), &self.object_path, &interface, &method);
        guarded(|| types::append(&mut message, args))?.map_err(|unfit| {
            Error::Message(format!("the arguments of {interface_name}.{method_name}: {unfit}"))
        })?;
        arguments(&shared.call(message, To::Service, timeout)?)
    }

    /// The value of a property.
    ///
    /// # Errors
    /// As [`DBusClient::call_method`].
    pub fn get_property(&self, interface_name: &str, property_name: &str) -> Result<MessageItem> {
        let asked = [interface_name.into(), property_name.into()];
        match self.call_method(PROPERTIES, "Get", &asked)?.pop() {
            Some(MessageItem::Variant(value)) => Ok(*value),
            other => Err(Error::Serialization(format!(
                "the property {property_name} of {interface_name} came as {other:?} instead of a variant"
            ))),
        }
    }

    /// Changes a property.
    ///
    /// # Errors
    /// As [`DBusClient::call_method`].
    pub fn set_property(&self, interface_name: &str, property_name: &str, value: MessageItem) -> Result<()> {
        let value = MessageItem::Variant(Box::new(value));
        self.call_method(PROPERTIES, "Set", &[interface_name.into(), property_name.into(), value]).map(|_| ())
    }

    /// Has `handler` called with each signal `signal_name` of `interface_name` that the service's object, or one below it,
    /// sends: to everybody, or to this client alone. An empty `signal_name` is every signal of the interface.
    /// [`signal_args`](Self::signal_args) reads what one carries. Gives back what
    /// [`DBusClient::unregister_signal_handler`] takes.
    ///
    /// # Errors
    /// `Message` when a name is none; what the bus refuses the rule with, then there is no such handler; `Timeout` when the
    /// bus does not answer.
    pub fn register_signal_handler<F>(
        &self,
        interface_name: &str,
        signal_name: &str,
        handler: F,
    ) -> Result<u64>
    where
        F: Fn(&Message) + Send + Sync + 'static,
    {
        let select = Select {
            path: self.object_path.clone(),
            interface: interface(interface_name)?,
            member: if signal_name.is_empty() { None } else { Some(member(signal_name)?) },
        };
        self.handle.shared.add_handler(Handler::signals(select, Box::new(handler)))
    }

    /// Has `handler` called with each change of the connection and the service, on the thread of the signal handlers. Gives
    /// back what [`DBusClient::unregister_signal_handler`] takes.
    ///
    /// # Errors
    /// `Internal` when the thread cannot be started.
    pub fn on_change<F>(&self, handler: F) -> Result<u64>
    where
        F: Fn(&DBusChange) + Send + Sync + 'static,
    {
        self.handle.shared.add_handler(Handler::changes(Box::new(handler)))
    }

    /// Takes a handler back. It is not called again; a call that runs may run to its end. A handler may take back itself.
    ///
    /// # Errors
    /// `Message` when there is none of this id.
    pub fn unregister_signal_handler(&self, handler_id: u64) -> Result<()> {
        self.handle.shared.remove_handler(handler_id)
    }

    /// What a signal carries. It refuses file descriptors and what is nested too deep, which the accessors of [`Message`]
    /// itself may panic on.
    ///
    /// # Errors
    /// `Serialization` for those.
    pub fn signal_args(signal: &Message) -> Result<Vec<MessageItem>> {
        arguments(signal)
    }
}

impl std::fmt::Debug for DBusClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DBusClient")
            .field("service_name", &self.service_name())
            .field("object_path", &self.object_path())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// What the clones of a client have in common; the threads hold only what is in it.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What a message carries.
fn arguments(message: &Message) -> Result<Vec<MessageItem>> {
    let what = if message.msg_type() == MessageType::Signal { "signal" } else { "answer" };
    guarded(|| types::read_items(message))?
        .map_err(|unfit| Error::Serialization(format!("the {what} cannot be read: {unfit}")))
}

/// Runs what touches libdbus's arguments: a panic in it is an error.
fn guarded<T>(touch: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(touch))
        .map_err(|_| Error::Internal("libdbus has failed on the arguments of a message".to_owned()))
}

fn path(text: &str) -> Result<Path<'static>> {
    name(text, "path of an object", Path::new)
}

fn interface(text: &str) -> Result<Interface<'static>> {
    name(text, "name of an interface", Interface::new)
}

fn member(text: &str) -> Result<Member<'static>> {
    name(text, "name of a member", Member::new)
}

/// Reads a name. The crate's own check ends at a zero byte.
fn name<T>(text: &str, what: &str, read: impl FnOnce(String) -> std::result::Result<T, String>) -> Result<T> {
    let read = if text.contains('\0') { None } else { read(text.to_owned()).ok() };
    read.ok_or_else(|| Error::Message(format!("{text:?} is no {what}")))
}

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
