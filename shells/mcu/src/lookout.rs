//! A device that comes and goes: when to look for it, what is said of it, what its links have counted.

use visorbus_core::Instant;
use visorbus_hal::LaneStats;
use visorbus_hub::Reopen;

use crate::Reopener;

/// Looks out for one device.
#[derive(Debug)]
pub(crate) struct Lookout {
    reopener: Reopener,
    /// What is said to be wrong with the device, until it is there again.
    trouble: Option<String>,
    /// What its links before the present one have counted.
    before: Vec<Fault>,
}

/// A counted fault, by name.
pub(crate) type Fault = (&'static str, u64);

impl Lookout {
    pub(crate) const fn new() -> Self {
        Self { reopener: Reopener::new(), trouble: None, before: Vec::new() }
    }

    /// The open device, called `name`, is gone; its link has counted `faults`.
    pub(crate) fn handle_gone(&mut self, name: &str, faults: Vec<Fault>, now: Instant) {
        self.before = self.with_earlier(faults);
        self.reopener.handle_failure(now);
        self.report(format!("{name} is gone"), "waiting for it");
    }

    /// When the device is tried next, if that is not now.
    pub(crate) fn poll_wait(&self, now: Instant) -> Option<Reopen> {
        let wait = self.reopener.next_attempt(now).filter(|wait| !wait.is_zero())?;
        Some(Reopen::At(Instant::from_micros(now.as_micros() + wait.as_micros() as u64)))
    }

    /// The device was opened; `how` says more of it.
    pub(crate) fn handle_opened(&mut self, name: &str, how: &str, now: Instant) -> Reopen {
        match self.trouble.take() {
            Some(_) => tracing::warn!("{name} is there again{how}"),
            None => tracing::info!("{name} is open{how}"),
        }
        self.reopener.handle_opened(now);
        Reopen::Done
    }

    /// It could not be opened. When it is only `missing`, that is no news of one that was pulled out.
    pub(crate) fn handle_failure(
        &mut self,
        error: impl std::fmt::Display,
        missing: bool,
        now: Instant,
    ) -> Reopen {
        if self.trouble.is_none() || !missing {
            self.report(error.to_string(), "trying again until it is there");
        }
        self.reopener.handle_failure(now);
        self.poll_wait(now).unwrap_or(Reopen::At(now))
    }

    /// What is wrong with the device, for people; `None` while it is there.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What the present link has counted and those before it have, together.
    pub(crate) fn with_earlier(&self, mut faults: Vec<Fault>) -> Vec<Fault> {
        for ((_, count), (_, earlier)) in faults.iter_mut().zip(&self.before) {
            *count += earlier;
        }
        faults
    }

    /// Says what is wrong, the first of many times that it is the same: a device that is away is tried for hours.
    fn report(&mut self, trouble: String, doing: &str) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}; {doing}");
            self.trouble = Some(trouble);
        }
    }
}

/// What a lane has counted.
pub(crate) fn lane_faults(lane: LaneStats) -> [Fault; 5] {
    [
        ("resent", lane.resent.into()),
        ("overtaken", lane.overtaken.into()),
        ("missed", lane.missed.into()),
        ("stale", lane.stale.into()),
        ("unfit", lane.unfit.into()),
    ]
}
