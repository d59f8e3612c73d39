use super::*;

fn at(milliseconds: u64) -> Time {
    Time { now: Duration::from_millis(milliseconds), at_us: 1_000 * milliseconds }
}

fn monitor(thresholds: &[&str]) -> Monitor {
    let thresholds = thresholds.iter().map(|text| text.parse().unwrap()).collect();
    Monitor::new(MonitoringConfig { thresholds, ..MonitoringConfig::default() }, at(0))
}

fn rate(monitor: &mut Monitor, milliseconds: u64, value: u64) -> Option<f64> {
    monitor.take(None, vec![Metric::counter("a", value)], at(milliseconds));
    monitor.sample.metric("a").unwrap().rate
}

#[test]
fn a_counter_has_a_rate_from_its_second_sample_on_and_never_a_negative_one() {
    let mut monitor = monitor(&[]);
    let rates = [(0, 100), (1_000, 300), (3_000, 400), (4_000, 7), (5_000, 10)]
        .map(|(time, value)| rate(&mut monitor, time, value));
    assert_eq!(rates, [None, Some(200.0), Some(50.0), None, Some(3.0)]);
}

#[test]
fn two_samples_at_one_moment_give_no_endless_rate() {
    let mut monitor = monitor(&["rate(a) > 1000000"]);
    assert_eq!(rate(&mut monitor, 0, 0), None);
    assert_eq!(rate(&mut monitor, 0, 5), None);
    assert_eq!(monitor.watches.raised(), []);
}

#[test]
fn a_clock_of_the_day_that_jumps_changes_neither_rates_nor_what_is_raised() {
    let mut monitor = monitor(&["a > 1 for 2s, clear < 1 for 2s"]);
    let day = 86_400_000_000;
    let mut events = Vec::new();
    for (second, at_us) in [(0, 10 * day), (1, 2 * day), (2, 90 * day), (3, 0)] {
        let time = Time { now: Duration::from_secs(second), at_us };
        let metrics = vec![Metric::gauge("a", 2.0), Metric::counter("b", 10 * second)];
        events.extend(monitor.take(None, metrics, time));
    }
    let alerts = events.iter().filter(|event| matches!(event, MonitoringEvent::Alert(_)));
    assert_eq!(alerts.count(), 1);
    assert_eq!(monitor.sample.metric("b").unwrap().rate, Some(10.0));
    let (found, _) = monitor.history.read(&"a".parse().unwrap(), at(3_000).now, Duration::MAX, 100);
    assert_eq!(found[0].points.len(), 4);
}

#[test]
fn a_hundred_thousand_figures_are_bounded_and_what_is_left_out_is_counted() {
    let mut monitor = monitor(&[]);
    for second in 0..3_u64 {
        let of = |number: u64| Metric::gauge("a", 1.0).with("of", &format!("{second}/{number}"));
        monitor.take(None, (0..100_000).map(of).collect(), at(1_000 * second));
    }
    let (most, own) = (monitor.config.max_series, 3);
    assert_eq!(monitor.sample.metrics.len(), most);
    assert_eq!(monitor.sample.left_out as usize, 100_000 + own - most);
    assert!(monitor.history.bytes() <= monitor.config.history_bytes);
}

#[test]
fn what_is_no_number_or_has_no_proper_name_or_is_there_twice_is_left_out() {
    let mut monitor = monitor(&["a > 0", "a < 0"]);
    let improper = [
        Metric::gauge("a", f64::NAN),
        Metric::gauge("a", f64::INFINITY),
        Metric::gauge("A", 1.0),
        Metric::gauge("a b", 1.0),
        Metric::gauge("a..b", 1.0),
        Metric::gauge("", 1.0),
        Metric::gauge(&"a".repeat(65), 1.0),
        Metric::gauge("a", 1.0).with("x\"}", "y"),
        Metric::gauge("a", 1.0).with("x", "y").with("x", "z"),
    ];
    let twice = [Metric::gauge("b", 1.0), Metric::gauge("b", 2.0)];
    monitor.take(None, improper.into_iter().chain(twice).collect(), at(0));
    assert_eq!((monitor.sample.metrics.len(), monitor.sample.left_out), (4, 10));
    assert_eq!(monitor.sample.metric("b").unwrap().value, 1.0);
    assert_eq!(monitor.watches.raised(), []);
}

#[test]
fn when_nothing_is_measured_any_more_that_is_what_is_wrong() {
    let mut monitor = monitor(&[]);
    monitor.take(None, Vec::new(), at(1_000));
    assert_eq!(monitor.health(at(6_000)).status, HealthStatus::Ok);
    let health = monitor.health(at(9_000));
    assert_eq!((health.status, health.since_us), (HealthStatus::Failing, 1_000_000));
    assert_eq!(health.reasons, ["nothing was measured for 8 s: the hub does not answer"]);
}

#[test]
fn what_was_measured_at_a_longer_interval_is_not_too_old_as_soon_as_a_shorter_one_holds() {
    let mut monitor = monitor(&[]);
    let with =
        |seconds| MonitoringConfig { interval: Duration::from_secs(seconds), ..MonitoringConfig::default() };
    monitor.configure(with(60), at(0));
    monitor.take(None, Vec::new(), at(1_000));
    monitor.configure(with(1), at(51_000));
    assert_eq!(monitor.health(at(51_000)).status, HealthStatus::Ok);
    // What holds already gives no more time.
    monitor.configure(with(1), at(56_000));
    let health = monitor.health(at(57_000));
    assert_eq!(health.reasons, ["nothing was measured for 56 s: the hub does not answer"]);
}

#[test]
fn health_is_told_when_it_changes_and_only_then() {
    let mut monitor = monitor(&["a > 1, clear < 1 for 0s"]);
    let told: Vec<_> = [(0, 0.0), (1, 2.0), (2, 3.0), (3, 0.0), (4, 0.0)]
        .into_iter()
        .flat_map(|(second, value)| monitor.take(None, vec![Metric::gauge("a", value)], at(1_000 * second)))
        .filter_map(|event| match event {
            MonitoringEvent::HealthChanged(health) => Some((health.status, health.since_us)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(HealthStatus::Degraded, 1_000_000), (HealthStatus::Ok, 3_000_000)]);
}
