//! The thread that measures, and what others ask it for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_hub::{Error, HubHandle, Result, unix_micros};

use crate::monitoring::alert::{Alert, Health};
use crate::monitoring::machine::Machine;
use crate::monitoring::metric::{Metric, Sample};
use crate::monitoring::peers::peer_metrics;
use crate::monitoring::threshold::Threshold;

/// Measures at each interval, on a thread of its own, until the last clone is gone or the hub has ended. Cloning it is
/// cheap.
#[derive(Clone)]
pub struct MonitoringManager {
    owner: Arc<Owner>,
}

impl MonitoringManager {
    /// Begins to measure. `sources` give figures beside the hub's, the process' and the machine's, such as those of the
    /// hardware; they are asked on the manager's thread at each interval, and should answer within milliseconds.
    ///
    /// # Errors
    /// `Internal` when there can be no further thread.
    pub fn new(config: MonitoringConfig, hub: HubHandle, sources: Vec<Source>) -> Result<Self> {
        let inner = Arc::new(Inner {
            machine: Mutex::new(Machine::new(config.proc_root.clone())),
            state: Mutex::new(State { config, sample: Sample::default(), stopped: false }),
            changed: Condvar::new(),
            listeners: Mutex::default(),
            began: Instant::now(),
            hub,
            sources,
        });
        let runner = Arc::clone(&inner);
        thread::Builder::new()
            .name("visorbus-monitor".to_owned())
            .spawn(move || runner.run())
            .map_err(|error| Error::Internal(format!("no thread to measure on: {error}")))?;
        Ok(Self { owner: Arc::new(Owner(inner)) })
    }

    /// Goes on with another configuration from now on; all that was measured stays, as far as it has room.
    pub fn reconfigure(&self, config: MonitoringConfig) {
        let inner = &self.owner.0;
        lock(&inner.state).config = config;
        inner.changed.notify_all();
    }

    /// How it is configured.
    pub fn config(&self) -> MonitoringConfig {
        lock(&self.owner.0.state).config.clone()
    }

    /// All figures as they were last measured.
    pub fn sample(&self) -> Sample {
        lock(&self.owner.0.state).sample.clone()
    }

    /// Has `listener` know of what happens, on the manager's thread, in order. It should be quick; one that panics is
    /// asked no more.
    pub fn on_event(&self, listener: impl Fn(&MonitoringEvent) + Send + Sync + 'static) {
        lock(&self.owner.0.listeners).push(Arc::new(listener));
    }
}

impl std::fmt::Debug for MonitoringManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MonitoringManager")
    }
}

/// How it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitoringConfig {
    /// Time from one sample to the next: between 100 ms and an hour. Default 1 s.
    pub interval: Duration,
    /// Time from one sample that is published on `monitoring/sample` to the next, rounded up to whole intervals. Default
    /// none: nothing is published there.
    pub publish: Option<Duration>,
    /// How far back the history goes. Default 10 minutes.
    pub history: Duration,
    /// Most bytes that the history has; where it would need more, it goes back less far. Default 2 MiB.
    pub history_bytes: usize,
    /// Most figures that are kept; those beyond are counted as left out. Default 4096.
    pub max_series: usize,
    /// When something is to be worried about. Default [`MonitoringConfig::default_thresholds`].
    pub thresholds: Vec<Threshold>,
    /// Where the figures of the machine are. Default `/proc`.
    pub proc_root: PathBuf,
}

impl MonitoringConfig {
    /// What every headset should be worried about.
    pub fn default_thresholds() -> Vec<Threshold> {
        // Each is read by a test.
        DEFAULT_THRESHOLDS.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            publish: None,
            history: Duration::from_secs(600),
            history_bytes: 2 << 20,
            max_series: 4096,
            thresholds: Self::default_thresholds(),
            proc_root: PathBuf::from("/proc"),
        }
    }
}

/// What gives further figures.
pub type Source = Box<dyn Fn() -> Vec<Metric> + Send + Sync>;

/// What happens while it is measured.
#[derive(Debug, Clone, PartialEq)]
pub enum MonitoringEvent {
    /// There is a new sample.
    Sample(Arc<Sample>),
    /// Something is to be worried about, or no longer.
    Alert(Alert),
    /// The health has another status, or other reasons.
    HealthChanged(Health),
}

/// Ends the thread with the last manager.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.0.state).stopped = true;
        self.0.changed.notify_all();
    }
}

/// What the managers and their thread share.
struct Inner {
    hub: HubHandle,
    sources: Vec<Source>,
    machine: Mutex<Machine>,
    state: Mutex<State>,
    changed: Condvar,
    listeners: Mutex<Vec<Listener>>,
    began: Instant,
}

type Listener = Arc<dyn Fn(&MonitoringEvent) + Send + Sync>;

struct State {
    config: MonitoringConfig,
    sample: Sample,
    stopped: bool,
}

impl Inner {
    fn run(&self) {
        loop {
            let sample = self.measure();
            lock(&self.state).sample = sample.clone();
            self.tell(&MonitoringEvent::Sample(Arc::new(sample)));
            let state = lock(&self.state);
            let interval = state.config.interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
            let wait = self.changed.wait_timeout_while(state, interval, |state| !state.stopped);
            if wait.unwrap_or_else(PoisonError::into_inner).0.stopped {
                return;
            }
        }
    }

    fn measure(&self) -> Sample {
        let now = self.began.elapsed();
        let mut metrics = self.hub.peers().map(|peers| peer_metrics(&peers)).unwrap_or_default();
        metrics.extend(lock(&self.machine).read(now));
        metrics.extend(self.sources.iter().flat_map(|source| source()));
        Sample { at_us: unix_micros(), metrics, left_out: 0 }
    }

    fn tell(&self, event: &MonitoringEvent) {
        let listeners = lock(&self.listeners).clone();
        for listener in listeners {
            if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
                tracing::error!("what listens to the monitoring panicked, and is told no more");
                lock(&self.listeners).retain(|other| !Arc::ptr_eq(other, &listener));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);
const DEFAULT_THRESHOLDS: &[&str] = &[
    "machine.cpu_percent > 95 for 1m, clear < 85 for 30s: warning",
    "machine.memory_percent > 90 for 30s, clear < 85: warning",
    "machine.memory_percent > 97 for 10s, clear < 95: critical",
    "process.fds_percent > 80 for 10s, clear < 70: warning",
];
