use super::*;

fn at(seconds: u64) -> Time {
    Time { now: Duration::from_secs(seconds), at_us: 1_000_000 * seconds }
}

fn watching(texts: &[&str]) -> Watches {
    let mut watches = Watches::default();
    let thresholds: Vec<Threshold> = texts.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(watches.set(&thresholds, at(0)), []);
    watches
}

fn take(watches: &mut Watches, seconds: u64, metrics: &[Metric]) -> Vec<Alert> {
    let series: Vec<String> = metrics.iter().map(Metric::series).collect();
    watches.take(metrics, &series, at(seconds))
}

/// What became of one figure that has each of `values` for a second.
fn states(threshold: &str, values: impl IntoIterator<Item = f64>) -> Vec<(u64, AlertState)> {
    let mut watches = watching(&[threshold]);
    let all = values.into_iter().zip(0..).flat_map(|(value, second)| {
        let alerts = take(&mut watches, second, &[Metric::gauge("a", value)]);
        alerts.into_iter().map(move |alert| (second, alert.state)).collect::<Vec<_>>()
    });
    all.collect()
}

use AlertState::{Cleared, Raised as IsRaised};

#[test]
fn what_is_over_for_long_enough_is_told_once_and_once_that_it_is_over() {
    let values = [50.0, 95.0, 95.0, 95.0, 95.0, 95.0, 70.0, 70.0, 70.0, 70.0];
    assert_eq!(states("a > 90 for 3s, clear < 80 for 2s", values), [(4, IsRaised), (8, Cleared)]);
}

#[test]
fn what_goes_up_and_down_around_a_threshold_does_not_flap() {
    let around = (0..1_000).map(|second| if second % 2 == 0 { 91.0 } else { 89.0 });
    assert_eq!(states("a > 90", around.clone()), [(0, IsRaised)]);
    assert_eq!(states("a > 90 for 2s", around.clone()), []);
    // Between the two limits nothing changes, however long that lasts.
    let between = [95.0].into_iter().chain([85.0; 500]).chain([79.0; 20]);
    assert_eq!(states("a > 90, clear < 80", between), [(0, IsRaised), (511, Cleared)]);
}

#[test]
fn too_little_is_found_as_too_much_is() {
    assert_eq!(states("a < 10, clear > 20 for 0s", [5.0, 15.0, 21.0]), [(0, IsRaised), (2, Cleared)]);
}

#[test]
fn a_figure_that_nobody_measures_raises_nothing() {
    let mut watches = watching(&["nothing.such > 0"]);
    assert_eq!(take(&mut watches, 1, &[Metric::gauge("a", 1.0)]), []);
    assert_eq!(watches.thresholds().next().unwrap().1, Counts { pending: 0, raised: 0 });
}

#[test]
fn a_figure_that_is_gone_for_a_moment_is_still_to_be_worried_about_and_later_no_longer() {
    let mut watches = watching(&["a > 1 for 0s, clear < 1 for 5s: critical"]);
    assert_eq!(take(&mut watches, 0, &[Metric::gauge("a", 2.0)])[0].state, IsRaised);
    assert_eq!(take(&mut watches, 1, &[]), []);
    assert_eq!(take(&mut watches, 2, &[Metric::gauge("a", 2.0)]), []);
    assert_eq!((3..8).flat_map(|second| take(&mut watches, second, &[])).count(), 0);
    let alert = take(&mut watches, 8, &[]).remove(0);
    assert_eq!((alert.state, alert.text.as_str()), (Cleared, "a is no longer watched: it is gone, after 8s"));
    assert_eq!(watches.raised(), []);
}

#[test]
fn a_rate_that_is_unknown_for_once_changes_nothing() {
    let rated = |rate| Metric { rate, ..Metric::counter("a", 1) };
    let mut watches = watching(&["rate(a) > 5 for 2s, clear < 1 for 0s"]);
    let rates = [Some(9.0), None, Some(9.0), None, Some(0.0)];
    let all = (0..).zip(rates).flat_map(|(second, rate)| take(&mut watches, second, &[rated(rate)]));
    assert_eq!(all.map(|alert| alert.at_us).collect::<Vec<_>>(), [2_000_000, 4_000_000]);
}

#[test]
fn each_peer_is_watched_alone_unless_one_is_named() {
    let of = |peer: &str| Metric::gauge("a", 2.0).with("peer", peer);
    let mut watches = watching(&["a > 1", r#"a{peer="imu"} > 1: critical"#]);
    let mut alerts = take(&mut watches, 0, &[of("imu"), of("eye")]);
    alerts.sort_by_key(|alert| (alert.severity, alert.metric.clone()));
    let told: Vec<_> = alerts.iter().map(|alert| (alert.severity.as_str(), alert.metric.as_str())).collect();
    let (imu, eye) = (r#"a{peer="imu"}"#, r#"a{peer="eye"}"#);
    assert_eq!(told, [("warning", eye), ("warning", imu), ("critical", imu)]);
}

#[test]
fn a_storm_is_told_in_a_few_words_and_its_memory_is_bounded() {
    let mut watches = watching(&["a > 1"]);
    let storm: Vec<Metric> =
        (0..100_000).map(|number| Metric::gauge("a", 2.0).with("of", &number.to_string())).collect();
    let told = take(&mut watches, 0, &storm);
    assert_eq!(told.len(), MOST_TOLD + 1);
    assert!(told.last().unwrap().text.starts_with("1008 more came or went at once"), "{told:?}");
    assert_eq!((watches.raised().len(), watches.recent().len()), (MOST_WATCHES, MOST_RECENT));
    // In the same second nothing is said of the next; what is over is known all the same.
    let mut over = take(&mut watches, 0, &[]);
    over.extend((1..10).flat_map(|second| take(&mut watches, second, &[])));
    assert_eq!(over, []);
    assert_eq!(take(&mut watches, 10, &[]).len(), MOST_TOLD + 1);
    assert_eq!(watches.raised(), []);
}

#[test]
fn health_is_as_bad_as_the_worst_and_says_why() {
    let mut watches = watching(&["a > 1: critical", "b > 1", "c > 1: info"]);
    let figures = ["a", "b", "c"].map(|name| Metric::gauge(name, 2.0));
    let calm = watches.health(&Health::default(), 7);
    assert_eq!((calm.status, calm.since_us), (HealthStatus::Ok, 0));
    take(&mut watches, 1, &figures[2..]);
    assert_eq!(watches.health(&calm, 8), calm);
    take(&mut watches, 2, &figures[1..]);
    let degraded = watches.health(&calm, 9);
    assert_eq!((degraded.status, degraded.since_us), (HealthStatus::Degraded, 9));
    take(&mut watches, 3, &figures);
    let failing = watches.health(&degraded, 10);
    assert_eq!(failing.reasons, ["a was 2: > 1", "b was 2: > 1"]);
    assert_eq!(watches.health(&failing, 11), failing);
}

#[test]
fn what_was_over_a_threshold_that_is_taken_away_is_over_and_what_stays_is_not_told_again() {
    let mut watches = watching(&["a > 1", "b > 1"]);
    let figures = ["a", "b"].map(|name| Metric::gauge(name, 2.0));
    assert_eq!(take(&mut watches, 0, &figures).len(), 2);
    let told = watches.set(&["b > 1".parse().unwrap()], at(1));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].metric.as_str(), told[0].state), ("a", Cleared));
    assert_eq!(take(&mut watches, 2, &figures), []);
    assert_eq!(watches.raised().len(), 1);
}
