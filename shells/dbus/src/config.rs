//! Which bus, under which name, and what one of its programs may cost.

use std::str::FromStr;

/// Where a service stands on a bus. By default: `org.visorbus.Bus1` at `/org/visorbus/Bus1` on the session bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DBusConfig {
    /// The bus.
    pub bus: BusAddress,
    /// The well-known name that the service asks for.
    pub service_name: String,
    /// The object that stands for the hub; those of components are below it.
    pub object_path: String,
    /// Programs of the bus at once that the hub keeps anything of. Default 1024; for a further one, the one that has
    /// been silent for longest and has neither a session nor a call is forgotten, else its call is refused. Those of one
    /// user are a quarter at most, and half those of whom the bus has yet to say whose they are.
    pub max_senders: usize,
    /// Calls of one program at once that wait for their answers. Default 256; further ones are refused.
    pub calls_per_sender: usize,
    /// Bytes at once that wait for the bus to take them, behind the message that it is just taking. Default 4 MiB; from there
    /// on nothing more is read from the bus until half of them are gone, and signals wait in their subscribers' queues.
    pub output_bytes: usize,
    /// Milliseconds until a bus that is not there is tried again, doubled up to 30 s. Default 500.
    pub retry_ms: u32,
}

impl Default for DBusConfig {
    fn default() -> Self {
        Self {
            bus: BusAddress::Session,
            service_name: "org.visorbus.Bus1".to_owned(),
            object_path: "/org/visorbus/Bus1".to_owned(),
            max_senders: 1024,
            calls_per_sender: 256,
            output_bytes: 4 << 20,
            retry_ms: 500,
        }
    }
}

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BusAddress {
    /// That of the login session, as `DBUS_SESSION_BUS_ADDRESS` says.
    #[default]
    Session,
    /// That of the machine.
    System,
    /// A server address, such as `unix:path=/run/user/1000/bus` (D-Bus specification, "Server Addresses").
    Address(String),
}

impl FromStr for BusAddress {
    type Err = String;

    /// Reads `session`, `system` or a server address.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "session" => Ok(Self::Session),
            "system" => Ok(Self::System),
            address if address.contains(':') => Ok(Self::Address(address.to_owned())),
            _ => Err(format!(
                "'{text}' is no bus: say session, system or an address such as unix:path=/run/user/1000/bus"
            )),
        }
    }
}

impl std::fmt::Display for BusAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session => f.write_str("the session bus"),
            Self::System => f.write_str("the system bus"),
            Self::Address(address) => write!(f, "the bus at {address}"),
        }
    }
}
