//! The page `/metrics` on the hub's port: figures for a monitoring system that comes for them, by the rules for requests.

use std::sync::{Arc, Mutex, PoisonError};

use visorbus_auth::{Asked, Channel, TokenText, Transport};
use visorbus_core::auth::{Access, Operation};
use visorbus_core::message::Pattern;
use visorbus_hub::unix_micros;
use visorbus_services::monitoring::MonitoringManager;
use visorbus_websocket::{LivePages, PageAnswer, PageRequest};

use super::identity::Providers;
use crate::settings::Scraping;

/// What the page tells of, which may be exchanged while it is served. Cloning it is cheap.
#[derive(Clone, Default)]
pub(super) struct Scrape(Arc<Mutex<(Scraping, Option<MonitoringManager>)>>);

impl Scrape {
    /// Tells of what `monitoring` has measured, to whom `scraping` says.
    pub(super) fn set(&self, scraping: Scraping, monitoring: Option<MonitoringManager>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (scraping, monitoring);
    }

    /// The page; a token has to be one that `providers` know.
    pub(super) fn pages(&self, providers: &Providers) -> LivePages {
        let (scrape, providers) = (self.clone(), providers.clone());
        LivePages::new().with("/metrics", move |request| scrape.answer(request, &providers))
    }

    fn answer(&self, request: &PageRequest<'_>, providers: &Providers) -> PageAnswer {
        let (scraping, monitoring) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(monitoring) = monitoring else { return PageAnswer::not_found("nothing is measured here") };
        let may = match scraping {
            Scraping::Off => return PageAnswer::not_found("this hub's figures are not for scraping"),
            Scraping::Local if request.peer.ip().is_loopback() => Ok(()),
            Scraping::Local | Scraping::Token => check(request, providers),
        };
        match may {
            Ok(()) => PageAnswer::ok(CONTENT_TYPE, monitoring.prometheus()),
            Err(answer) => answer,
        }
    }
}

/// Whether the bearer of this token may request what the page shows.
fn check(request: &PageRequest<'_>, providers: &Providers) -> Result<(), PageAnswer> {
    let hint = "a token is needed that may `request:monitoring/prometheus`, as `Authorization: Bearer vb1.…`";
    let text = request.bearer.ok_or_else(|| PageAnswer::unauthorized(hint))?;
    let token = text.parse::<TokenText>().ok().and_then(|token| token.to_bytes().ok());
    let token = token.ok_or_else(|| PageAnswer::unauthorized(hint))?;
    let address = request.peer.ip().to_string();
    let channel = Channel {
        transport: Transport::WebSocket,
        uid: None,
        gid: None,
        certificate: None,
        certificate_verified: false,
        address: &address,
        boot_id: None,
    };
    let unix_now = unix_micros() / 1_000_000;
    let grant = providers
        .auth
        .validate_token(&token, &channel, unix_now)
        .map_err(|error| PageAnswer::unauthorized(error.text()))?;
    let resource = Pattern::new(RESOURCE).map_err(|_| PageAnswer::failed("no such resource"))?;
    let asked = Asked {
        grant: Some(&grant),
        operation: Operation::Request,
        resource,
        access: Access::Permission,
        transport: Transport::WebSocket,
        payload_len: 0,
        unix_now,
        counts: true,
    };
    providers.policy.is_authorized(&asked).map_err(|denial| PageAnswer::forbidden(&denial.to_string()))
}

const RESOURCE: &str = "monitoring/prometheus";
/// Of the Prometheus text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
