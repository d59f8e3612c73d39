//! `visorbus serve`: a hub on a socket, with boards on serial lines and SPI buses, until a signal ends it.

use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use visorbus::StoredBoardKeys;
use visorbus_auth::{Accounts, AuthorizationProvider, KeyFile, Policy};
use visorbus_dbus::DBusDoor;
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Result};
use visorbus_mcu::{BoardKeys, SerialPort, SpiPort};
use visorbus_unix::UnixSocketListener;
use visorbus_websocket::{Door, WebSocketListener};

use crate::reload::count;
use crate::{args, interrupt};

/// Runs the hub.
pub(crate) fn run(args: &args::Serve) -> Result<()> {
    let signals = interrupt::block()?;
    let place = &args.place.place;
    let is_first = !place.has_keys();
    let keys = KeyFile::open_or_create(place.key_file()).map_err(|e| Error::Authentication(e.to_string()))?;
    let store = Arc::new(if is_first { place.first_store()? } else { place.store()? });
    let policy = Arc::new(args.place.policy()?);
    let websockets = args.websocket.bind(place)?;
    let socket = place.socket();
    let listener = match args.socket_group {
        Some(group) => UnixSocketListener::bind_for_group(&socket, group)?,
        None => UnixSocketListener::bind(&socket)?,
    };
    let door = websockets.as_ref().map(WebSocketListener::door);
    let accounts = Arc::new(Accounts::new(Arc::clone(&store), keys, Arc::clone(&policy)));
    let hub =
        Hub::new(HubConfig::with_providers(accounts, Arc::clone(&policy) as Arc<dyn AuthorizationProvider>))?;
    let handle = hub.handle();
    let runner = thread::Builder::new()
        .name("visorbus-hub".to_owned())
        .spawn(move || hub.run())
        .map_err(|e| Error::Internal(format!("no thread for the hub: {e}")))?;
    handle.listen(Box::new(listener))?;
    if let Some(websockets) = websockets {
        handle.listen(Box::new(websockets))?;
    }
    let bus = args.dbus.join(&handle)?;
    let boards: Arc<dyn BoardKeys> = Arc::new(StoredBoardKeys::new(store));
    for spec in &args.serial {
        handle.attach(Box::new(SerialPort::new(spec.clone(), Arc::clone(&boards))))?;
    }
    for spec in &args.spi {
        handle.attach(Box::new(SpiPort::new(spec.clone(), Arc::clone(&boards))))?;
    }
    let hint = if stderr().is_terminal() { "; Ctrl-C ends it" } else { "" };
    eprintln!(
        "visorbus serves on {}{}{}, keys in {}, accounts in {}, {}{hint}",
        socket.display(),
        door.as_ref().map(|door| format!(" and {}", door.url())).unwrap_or_default(),
        bus.as_ref().map(show_bus).unwrap_or_default(),
        place.key_file().display(),
        place.store_file().display(),
        show_policy(&policy)
    );
    if let Some(url) = door.as_ref().and_then(|door| args.websocket.dashboard_url(&door.url())) {
        eprintln!(
            "visorbus: the dashboard is at {url}; `visorbus auth token mint` makes a token to log in with"
        );
    }
    follow_signals(signals, handle, policy, door);
    runner.join().map_err(|_| Error::Internal("the hub panicked; its message stands above".to_owned()))?
}

/// Has SIGHUP read accounts, keys, policy and certificates again, the first other signal stop the hub, the second end the process.
fn follow_signals(signals: SigSet, handle: HubHandle, policy: Arc<Policy>, door: Option<Door>) {
    let had_terminal = has_terminal();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            // A terminal that is closed says so by the same signal; its hub ends with it.
            let hung_up = had_terminal && !has_terminal();
            if signal == Signal::SIGHUP && !hung_up {
                reload(&handle, &policy);
                reload_certificates(door.as_ref().filter(|door| door.url().starts_with("wss:")));
                continue;
            }
            tracing::info!("{signal}: saying goodbye to all peers");
            handle.stop();
            break;
        }
        if signals.wait().is_ok() {
            std::process::exit(crate::output::INTERRUPTED.into());
        }
    });
}

fn reload(handle: &HubHandle, policy: &Policy) {
    match handle.reload() {
        Ok(ended) => eprintln!(
            "visorbus: accounts and keys are read again, {}: {}",
            show_policy(policy),
            count(&ended)
        ),
        Err(error) => eprintln!("visorbus: what cannot be read again stays as it was: {}", error.text()),
    }
}

fn reload_certificates(door: Option<&Door>) {
    match door.map(Door::reload_tls) {
        Some(Ok(())) => eprintln!("visorbus: the certificates are read again, for new connections"),
        Some(Err(error)) => eprintln!("visorbus: the certificates stay as they were: {}", error.text()),
        None => {}
    }
}

/// Where the policy is and how much it says.
fn show_policy(policy: &Policy) -> String {
    let file = policy.path().display();
    match policy.rules().len() {
        0 => format!("no rules in {file}"),
        1 => format!("1 rule in {file}"),
        rules => format!("{rules} rules in {file}"),
    }
}

/// Whether this process belongs to a terminal that is still there.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Which name the hub asks for, and on which bus.
fn show_bus(bus: &DBusDoor) -> String {
    let state = bus.state();
    format!(" and as {} on {}", state.service_name, state.bus)
}
