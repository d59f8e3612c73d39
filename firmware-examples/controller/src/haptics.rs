//! The motor: which pulse runs, until when, and how much it has cost so far.

use visorbus_core::IpcError;

use crate::messages::{Haptic, Pulse};

/// What the motor does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Haptics {
    pulse: Option<Pulse>,
    /// Pulses begun; wraps.
    begun: u32,
    /// What the pulses that are over have taken, in microseconds at full strength.
    spent_us: u64,
    started_us: u64,
}

impl Haptics {
    pub(crate) const fn new() -> Self {
        Self { pulse: None, begun: 0, spent_us: 0, started_us: 0 }
    }

    /// Begins a pulse in place of the one that runs, or with an amplitude of 0 only ends that one; the pulse in force.
    ///
    /// # Errors
    /// A value is out of its range. Nothing has changed then.
    pub(crate) fn begin(&mut self, haptic: &Haptic, now_us: u64) -> Result<Pulse, IpcError> {
        // A value that is not a number is in no range.
        if !(0.0..=1.0).contains(&haptic.amplitude) {
            return Err(IpcError::Message("the amplitude goes from 0 to 1"));
        }
        if !(20..=500).contains(&haptic.frequency_hz) {
            return Err(IpcError::Message("the frequency goes from 20 to 500 Hz"));
        }
        if !(1..=5_000).contains(&haptic.duration_ms) {
            return Err(IpcError::Message("the duration goes from 1 to 5000 ms"));
        }
        self.end(now_us);
        let Haptic { amplitude, frequency_hz, duration_ms } = *haptic;
        if amplitude == 0.0 {
            return Ok(Pulse { amplitude, frequency_hz, ends_us: now_us });
        }
        let pulse = Pulse { amplitude, frequency_hz, ends_us: now_us + u64::from(duration_ms) * 1_000 };
        self.begun = self.begun.wrapping_add(1);
        (self.pulse, self.started_us) = (Some(pulse), now_us);
        Ok(pulse)
    }

    /// Ends the pulse when its time is over; whether it did.
    pub(crate) fn handle_timeout(&mut self, now_us: u64) -> bool {
        let is_over = self.pulse.is_some_and(|pulse| pulse.ends_us <= now_us);
        if is_over {
            self.end(now_us);
        }
        is_over
    }

    /// The pulse that runs at `now_us`.
    pub(crate) fn running(&self, now_us: u64) -> Option<Pulse> {
        self.pulse.filter(|pulse| now_us < pulse.ends_us)
    }

    /// When the motor is to be stopped.
    pub(crate) fn ends_us(&self) -> Option<u64> {
        self.pulse.map(|pulse| pulse.ends_us)
    }

    /// Pulses begun since the start; wraps.
    pub(crate) const fn begun(&self) -> u32 {
        self.begun
    }

    /// What the motor has taken from the battery until `now_us`, in microseconds at full strength.
    pub(crate) fn spent_us(&self, now_us: u64) -> u64 {
        let running = self.pulse.map_or(0, |pulse| {
            let run_us = now_us.min(pulse.ends_us).saturating_sub(self.started_us);
            // At most five seconds of at most full strength: both fit.
            (run_us as u32 as f32 * pulse.amplitude) as u64
        });
        self.spent_us.saturating_add(running)
    }

    fn end(&mut self, now_us: u64) {
        self.spent_us = self.spent_us(now_us);
        self.pulse = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Haptic = Haptic { amplitude: 0.5, frequency_hz: 160, duration_ms: 200 };

    #[test]
    fn a_pulse_runs_for_as_long_as_it_was_asked_for() {
        let mut haptics = Haptics::new();
        let pulse = haptics.begin(&HALF, 1_000).unwrap();
        assert_eq!(pulse, Pulse { amplitude: 0.5, frequency_hz: 160, ends_us: 201_000 });
        assert_eq!((haptics.running(200_999), haptics.running(201_000)), (Some(pulse), None));
        assert!(!haptics.handle_timeout(200_999) && haptics.ends_us() == Some(201_000));
        assert!(haptics.handle_timeout(201_000) && haptics.ends_us().is_none());
        assert!(!haptics.handle_timeout(201_001), "it ends once");
        assert_eq!((haptics.begun(), haptics.spent_us(900_000)), (1, 100_000));
    }

    #[test]
    fn a_pulse_replaces_the_one_that_runs_and_silence_ends_it() {
        let mut haptics = Haptics::new();
        haptics.begin(&HALF, 0).unwrap();
        let strong = Haptic { amplitude: 1.0, ..HALF };
        assert_eq!(haptics.begin(&strong, 100_000).unwrap().ends_us, 300_000);
        let silence = haptics.begin(&Haptic { amplitude: 0.0, ..HALF }, 150_000).unwrap();
        assert_eq!((silence.ends_us, haptics.running(150_000), haptics.begun()), (150_000, None, 2));
        assert_eq!(haptics.spent_us(u64::MAX), 50_000 + 50_000);
    }

    #[test]
    fn what_is_out_of_range_is_refused_and_changes_nothing() {
        let mut haptics = Haptics::new();
        let running = haptics.begin(&HALF, 0).unwrap();
        let amplitudes = [-0.1, 1.1, f32::NAN, f32::INFINITY].map(|amplitude| Haptic { amplitude, ..HALF });
        let frequencies = [0, 19, 501, u16::MAX].map(|frequency_hz| Haptic { frequency_hz, ..HALF });
        let durations = [0, 5_001, u16::MAX].map(|duration_ms| Haptic { duration_ms, ..HALF });
        for (wrong, word) in
            [(&amplitudes[..], "amplitude"), (&frequencies, "frequency"), (&durations, "duration")]
        {
            for haptic in wrong {
                let error = haptics.begin(haptic, 50_000).unwrap_err();
                assert!(matches!(error, IpcError::Message(text) if text.contains(word)), "{error:?}");
            }
        }
        assert_eq!((haptics.running(50_000), haptics.begun()), (Some(running), 1));
    }

    #[test]
    fn the_ends_of_the_ranges_are_within() {
        for (amplitude, frequency_hz, duration_ms) in [(1.0, 20, 1), (f32::MIN_POSITIVE, 500, 5_000)] {
            let haptic = Haptic { amplitude, frequency_hz, duration_ms };
            assert!(Haptics::new().begin(&haptic, 7).is_ok(), "{haptic:?}");
        }
    }
}
