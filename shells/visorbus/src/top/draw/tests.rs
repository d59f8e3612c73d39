use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use visorbus_hub::Error;
use visorbus_services::monitoring::{AlertState, Alerts, Metric, Sample};

use super::*;

fn lines(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    buffer.content.chunks(width.into()).map(|cells| line(cells).trim_end().to_owned()).collect()
}

fn press(view: &mut View, code: KeyCode) -> bool {
    view.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn rated(name: &str, label: &str, of: &str, rate: f64) -> Metric {
    Metric { rate: Some(rate), ..Metric::counter(name, 1_234_567).with(label, of) }
}

/// Some peers and addresses, of which `imu` says most and `eye` the least.
fn view(peers: usize) -> View {
    let mut metrics = vec![
        rated("peer.frames_in", "peer", "imu", 1_000.0),
        rated("peer.bytes_in", "peer", "imu", 34_000.0),
        rated("peer.frames_in", "peer", "eye", 0.4),
        rated("peer.frames_in", "peer", "cli.1", 9_999.0),
        rated("address.messages", "address", "imu/sample", 1_000.0),
        rated("address.messages", "address", "eye/gaze", 3.0),
        Metric::gauge("machine.cpu_percent", 12.34),
        Metric::gauge("hub.uptime_seconds", 3_700.0),
    ];
    metrics.extend((0..peers).map(|number| rated("peer.frames_in", "peer", &format!("p{number:03}"), 1.0)));
    let sample = Sample { metrics, ..Sample::default() };
    View::new(Snapshot { sample, own_name: "cli.1".to_owned(), ..Snapshot::default() })
}

/// The first words of the rows between a header and the next empty line or header.
fn names(lines: &[String], header: &str) -> Vec<String> {
    let rows = lines.iter().skip_while(|line| !line.starts_with(header)).skip(1);
    let first = |line: &String| line.split_whitespace().next().map(str::to_owned);
    rows.map_while(first).take_while(|name| !name.starts_with("ADDRESS") && name != "q").collect()
}

#[test]
fn at_eighty_by_twenty_four_all_of_it_is_there() {
    let lines = lines(&view(100), 80, 24);
    assert_eq!(lines[0], "visorbus  up 1 h 1 min  - connections  health: ok");
    assert!(lines[2].starts_with("machine  cpu 12 %"), "{lines:#?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
    assert!(lines[7].starts_with("PEER") && lines[7].ends_with("REFUSED"), "{lines:#?}");
    assert_eq!(lines[8], "imu                     1k        0    34 kB      0 B      0 B        0        0");
    assert_eq!(names(&lines, "ADDRESS"), ["imu/sample", "eye/gaze"]);
    assert!(lines[23].starts_with("q quit  p pause"), "{lines:#?}");
    // Who looks is not shown to themselves.
    assert!(!lines.iter().any(|line| line.contains("cli.1")));
}

#[test]
fn no_size_is_too_small_and_none_too_large() {
    let mut view = view(5);
    let alert = Alert {
        metric: "a".to_owned(),
        threshold: String::new(),
        severity: Severity::Critical,
        state: AlertState::Raised,
        value: 1.0,
        since_us: 0,
        at_us: 0,
        text: "a was 2: > 1".to_owned(),
    };
    view.snapshot.alerts = Alerts { raised: vec![alert; 60], ..Alerts::default() };
    for (width, height) in [(1, 1), (2, 3), (10, 5), (79, 8), (40, 100), (500, 200), (1, 300), (300, 1)] {
        assert_eq!(lines(&view, width, height).len(), usize::from(height));
    }
}

#[test]
fn keys_sort_turn_round_scroll_and_change_the_table() {
    let mut view = view(0);
    assert_eq!(names(&lines(&view, 80, 24), "PEER"), ["imu", "eye"]);
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(names(&lines(&view, 80, 24), "PEER"), ["eye", "imu"]);
    // By bytes from there, by frames from there back.
    for key in [KeyCode::Char('s'), KeyCode::Char('S'), KeyCode::Left, KeyCode::Left] {
        assert!(press(&mut view, key));
    }
    assert_eq!(view.peers.sorted, 0);
    assert_eq!(names(&lines(&view, 80, 24), "PEER↓"), ["eye", "imu"]);
    press(&mut view, KeyCode::Left);
    assert_eq!(view.peers.sorted, view.peers.columns.len() - 1);
    press(&mut view, KeyCode::Down);
    press(&mut view, KeyCode::PageDown);
    assert_eq!(names(&lines(&view, 80, 24), "PEER").len(), 1);
    press(&mut view, KeyCode::Tab);
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(names(&lines(&view, 80, 24), "ADDRESS"), ["eye/gaze", "imu/sample"]);
    assert!(!press(&mut view, KeyCode::Char('x')), "what means nothing changes nothing");
}

#[test]
fn what_is_halted_stays_until_it_goes_on() {
    let mut view = view(0);
    press(&mut view, KeyCode::Char('p'));
    assert!(!view.take(Snapshot::default()));
    let halted = lines(&view, 80, 24);
    assert!(halted[0].contains("PAUSED") && halted.iter().any(|line| line.starts_with("imu ")));
    press(&mut view, KeyCode::Char(' '));
    assert!(view.take(Snapshot::default()));
    assert_eq!(names(&lines(&view, 80, 24), "PEER"), Vec::<String>::new());
}

#[test]
fn a_hub_that_is_silent_is_said_and_what_was_known_stays() {
    let mut view = view(0);
    view.miss(Error::Connection("the hub\x1b[2J is away".to_owned()));
    view.miss(Error::Connection("the hub is away".to_owned()));
    let silent = lines(&view, 80, 24);
    assert_eq!(silent[1], "no news for 0 s: the hub is away");
    assert_eq!(names(&silent, "PEER"), ["imu", "eye"]);
    assert!(view.take(Snapshot::default()));
    assert_eq!(lines(&view, 80, 24)[1], "");
}

#[test]
fn every_way_to_quit_quits() {
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
    for key in [plain(KeyCode::Char('q')), plain(KeyCode::Esc), control('c'), control('d')] {
        let mut view = view(0);
        view.press(key);
        assert!(view.is_over(), "{key:?}");
    }
}

#[test]
fn numbers_are_short() {
    let all = [0.0, 0.04, 0.44, 9.94, 9.96, 42.4, 999.4, 999.6, 1_234.0, 999_600.0, 3.2e9, 5e15];
    let short = ["0", "0", "0.4", "9.9", "10", "42", "999", "1k", "1.2k", "1M", "3.2G", "5000T"];
    assert_eq!(all.map(show_count), short);
    assert_eq!((show_bytes(0.0), show_bytes(34_567.0)), ("0 B".to_owned(), "35 kB".to_owned()));
}
