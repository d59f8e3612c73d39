//! What a manager does while it runs: follow its configuration, and what others ask of it.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use visorbus_hub::{Error, Result};
use visorbus_services::config::ConfigValues;

use super::control::Request;
use super::reload::{InForce, Refused, Reloaded};
use super::running::Running;
use super::{IpcManager, not_running, ways};
use crate::settings::Settings;

/// What a manager tells of while it serves.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ManagerEvent<'e> {
    /// It serves, and takes what others ask of it.
    Serving,
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
        tell(ManagerEvent::Serving);
        let ended = loop {
            match self.requests.next() {
                Some(Request::Apply) => {
                    let changed = self.apply();
                    if changed != Reloaded::default() {
                        tell(ManagerEvent::Changed(&changed));
                    }
                }
                Some(Request::Reload(answer)) => self.serve_reload(Some(&answer), &mut tell)?,
                Some(Request::ReloadUnasked) => self.serve_reload(None, &mut tell)?,
                Some(Request::Register(handler, answer)) => drop(answer.send(self.register_handler(handler))),
                Some(Request::Unregister(id, answer)) => drop(answer.send(self.unregister_handler(&id))),
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
        let (mut reloaded, put_off) = self.read_again()?;
        self.replace(put_off, &mut reloaded);
        Ok(reloaded)
    }

    /// Reads everything again for somebody, who is answered before anything is replaced: perhaps he came by that very way.
    fn serve_reload(
        &mut self,
        answer: Option<&SyncSender<Reloaded>>,
        tell: &mut impl FnMut(ManagerEvent<'_>),
    ) -> Result<()> {
        tell(ManagerEvent::Reloading);
        let (mut reloaded, put_off) = self.read_again()?;
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = answer.try_send(reloaded.clone());
        }
        self.replace_later(put_off, &mut reloaded);
        tell(ManagerEvent::Reloaded(&reloaded));
        Ok(())
    }

    /// Takes over settings that were changed while it runs. What was refused as it stands is not tried again; what is told is
    /// only what is new.
    fn apply(&mut self) -> Reloaded {
        let before = std::mem::take(&mut self.pending);
        let mut changed = Reloaded::default();
        let put_off = self.follow(&mut changed, Refusals::Stand);
        let of_files = before.refused.into_iter().filter(|refused| FILES.contains(&refused.what.as_str()));
        self.pending.refused.extend(of_files);
        self.publish_status();
        self.replace_later(put_off, &mut changed);
        if changed.at_restart == before.at_restart {
            changed.at_restart.clear();
        }
        changed
    }

    /// As [`IpcManager::reload`]; whatever is to be replaced is still there when this returns.
    fn read_again(&mut self) -> Result<(Reloaded, PutOff)> {
        let hub = self.handle()?;
        let mut reloaded = Reloaded::default();
        if let Err(error) = self.config.reload() {
            reloaded.refused.push(Refused::new("configuration", error));
        }
        match hub.reload() {
            Ok(ended) => reloaded.ended = ended,
            Err(error) => reloaded.refused.push(Refused::new("accounts", error.text())),
        }
        let put_off = self.follow(&mut reloaded, Refusals::AreTriedAgain);
        // What was made anew has read its files by that.
        let is_new = |category: &str| {
            reloaded.applied.iter().any(|key| key.split_once('.').is_some_and(|(of, _)| of == category))
        };
        let (websocket_is_new, log_is_new) = (is_new("websocket"), is_new("log"));
        let served = self.running.as_ref().and_then(|running| running.ways.websocket.as_ref());
        let over_tls = served.filter(|_| self.settings.websocket.tls_enabled && !websocket_is_new);
        if let Some(Err(error)) = over_tls.map(|server| server.reload_tls()) {
            reloaded.refused.push(Refused::new("certificates", error.text()));
        }
        if let Some(Err(error)) =
            self.log.as_ref().filter(|_| !log_is_new).map(|log| log.apply(&self.settings.log))
        {
            reloaded.refused.push(Refused::new("log", error.text()));
        }
        self.pending.refused.clone_from(&reloaded.refused);
        self.publish_status();
        Ok((reloaded, put_off))
    }

    /// Replaces and ends what is to be once whoever has brought that about, perhaps by that very way, has the answer.
    fn replace_later(&mut self, put_off: PutOff, reloaded: &mut Reloaded) {
        let has_replaced = self.running.as_ref().is_some_and(Running::has_replaced);
        if has_replaced || !put_off.categories.is_empty() {
            thread::sleep(GRACE);
            self.replace(put_off, reloaded);
        }
    }

    /// Does what was put off, and ends what has been replaced.
    fn replace(&mut self, put_off: PutOff, reloaded: &mut Reloaded) {
        let PutOff { to, categories } = put_off;
        if let Some((settings, values)) = to.filter(|_| !categories.is_empty()) {
            for name in categories {
                match self.take_over(&name, &settings) {
                    Ok(()) => self.in_force.take(&name, &values),
                    Err(error) => {
                        let refused = self.in_force.refuse(&name, &values, error.text());
                        let is_of_it = |key: &str| key.split_once('.').is_some_and(|(of, _)| of == name);
                        reloaded.applied.retain(|key| !is_of_it(key));
                        reloaded.refused.push(refused.clone());
                        self.pending.refused.push(refused);
                    }
                }
            }
            self.publish_status();
        }
        if let Some(running) = &mut self.running {
            running.retire();
        }
    }

    /// Takes over the settings that hold otherwise by now, and notes what waits for the next start and what was refused.
    /// Servers in whose place there is another to be, which cannot be there beside them, are put off.
    fn follow(&mut self, reloaded: &mut Reloaded, refusals: Refusals) -> PutOff {
        let values = self.config.values();
        let (mut put_off, mut standing) = (PutOff::default(), Vec::new());
        match Settings::of(&values) {
            Ok(mut settings) => {
                // What a hub takes up at its start alone is as it was, for the others too.
                settings.auth.clone_from(&self.settings.auth);
                settings.limits.clone_from(&self.settings.limits);
                let mut in_force = std::mem::take(&mut self.in_force);
                in_force.forget_others(values.schema());
                for category in values.schema().categories() {
                    let name = category.name();
                    match in_force.refused(name, &values) {
                        Some(refused) if refusals == Refusals::Stand => standing.push(refused.clone()),
                        _ => self.follow_category(
                            name,
                            &settings,
                            &values,
                            &mut in_force,
                            reloaded,
                            &mut put_off,
                        ),
                    }
                }
                self.in_force = in_force;
                put_off.to = Some((settings, values));
            }
            Err(error) => reloaded.refused.push(Refused::new("configuration", error)),
        }
        self.pending = reloaded.clone();
        self.pending.refused.extend(standing);
        put_off
    }

    fn follow_category(
        &mut self,
        name: &str,
        settings: &Settings,
        values: &ConfigValues,
        in_force: &mut InForce,
        reloaded: &mut Reloaded,
        put_off: &mut PutOff,
    ) {
        let changed = in_force.changed(name, values);
        reloaded.at_restart.extend(changed.at_restart);
        if changed.now.is_empty() {
            return in_force.settle(name, values);
        }
        let is_put_off = self.clashes(name, settings);
        let taken = if is_put_off { self.check(name, settings) } else { self.take_over(name, settings) };
        match taken {
            Ok(()) if is_put_off => put_off.categories.push(name.to_owned()),
            Ok(()) => in_force.take(name, values),
            Err(error) => return reloaded.refused.push(in_force.refuse(name, values, error.text())),
        }
        reloaded.applied.extend(changed.now);
    }

    /// Whether what serves of a category has to go before what is to serve as `new` says can come.
    fn clashes(&self, category: &str, new: &Settings) -> bool {
        let Some(running) = &self.running else { return false };
        let (old, ways, inherited) = (&self.settings, &running.ways, &self.inherited);
        match category {
            "unix_socket" => {
                let same_place = inherited.unix.is_some() || old.unix_socket.path == new.unix_socket.path;
                ways.unix.is_some() && new.unix_socket.enabled && same_place
            }
            "websocket" => {
                let same_place =
                    inherited.websocket.is_some() || old.websocket.bind_address == new.websocket.bind_address;
                let is_served = ways.websocket.is_some() && new.websocket.enabled;
                is_served && same_place && !old.websocket.serves_like(&new.websocket)
            }
            // Its interfaces are in the way of those of the new one.
            "dbus" => ways.dbus.is_some() && new.dbus.enabled,
            _ => false,
        }
    }

    /// Sees whether a category could be as `new` says, as far as can be seen while what serves is there.
    fn check(&self, category: &str, new: &Settings) -> Result<()> {
        let Some(running) = &self.running else { return Err(not_running()) };
        match category {
            "websocket" => self.inherited.check_websocket(new),
            "dbus" => ways::dbus(&new.dbus, &running.handle()).map(drop),
            _ => Ok(()),
        }
    }

    /// Has one category hold as `new` says. Where that fails it stays as it was, or comes back as it was where it had to go
    /// first.
    fn take_over(&mut self, category: &str, new: &Settings) -> Result<()> {
        let clashes = self.clashes(category, new);
        let Some(running) = &mut self.running else { return Err(not_running()) };
        let old = &mut self.settings;
        match category {
            "unix_socket" => {
                let hub = running.handle();
                let serve = |settings: &Settings| self.inherited.serve_unix(&settings.unix_socket, &hub);
                let before = replace(&mut running.ways.unix, clashes, serve, old, new)?;
                before.into_iter().for_each(|server| running.replaced(Box::new(server)));
                old.unix_socket = new.unix_socket.clone();
            }
            // What clients of this program's are told concerns nobody who is served.
            "websocket" if old.websocket.serves_like(&new.websocket) => {
                old.websocket = new.websocket.clone();
            }
            "websocket" => {
                let (hub, pages) = (running.handle(), running.pages.clone());
                let serve = |settings: &Settings| self.inherited.serve_websocket(settings, &pages, &hub);
                let before = replace(&mut running.ways.websocket, clashes, serve, old, new)?;
                before.into_iter().for_each(|server| running.replaced(Box::new(server)));
                old.websocket = new.websocket.clone();
            }
            "dbus" => {
                if let Some(before) = running.ways.dbus.take() {
                    match clashes {
                        true => drop(before),
                        false => running.replaced(Box::new(before)),
                    }
                }
                if let Err(error) = running.serve_dbus(new) {
                    return Err(running.serve_dbus(old).err().map_or(error.clone(), |e| both(&error, &e)));
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
                running.apply_hardware(new).inspect_err(|_| {
                    // What is not shown on the bus is not to be there either.
                    let _ = running.apply_hardware(old);
                })?;
                old.hardware = new.hardware.clone();
            }
            "monitoring" => {
                running.apply_monitoring(new).inspect_err(|_| {
                    let _ = running.apply_monitoring(old);
                })?;
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
            *server = serve(old).map_err(|again| both(&error, &again))?;
            return Err(error);
        }
    }
    Ok(None)
}

/// Why something could not be had, and neither could what was there before.
fn both(error: &Error, again: &Error) -> Error {
    let text = format!("{}; and what was served before is not any more: {}", error.text(), again.text());
    Error::new(error.kind(), text)
}

/// What is to be done once whoever asked for it has the answer.
#[derive(Default)]
struct PutOff {
    /// How everything is to be; `None` where the settings do not go together.
    to: Option<(Settings, ConfigValues)>,
    /// What of it is not so yet.
    categories: Vec<String>,
}

/// What is made of a category that was refused, and that nobody has changed since.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusals {
    Stand,
    /// Something else may have made it right, a file for example.
    AreTriedAgain,
}

/// What beside settings may be refused at a reload, and is so until the next.
const FILES: [&str; 2] = ["accounts", "certificates"];
/// How long an answer takes to get to whoever waits for it, at most.
const GRACE: Duration = Duration::from_millis(100);
