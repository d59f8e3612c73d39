//! What is asked of the manager, whichever way it came: the component `monitoring` and the interface on a D-Bus answer by
//! this, within the same bounds.

use std::time::Duration;

use visorbus_hub::{Error, Result};

use crate::monitoring::manager::MonitoringManager;
use crate::monitoring::messages::{Alerts, HistoryAnswer, HistoryRequest, ThresholdInfo};
use crate::monitoring::threshold::Threshold;

impl MonitoringManager {
    /// As [`MonitoringManager::history`], of what `asked` says.
    ///
    /// # Errors
    /// `Message` when its metric is no selector.
    pub fn history_for(&self, asked: &HistoryRequest) -> Result<HistoryAnswer> {
        let selector = asked.metric.parse().map_err(Error::Message)?;
        let length =
            if asked.seconds == 0 { Duration::MAX } else { Duration::from_secs(asked.seconds.into()) };
        let points = if asked.points == 0 { DEFAULT_POINTS } else { asked.points as usize };
        let (series, left_out) = self.history(&selector, length, points);
        Ok(HistoryAnswer { series, left_out })
    }

    /// As [`MonitoringManager::set_threshold`], from its text; how it stands.
    ///
    /// # Errors
    /// `Message` when it is none, and as [`MonitoringManager::set_threshold`].
    pub fn watch(&self, text: &str) -> Result<ThresholdInfo> {
        let threshold: Threshold = text.parse().map_err(|error| Error::Message(format!("{error}")))?;
        let text = threshold.to_string();
        self.set_threshold(threshold)?;
        let found = self.thresholds().into_iter().find(|info| info.threshold == text);
        found.ok_or_else(|| Error::Message(format!("'{text}' was taken away again at once")))
    }

    /// What is to be worried about now, and what was of late, as much as one answer has: at most 64 of each.
    pub fn alert_report(&self) -> Alerts {
        let mut raised = self.alerts();
        let left_out = raised.len().saturating_sub(MOST_ALERTS);
        raised.truncate(MOST_ALERTS);
        let mut recent = self.recent_alerts();
        recent.drain(..recent.len().saturating_sub(MOST_ALERTS));
        Alerts { raised, left_out: u32::try_from(left_out).unwrap_or(u32::MAX), recent }
    }
}

/// Points of a history where nobody says how many.
const DEFAULT_POINTS: usize = 60;
/// Most alerts of one kind in one answer.
const MOST_ALERTS: usize = 64;
