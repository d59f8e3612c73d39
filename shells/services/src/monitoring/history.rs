//! What was measured, as far back as there is room: a ring of samples, kept by figure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::monitoring::metric::Metric;
use crate::monitoring::selector::Selector;

/// The last samples. Its bytes are bounded: what does not fit goes, the oldest sample first.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// When each sample was taken.
    times: VecDeque<Time>,
    /// The number of the first of them, counted from the first there ever was.
    first: u64,
    columns: HashMap<String, Column>,
}

impl History {
    /// Keeps `metrics`, with their series' texts, of which none is there twice.
    pub(crate) fn push(&mut self, metrics: &[Metric], series: &[String], time: Time, bounds: Bounds) {
        let number = self.first + self.times.len() as u64;
        self.times.push_back(time);
        // Half of the room is for values.
        let most = bounds.bytes / 2 / COLUMN_BYTES;
        for (metric, series) in metrics.iter().zip(series) {
            if !self.columns.contains_key(series) {
                if self.columns.len() >= most {
                    continue;
                }
                self.columns.insert(series.clone(), Column::new(metric, number));
            }
            if let Some(column) = self.columns.get_mut(series) {
                column.push(number, metric.value);
            }
        }
        self.evict(time.now, bounds);
    }

    /// The figures that `selector` selects, the last `length` of them at `now`, each as at most `points` points; and how
    /// many figures there are beside, for which there is no room.
    pub(crate) fn read(
        &self,
        selector: &Selector,
        now: Duration,
        length: Duration,
        points: usize,
    ) -> (Vec<SeriesHistory>, u32) {
        let mut found: Vec<_> = self.columns.iter().filter(|(_, c)| selector.selects(&c.metric)).collect();
        found.sort_by_key(|(series, _)| *series);
        let left_out = found.len().saturating_sub(MOST_SERIES);
        let read = |(series, column): (&String, &Column)| SeriesHistory {
            series: series.clone(),
            points: gather(&self.values(column, selector.rate, now.saturating_sub(length)), points),
        };
        let all = found.into_iter().take(MOST_SERIES).map(read).collect();
        (all, u32::try_from(left_out).unwrap_or(u32::MAX))
    }

    /// Bytes that it has at present.
    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.columns.values().map(|column| column.values.capacity() * VALUE_BYTES).sum();
        self.times.capacity() * size_of::<Time>() + self.columns.len() * COLUMN_BYTES + values
    }

    /// Samples that it has at present.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    fn evict(&mut self, now: Duration, bounds: Bounds) {
        let oldest = now.saturating_sub(bounds.length);
        let old = self.times.iter().take_while(|time| time.now < oldest).count();
        self.drop_first(old);
        while self.bytes() > bounds.bytes && self.times.len() > 1 {
            self.drop_first((self.times.len() / 8).max(1));
            self.times.shrink_to_fit();
            self.columns.values_mut().for_each(|column| column.values.shrink_to_fit());
        }
    }

    fn drop_first(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.times.drain(..count);
        self.first += count as u64;
        let first = self.first;
        self.columns.retain(|_, column| {
            column.drop_before(first);
            !column.values.is_empty()
        });
    }

    /// The values since `oldest`, or by how much they rose in a second where the one before is known.
    fn values(&self, column: &Column, rate: bool, oldest: Duration) -> Vec<(u64, f64)> {
        let numbered = column.values.iter().enumerate();
        let mut before: Option<(Duration, f64)> = None;
        let mut values = Vec::with_capacity(column.values.len());
        for (at, value) in numbered {
            let index = usize::try_from(column.first + at as u64 - self.first).unwrap_or(usize::MAX);
            let Some(time) = self.times.get(index).filter(|_| value.is_finite()) else {
                before = None;
                continue;
            };
            let shown = if rate {
                before.and_then(|(then, old)| per_second(*value - old, time.now.saturating_sub(then)))
            } else {
                Some(*value)
            };
            before = Some((time.now, *value));
            values.extend(shown.filter(|_| time.now >= oldest).map(|shown| (time.at_us, shown)));
        }
        values
    }
}

/// When a sample was taken: by a clock that never goes back, and in microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) now: Duration,
    pub(crate) at_us: u64,
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) length: Duration,
    pub(crate) bytes: usize,
}

/// How a figure went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct SeriesHistory {
    /// Its name with its labels.
    pub series: String,
    /// Its values, the oldest first.
    pub points: Vec<HistoryPoint>,
}

/// The values of a while.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub struct HistoryPoint {
    /// When it ended, in microseconds since 1970.
    pub at_us: u64,
    /// The least of them.
    pub min: f64,
    /// Their mean.
    pub mean: f64,
    /// The greatest.
    pub max: f64,
}

/// The values of one figure; NaN where it was not there.
#[derive(Debug)]
struct Column {
    metric: Metric,
    /// The number of the sample of its first value.
    first: u64,
    values: VecDeque<f64>,
}

impl Column {
    fn new(metric: &Metric, first: u64) -> Self {
        Self { metric: metric.clone(), first, values: VecDeque::new() }
    }

    fn push(&mut self, number: u64, value: f64) {
        let missed = number - self.first - self.values.len() as u64;
        for value in (0..missed).map(|_| f64::NAN).chain([value]) {
            if self.values.len() == self.values.capacity() {
                // Doubling would cost twice what is bounded.
                self.values.reserve_exact(self.values.len() / 4 + 16);
            }
            self.values.push_back(value);
        }
    }

    fn drop_before(&mut self, number: u64) {
        let old = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.values.drain(..old.min(self.values.len()));
        self.first = self.first.max(number);
        while self.values.front().is_some_and(|value| value.is_nan()) {
            self.values.pop_front();
            self.first += 1;
        }
    }
}

/// What rises by `difference` in `time` rises by in a second; `None` for what fell, or where no time passed.
pub(crate) fn per_second(difference: f64, time: Duration) -> Option<f64> {
    let rate = difference / time.as_secs_f64();
    (difference >= 0.0 && rate.is_finite()).then_some(rate)
}

/// As few points as are wanted.
fn gather(values: &[(u64, f64)], points: usize) -> Vec<HistoryPoint> {
    let size = values.len().div_ceil(points.clamp(1, MOST_POINTS)).max(1);
    let point = |values: &[(u64, f64)]| HistoryPoint {
        at_us: values.last().map_or(0, |(at, _)| *at),
        min: values.iter().fold(f64::INFINITY, |least, (_, value)| least.min(*value)),
        mean: values.iter().map(|(_, value)| value / values.len() as f64).sum(),
        max: values.iter().fold(f64::NEG_INFINITY, |most, (_, value)| most.max(*value)),
    };
    values.chunks(size).map(point).collect()
}

const VALUE_BYTES: usize = size_of::<f64>();
/// What a figure costs beside its values: its name twice, its labels, its place in the table.
const COLUMN_BYTES: usize = 512;
/// Most figures, and points of each, in one answer, so that it fits into a frame.
const MOST_SERIES: usize = 16;
const MOST_POINTS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time { now: Duration::from_secs(seconds), at_us: 1_000_000 * seconds }
    }

    fn push(history: &mut History, seconds: u64, metrics: &[Metric], bounds: Bounds) {
        let series: Vec<String> = metrics.iter().map(Metric::series).collect();
        history.push(metrics, &series, at(seconds), bounds);
    }

    const WIDE: Bounds = Bounds { length: Duration::from_secs(600), bytes: 1 << 20 };

    #[test]
    fn it_goes_as_far_back_as_it_was_told() {
        let mut history = History::default();
        (0..1_000).for_each(|second| push(&mut history, second, &[Metric::gauge("a", second as f64)], WIDE));
        assert_eq!(history.len(), 601);
        let (found, _) = history.read(&"a".parse().unwrap(), at(999).now, WIDE.length, 10_000);
        assert_eq!((found[0].points[0].mean, found[0].points.last().unwrap().mean), (399.5, 999.0));
    }

    #[test]
    fn its_bytes_are_bounded_however_many_figures_come() {
        let mut history = History::default();
        let bounds = Bounds { bytes: 256 << 10, ..WIDE };
        for second in 0..300 {
            let metrics: Vec<Metric> = (0..500)
                .map(|number| Metric::gauge("a", 1.0).with("of", &format!("{}", number + 7 * second)))
                .collect();
            push(&mut history, second, &metrics, bounds);
            assert!(history.bytes() <= bounds.bytes, "{} bytes", history.bytes());
        }
        assert!(history.len() > 1);
    }

    #[test]
    fn a_counter_that_begins_again_has_no_negative_rate() {
        let mut history = History::default();
        for (second, value) in [(0, 100), (1, 200), (2, 5), (3, 15)] {
            push(&mut history, second, &[Metric::counter("a", value)], WIDE);
        }
        let (found, _) = history.read(&"rate(a)".parse().unwrap(), at(3).now, WIDE.length, 100);
        let rates: Vec<f64> = found[0].points.iter().map(|point| point.mean).collect();
        assert_eq!(rates, [100.0, 10.0]);
    }

    #[test]
    fn what_was_not_there_for_a_while_has_no_points_for_it() {
        let mut history = History::default();
        push(&mut history, 0, &[Metric::gauge("a", 1.0)], WIDE);
        push(&mut history, 1, &[], WIDE);
        push(&mut history, 2, &[Metric::gauge("a", 3.0)], WIDE);
        let (found, _) = history.read(&"a".parse().unwrap(), at(2).now, WIDE.length, 100);
        let points: Vec<_> = found[0].points.iter().map(|point| (point.at_us, point.mean)).collect();
        assert_eq!(points, [(0, 1.0), (2_000_000, 3.0)]);
    }

    #[test]
    fn a_peak_is_not_lost_among_many_values() {
        let mut history = History::default();
        (0..100).for_each(|second| {
            let value = if second == 41 { 9.0 } else { 1.0 };
            push(&mut history, second, &[Metric::gauge("a", value)], WIDE);
        });
        let (found, _) = history.read(&"a".parse().unwrap(), at(99).now, WIDE.length, 10);
        assert_eq!(found[0].points.len(), 10);
        assert_eq!(found[0].points.iter().map(|point| point.max).fold(0.0, f64::max), 9.0);
    }
}
