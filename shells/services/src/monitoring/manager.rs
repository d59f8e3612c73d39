//! The thread that measures, and what others ask it for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::message::typed::Topic;
use visorbus_hub::statistics::HubStatistics;
use visorbus_hub::{Error, HubHandle, OwnedMessage, OwnedPayload, Result, unix_micros};

use crate::listeners::{Listeners, Listening};
use crate::monitoring::alert::{Alert, Health};
use crate::monitoring::history::{SeriesHistory, Time};
use crate::monitoring::machine::Machine;
use crate::monitoring::messages::{AlertTopic, HealthTopic, SampleTopic, ThresholdInfo};
use crate::monitoring::metric::{Metric, Sample};
use crate::monitoring::monitor::Monitor;
use crate::monitoring::peers::peer_metrics;
use crate::monitoring::prometheus::render;
use crate::monitoring::selector::{Selector, Wanted, short};
use crate::monitoring::threshold::Threshold;
use crate::monitoring::watches::MOST_THRESHOLDS;

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
        let began = Instant::now();
        let machine = Machine::new(config.proc_root.clone());
        let configured = config.clone();
        let monitor = Monitor::new(config, Time { now: Duration::ZERO, at_us: unix_micros() });
        let (listeners, to) = (Arc::<Listeners<MonitoringEvent>>::default(), hub.clone());
        // As everybody else is told, and first.
        let publish = move |event: &MonitoringEvent| publish(&to, event);
        let inner = Arc::new(Inner {
            state: Mutex::new(State { monitor, configured, changes: 0, stopped: false }),
            changed: Condvar::new(),
            _publishing: listeners.add(publish),
            listeners,
            began,
            hub,
        });
        let runner = Runner { inner: Arc::clone(&inner), machine, sources, published: None };
        thread::Builder::new()
            .name("visorbus-monitor".to_owned())
            .spawn(move || runner.run())
            .map_err(|error| Error::Internal(format!("no thread to measure on: {error}")))?;
        Ok(Self { owner: Arc::new(Owner(inner)) })
    }

    /// Goes on with another configuration from now on; all that was measured stays, as far as it has room. Thresholds and
    /// the rate of published samples that were set meanwhile stay too, unless they differ between `config` and the
    /// configuration before. Where the machine's figures are stays as it was.
    pub fn reconfigure(&self, config: MonitoringConfig) {
        let inner = &self.owner.0;
        let mut state = lock(&inner.state);
        let before = std::mem::replace(&mut state.configured, config.clone());
        let now = &state.monitor.config;
        let thresholds = match config.thresholds == before.thresholds {
            true => now.thresholds.clone(),
            false => config.thresholds.clone(),
        };
        let publish = if config.publish == before.publish { now.publish } else { config.publish };
        let proc_root = now.proc_root.clone();
        let interval = (config.interval != now.interval).then_some(config.interval);
        let time = inner.time();
        let events = state.monitor.set_thresholds(&thresholds, time);
        state.monitor.configure(MonitoringConfig { thresholds, publish, proc_root, ..config }, time);
        state.changes += 1;
        inner.listeners.push(events);
        inner.listeners.push(interval.map(MonitoringEvent::IntervalChanged));
        drop(state);
        inner.changed.notify_all();
        inner.listeners.deliver();
    }

    /// How it is configured.
    pub fn config(&self) -> MonitoringConfig {
        self.state().monitor.config.clone()
    }

    /// All figures as they were last measured; none before the first time.
    pub fn sample(&self) -> Arc<Sample> {
        Arc::clone(&self.state().monitor.sample)
    }

    /// Those of them that `which` means: a [`Selector`]'s text, a beginning such as `peer.*`, or nothing for all.
    ///
    /// # Errors
    /// `Message` when it is none of these.
    pub fn metrics(&self, which: &str) -> Result<Sample> {
        let wanted = Wanted::parse(which).map_err(Error::Message)?;
        let sample = self.sample();
        let metrics = sample.metrics.iter().filter(|metric| wanted.has(metric)).cloned().collect();
        Ok(Sample { metrics, ..*sample })
    }

    /// How the figures that `selector` selects went in the last `length`, each as at most `points` points, of at most 16
    /// figures; and how many more there are.
    pub fn history(&self, selector: &Selector, length: Duration, points: usize) -> (Vec<SeriesHistory>, u32) {
        let time = self.owner.0.time();
        self.state().monitor.history.read(selector, time.now, length, points)
    }

    /// What is watched, and how it stands.
    pub fn thresholds(&self) -> Vec<ThresholdInfo> {
        let state = self.state();
        let monitor = &state.monitor;
        monitor
            .watches
            .thresholds()
            .map(|(of, counts)| ThresholdInfo::new(of, counts, &monitor.sample))
            .collect()
    }

    /// Watches `threshold` too, in place of one that it [replaces](Threshold::replaces). That lasts until the manager ends,
    /// or is [configured](Self::reconfigure) with other thresholds than before.
    ///
    /// # Errors
    /// `Message` when there are 64 already.
    pub fn set_threshold(&self, threshold: Threshold) -> Result<()> {
        self.change_thresholds(|all| {
            match all.iter().position(|other| threshold.replaces(other)) {
                Some(at) => all[at] = threshold,
                None if all.len() >= MOST_THRESHOLDS => {
                    let text = format!("there are {MOST_THRESHOLDS} thresholds already: remove one");
                    return Err(Error::Message(text));
                }
                None => all.push(threshold),
            }
            Ok(())
        })
    }

    /// Watches `which` no longer: the text of one threshold, or what is watched by it, such as `machine.cpu_percent`. How
    /// many there were.
    ///
    /// # Errors
    /// `Message` when there is none.
    pub fn remove_threshold(&self, which: &str) -> Result<usize> {
        let exact = which.parse::<Threshold>().ok();
        let metric = which.parse::<Selector>().ok();
        self.change_thresholds(|all| {
            let before = all.len();
            all.retain(|other| exact.as_ref() != Some(other) && metric.as_ref() != Some(&other.metric));
            if all.len() == before {
                let which = short(which);
                let text =
                    format!("there is no threshold '{which}': 'monitoring/thresholds' tells which there are");
                return Err(Error::Message(text));
            }
            Ok(before - all.len())
        })
    }

    /// What is to be worried about now, the worst first.
    pub fn alerts(&self) -> Vec<Alert> {
        self.state().monitor.watches.raised()
    }

    /// What came and went of late, the oldest first; at most 256.
    pub fn recent_alerts(&self) -> Vec<Alert> {
        self.state().monitor.watches.recent().to_vec()
    }

    /// How all is. That nothing was measured for long is `failing` too.
    pub fn health(&self) -> Health {
        let time = self.owner.0.time();
        self.state().monitor.health(time)
    }

    /// All figures for Prometheus: OpenMetrics text, version 1.0.
    pub fn prometheus(&self) -> String {
        let health = self.health();
        let state = self.state();
        let (sample, statistics) = (Arc::clone(&state.monitor.sample), state.monitor.statistics.clone());
        drop(state);
        render(&sample, statistics.as_deref(), &health)
    }

    /// The hub's figures as they were last measured.
    pub fn statistics(&self) -> Option<Arc<HubStatistics>> {
        self.state().monitor.statistics.clone()
    }

    /// Has samples be published on `monitoring/sample`, each so long after the one before, or none.
    pub fn publish_every(&self, time: Option<Duration>) {
        self.state().monitor.config.publish = time;
    }

    /// Has `listener` called with all that happens from now on, in its order, until the answer is dropped. It runs on the
    /// manager's thread, or on that of whoever changes thresholds, which wait for it; it may change thresholds itself.
    pub fn on_event(&self, listener: impl Fn(&MonitoringEvent) + Send + Sync + 'static) -> Listening {
        self.owner.0.listeners.add(listener)
    }

    /// Has `change` change the thresholds; nobody else changes them meanwhile.
    fn change_thresholds<T>(&self, change: impl FnOnce(&mut Vec<Threshold>) -> Result<T>) -> Result<T> {
        self.owner.0.change(|state, time| {
            let mut all = state.monitor.config.thresholds.clone();
            let changed = change(&mut all)?;
            Ok((changed, state.monitor.set_thresholds(&all, time)))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.owner.0.state)
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
    /// It is measured at another interval, this one.
    IntervalChanged(Duration),
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
    state: Mutex<State>,
    changed: Condvar,
    listeners: Arc<Listeners<MonitoringEvent>>,
    _publishing: Listening,
    began: Instant,
}

struct State {
    monitor: Monitor,
    /// As it was last configured, whatever was set since.
    configured: MonitoringConfig,
    /// How often it was configured again.
    changes: u64,
    stopped: bool,
}

impl Inner {
    fn time(&self) -> Time {
        Time { now: self.began.elapsed(), at_us: unix_micros() }
    }

    /// Has `change` change the state, and tells what happened by that.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut State, Time) -> Result<(T, Vec<MonitoringEvent>)>,
    ) -> Result<T> {
        let mut state = lock(&self.state);
        let (changed, events) = change(&mut state, self.time())?;
        // In the order in which it happens.
        self.listeners.push(events);
        drop(state);
        self.listeners.deliver();
        Ok(changed)
    }
}

/// The manager's thread.
struct Runner {
    inner: Arc<Inner>,
    machine: Machine,
    sources: Vec<Source>,
    /// When a sample was published last.
    published: Option<Duration>,
}

impl Runner {
    fn run(mut self) {
        while let Ok(statistics) = self.inner.hub.statistics() {
            let others = self.measure();
            let time = self.inner.time();
            let mut state = lock(&self.inner.state);
            let events = state.monitor.take(Some(statistics), others, time);
            let (sample, wanted) = (Arc::clone(&state.monitor.sample), state.monitor.config.publish);
            self.inner.listeners.push(events);
            drop(state);
            self.inner.listeners.deliver();
            self.publish(&sample, wanted, time.now);
            if !self.wait(time.now) {
                return;
            }
        }
        tracing::debug!("the hub has ended, and with it its monitoring");
    }

    /// What is to be measured beside the hub's own.
    fn measure(&mut self) -> Vec<Metric> {
        let mut metrics = self.inner.hub.peers().map(|peers| peer_metrics(&peers)).unwrap_or_default();
        metrics.extend(self.machine.read(self.inner.began.elapsed()));
        self.sources.retain(|source| {
            let asked = catch_unwind(AssertUnwindSafe(source));
            let _ = asked
                .as_ref()
                .inspect_err(|_| tracing::error!("what gives figures panicked, and is asked no more"));
            asked.map(|more| metrics.extend(more)).is_ok()
        });
        metrics
    }

    fn publish(&mut self, sample: &Sample, wanted: Option<Duration>, now: Duration) {
        let Some(wanted) = wanted else { return };
        // A sample that comes a little early is not left for the next interval.
        let early = wanted / 8;
        if self.published.is_some_and(|last| now.saturating_sub(last) + early < wanted) {
            return;
        }
        self.published = Some(now);
        let published =
            notification::<SampleTopic>(sample).and_then(|message| self.inner.hub.publish(message));
        if let Err(error) = published {
            tracing::debug!("a sample has reached no subscriber: {error}");
        }
    }

    /// Waits until the next sample is due; `false` when there is to be none.
    fn wait(&self, last: Duration) -> bool {
        let mut state = lock(&self.inner.state);
        loop {
            let interval = state.monitor.config.interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
            let left = (last + interval).saturating_sub(self.inner.began.elapsed());
            if state.stopped || left.is_zero() {
                return !state.stopped;
            }
            let changes = state.changes;
            let waited = self
                .inner
                .changed
                .wait_timeout_while(state, left, |state| !state.stopped && state.changes == changes);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Gives what happened to its subscribers. Without the handler of `monitoring/…` there are none.
fn publish(hub: &HubHandle, event: &MonitoringEvent) {
    let message = match event {
        MonitoringEvent::Alert(alert) => notification::<AlertTopic>(alert),
        MonitoringEvent::HealthChanged(health) => notification::<HealthTopic>(health),
        MonitoringEvent::Sample(_) | MonitoringEvent::IntervalChanged(_) => return,
    };
    if let Err(error) = message.and_then(|message| hub.publish(message)) {
        tracing::debug!("an alert has reached no subscriber: {error}");
    }
}

fn notification<T: Topic<Message: Sized>>(message: &T::Message) -> Result<OwnedMessage> {
    let mut notification = OwnedMessage::notification(T::ADDRESS.as_str(), OwnedPayload::postcard(message)?);
    notification.flags.priority = T::PRIORITY;
    Ok(notification)
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
    "hub.stuck_handlers > 0 for 5s: warning",
    "hub.pool_waiting > 100 for 10s, clear < 10: warning",
    "rate(hub.auth_refusals) > 5 for 10s, clear < 1 for 30s: warning",
    "rate(peer.missed) > 0 for 10s: warning",
];
