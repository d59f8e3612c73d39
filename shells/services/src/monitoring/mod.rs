//! Monitoring: what is measured, what was, and what is to be worried about.
//!
//! [`MonitoringManager`] takes a [`Sample`] of all figures at each interval, on a thread of its own, keeps the last of them
//! in a ring whose bytes are bounded, and holds them against the [`Threshold`]s: what is over one for long enough is an
//! [`Alert`], and all alerts together are the [`Health`]. It knows no file's place but the one where the machine's own
//! figures are (`/proc`), and nothing of who asks.

mod handler;
mod messages;

mod asked;
mod manager;
mod monitor;

mod machine;
mod peers;
mod statistics;

mod catalogue;
mod metric;
mod selector;

mod history;

mod alert;
mod threshold;
mod watches;

mod prometheus;

pub use alert::{Alert, AlertState, Health, HealthStatus};
pub use catalogue::{Descriptor, catalogue, describe};
pub use handler::MonitoringMessageHandler;
pub use history::{HistoryPoint, SeriesHistory};
pub use manager::{MonitoringConfig, MonitoringEvent, MonitoringManager, Source};
pub use messages::{
    AddressFigures, Alerts, HistoryAnswer, HistoryRequest, ThresholdInfo, ThresholdState, Topics,
};
pub use metric::{Label, Metric, MetricKind, Sample};
pub use selector::Selector;
pub use threshold::{Comparison, Severity, Threshold, ThresholdError};
pub use watches::MOST_THRESHOLDS;
