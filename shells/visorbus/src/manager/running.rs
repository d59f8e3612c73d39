//! What runs: the hub on its thread, and the parts that were given to it.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use visorbus_auth::Policy;
use visorbus_dbus::DBusService;
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Result};
use visorbus_services::config::{ConfigManager, ConfigMessageHandler};
use visorbus_websocket::LivePages;

use super::control::ManagerControl;
use super::handler::ManagerHandler;
use super::identity::{Identity, Providers};
use super::interfaces::Interfaces;
use super::links::Links;
use super::services::Services;
use super::shelf::Shelf;
use super::status::{LINKS, Moving, PartStatus};
use super::ways::{self, Inherited, Ways};
use crate::settings::Settings;

/// A hub that runs, and what is on it. Dropping it ends all of it.
pub(super) struct Running {
    /// Which one of its manager's hubs.
    pub(super) number: u64,
    handle: HubHandle,
    /// What came of the hub, once it has ended.
    outcome: Receiver<Result<()>>,
    has_ended: bool,
    identity: Identity,
    links: Links,
    pub(super) services: Services,
    pub(super) ways: Ways,
    /// What is made when somebody asks the port for it.
    pub(super) pages: LivePages,
    interfaces: Interfaces,
    config: ConfigManager,
    /// Servers in whose place are others.
    replaced: Vec<Box<dyn Any + Send>>,
}

/// What a hub is started with.
pub(super) struct Start<'s> {
    pub(super) number: u64,
    pub(super) config: &'s ConfigManager,
    pub(super) settings: &'s Settings,
    pub(super) providers: Option<&'s Providers>,
    pub(super) shelf: &'s Shelf,
    pub(super) inherited: &'s Inherited,
    pub(super) control: &'s ManagerControl,
}

impl Running {
    /// Starts everything, or nothing: who can be reached last comes last.
    pub(super) fn start(start: &Start<'_>) -> Result<Self> {
        let settings = start.settings;
        let identity = Identity::open(&settings.auth, start.providers).map_err(|e| failed("auth", &e))?;
        let providers = identity.providers.clone();
        let mut config = HubConfig::with_providers(providers.auth, providers.policy);
        config.limits = settings.limits.clone();
        // From here on a failure ends what was started: it is dropped.
        let mut running = Self::run(config, identity, start).map_err(|e| failed("hub", &e))?;
        let hub = running.handle();
        let manager = ManagerHandler::new(start.control.clone());
        hub.register_handler(Box::new(manager)).map_err(|e| failed("manager", &e))?;
        let config = ConfigMessageHandler::new(start.config.clone(), hub.clone());
        hub.register_handler(Box::new(config)).map_err(|e| failed("config", &e))?;
        for handler in start.shelf.lend() {
            let id = handler.id().to_owned();
            hub.register_handler(handler).map_err(|e| failed(&id, &e))?;
        }
        running.apply_hardware(settings).map_err(|e| failed("hardware", &e))?;
        running.apply_monitoring(settings).map_err(|e| failed("monitoring", &e))?;
        running.apply_links(settings).map_err(|e| failed("links", &e))?;
        let ways = &mut running.ways;
        ways.unix =
            start.inherited.serve_unix(&settings.unix_socket, &hub).map_err(|e| failed("unix_socket", &e))?;
        let pages = running.services.scrape.pages(&hub);
        running.ways.websocket =
            start.inherited.serve_websocket(settings, &pages, &hub).map_err(|e| failed("websocket", &e))?;
        running.pages = pages;
        running.serve_dbus(settings).map_err(|e| failed("dbus", &e))?;
        Ok(running)
    }

    /// Starts the hub alone.
    fn run(config: HubConfig, identity: Identity, start: &Start<'_>) -> Result<Self> {
        let hub = Hub::new(config)?;
        let handle = hub.handle();
        let (told, outcome) = sync_channel(1);
        let (control, number) = (start.control.clone(), start.number);
        let run = move || {
            // Whoever waits for it has waited long enough, or is gone.
            let _ = told.send(hub.run());
            control.ended(number);
        };
        thread::Builder::new()
            .name("visorbus-hub".to_owned())
            .spawn(run)
            .map_err(|e| Error::Internal(format!("there is no thread for it: {e}")))?;
        Ok(Self {
            number,
            handle,
            outcome,
            has_ended: false,
            links: Links::new(Arc::clone(&identity.board_keys)),
            identity,
            services: Services::default(),
            ways: Ways::default(),
            pages: LivePages::new(),
            interfaces: Interfaces::default(),
            config: start.config.clone(),
            replaced: Vec::new(),
        })
    }

    pub(super) fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// The policy, where it is the files'.
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.identity.policy.as_deref()
    }

    pub(super) fn apply_links(&mut self, settings: &Settings) -> Result<()> {
        self.links.apply(&settings.links, &self.handle)
    }

    pub(super) fn apply_hardware(&mut self, settings: &Settings) -> Result<()> {
        let service = self.ways.dbus.as_mut();
        if let Some(service) = service.filter(|_| !settings.hardware.enabled) {
            // Nobody on the bus is told that devices are gone because nobody looks after them.
            self.interfaces.hide_hardware(service);
        }
        let applied = self.services.apply_hardware(&settings.hardware, &self.handle);
        let shown = match &mut self.ways.dbus {
            Some(service) => self.interfaces.show_hardware(service, &self.services),
            None => Ok(()),
        };
        applied.and(shown)
    }

    pub(super) fn apply_monitoring(&mut self, settings: &Settings) -> Result<()> {
        self.services.apply_monitoring(&settings.monitoring, &self.handle)?;
        match &mut self.ways.dbus {
            Some(service) => self.interfaces.show_monitoring(service, &self.services),
            None => Ok(()),
        }
    }

    /// Serves the bus, if one is to be served, with the interfaces of the standard services.
    pub(super) fn serve_dbus(&mut self, settings: &Settings) -> Result<()> {
        self.interfaces = Interfaces::default();
        let Some(mut service) = ways::dbus(&settings.dbus, &self.handle)? else { return Ok(()) };
        service.start()?;
        self.interfaces.show(&mut service, &self.config, &self.services)?;
        self.ways.dbus = Some(service);
        Ok(())
    }

    /// Keeps what has been replaced until [`Running::retire`].
    pub(super) fn replaced(&mut self, part: Box<dyn Any + Send>) {
        self.replaced.push(part);
    }

    /// Ends what has been replaced.
    pub(super) fn retire(&mut self) {
        self.replaced.clear();
    }

    /// Whether something waits for its end.
    pub(super) fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// How the parts are.
    pub(super) fn parts(&self) -> Vec<PartStatus> {
        let Ways { unix, websocket, dbus } = &self.ways;
        let one = |name: &str, place: Option<String>| match place {
            Some(place) => PartStatus::on(name, place),
            None => PartStatus::off(name),
        };
        let is_on = |is: bool| is.then(String::new);
        let mut parts = vec![
            one("unix_socket", unix.as_ref().map(|server| server.path().display().to_string())),
            one(
                "dbus",
                dbus.as_ref()
                    .and_then(|service| service.state())
                    .map(|state| format!("{} on {}", state.service_name, state.bus)),
            ),
            one("websocket", websocket.as_ref().and_then(|server| server.url())),
        ];
        parts.extend(self.links.names().map(|(_, line)| PartStatus::on(LINKS, line)));
        parts.push(one("hardware", is_on(self.services.hardware.is_some())));
        parts.push(one("monitoring", is_on(self.services.monitoring.is_some())));
        parts
    }

    /// What comes and goes by itself, to be looked at when somebody asks how the parts are.
    pub(super) fn moving(&self) -> Moving {
        Moving {
            bus: self.ways.dbus.as_ref().and_then(DBusService::door),
            lines: self.links.names().map(|(id, _)| id).collect(),
            hub: self.handle(),
        }
    }

    /// Ends everything in good order.
    pub(super) fn end(mut self) -> Result<()> {
        self.stop()
    }

    /// Why the hub has ended by itself.
    pub(super) fn take_outcome(&mut self) -> Result<()> {
        self.has_ended = true;
        self.outcome.recv().unwrap_or_else(|_| Err(panicked()))
    }

    fn stop(&mut self) -> Result<()> {
        let (mut ended, mut is_stuck) = (Ok(()), false);
        if !self.has_ended {
            self.has_ended = true;
            ended = self.handle.shutdown(SHUTDOWN);
            let outcome = match self.outcome.recv_timeout(LAST) {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Disconnected) => Err(panicked()),
                Err(RecvTimeoutError::Timeout) => Err(Error::Timeout(match self.handle.held_up_by() {
                    Some(id) => {
                        format!("the hub does not end: the handler '{id}' runs inline and does not return")
                    }
                    None => "the hub does not end: a handler that must not block does not return".to_owned(),
                })),
            };
            is_stuck = matches!(outcome, Err(Error::Timeout(_)));
            ended = ended.and(outcome);
        }
        let (ways, interfaces) = (std::mem::take(&mut self.ways), std::mem::take(&mut self.interfaces));
        let (replaced, mut services) =
            (std::mem::take(&mut self.replaced), std::mem::take(&mut self.services));
        let close = move || {
            // What they have listened on went with the hub.
            drop((ways, interfaces, replaced));
            services.end();
        };
        if is_stuck {
            // Each of them waits for the hub, which others need not do. Where there is no thread for it, this one does.
            let _ = thread::Builder::new().name("visorbus-closing".to_owned()).spawn(close);
        } else {
            close();
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!("{}", error.text());
        }
    }
}

/// The error of a part that did not start.
fn failed(part: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("{} ({part}; nothing was started)", error.text()))
}

fn panicked() -> Error {
    Error::Internal("the hub's thread has panicked; its message stands in the log".to_owned())
}

/// How long what is under way may take to come to its end.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// And the hub itself after that.
const LAST: Duration = Duration::from_secs(1);
