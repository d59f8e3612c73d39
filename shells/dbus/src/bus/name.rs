//! The service's well-known name: asked for until the bus gives it. It says what to do, and does nothing.

use std::time::{Duration, Instant};

use dbus::Message;

/// How the service stands with its name on the bus that it is connected to.
#[derive(Debug)]
pub(super) struct Name {
    name: String,
    state: State,
    /// Why the name is not the service's.
    trouble: Option<String>,
    retry: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no bus, or it was not asked yet.
    Away,
    Asked,
    Owned,
    /// To be asked for again then, or when it becomes free.
    Refused {
        again: Instant,
    },
}

impl Name {
    pub(super) fn new(name: &str, retry: Duration) -> Self {
        Self { name: name.to_owned(), state: State::Away, trouble: None, retry: Backoff::new(retry) }
    }

    /// Nothing is known any longer: the connection is over.
    pub(super) fn forget(&mut self) {
        self.state = State::Away;
        self.trouble = None;
    }

    /// The bus is being asked for it.
    pub(super) fn asked(&mut self) {
        self.state = State::Asked;
    }

    /// What the bus answered to `RequestName`.
    pub(super) fn answered(&mut self, answer: &Message, now: Instant) {
        let outcome = match refusal(answer) {
            Some(error) => Err(format!(
                "the bus does not give the name {} away: {error}; its policy has to allow it",
                self.name
            )),
            None => match answer.read1::<u32>() {
                Ok(IS_OWNER | WAS_OWNER) => Ok(()),
                _ => Err(format!(
                    "another program has the name {}: end it, or give this service another name",
                    self.name
                )),
            },
        };
        match outcome {
            Ok(()) => {
                tracing::info!("this service is {} on its bus", self.name);
                (self.state, self.trouble) = (State::Owned, None);
                self.retry.reset();
            }
            Err(trouble) => self.refused(trouble, now),
        }
    }

    /// The bus has taken the name away.
    pub(super) fn lost(&mut self, name: &str, now: Instant) {
        if name == self.name && self.state == State::Owned {
            let trouble = format!("the bus has given the name {} to another program", self.name);
            self.refused(trouble, now);
        }
    }

    /// Whether it has to be asked for now: the time has come, or `freed` is its name.
    pub(super) fn is_wanted(&self, freed: Option<&str>, now: Instant) -> bool {
        matches!(self.state, State::Refused { again } if again <= now || freed == Some(&*self.name))
    }

    /// When it is asked for next.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Refused { again } => Some(again),
            _ => None,
        }
    }

    pub(super) fn is_owned(&self) -> bool {
        self.state == State::Owned
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn refused(&mut self, trouble: String, now: Instant) {
        let again = self.retry.next();
        // Each trouble is told of once, not whenever it is met again.
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(
                "{trouble}; it is asked for again and again, callers reach {} meanwhile by the connection's own name",
                self.name
            );
        }
        self.trouble = Some(trouble);
        self.state = State::Refused { again: now + again };
    }
}

/// Times to wait, each twice as long as the one before, up to 30 s.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    pub(super) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(LONGEST.max(self.first));
        now
    }

    /// The time that comes next.
    pub(super) const fn coming(&self) -> Duration {
        self.next
    }

    pub(super) const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// What an answer says that is an error.
pub(super) fn refusal(answer: &Message) -> Option<String> {
    if answer.msg_type() != dbus::MessageType::Error {
        return None;
    }
    Some(answer.read1::<&str>().unwrap_or("it does not say why").to_owned())
}

/// Answers to `RequestName` (D-Bus specification, "org.freedesktop.DBus.RequestName").
const IS_OWNER: u32 = 1;
const WAS_OWNER: u32 = 4;
/// The flag by which it is not waited in line for the name.
pub(super) const DO_NOT_QUEUE: u32 = 4;

const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_doubles_up_to_half_a_minute_and_begins_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(500));
        let waits: Vec<u64> = (0..8).map(|_| backoff.next().as_millis().try_into().unwrap()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.next(), Duration::from_millis(500));
    }
}
