//! Running as a systemd service: sockets that it has opened already, and telling it how the daemon is. Knows nothing of
//! what the daemon does; without systemd everything here does nothing.
//!
//! ```no_run
//! use visorbus::systemd::{Inherited, Notifier};
//! use visorbus_hub::{HubHandle, Result};
//! use visorbus_unix::UnixSocketListener;
//!
//! fn serve(hub: &HubHandle) -> Result<()> {
//!     // First of all, before the first thread.
//!     let mut sockets = Inherited::take()?;
//!     let systemd = Notifier::from_environment();
//!     match sockets.unix() {
//!         Some(socket) => hub.listen(Box::new(UnixSocketListener::from_inherited(socket)?))?,
//!         None => hub.listen(Box::new(UnixSocketListener::bind("/run/visorbus/bus.sock")?))?,
//!     };
//!     sockets.refuse_unused()?;
//!     let _watchdog = systemd.watchdog(hub)?;
//!     systemd.ready("serves on /run/visorbus/bus.sock");
//!     // Then, as it happens: reloading() … ready(), status(), and stopping() last.
//!     systemd.stopping();
//!     Ok(())
//! }
//! ```

use std::fmt::Display;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use visorbus_hub::{Error, HubHandle, Result};

/// The sockets that systemd opened for this process (sd_listen_fds(3)), by the names that `FileDescriptorName=` gave them:
/// `unix` for the hub's Unix socket, `websocket` for the port of the WebSockets.
#[derive(Debug, Default)]
pub struct Inherited {
    unix: Option<UnixListener>,
    websocket: Option<TcpListener>,
}

impl Inherited {
    /// Takes what was handed over, once: `LISTEN_PID` and `LISTEN_FDS` leave the environment, so this is to be called before
    /// the first thread starts.
    ///
    /// # Errors
    /// `Message` when a socket has another name or is not what its name says, or two have one name.
    pub fn take() -> Result<Self> {
        // This looks at every descriptor, so that from here on there are as many as it says.
        let names = sd_notify::listen_fds_with_names().map_err(|e| broken(&e))?;
        let names: Vec<String> = names.map(|(_, name)| name).collect();
        let mut sockets = if names.is_empty() { ListenFd::empty() } else { ListenFd::from_env() };
        let mut inherited = Self::default();
        for (index, name) in names.iter().enumerate() {
            let taken = match name.as_str() {
                UNIX if inherited.unix.is_none() => {
                    sockets.take_unix_listener(index).map(|socket| inherited.unix = socket)
                }
                WEBSOCKET if inherited.websocket.is_none() => {
                    sockets.take_tcp_listener(index).map(|socket| inherited.websocket = socket)
                }
                UNIX | WEBSOCKET => return Err(broken(&format!("two of them are called '{name}'"))),
                other => return Err(broken(&format!("one of them is called '{}'", other.escape_default()))),
            };
            taken.map_err(|e| broken(&format!("'{name}': {e}")))?;
        }
        Ok(inherited)
    }

    /// The socket for the hub's clients on this machine.
    pub fn unix(&mut self) -> Option<UnixListener> {
        self.unix.take()
    }

    /// The socket for WebSockets.
    pub fn websocket(&mut self) -> Option<TcpListener> {
        self.websocket.take()
    }

    /// Sees that nobody waits at a socket that nothing serves: callers would hang there.
    ///
    /// # Errors
    /// `Message` names the socket that was not taken.
    pub fn refuse_unused(&self) -> Result<()> {
        let unused = match (&self.unix, &self.websocket) {
            (Some(_), _) => UNIX,
            (None, Some(_)) => WEBSOCKET,
            (None, None) => return Ok(()),
        };
        Err(Error::Message(format!(
            "systemd handed over a socket '{unused}', but the configuration has that switched off: switch it on, or disable \
             the socket's unit"
        )))
    }
}

/// Tells systemd how the daemon is (sd_notify(3)). Cloning it is cheap.
///
/// What cannot be told is logged and else left at that: the daemon runs on.
#[derive(Debug, Clone, Default)]
pub struct Notifier(());

impl Notifier {
    /// For the service manager that `NOTIFY_SOCKET` names; where there is none, nothing is told.
    pub fn from_environment() -> Self {
        Self(())
    }

    /// It serves from now on, or again after [`Notifier::reloading`]; `status` says what, for `systemctl status`.
    pub fn ready(&self, status: &str) {
        notify(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
    }

    /// It reads its configuration again; [`Notifier::ready`] is to follow.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("systemd was not told of the reload: {error}"),
        }
    }

    /// It ends from now on.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    }

    /// What it does, in a line, for `systemctl status`. Control characters become spaces, and what is too long is cut off.
    pub fn status(&self, status: &str) {
        notify(&[NotifyState::Status(&line(status))]);
    }

    /// Where the unit has `WatchdogSec=`, tells systemd that the hub lives for as long as it does: each time the hub's own
    /// loop has answered. A hub that hangs, in a handler for example, is so killed and started again.
    ///
    /// # Errors
    /// `Internal` when there is no thread for it.
    pub fn watchdog(&self, hub: &HubHandle) -> Result<Option<Watchdog>> {
        let Some(patience) = sd_notify::watchdog_enabled() else { return Ok(None) };
        let (stop, stopped) = channel();
        let hub = hub.clone();
        thread::Builder::new()
            .name("visorbus-watchdog".to_owned())
            .spawn(move || follow(&hub, patience / 2, &stopped))
            .map_err(|e| Error::Internal(format!("no thread for the watchdog: {e}")))?;
        Ok(Some(Watchdog { _stop: stop }))
    }
}

/// Says that the hub lives, until it is dropped or the hub ends.
#[derive(Debug)]
pub struct Watchdog {
    /// Its end tells the thread, which may wait for a hub that hangs and so is not waited for itself.
    _stop: Sender<()>,
}

fn follow(hub: &HubHandle, pause: Duration, stopped: &Receiver<()>) {
    // Only the hub's own thread knows its connections: to have them told is to have seen it take a turn.
    while hub.peers().is_ok() {
        notify(&[NotifyState::Watchdog]);
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd was not told how the daemon is: {error}");
    }
}

/// `text` as one line: another would be another message to systemd.
fn line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).take(LONGEST_STATUS).collect()
}

fn broken(why: &dyn Display) -> Error {
    Error::Message(format!(
        "cannot use the sockets that systemd handed over: {why}; a socket's unit names it by FileDescriptorName={UNIX} \
         (a Unix socket) or FileDescriptorName={WEBSOCKET} (a TCP port), one each"
    ))
}

const UNIX: &str = "unix";
const WEBSOCKET: &str = "websocket";
/// In characters; a datagram to systemd has room for far more.
const LONGEST_STATUS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_whatever_is_in_it() {
        assert_eq!(line("serves\nMAINPID=1\r\0"), "serves MAINPID=1  ");
        assert_eq!(line(&"ä".repeat(10_000)).chars().count(), LONGEST_STATUS);
    }

    #[test]
    fn a_socket_that_nothing_serves_is_refused_by_name() {
        assert_eq!(Inherited::default().refuse_unused(), Ok(()));
        let mut one = Inherited { websocket: Some(TcpListener::bind("127.0.0.1:0").unwrap()), unix: None };
        assert!(one.refuse_unused().unwrap_err().text().contains("'websocket'"));
        assert!(one.websocket().is_some());
        assert_eq!(one.refuse_unused(), Ok(()));
    }
}
