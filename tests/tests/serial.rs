//! Nodes on serial lines: real pseudo-terminals, the hub at one end, a node of the core at the other.

mod line;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "line/node.rs"]
mod node;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as Clock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use visorbus_core::auth::Key;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::serial;
use visorbus_core::peer::Event;
use visorbus_imu::messages::{GetInfo, SelfTest, SetRate};
use visorbus_imu::{ImuBoard, device_key};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::patience::{CHANCES, PATIENCE};
use visorbus_tests::pty::Pty;

use line::{AT_ONCE, Operator, TestHub, samples, samples_without_gaps};
use node::{Host, Node, Ping, log, logged, wait_for_log};

#[test]
fn a_node_is_called_and_streams_over_its_line() {
    let (hub, operator, _pty, _node) = sensor(7);
    let info = operator.info();
    assert_eq!((info.board.as_str(), info.boot_id, info.rate_hz), (Host::NAME, 7, 100));
    assert!(operator.call::<SelfTest>(&()).passed);
    assert_eq!(operator.call::<SetRate>(&200), 200);
    let wrong = operator.client.call::<SetRate>(&0, None).unwrap_err();
    assert_eq!(
        (wrong.kind(), wrong.text().as_str()),
        (ErrorKind::Message, "the rate goes from 1 to 1000 Hz")
    );
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    // One of the old rate may be on its way.
    samples(&stream, 2);
    samples_without_gaps(&stream, 100, 200);
    let imu = hub.peer("imu").unwrap();
    assert!(imu.authenticated && imu.origin.starts_with("serial "), "{imu:?}");
    assert_eq!((imu.sessions, imu.undecodable, imu.refused), (1, 0, 0), "{imu:?}");
    // What a busy machine acknowledges late is sent again.
    assert!(imu.faults.iter().all(|fault| fault.name == "resent" || fault.count == 0), "{imu:?}");
}

#[test]
fn a_call_without_its_scope_is_refused_before_it_reaches_the_board() {
    let (hub, operator, _pty, _node) = sensor(1);
    operator.info();
    let viewer = hub.client("viewer", &["request:imu/*"]);
    let before = hub.peer("imu").unwrap().frames_out;
    for _ in 0..200 {
        let refusal = viewer.call::<SetRate>(&50, None).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Authorization);
        assert!(refusal.text().starts_with("imu/set-rate: this needs the scope 'imu.control'"), "{refusal}");
    }
    let sent = hub.peer("imu").unwrap().frames_out - before;
    assert!(
        sent < 200,
        "{sent} frames went to the board: heartbeats and what acknowledges its samples are fewer"
    );
    assert_eq!(operator.info().rate_hz, 100);
}

#[test]
fn what_a_line_garbles_is_counted_and_the_session_goes_on() {
    let (hub, operator, pty, _node) = sensor(1);
    let count = |name: &str| {
        let imu = hub.peer("imu").unwrap();
        imu.faults.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("no {name}")).count
    };
    let expect_counted = |name: &'static str, bytes: &[u8]| {
        let before = count(name);
        write_all(&pty, &[&[0], bytes, &[0]].concat());
        hub.wait_for_peer("imu", |imu| {
            imu.faults.iter().any(|fault| fault.name == name && fault.count > before)
        });
        assert_eq!(operator.info().boot_id, 1, "after {name}");
    };
    let mut frame = [0; 64];
    let len = serial::encode(&[b"a frame like any other"], &mut frame).unwrap();
    let (good, _delimiter) = frame[..len].split_at(len - 1);
    let mut damaged = good.to_vec();
    damaged[5] ^= 0x20;
    for _ in 0..5 {
        expect_counted("bad_crc", &damaged);
        expect_counted("cut_off", &good[..good.len() - 7]);
        // Longer than the longest frame of a line.
        expect_counted("too_long", &[0xa5; 1_500]);
    }
    // Whole, and nothing that a message begins with.
    let before = hub.peer("imu").unwrap().undecodable;
    write_all(&pty, &frame[..len]);
    hub.wait_for_peer("imu", |imu| imu.undecodable > before);

    let mut random = Random::new(11);
    for _ in 0..300 {
        let noise: Vec<u8> = (0..random.below(64)).map(|_| random.below(256) as u8).collect();
        write_all(&pty, &noise);
    }
    write_all(&pty, &[0]);
    assert_eq!(operator.info().boot_id, 1);
    let imu = hub.peer("imu").unwrap();
    assert_eq!(imu.sessions, 1, "the session went on: {imu:?}");
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    samples_without_gaps(&stream, 20, 100);
}

#[test]
fn unplugged_it_fails_its_calls_at_once_and_comes_back_by_itself() {
    let (hub, operator, pty, node) = sensor(1);
    // From here on nobody answers, but the line is there.
    drop(node);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    let pulled = Clock::now();
    drop(pty);
    call.expect_gone(pulled, "imu-line is gone");
    operator.wait("imu", false);
    let nobody = operator.client.call::<GetInfo>(&(), None).unwrap_err();
    assert_eq!((nobody.kind(), nobody.text().contains("nobody serves 'imu'")), (ErrorKind::Message, true));

    for boot_id in [2, 3] {
        let pty = Pty::open().unwrap();
        pty.plug(&hub.line("imu-line")).unwrap();
        let node = Node::sensor(&pty, boot_id, device_key());
        operator.wait("imu", true);
        assert_eq!(operator.info().boot_id, boot_id);
        drop((node, pty));
        operator.wait("imu", false);
    }
}

#[test]
fn a_node_that_restarts_is_noticed_at_once() {
    let (hub, operator, pty, node) = sensor(1);
    drop(node);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    // A reset loses what the UART holds.
    let mut lost = [0; 1_024];
    while rustix::io::read(&pty.master, &mut lost).is_ok() {}
    let restarted = Clock::now();
    let _node = Node::sensor(&pty, 2, device_key());
    call.expect_gone(restarted, "it started again");
    operator.wait("imu", false);
    operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 2);
    assert_eq!(hub.peer("imu").unwrap().sessions, 2);
}

#[test]
fn a_node_that_goes_silent_is_noticed_after_three_heartbeats() {
    let (hub, operator, _pty, node) = sensor(1);
    drop(node);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    let silent = Clock::now();
    operator.wait("imu", false);
    let (error, after) = call.error(silent);
    assert!(error.text().contains("it was silent for three heartbeats"), "{error}");
    assert!((Duration::from_millis(1_500)..AT_ONCE).contains(&after), "{after:?}");
}

#[test]
fn a_hub_that_restarts_has_the_node_again_at_once() {
    let (mut hub, operator, _pty, node) = sensor(1);
    operator.info();
    drop(operator);
    // Then one whose goodbye is lost: the node learns from the new hub that the old one is gone.
    for hears_the_end in [true, false] {
        let mut times = std::iter::repeat_with(|| {
            node.hears.store(hears_the_end, Ordering::SeqCst);
            hub.restart(|| node.hears.store(true, Ordering::SeqCst));
            is_back_after(&hub)
        });
        // It would notice by itself after three heartbeats; a machine that is busy gets another chance to be faster.
        assert!(times.by_ref().take(CHANCES).any(|took| took < SILENCE), "{hears_the_end}");
    }
}

fn is_back_after(hub: &TestHub) -> Duration {
    let operator = hub.operator();
    hub.attach("imu-line", ",unkeyed=imu");
    let took = operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 1);
    took
}

#[test]
fn a_device_that_is_not_there_yet_is_waited_for_and_each_trouble_is_logged_once() {
    log();
    let hub = TestHub::start();
    let operator = hub.operator();
    let line = hub.line("imu-line");
    hub.attach("imu-line", ",unkeyed=imu");
    let missing = format!("no serial device at {}", line.display());
    assert_eq!(logged(&missing), 1);
    let nobody = operator.client.call::<GetInfo>(&(), None).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Message, "{nobody}");
    // Something that is no device does no harm meanwhile.
    std::fs::write(&line, "no device").unwrap();
    let no_device = format!("{} is not a serial device", line.display());
    wait_for_log(&no_device);
    let pty = Pty::open().unwrap();
    let node = Node::sensor(&pty, 1, device_key());
    pty.plug(&line).unwrap();
    operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 1);
    assert_eq!((logged(&missing), logged(&no_device)), (1, 1));
    assert_eq!(logged(&format!("{} is there again", line.display())), 1);
    drop((node, pty));
    operator.wait("imu", false);
    wait_for_log(&format!("{} is gone; waiting for it", line.display()));
}

#[test]
fn a_node_without_keys_is_believed_where_the_line_says_so_and_the_log_warns() {
    log();
    let (hub, operator, pty) = plugged();
    hub.attach("imu-line", ",unauthenticated=imu");
    let node = Node::plain(&pty, "imu");
    operator.wait("imu", true);
    assert_eq!(operator.call::<Ping>(&41), 42);
    let warning = format!("serial {}: 'imu' is believed without a token", hub.line("imu-line").display());
    assert_eq!(logged(&warning), 1);
    drop(node);
    // One with a key is served there too.
    let _node = Node::sensor(&pty, 3, device_key());
    operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 3);
}

#[test]
fn a_node_without_keys_is_refused_where_nobody_said_so() {
    for (options, name) in
        [(",unkeyed=imu", "imu"), (",unauthenticated=imu", "radio"), (",unauthenticated=imu", "imu2")]
    {
        let (hub, operator, pty) = plugged();
        hub.attach("imu-line", options);
        let node = Node::plain(&pty, name);
        node.wait_for(Event::Opened);
        let peer = hub.wait_for_peer(&format!("{name}?"), |peer| peer.sessions > 0);
        assert!(!peer.authenticated, "{peer:?}");
        let nobody = operator.client.send_request(
            visorbus_hub::OwnedMessage::request(format!("{name}/ping"), visorbus_hub::OwnedPayload::Empty),
            None,
        );
        let nobody = nobody.unwrap_err();
        assert!(nobody.text().contains(&format!("nobody serves '{name}'")), "{options}: {nobody}");
        assert!(!node.saw(Event::Ready), "nobody has proven anything to anybody");
    }
}

#[test]
fn a_node_with_a_wrong_key_is_refused_and_tried_again_and_nobody_else_notices() {
    let (hub, operator, _pty, _node) = sensor(1);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    samples(&stream, 1);
    let pty = Pty::open().unwrap();
    pty.plug(&hub.line("radio-line")).unwrap();
    hub.attach("radio-line", ",unkeyed=radio");
    let impostor = Node::keyed(&pty, "radio", Key::new([1; 32]));
    impostor.wait_for(Event::Refused);
    let peer = hub.wait_for_peer("radio?", |peer| peer.refused >= 2);
    assert!(!peer.authenticated && !impostor.saw(Event::Ready), "{peer:?}");
    samples_without_gaps(&stream, 50, 100);
    assert_eq!(operator.info().boot_id, 1);
    let imu = hub.peer("imu").unwrap();
    assert_eq!((imu.sessions, imu.refused), (1, 0), "{imu:?}");
    drop(impostor);

    // Neither does the key of another device do.
    let impostor = Node::keyed(&pty, "radio", device_key());
    impostor.wait_for(Event::Refused);
    drop(impostor);
    let _honest = Node::keyed(&pty, "radio", Key::new(visorbus_imu::DEVELOPMENT_ROOT_KEY).derive("radio"));
    operator.wait("radio", true);
}

#[test]
fn a_second_node_of_the_same_name_is_refused_and_the_first_goes_on() {
    let (hub, operator, pty, node) = sensor(1);
    let other = Pty::open().unwrap();
    other.plug(&hub.line("other-line")).unwrap();
    hub.attach("other-line", ",unkeyed=imu");
    let second = Node::sensor(&other, 2, device_key());
    second.wait_for(Event::Refused);
    assert_eq!(operator.info().boot_id, 1);
    // When the first is gone the second has the name.
    drop((node, pty));
    operator.wait("imu", false);
    operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 2);
}

#[test]
fn a_babbling_line_does_not_slow_the_others() {
    let (hub, operator, _pty, _node) = sensor(1);
    let quiet = median_call(&operator);
    let pty = Arc::new(Pty::open().unwrap());
    pty.plug(&hub.line("babbler")).unwrap();
    hub.attach("babbler", ",unkeyed=babbler");
    let babbling = Arc::new(AtomicBool::new(true));
    let babbler = thread::spawn({
        let (pty, babbling) = (Arc::clone(&pty), Arc::clone(&babbling));
        move || {
            let mut random = Random::new(5);
            let noise: Vec<u8> = (0..65_536).map(|_| random.below(256) as u8).collect();
            let mut written = 0_u64;
            while babbling.load(Ordering::SeqCst) {
                let at = (random.below(60_000)) as usize;
                match rustix::io::write(&pty.master, &noise[at..at + 4_096]) {
                    Ok(count) => written += count as u64,
                    Err(_) => drop(poll(&mut [PollFd::new(&pty.master, PollFlags::OUT)], Some(&SHORT))),
                }
            }
            written
        }
    });
    hub.wait_for_peer(&format!("serial {}", hub.line("babbler").display()), |peer| {
        peer.faults.iter().any(|fault| fault.count > 1_000)
    });
    let loud = median_call(&operator);
    babbling.store(false, Ordering::SeqCst);
    let written = babbler.join().unwrap();
    // The hub has one thread: what it takes from the babbler between two calls is what they may lose.
    eprintln!("a call takes {quiet:?}, beside {written} bytes of noise {loud:?}");
    let limit = quiet * 20 + Duration::from_millis(5);
    assert!(loud < limit, "{loud:?} instead of {quiet:?}, beside {written} bytes of noise");
    assert_eq!(hub.peer("imu").unwrap().sessions, 1);
}

fn median_call(operator: &Operator) -> Duration {
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Clock::now();
            operator.info();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// A hub, an operator, and a line that is plugged in and not attached.
fn plugged() -> (TestHub, Operator, Pty) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let pty = Pty::open().unwrap();
    pty.plug(&hub.line("imu-line")).unwrap();
    (hub, operator, pty)
}

/// A hub with the sensor in service.
fn sensor(boot_id: u64) -> (TestHub, Operator, Pty, Node) {
    let (hub, operator, pty) = plugged();
    let node = Node::sensor(&pty, boot_id, device_key());
    hub.attach("imu-line", ",unkeyed=imu");
    operator.wait("imu", true);
    (hub, operator, pty, node)
}

fn write_all(pty: &Pty, mut bytes: &[u8]) {
    let deadline = Clock::now() + PATIENCE;
    while !bytes.is_empty() {
        assert!(Clock::now() < deadline, "the hub does not read");
        match rustix::io::write(&pty.master, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => drop(poll(&mut [PollFd::new(&pty.master, PollFlags::OUT)], Some(&SHORT))),
        }
    }
}

/// Less than what makes a node believe that its hub is gone.
const SILENCE: Duration = Duration::from_secs(1);
const SHORT: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
