//! The page `/metrics` on the hub's port: figures for a monitoring system that comes for them, by the rules for requests.

use std::sync::{Arc, Mutex, PoisonError};

use visorbus_core::auth::Operation;
use visorbus_hub::{Error, HubHandle, Origin};
use visorbus_services::monitoring::MonitoringManager;
use visorbus_websocket::{LivePages, PageAnswer, PageRequest};

use crate::settings::Scraping;

/// What the page tells of, which may be exchanged while it is served. Cloning it is cheap.
#[derive(Clone, Default)]
pub(super) struct Scrape(Arc<Mutex<(Scraping, Option<MonitoringManager>)>>);

impl Scrape {
    /// Tells of what `monitoring` has measured, to whom `scraping` says.
    pub(super) fn set(&self, scraping: Scraping, monitoring: Option<MonitoringManager>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (scraping, monitoring);
    }

    /// The page; of whoever shows a token `hub` is asked whether they may.
    pub(super) fn pages(&self, hub: &HubHandle) -> LivePages {
        let (scrape, hub) = (self.clone(), hub.clone());
        LivePages::new().with("/metrics", move |request| scrape.answer(request, &hub))
    }

    fn answer(&self, request: &PageRequest<'_>, hub: &HubHandle) -> PageAnswer {
        let (scraping, monitoring) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(monitoring) = monitoring else { return PageAnswer::not_found("nothing is measured here") };
        let may = match scraping {
            Scraping::Off => return PageAnswer::not_found("this hub's figures are not for scraping"),
            Scraping::Local if request.peer.ip().is_loopback() => Ok(()),
            Scraping::Local | Scraping::Token => check(request, hub),
        };
        match may {
            Ok(()) => PageAnswer::ok(CONTENT_TYPE, monitoring.prometheus()),
            Err(answer) => answer,
        }
    }
}

/// Whether the bearer of this token may request what the page shows: asked at the hub's gate.
fn check(request: &PageRequest<'_>, hub: &HubHandle) -> Result<(), PageAnswer> {
    let origin = Origin::WebSocket { address: request.peer, tls: request.is_tls };
    hub.authorize(origin, request.bearer, Operation::Request, RESOURCE).map_err(|error| match error {
        Error::Authentication(text) => {
            PageAnswer::unauthorized(&format!("{text}: show it as `Authorization: Bearer vb1.…`"))
        }
        Error::Connection(_) | Error::Internal(_) => PageAnswer::failed(error.text()),
        _ => PageAnswer::forbidden(error.text()),
    })
}

const RESOURCE: &str = "monitoring/prometheus";
/// Of the OpenMetrics text format 1.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
