//! Counts of who came and who was turned away, and the log of it, which a flood cannot flood.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::door::refusal::{Reason, Refusal};

/// Who came to a listening socket since it was opened, and why some were turned away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoorStats {
    /// Connections that were taken, those that were then turned away among them.
    pub accepted: u64,
    /// Connections that became WebSockets.
    pub upgraded: u64,
    /// Pages that were served.
    pub pages: u64,
    /// Connections that have not become WebSockets yet and are not answered yet, at this moment.
    pub pending: u64,
    refused: [u64; Reason::ALL.len()],
}

impl DoorStats {
    /// How many were turned away for this reason.
    pub const fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize]
    }

    /// All reasons with their counts.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.refused(reason)))
    }
}

/// Counts for [`DoorStats`]; written by the door's thread, read by any.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: AtomicU64,
    pub(crate) upgraded: AtomicU64,
    pub(crate) pages: AtomicU64,
    pub(crate) pending: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    log: Mutex<Log>,
}

impl Tally {
    /// One more of these.
    pub(crate) fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts somebody who is turned away, and logs it unless much was logged this second.
    pub(crate) fn refuse(&self, refusal: &Refusal, address: Option<SocketAddr>) {
        self.count(&self.refused[refusal.reason() as usize]);
        let Ok(mut log) = self.log.lock() else { return };
        let Some(left_out) = log.admit(Instant::now()) else { return };
        drop(log);
        let reason = refusal.reason().name();
        let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        tracing::info!(reason, address, left_out, "turned away: {}", refusal.text());
    }

    pub(crate) fn read(&self) -> DoorStats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DoorStats {
            accepted: value(&self.accepted),
            upgraded: value(&self.upgraded),
            pages: value(&self.pages),
            pending: value(&self.pending),
            refused: std::array::from_fn(|index| value(&self.refused[index])),
        }
    }
}

/// How much was logged of late.
#[derive(Debug, Default)]
struct Log {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Log {
    /// Whether a line may be logged now, and how many were not since the last one.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= LINES_A_SECOND {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

const LINES_A_SECOND: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_leaves_a_short_log() {
        let (start, mut log) = (Instant::now(), Log::default());
        let lines: Vec<_> = (0..1000).filter_map(|_| log.admit(start)).collect();
        assert_eq!(lines, [0; LINES_A_SECOND as usize]);
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(995));
        let tally = Tally::default();
        (0..1000).for_each(|_| tally.refuse(&Refusal::Late, None));
        assert_eq!(tally.read().refused(Reason::Late), 1000);
        assert_eq!(tally.read().reasons().map(|(_, count)| count).sum::<u64>(), 1000);
    }
}
