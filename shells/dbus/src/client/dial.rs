//! Coming to a bus.

use dbus::channel::Channel;
use visorbus_hub::{Error, Result};

use crate::config::BusAddress;

/// Connects to the bus and says hello. Waits, for at most the 25 s that libdbus gives a bus to answer.
pub(super) fn dial(bus: &BusAddress) -> Result<Channel> {
    let unreachable = |text: &str| Error::Connection(format!("{bus} cannot be reached: {text}"));
    let address = address(bus).ok_or_else(|| {
        unreachable("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR says where it is")
    })?;
    if address.contains('\0') {
        return Err(unreachable("its address has a zero byte in it"));
    }
    let text = |error: dbus::Error| unreachable(error.message().unwrap_or("libdbus does not say why"));
    let mut channel = Channel::open_private(&address).map_err(text)?;
    channel.register().map_err(text)?;
    channel.set_watch_enabled(true);
    Ok(channel)
}

/// Where a bus is (D-Bus specification, "Well-known Message Bus Instances"); nothing is started for it.
fn address(bus: &BusAddress) -> Option<String> {
    let told = |variable| std::env::var(variable).ok().filter(|address| !address.is_empty());
    match bus {
        BusAddress::Address(address) => Some(address.clone()),
        BusAddress::System => Some(
            told("DBUS_SYSTEM_BUS_ADDRESS")
                .unwrap_or_else(|| "unix:path=/var/run/dbus/system_bus_socket".to_owned()),
        ),
        BusAddress::Session => told("DBUS_SESSION_BUS_ADDRESS")
            .or_else(|| told("XDG_RUNTIME_DIR").map(|directory| format!("unix:path={directory}/bus"))),
    }
}
