//! `visorbus serve`: a hub on a socket, with boards on serial lines and SPI buses, until a signal ends it.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::thread;

use nix::sys::signal::SigSet;
use visorbus_auth::KeyFile;
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Result};
use visorbus_mcu::{BoardKeys, NoBoardKeys, SerialPort, SpiPort};
use visorbus_unix::UnixSocketListener;

use crate::{args, interrupt};

/// Runs the hub.
pub(crate) fn run(args: &args::Serve) -> Result<()> {
    let signals = interrupt::block()?;
    let keys =
        KeyFile::open_or_create(args.place.key_file()).map_err(|e| Error::Authentication(e.to_string()))?;
    let socket = args.place.socket();
    let listener = match args.socket_group {
        Some(group) => UnixSocketListener::bind_for_group(&socket, group.as_raw())?,
        None => UnixSocketListener::bind(&socket)?,
    };
    let hub = Hub::new(HubConfig::new(keys.ring(), keys.current_id()))?;
    let handle = hub.handle();
    let runner = thread::Builder::new()
        .name("visorbus-hub".to_owned())
        .spawn(move || hub.run())
        .map_err(|e| Error::Internal(format!("no thread for the hub: {e}")))?;
    handle.listen(Box::new(listener))?;
    let boards: Arc<dyn BoardKeys> = Arc::new(NoBoardKeys);
    for spec in &args.serial {
        handle.attach(Box::new(SerialPort::new(spec.clone(), Arc::clone(&boards))))?;
    }
    for spec in &args.spi {
        handle.attach(Box::new(SpiPort::new(spec.clone(), Arc::clone(&boards))))?;
    }
    let hint = if stderr().is_terminal() { "; Ctrl-C ends it" } else { "" };
    eprintln!("visorbus serves on {}, keys in {}{hint}", socket.display(), keys.path().display());
    stop_on_signal(signals, handle);
    runner.join().map_err(|_| Error::Internal("the hub panicked; its message stands above".to_owned()))?
}

/// Stops the hub at the first signal and the process at the second.
fn stop_on_signal(signals: SigSet, handle: HubHandle) {
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            tracing::info!("{signal}: saying goodbye to all peers");
            handle.stop();
        }
        if signals.wait().is_ok() {
            std::process::exit(crate::output::INTERRUPTED.into());
        }
    });
}
