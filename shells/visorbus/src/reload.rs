//! After a change on disk: a running hub is told, so that it reaches live sessions at once.

use serde_json::json;
use visorbus_core::bus;
use visorbus_hub::info::Ended;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use crate::args;
use crate::client::Client;

/// Whom a change has reached.
pub(crate) enum Reached {
    /// A running hub, which has ended these at once.
    Hub(Ended),
    /// Nobody: no hub runs here.
    Nobody,
}

impl Reached {
    /// Has the hub that runs at `place`, if one does, read its accounts and keys again.
    ///
    /// # Errors
    /// What the hub, or the way to it, says; the change itself is on disk all the same, and the text says so.
    pub(crate) fn tell(place: &args::Place) -> Result<Self> {
        Self::report(place, Client::connect_if_served(place).and_then(|client| Self::ask(client.as_ref())))
    }

    /// As [`Reached::tell`], over a connection from before the change: where the change is of the keys that a new one
    /// would prove itself with, and the hub does not know them yet.
    pub(crate) fn tell_over(client: Option<&Client>, place: &args::Place) -> Result<Self> {
        Self::report(place, Self::ask(client))
    }

    fn report(place: &args::Place, asked: Result<Self>) -> Result<Self> {
        asked.map_err(|error| {
            let socket = place.socket();
            let text = format!(
                "the change is written down, but the hub at {} did not take it over: {}; send it SIGHUP, or start it again",
                socket.display(),
                error.text()
            );
            Error::new(error.kind(), text)
        })
    }

    /// In words, behind what was done.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Hub(ended) => format!("the hub knows: {}", count(ended)),
            Self::Nobody => "no hub runs that would have to know".to_owned(),
        }
    }

    /// As part of an answer for machines.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Hub(ended) => json!({ "reached": true, "ended": ended }),
            Self::Nobody => json!({ "reached": false }),
        }
    }

    fn ask(client: Option<&Client>) -> Result<Self> {
        let Some(client) = client else { return Ok(Self::Nobody) };
        let request = OwnedMessage::request(bus::AUTH_RELOAD, OwnedPayload::Empty);
        Ok(Self::Hub(client.inner.send_request(request, None)?.payload.parse()?))
    }
}

/// What came to its end, in words.
pub(crate) fn count(ended: &Ended) -> String {
    let one = |count: u32, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let mut text = format!("{} ended", one(ended.sessions, "session"));
    if ended.subscriptions > 0 {
        text.push_str(&format!(", {} taken back", one(ended.subscriptions, "subscription")));
    }
    if ended.components > 0 {
        text.push_str(&format!(", {} taken back", one(ended.components, "component")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_counted_in_words() {
        let ended = |sessions, subscriptions, components| Ended { sessions, subscriptions, components };
        assert_eq!(count(&ended(0, 0, 0)), "0 sessions ended");
        assert_eq!(
            count(&ended(1, 2, 1)),
            "1 session ended, 2 subscriptions taken back, 1 component taken back"
        );
    }
}
