//! What a set of round-trip times comes to. It measures nothing.

use std::time::Duration;

/// The distribution of round-trip times, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many round trips there were.
    pub count: usize,
    /// The shortest.
    pub min: Duration,
    /// Half of them took at most this: the median.
    pub p50: Duration,
    /// 90 % took at most this.
    pub p90: Duration,
    /// 99 % took at most this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl RoundTrips {
    /// Sorts `samples` and reads the distribution off; `None` when there are none.
    pub fn from_samples(samples: &mut [Duration]) -> Option<Self> {
        samples.sort_unstable();
        let (&min, &max) = (samples.first()?, samples.last()?);
        let rank = |percent: usize| samples[(samples.len() * percent).div_ceil(100) - 1];
        Some(Self { count: samples.len(), min, p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

/// How much slower one contender is than the limit it is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The median of all its round trips over the median of all the limit's.
    pub of_medians: f64,
    /// The lowest ratio of the two medians within one round.
    pub lowest_round: f64,
    /// The highest ratio of the two medians within one round.
    pub highest_round: f64,
}

impl Ratio {
    /// The ratio of `ours` to `limit`; the slices hold one distribution a round, in the same order. `None` when there
    /// is no round.
    pub fn new(
        ours: RoundTrips,
        our_rounds: &[RoundTrips],
        limit: RoundTrips,
        limit_rounds: &[RoundTrips],
    ) -> Option<Self> {
        let of = |ours: RoundTrips, limit: RoundTrips| ours.p50.as_secs_f64() / limit.p50.as_secs_f64();
        let rounds: Vec<f64> = our_rounds.iter().zip(limit_rounds).map(|(&a, &b)| of(a, b)).collect();
        Some(Self {
            of_medians: of(ours, limit),
            lowest_round: rounds.iter().copied().reduce(f64::min)?,
            highest_round: rounds.iter().copied().reduce(f64::max)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(micros: impl IntoIterator<Item = u64>) -> RoundTrips {
        let mut samples: Vec<_> = micros.into_iter().map(Duration::from_micros).collect();
        RoundTrips::from_samples(&mut samples).unwrap()
    }

    #[test]
    fn percentiles_are_by_nearest_rank_in_any_order() {
        let trips = trips((1..=100).rev());
        let micros = [trips.min, trips.p50, trips.p90, trips.p99, trips.max].map(|time| time.as_micros());
        assert_eq!((trips.count, micros), (100, [1, 50, 90, 99, 100]));
    }

    #[test]
    fn one_sample_is_every_percentile_and_none_is_no_distribution() {
        let one = trips([7]);
        assert_eq!((one.min, one.p50, one.p99, one.max), (one.p90, one.p90, one.p90, one.p90));
        assert_eq!(RoundTrips::from_samples(&mut []), None);
    }

    #[test]
    fn a_ratio_is_of_medians_with_the_spread_of_its_rounds() {
        let (ours, limits) = ([trips([12]), trips([30])], [trips([10]), trips([20])]);
        let ratio = Ratio::new(trips([12, 30, 30]), &ours, trips([10, 10, 20]), &limits).unwrap();
        assert_eq!(ratio, Ratio { of_medians: 3.0, lowest_round: 1.2, highest_round: 1.5 });
        assert_eq!(Ratio::new(trips([1]), &[], trips([1]), &[]), None);
    }
}
