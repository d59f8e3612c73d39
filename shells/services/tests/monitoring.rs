//! The monitoring of a real hub, asked by real clients over a socket.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visorbus_core::ErrorKind;
use visorbus_core::auth::{Claims, Key, KeyRing, Scopes, Slot};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_hub::{HubConfig, OwnedMessage, OwnedPayload, Result};
use visorbus_services::Listening;
use visorbus_services::monitoring::{
    Alert, AlertState, Alerts, Health, HealthStatus, HistoryAnswer, HistoryRequest, Metric, MonitoringConfig,
    MonitoringEvent, MonitoringManager, MonitoringMessageHandler, Sample, Severity, ThresholdInfo,
    ThresholdState, Topics,
};
use visorbus_unix::{Credentials, Delivery, TokenText, UnixSocketClient, UnixSocketServer};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hub that is monitored, with a `/proc` of its own.
struct World {
    directory: TempDir,
    manager: MonitoringManager,
    events: Receiver<MonitoringEvent>,
    _listening: Listening,
    // Last, so that it ends when all else has.
    _server: UnixSocketServer,
}

impl World {
    fn new(thresholds: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("proc")).unwrap();
        // Before anything is measured.
        write_load(&directory, 0.5);
        let mut server =
            UnixSocketServer::new(directory.path().join("hub.sock"), HubConfig::new(keys(), 1)).unwrap();
        server.start().unwrap();
        let config = MonitoringConfig {
            interval: Duration::from_millis(100),
            thresholds: thresholds.iter().map(|text| text.parse().unwrap()).collect(),
            proc_root: directory.path().join("proc"),
            ..MonitoringConfig::default()
        };
        let evil = || vec![Metric::gauge("hardware.temperature_celsius", 41.5).with("device", "a\"} 1\nb\\")];
        let manager = MonitoringManager::new(config, server.handle(), vec![Box::new(evil)]).unwrap();
        let (sender, events) = sync_channel(10_000);
        let listening = manager.on_event(move |event| drop(sender.try_send(event.clone())));
        server.register_handler(Box::new(MonitoringMessageHandler::new(manager.clone()))).unwrap();
        Self { directory, manager, events, _listening: listening, _server: server }
    }

    /// Has the machine's load be this.
    fn set_load(&self, load: f64) {
        write_load(&self.directory, load);
    }

    fn client(&self, name: &str, scopes: &[&str]) -> UnixSocketClient {
        let client = UnixSocketClient::new(self.directory.path().join("hub.sock"), name).unwrap();
        client.authenticate(&Credentials::Token(token(name, scopes))).unwrap();
        client.connect().unwrap();
        client
    }

    fn sample(&self) -> Arc<Sample> {
        self.sample_where(|_| true)
    }

    /// The next sample that is so; those before it are dropped.
    #[track_caller]
    fn sample_where(&self, is_so: impl Fn(&Sample) -> bool) -> Arc<Sample> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left).expect("no such sample came") {
                MonitoringEvent::Sample(sample) if is_so(&sample) => return sample,
                _ => {}
            }
        }
    }
}

/// The machine's load, as the kernel writes it.
fn write_load(directory: &TempDir, load: f64) {
    let file = directory.path().join("proc/loadavg");
    let new = file.with_extension("new");
    fs::write(&new, format!("{load:.2} 0.10 0.05 1/123 4567\n")).unwrap();
    fs::rename(new, file).unwrap();
}

fn keys() -> KeyRing {
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
    keys
}

fn token(subject: &str, scopes: &[&str]) -> TokenText {
    let now = visorbus_hub::unix_micros() / 1_000_000;
    let scopes = Scopes::new(scopes);
    let (issuer, audience, issued_at, expiry) = ("bus", "bus", now, now + 600);
    let claims = Claims { issuer, subject, audience, serial: 1, issued_at, expiry, epoch: 0, scopes };
    let mut out = [0; MAX_TOKEN];
    let len = keys().mint(1, &claims, &mut out).unwrap();
    TokenText::encode(&out[..len]).unwrap()
}

fn ask(client: &UnixSocketClient, what: &str, payload: OwnedPayload) -> Result<OwnedPayload> {
    let request = OwnedMessage::request(format!("monitoring/{what}"), payload);
    client.send_request(request, Some(PATIENCE)).map(|answer| answer.payload)
}

fn postcard<T: serde::Serialize>(value: &T) -> OwnedPayload {
    OwnedPayload::postcard(value).unwrap()
}

#[test]
fn what_goes_over_the_hub_is_measured_and_every_operation_tells_of_it() {
    let world = World::new(&["machine.load1 > 100"]);
    let client = world.client("panel", &["*"]);
    let requests = |sample: &Sample| {
        let of = |metric: &&Metric| metric.series() == r#"hub.messages_in{type="request"}"#;
        sample.metrics.iter().find(of).unwrap().value
    };
    let before = requests(&world.sample());
    (0..100).for_each(|_| drop(ask(&client, "health", OwnedPayload::Empty).unwrap()));
    // What was measured while they were asked comes first.
    world.sample_where(|sample| requests(sample) >= before + 100.0);
    let sample: Sample = ask(&client, "metrics", postcard(&"peer.*")).unwrap().parse().unwrap();
    assert!(sample.metrics.iter().any(|metric| metric.series() == r#"peer.frames_in{peer="panel"}"#));
    assert!(sample.metrics.iter().all(|metric| metric.name.starts_with("peer.")));
    let history = HistoryRequest { metric: "machine.load1".to_owned(), seconds: 60, points: 5 };
    let history: HistoryAnswer = ask(&client, "history", postcard(&history)).unwrap().parse().unwrap();
    assert_eq!((history.series.len(), history.series[0].points.last().unwrap().max), (1, 0.5));
    let thresholds: Vec<ThresholdInfo> =
        ask(&client, "thresholds", OwnedPayload::Empty).unwrap().parse().unwrap();
    assert_eq!((thresholds.len(), thresholds[0].state), (1, ThresholdState::Ok));
    let topics: Topics = ask(&client, "topics", OwnedPayload::Empty).unwrap().parse().unwrap();
    let health = topics.addresses.iter().find(|of| of.address == "monitoring/health").unwrap();
    assert!(health.messages >= 100, "{topics:?}");
    let health: Health = ask(&client, "health", OwnedPayload::Empty).unwrap().parse().unwrap();
    assert_eq!(health.status, HealthStatus::Ok);
}

#[test]
fn an_answer_has_the_form_of_its_request() {
    let world = World::new(&[]);
    world.sample();
    let client = world.client("panel", &["*"]);
    let json = ask(&client, "metrics", OwnedPayload::Json("\"machine.load1\"".to_owned())).unwrap();
    let OwnedPayload::Json(json) = json else { panic!("{json:?}") };
    assert!(
        json.contains(r#""name":"machine.load1","labels":[],"kind":"gauge","value":0.5,"rate":null"#),
        "{json}"
    );
    let text = ask(&client, "metrics", OwnedPayload::String("machine.load1".to_owned())).unwrap();
    assert_eq!(text, OwnedPayload::String("machine.load1 0.5".to_owned()));
    let toml = ask(&client, "health", OwnedPayload::Toml(String::new()));
    let Ok(OwnedPayload::Toml(toml)) = toml else { panic!("{toml:?}") };
    assert!(toml.contains("status = \"ok\""), "{toml}");
}

#[test]
fn whoever_may_not_is_told_nothing_and_changes_nothing() {
    let world = World::new(&["machine.load1 > 100"]);
    let reader = world.client("reader", &["request:monitoring/health"]);
    assert!(ask(&reader, "health", OwnedPayload::Empty).is_ok());
    for what in ["metrics", "history", "thresholds", "alerts", "prometheus", "topics"] {
        let refused = ask(&reader, what, OwnedPayload::Empty).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Authorization, "{what}");
    }
    for (what, payload) in [
        ("set-threshold", postcard(&"machine.load1 > 0: critical")),
        ("remove-threshold", postcard(&"machine.load1")),
        ("set-rate", postcard(&100u32)),
    ] {
        assert_eq!(ask(&reader, what, payload).unwrap_err().kind(), ErrorKind::Authorization, "{what}");
    }
    assert!(reader.subscribe("monitoring/alert", SlowConsumer::default()).is_err());
    let config = world.manager.config();
    assert_eq!((config.thresholds.len(), config.publish), (1, None));
}

#[test]
fn what_is_no_request_is_refused_with_a_word_and_the_others_go_on() {
    let world = World::new(&[]);
    let client = world.client("panel", &["*"]);
    for (what, payload, said) in [
        ("set-threshold", postcard(&"machine.load1 >"), "no threshold"),
        ("set-threshold", postcard(&"machine.load1 > 1 for 9d"), "'9d' is no time"),
        ("set-threshold", postcard(&format!("a{{b=\"{}\"}} > 1", "x".repeat(600))), "longer than 512"),
        ("remove-threshold", postcard(&"machine.load1"), "there is no threshold"),
        ("metrics", postcard(&"no such"), "is too much"),
        ("history", OwnedPayload::Binary(vec![0xff; 40]), ""),
        ("set-rate", OwnedPayload::String("fast".to_owned()), "a whole number"),
        ("nothing", OwnedPayload::Empty, "does nothing of this name"),
    ] {
        let refused = ask(&client, what, payload).unwrap_err();
        assert!(refused.text().contains(said), "{what}: {refused}");
    }
    let typo = ask(&client, "set-threshold", postcard(&"machine.cpu_percet > 1")).unwrap();
    let typo: ThresholdInfo = typo.parse().unwrap();
    assert_eq!(typo.hint, "nothing is measured as machine.cpu_percet; machine.cpu_percent is");
    assert_eq!(typo.state, ThresholdState::Unknown);
    assert!(ask(&client, "health", OwnedPayload::Empty).is_ok());
}

#[test]
fn a_threshold_that_is_passed_reaches_its_subscribers_and_so_does_its_end() {
    let world = World::new(&[]);
    let client = world.client("panel", &["*"]);
    let alerts = client.subscribe("monitoring/alert", SlowConsumer::default()).unwrap();
    let changes = client.subscribe("monitoring/health-changed", SlowConsumer::default()).unwrap();
    let text = "machine.load1 > 4, clear < 2 for 100ms: critical";
    ask(&client, "set-threshold", postcard(&text)).unwrap();
    let next = |from: &visorbus_unix::Subscription| match from.recv(Some(PATIENCE)).unwrap() {
        Some(Delivery::Message(message)) => message.payload,
        other => panic!("{other:?}"),
    };
    world.set_load(7.25);
    let raised: Alert = next(&alerts).parse().unwrap();
    assert_eq!((raised.state, raised.value, raised.threshold.as_str()), (AlertState::Raised, 7.25, text));
    assert_eq!(next(&changes).parse::<Health>().unwrap().status, HealthStatus::Failing);
    let now: Alerts = ask(&client, "alerts", OwnedPayload::Empty).unwrap().parse().unwrap();
    assert_eq!(now.raised, [raised]);
    world.set_load(1.0);
    assert_eq!(next(&alerts).parse::<Alert>().unwrap().state, AlertState::Cleared);
    assert_eq!(next(&changes).parse::<Health>().unwrap().status, HealthStatus::Ok);
}

#[test]
fn thresholds_that_many_set_and_remove_at_once_are_all_set_and_removed() {
    let world = World::new(&[]);
    std::thread::scope(|scope| {
        for name in ["hub", "process", "machine", "peer"] {
            let manager = &world.manager;
            scope.spawn(move || {
                for round in 0..200 {
                    let text = format!("{name}.figure{} > 1", round % 8);
                    manager.set_threshold(text.parse().unwrap()).unwrap();
                    if round < 192 {
                        manager.remove_threshold(&text).expect("nobody else has taken it away");
                    }
                }
            });
        }
    });
    assert_eq!(world.manager.thresholds().len(), 32);
}

#[test]
fn what_was_set_over_the_bus_stays_until_its_own_key_changes() {
    let world = World::new(&["hub.peers > 900"]);
    let first = world.manager.config();
    world.manager.set_threshold("process.threads > 5000".parse().unwrap()).unwrap();
    world.manager.publish_every(Some(Duration::from_secs(2)));
    let slower = MonitoringConfig { interval: Duration::from_millis(300), ..first };
    world.manager.reconfigure(slower.clone());
    let config = world.manager.config();
    assert_eq!((config.thresholds.len(), config.interval), (2, slower.interval));
    assert_eq!(config.publish, Some(Duration::from_secs(2)));

    let other = MonitoringConfig {
        thresholds: vec!["hub.peers > 800".parse().unwrap()],
        publish: Some(Duration::from_secs(9)),
        ..slower.clone()
    };
    world.manager.reconfigure(other.clone());
    assert_eq!(world.manager.config(), other);
    world.manager.reconfigure(slower.clone());
    assert_eq!(world.manager.config(), slower, "and back");
}

#[test]
fn a_listener_sets_and_removes_thresholds_within_an_alert() {
    let world = World::new(&["machine.load1 > 4: critical"]);
    let (manager, (refusals, refused)) = (world.manager.clone(), sync_channel(100));
    let _listening = world.manager.on_event(move |event| {
        let MonitoringEvent::Alert(alert) = event else { return };
        if alert.state == AlertState::Raised && alert.severity == Severity::Critical {
            // Another one first, then without the one that this is about; all else may be asked too.
            manager.set_threshold("machine.load1 > 3: warning".parse().unwrap()).unwrap();
            assert_eq!(manager.remove_threshold("machine.load1 > 4: critical"), Ok(1));
            let wrong = manager.remove_threshold("no.such.figure").unwrap_err();
            let _ = refusals.try_send((wrong.kind(), manager.thresholds().len(), manager.alerts().len()));
        }
    });
    world.set_load(9.0);
    let mut told = Vec::new();
    while told.len() < 3 {
        if let MonitoringEvent::Alert(alert) = world.events.recv_timeout(PATIENCE).unwrap() {
            told.push((alert.severity, alert.state));
        }
    }
    let (raised, cleared) = (AlertState::Raised, AlertState::Cleared);
    let (warning, critical) = (Severity::Warning, Severity::Critical);
    assert_eq!(told, [(critical, raised), (critical, cleared), (warning, raised)]);
    assert_eq!(refused.recv_timeout(PATIENCE), Ok((ErrorKind::Message, 1, 0)));
    // It goes on measuring.
    world.sample();
    assert_eq!(world.manager.health().status, HealthStatus::Degraded);
}

#[test]
fn samples_are_published_when_they_are_wanted_and_only_then() {
    let world = World::new(&[]);
    let client = world.client("panel", &["*"]);
    let samples = client.subscribe("monitoring/sample", SlowConsumer::default()).unwrap();
    (0..3).for_each(|_| drop(world.sample()));
    assert!(samples.recv(Some(Duration::ZERO)).unwrap().is_none());
    // Not more often than is measured.
    let held: u32 = ask(&client, "set-rate", postcard(&1u32)).unwrap().parse().unwrap();
    assert_eq!(held, 100);
    let Some(Delivery::Message(message)) = samples.recv(Some(PATIENCE)).unwrap() else { panic!("none came") };
    assert!(message.payload.parse::<Sample>().unwrap().metric("hub.bytes_in").is_some());
    assert_eq!(ask(&client, "set-rate", postcard(&0u32)).unwrap().parse::<u32>().unwrap(), 0);
}

#[test]
fn the_text_for_prometheus_is_open_metrics_whatever_a_device_is_called() {
    let world = World::new(&[]);
    world.sample();
    let client = world.client("panel", &["*"]);
    let text: String = ask(&client, "prometheus", OwnedPayload::Empty).unwrap().parse().unwrap();
    check_open_metrics(&text);
    assert!(
        text.contains("visorbus_hardware_temperature_celsius{device=\"a\\\"} 1\\nb\\\\\"} 41.5\n"),
        "{text}"
    );
}

#[test]
fn a_source_and_a_listener_that_panic_end_nothing_else() {
    let world = World::new(&[]);
    let _listening = world.manager.on_event(|_| panic!("a listener's own fault"));
    (0..3).for_each(|_| drop(world.sample()));
    assert!(ask(&world.client("panel", &["*"]), "health", OwnedPayload::Empty).is_ok());
}

/// Each line is what OpenMetrics 1.0 allows there: each family in one piece below its type, no sample twice, numbers that
/// are finite, histograms that only rise, one end.
fn check_open_metrics(text: &str) {
    let body = text.strip_suffix("# EOF\n").expect("the end");
    let (mut families, mut seen) = (std::collections::HashMap::new(), std::collections::HashSet::new());
    let mut family = ("", "");
    let mut below = 0.0;
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split_once(' ').unwrap();
            assert!(families.insert(family.0, family.1).is_none(), "{line} twice");
            below = 0.0;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# UNIT ").or_else(|| line.strip_prefix("# HELP ")) {
            assert_eq!(rest.split(' ').next().unwrap(), family.0, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && seen.insert(series), "{line}");
        let (name, labels) = series.find('{').map_or((series, ""), |at| series.split_at(at));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        check_labels(labels);
        let rest = name.strip_prefix(family.0).unwrap_or_else(|| panic!("{line} is not below its type"));
        match family.1 {
            "gauge" => assert_eq!(rest, "", "{line}"),
            "counter" => assert!(rest == "_total" && value >= 0.0, "{line}"),
            "histogram" if rest == "_bucket" => {
                assert!(value >= below, "{line} fell");
                below = value;
            }
            "histogram" => assert!(rest == "_sum" || (rest == "_count" && value == below), "{line}"),
            other => panic!("{other} in {line}"),
        }
    }
    assert!(families.len() > 20, "{text}");
}

/// `{name="value",…}`, with `\`, `"` and new lines escaped.
fn check_labels(text: &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return assert_eq!(text, "") };
    while rest != "}" {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{text}");
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (_, '\\') => assert!(matches!(letters.next(), Some((_, '\\' | '"' | 'n'))), "{text}"),
                (at, '"') => break at,
                (_, letter) => assert!(letter != '\n'),
            }
        };
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}
