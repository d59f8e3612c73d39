use visorbus_hub::statistics::HubStatistics;

use super::*;

fn text(metrics: Vec<Metric>) -> String {
    let sample = Sample { at_us: 1, metrics, left_out: 0 };
    render(&sample, None, &Health::default())
}

/// The lines after those of the health, without the end.
fn lines(metrics: Vec<Metric>) -> Vec<String> {
    let text = text(metrics);
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    text.lines().skip(5).filter(|line| *line != "# EOF").map(str::to_owned).collect()
}

#[test]
fn names_and_units_are_those_that_prometheus_wants() {
    let metrics = vec![
        Metric::gauge("machine.cpu_percent", 25.0),
        Metric::counter("peer.bytes_in", 7).with("peer", "imu"),
        Metric::gauge("peer.clock_bound_us", 250.0).with("peer", "imu"),
        Metric::gauge("hub.peer_latency_p99_us", 15.0),
    ];
    let found = lines(metrics);
    let values: Vec<&str> = found.iter().map(String::as_str).filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "visorbus_machine_cpu_usage_ratio 0.25",
        r#"visorbus_peer_received_bytes_total{peer="imu"} 7"#,
        r#"visorbus_peer_clock_bound_seconds{peer="imu"} 0.00025"#,
    ];
    assert_eq!(values, expected);
    assert!(found.contains(&"# TYPE visorbus_peer_received_bytes counter".to_owned()), "{found:?}");
    assert!(found.contains(&"# UNIT visorbus_peer_received_bytes bytes".to_owned()), "{found:?}");
}

#[test]
fn a_label_ends_neither_its_line_nor_itself() {
    let evil = "a\"} 1\nvisorbus_forged 1\\";
    let found = lines(vec![Metric::gauge("hub.peers", 1.0).with("peer", evil)]);
    let expected = r#"visorbus_hub_peers{peer="a\"} 1\nvisorbus_forged 1\\"} 1"#;
    assert_eq!(found.last().unwrap(), expected);
    assert_eq!(found.iter().filter(|line| line.starts_with("visorbus")).count(), 1);
}

#[test]
fn what_two_names_would_make_one_of_is_there_once() {
    let metrics = vec![
        Metric::gauge("x.a_b", 1.0),
        Metric::gauge("x.a.b", 2.0),
        Metric::counter("x.a_b_total", 3),
        // What the catalogue has another name for.
        Metric::gauge("machine.cpu_usage_ratio", 4.0),
    ];
    assert_eq!(lines(metrics), ["# TYPE visorbus_x_a_b gauge", "visorbus_x_a_b 1"]);
}

#[test]
fn a_histogram_is_cumulative_and_ends_with_all() {
    let mut latency = Histogram { buckets: vec![0; Histogram::BUCKETS], ..Histogram::default() };
    (latency.buckets[0], latency.buckets[3], latency.count, latency.sum_us) = (2, 5, 7, 61);
    latency.buckets[Histogram::BUCKETS - 1] = 1;
    let mut statistics = HubStatistics::default();
    statistics.peer_latency = latency;
    let text = render(&Sample::default(), Some(&statistics), &Health::default());
    let name = "visorbus_hub_peer_latency_seconds";
    let of: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
    assert_eq!(of[0], format!("{name}_bucket{{le=\"0.000001\"}} 2"));
    assert_eq!(of[3], format!("{name}_bucket{{le=\"0.000015\"}} 7"));
    let end = [
        format!("{name}_bucket{{le=\"+Inf\"}} 8"),
        format!("{name}_count 8"),
        format!("{name}_sum 0.000061"),
    ];
    assert_eq!(of[of.len() - 3..], end);
}

#[test]
fn every_name_of_the_catalogue_is_there_once_and_reads_well() {
    let mut names = HashSet::new();
    for of in catalogue() {
        assert!(names.insert(of.name), "{} twice", of.name);
        assert!(of.prometheus.is_empty() || names.insert(of.prometheus), "{} twice", of.prometheus);
        assert!(of.help.ends_with('.'), "{}", of.name);
        let ends = of.prometheus.ends_with("_total");
        assert!(of.prometheus.is_empty() || ends == (of.kind == MetricKind::Counter), "{}", of.name);
    }
}
