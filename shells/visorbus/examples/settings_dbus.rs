//! A setting over D-Bus: reads it, changes it where a value is given, and prints what anybody changes from then on.
//!
//! ```text
//! settings_dbus BUS display brightness [NUMBER]        BUS: session, system, or an address such as unix:path=…
//! ```
//!
//! Who this program is, the bus tells the hub; where the policy knows that user by a token alone, it is shown in VISORBUS_TOKEN.

use std::env;
use std::thread;

use visorbus_auth::AuthToken;
use visorbus_dbus::{BusAddress, DBusClient, DBusClientConfig, MessageItem};
use visorbus_hub::{Error, Result};

const INTERFACE: &str = "org.visorbus.Config1";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [bus, category, key, value @ ..] = &arguments[..] else {
        return Err(Error::Message("say BUS CATEGORY KEY, and a number to set it to".to_owned()));
    };
    let bus: BusAddress = bus.parse().map_err(Error::Message)?;
    let config = DBusClientConfig::on(bus);
    let client = DBusClient::with_config("org.visorbus.Bus1", "/org/visorbus/Bus1", config)?;
    client.connect()?;
    if let Ok(token) = env::var("VISORBUS_TOKEN") {
        let token =
            token.parse().map_err(|e| Error::Authentication(format!("VISORBUS_TOKEN is no token: {e}")))?;
        client.set_auth_token(AuthToken::new(token)?)?;
    }

    client.register_signal_handler(INTERFACE, "ConfigChanged", |signal| {
        if let Ok([MessageItem::Str(category), MessageItem::Str(key), value]) =
            DBusClient::signal_args(signal).as_deref()
        {
            println!("{category}.{key} is now {value:?}");
        }
    })?;
    let setting = [MessageItem::from(category.as_str()), MessageItem::from(key.as_str())];
    println!("{category}.{key} is {:?}", client.call_method(INTERFACE, "GetValue", &setting)?);
    if let [number] = value {
        let number: i64 = number.parse().map_err(|e| Error::Message(format!("'{number}': {e}")))?;
        let value = MessageItem::Variant(Box::new(number.into()));
        client.call_method(INTERFACE, "SetValue", &[&setting[..], &[value]].concat())?;
    }
    loop {
        thread::park();
    }
}
