//! What a manager does while it runs: follow its configuration, and what others ask of it.

use std::thread;
use std::time::Duration;

use visorbus_hub::{Error, Result};
use visorbus_services::config::ConfigValues;

use super::control::Request;
use super::reload::{Refused, Reloaded};
use super::running::Running;
use super::{IpcManager, not_running};
use crate::settings::Settings;

/// What a manager tells of while it serves.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ManagerEvent<'e> {
    /// It begins to read everything again.
    Reloading,
    /// It has read everything again.
    Reloaded(&'e Reloaded),
    /// Settings were changed while it runs, and it has followed.
    Changed(&'e Reloaded),
    /// It ends from now on.
    Stopping,
}

impl IpcManager {
    /// Serves until somebody has it [end](super::ManagerControl::shutdown), which `manager/shutdown` does too; then
    /// [shuts down](IpcManager::shutdown). Meanwhile it follows settings that are changed, and reads everything again when it
    /// is asked to. `tell` hears of that, on this thread, which waits for it.
    ///
    /// # Errors
    /// `Connection` when it was not [initialized](IpcManager::initialize); why the hub has ended by itself; as
    /// [`IpcManager::shutdown`].
    pub fn serve(&mut self, mut tell: impl FnMut(ManagerEvent<'_>)) -> Result<()> {
        let number = self.running.as_ref().ok_or_else(not_running)?.number;
        self.requests.open();
        let ended = loop {
            match self.requests.next() {
                Some(Request::Apply) => {
                    let mut changed = Reloaded::default();
                    self.follow(&mut changed);
                    if changed != Reloaded::default() {
                        tell(ManagerEvent::Changed(&changed));
                    }
                    self.retire_later();
                }
                Some(Request::Reload(answer)) => {
                    tell(ManagerEvent::Reloading);
                    let reloaded = self.read_again()?;
                    tell(ManagerEvent::Reloaded(&reloaded));
                    // Whoever asked may have gone.
                    let _ = answer.try_send(reloaded);
                    self.retire_later();
                }
                Some(Request::Ended(hub)) if hub == number => {
                    break self.running.as_mut().map_or(Ok(()), Running::take_outcome);
                }
                Some(Request::Ended(_)) => {}
                Some(Request::Shutdown) | None => break Ok(()),
            }
        };
        self.requests.close();
        tell(ManagerEvent::Stopping);
        ended.and(self.shutdown())
    }

    /// Reads the configuration, accounts, keys, policy and certificates again, and follows what has changed. What is wrong
    /// stays as it was, whatever else is taken over.
    ///
    /// # Errors
    /// `Connection` when the manager does not run.
    pub fn reload(&mut self) -> Result<Reloaded> {
        let reloaded = self.read_again();
        if let Some(running) = &mut self.running {
            running.retire();
        }
        reloaded
    }

    /// As [`IpcManager::reload`]; whatever is replaced is still there when this returns.
    fn read_again(&mut self) -> Result<Reloaded> {
        let hub = self.handle()?;
        let mut reloaded = Reloaded::default();
        if let Err(error) = self.config.reload() {
            reloaded.refused.push(Refused::new("configuration", error));
        }
        match hub.reload() {
            Ok(ended) => reloaded.ended = ended,
            Err(error) => reloaded.refused.push(Refused::new("accounts", error.text())),
        }
        let served = self.running.as_ref().and_then(|running| running.ways.websocket.as_ref());
        let over_tls = served.filter(|_| self.settings.websocket.tls_enabled);
        if let Some(Err(error)) = over_tls.map(|server| server.reload_tls()) {
            reloaded.refused.push(Refused::new("certificates", error.text()));
        }
        if let Some(Err(error)) = self.log.as_ref().map(|log| log.apply(&self.settings.log)) {
            reloaded.refused.push(Refused::new("log", error.text()));
        }
        self.follow(&mut reloaded);
        Ok(reloaded)
    }

    /// Ends what has been replaced once whoever has brought that about, perhaps by that very way, has the answer.
    fn retire_later(&mut self) {
        if let Some(running) = self.running.as_mut().filter(|running| running.has_replaced()) {
            thread::sleep(GRACE);
            running.retire();
        }
    }

    /// Takes over the settings that hold otherwise by now.
    fn follow(&mut self, reloaded: &mut Reloaded) {
        let values = self.config.values();
        match Settings::of(&values) {
            Ok(settings) => self.follow_to(&settings, &values, reloaded),
            Err(error) => reloaded.refused.push(Refused::new("configuration", error)),
        }
        self.pending = reloaded.clone();
        self.publish_status();
    }

    fn follow_to(&mut self, settings: &Settings, values: &ConfigValues, reloaded: &mut Reloaded) {
        let mut in_force = std::mem::take(&mut self.in_force);
        for category in values.schema().categories() {
            let name = category.name();
            let changed = in_force.changed(name, values);
            if changed.is_empty() {
                continue;
            }
            if AT_RESTART.contains(&name) {
                reloaded.at_restart.extend(changed);
                continue;
            }
            match self.take_over(name, settings) {
                Ok(()) => {
                    in_force.take(name, values);
                    reloaded.applied.extend(changed);
                }
                Err(error) => reloaded.refused.push(Refused::new(name, error.text())),
            }
        }
        self.in_force = in_force;
    }

    /// Has one category hold as `new` says; where that fails all of it stays as it was.
    fn take_over(&mut self, category: &str, new: &Settings) -> Result<()> {
        let Some(running) = &mut self.running else { return Err(not_running()) };
        let old = &mut self.settings;
        match category {
            "unix_socket" => {
                let hub = running.handle();
                let same_place =
                    self.inherited.unix.is_some() || old.unix_socket.path == new.unix_socket.path;
                let clashes = same_place && new.unix_socket.enabled;
                let serve = |settings: &Settings| self.inherited.serve_unix(&settings.unix_socket, &hub);
                let before = replace(&mut running.ways.unix, clashes, serve, old, new)?;
                before.into_iter().for_each(|server| running.replaced(Box::new(server)));
                old.unix_socket = new.unix_socket.clone();
            }
            "websocket" => {
                let (hub, pages) = (running.handle(), running.pages.clone());
                let same_place = self.inherited.websocket.is_some()
                    || old.websocket.bind_address == new.websocket.bind_address;
                let clashes = same_place && new.websocket.enabled;
                let serve = |settings: &Settings| self.inherited.serve_websocket(settings, &pages, &hub);
                let before = replace(&mut running.ways.websocket, clashes, serve, old, new)?;
                before.into_iter().for_each(|server| running.replaced(Box::new(server)));
                old.websocket = new.websocket.clone();
            }
            "dbus" => {
                if let Some(before) = running.ways.dbus.take() {
                    match new.dbus.enabled {
                        // Its interfaces are in the way of those of the new one.
                        true => drop(before),
                        false => running.replaced(Box::new(before)),
                    }
                }
                if let Err(error) = running.serve_dbus(new) {
                    running.ways.dbus = None;
                    running.serve_dbus(old)?;
                    return Err(error);
                }
                old.dbus = new.dbus.clone();
            }
            "links" => {
                running.apply_links(new)?;
                old.links = new.links.clone();
            }
            "log" => {
                let none = || Error::Message("the program that has this hub keeps its log itself".to_owned());
                self.log.as_ref().ok_or_else(none)?.apply(&new.log)?;
                old.log = new.log.clone();
            }
            "hardware" => {
                running.apply_hardware(new)?;
                old.hardware = new.hardware.clone();
            }
            "monitoring" => {
                running.apply_monitoring(new)?;
                old.monitoring = new.monitoring.clone();
            }
            // Somebody's own: whoever they concern follows them.
            _ => {}
        }
        Ok(())
    }
}

/// Has a server as `new` says in the place of the one as `old` says, which is given back to be ended. Where the two clash,
/// the old one goes first, and comes back where the new one fails.
fn replace<S>(
    server: &mut Option<S>,
    clashes: bool,
    serve: impl Fn(&Settings) -> Result<Option<S>>,
    old: &Settings,
    new: &Settings,
) -> Result<Option<S>> {
    if !clashes {
        let next = serve(new)?;
        return Ok(std::mem::replace(server, next));
    }
    *server = None;
    match serve(new) {
        Ok(next) => *server = next,
        Err(error) => {
            *server = serve(old).map_err(|again| {
                let text =
                    format!("{}; and what was served before is not any more: {}", error.text(), again.text());
                Error::new(error.kind(), text)
            })?;
            return Err(error);
        }
    }
    Ok(None)
}

/// Categories that a hub takes up when it starts, and not later.
const AT_RESTART: [&str; 3] = ["limits", "auth", "settings"];
/// How long an answer takes to get to whoever waits for it, at most.
const GRACE: Duration = Duration::from_millis(100);
