//! The thread that asks the hub, so that keys are answered while the hub is not.

use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::ErrorKind;
use visorbus_core::bus;
use visorbus_hub::info::PeerInfo;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use crate::client::Client;
use crate::monitor::ask;
use crate::top::snapshot::Snapshot;

/// Asks the hub for all that is shown, again and again.
pub(crate) struct Feed {
    client: Client,
    interval: Duration,
}

impl Feed {
    pub(crate) const fn new(client: Client, interval: Duration) -> Self {
        Self { client, interval }
    }

    /// All that is shown, as it is now.
    ///
    /// # Errors
    /// What the hub says, or that it says nothing.
    pub(crate) fn look(&self) -> Result<Snapshot> {
        let sample = ask(&self.client, "metrics", OwnedPayload::Empty)?;
        let health = ask(&self.client, "health", OwnedPayload::Empty)?;
        let alerts = ask(&self.client, "alerts", OwnedPayload::Empty)?;
        Ok(Snapshot {
            sample,
            health,
            alerts,
            peers: self.peers()?,
            own_name: self.client.inner.client_id().to_owned(),
        })
    }

    /// Tells what it sees until nobody hears it.
    pub(crate) fn run(mut self, news: &Sender<News>) {
        loop {
            let began = Instant::now();
            let seen = self.client.keep_fresh().and_then(|()| self.look());
            let told = match seen {
                Ok(snapshot) => News::Snapshot(Box::new(snapshot)),
                Err(error) => News::Silence(error),
            };
            if news.send(told).is_err() {
                return;
            }
            thread::sleep(self.interval.saturating_sub(began.elapsed()).max(LEAST_PAUSE));
        }
    }

    /// The connections; none for whoever may not know of them.
    fn peers(&self) -> Result<Vec<PeerInfo>> {
        let request = OwnedMessage::request(bus::PEERS, OwnedPayload::Empty);
        match self.client.inner.send_request(request, None) {
            Ok(answer) => answer.payload.parse(),
            Err(error) if error.kind() == ErrorKind::Authorization => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What is to be known at the screen.
pub(crate) enum News {
    Snapshot(Box<Snapshot>),
    /// The hub said something else, or nothing.
    Silence(Error),
    /// It is over.
    End,
}

/// However long the hub takes.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
