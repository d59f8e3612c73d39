//! Coming to a bus: where it is, and a thread that connects to it, because that waits for the bus.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use dbus::channel::Channel;
use nix::sys::eventfd::EventFd;

use crate::config::BusAddress;

/// Connects on a thread of its own, which wakes whoever waits for it once it knows. What comes of it when nobody waits any
/// longer is dropped.
pub(super) fn dial(bus: &BusAddress, waker: Arc<EventFd>) -> Receiver<Result<Channel, String>> {
    let address = address(bus);
    run(move || address.and_then(|address| connect(&address)), waker)
}

/// Has a thread connect. When it breaks down over that, whoever waits is woken too, and finds that nobody will say anything.
pub(super) fn run(
    connect: impl FnOnce() -> Result<Channel, String> + Send + 'static,
    waker: Arc<EventFd>,
) -> Receiver<Result<Channel, String>> {
    let (sender, receiver) = sync_channel(1);
    let outcome = sender.clone();
    let run = move || {
        let _wakes = Wakes(waker);
        // Dropped before it wakes.
        let outcome = outcome;
        let _ = outcome.send(connect());
    };
    if let Err(error) = thread::Builder::new().name("visorbus-dial".to_owned()).spawn(run) {
        let _ = sender.send(Err(format!("there is no thread to connect on: {error}")));
    }
    receiver
}

/// Wakes whoever waits when it goes.
struct Wakes(Arc<EventFd>);

impl Drop for Wakes {
    fn drop(&mut self) {
        // It fails only when they are awake already.
        let _ = self.0.write(1);
    }
}

/// Connects to a bus, and waits for that: for at most the 25 s that libdbus gives a bus to answer.
pub(crate) fn connect_to(bus: &BusAddress) -> Result<Channel, String> {
    address(bus).and_then(|address| connect(&address))
}

/// The server address of a bus, as the specification has it found ("Well-known Message Bus Instances"). Nothing is started
/// for it.
fn address(bus: &BusAddress) -> Result<String, String> {
    let told = |variable| std::env::var(variable).ok().filter(|address| !address.is_empty());
    match bus {
        BusAddress::Address(address) => Ok(address.clone()),
        BusAddress::System => Ok(told("DBUS_SYSTEM_BUS_ADDRESS")
            .unwrap_or_else(|| "unix:path=/var/run/dbus/system_bus_socket".to_owned())),
        BusAddress::Session => {
            let usual = || told("XDG_RUNTIME_DIR").map(|directory| format!("unix:path={directory}/bus"));
            told("DBUS_SESSION_BUS_ADDRESS").or_else(usual).ok_or_else(|| {
                "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR says where it is".to_owned()
            })
        }
    }
}

/// A connection that the bus has given a name to.
fn connect(address: &str) -> Result<Channel, String> {
    // libdbus would start programs for these.
    if ["autolaunch:", "unixexec:"].iter().any(|scheme| address.contains(scheme)) {
        return Err(format!("'{address}' would start a program: give the address of a bus that runs"));
    }
    if address.contains('\0') {
        return Err("its address has a NUL in it".to_owned());
    }
    let text = |error: dbus::Error| error.message().unwrap_or("libdbus does not say why").to_owned();
    let mut channel = Channel::open_private(address).map_err(text)?;
    channel.register().map_err(text)?;
    channel.set_watch_enabled(true);
    Ok(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_starts_programs_is_refused() {
        for address in ["autolaunch:", "unix:path=/nowhere;unixexec:path=/bin/true"] {
            assert!(connect(address).unwrap_err().contains("would start a program"), "{address}");
        }
    }
}
