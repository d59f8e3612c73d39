//! The client against a small service that is not ours, on a bus that is killed and started again.

mod attacks;
mod home;
mod service;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use dbus::Message;
use visorbus_auth::{AuthToken, KeyFile, TokenRequest};
use visorbus_core::ErrorKind;
use visorbus_dbus::{BusAddress, DBusChange, DBusClient, DBusClientConfig, DBusClientState, MessageItem};
use visorbus_tests::dbus_daemon::{BusOptions, DbusDaemon};
use visorbus_tests::patience::{Ending, PATIENCE};

use home::{NAME, PATH, Small, await_change, changes, client, unconnected};

#[test]
fn a_call_brings_back_what_the_service_gives() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let _service = Small::start(&bus);
        let client = client(&bus);
        let sent = [
            MessageItem::Str("text".into()),
            MessageItem::UInt32(9),
            MessageItem::new_array(vec![1_u64.into(), 2_u64.into()]).unwrap(),
            MessageItem::Variant(Box::new(true.into())),
        ];
        assert_eq!(client.call_method(NAME, "Echo", &sent).unwrap(), sent);
        assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
        assert_eq!(client.get_property(NAME, "Any").unwrap(), MessageItem::UInt32(7));
        client.set_property(NAME, "Any", "value".into()).unwrap();
        let DBusClientState::Connected { service, authenticated, .. } = client.state() else { panic!() };
        assert_eq!((service, authenticated), (bus.owner(NAME), false));
    }
}

#[test]
fn an_error_comes_back_as_its_kind_with_its_d_bus_name() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let fail = |name: &str, text: &str| {
        let error = client.call_method(NAME, "Fail", &[name.into(), text.into()]).unwrap_err();
        (error.kind(), error.text().clone())
    };
    for (name, kind) in [
        ("org.freedesktop.DBus.Error.AccessDenied", ErrorKind::Authorization),
        ("org.freedesktop.DBus.Error.AuthFailed", ErrorKind::Authentication),
        ("org.freedesktop.DBus.Error.Timeout", ErrorKind::Timeout),
        ("org.visorbus.Error.Internal", ErrorKind::Internal),
        ("com.example.Anything", ErrorKind::Message),
    ] {
        assert_eq!(fail(name, "why"), (kind, format!("{name}: why")));
    }
    assert!(fail("a.b", &"x".repeat(100_000)).1.len() < 2000, "a text from outside is cut");
}

#[test]
fn what_is_no_name_and_no_argument_is_refused_before_it_reaches_libdbus() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let refused = |result: visorbus_hub::Result<Vec<MessageItem>>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Message, "{error}");
    };
    refused(client.call_method("no interface", "Echo", &[]));
    refused(client.call_method(NAME, "Echo.Echo", &[]));
    refused(client.call_method(NAME, "Echo\0Echo", &[]));
    refused(client.call_method(NAME, "", &[]));
    refused(client.call_method(NAME, "Echo", &["zero\0byte".into()]));
    refused(client.call_method(NAME, "Echo", &[MessageItem::Struct(Vec::new())]));
    assert!(client.object("no path").is_err() && client.object("/a\0b").is_err());
    assert!(DBusClient::new("name", "/").is_err() && DBusClient::new("a.b\0", "/").is_err());
    assert!(client.register_signal_handler(NAME, "a'b", |_| {}).is_err());
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), [], "the client goes on");
}

#[test]
fn a_call_without_an_answer_ends_in_time_and_leaves_nothing_behind() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.open_calls = 2;
    let client = DBusClient::with_config(NAME, PATH, config).unwrap();
    client.connect().unwrap();
    // More than may be open at once, one after the other.
    for _ in 0..5 {
        let began = Instant::now();
        let error =
            client.call_method_with_timeout(NAME, "Silence", &[], Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
}

#[test]
fn more_calls_than_may_be_open_are_refused_and_the_others_go_on() {
    let bus = DbusDaemon::start();
    let service = Small::start(&bus);
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.open_calls = 1;
    let client = DBusClient::with_config(NAME, PATH, config).unwrap();
    client.connect().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.call_method(NAME, "Silence", &[]));
        service.await_call("Silence");
        let error = client.call_method(NAME, "Echo", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Message, "{error}");
        client.disconnect();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Connection);
    });
}

#[test]
fn sixteen_threads_call_at_once_and_each_gets_its_own_answer() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    thread::scope(|scope| {
        for number in 0..16_u32 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..50_u32 {
                    let sent = [(number * 1000 + round).into()];
                    assert_eq!(client.call_method(NAME, "Echo", &sent).unwrap(), sent);
                }
            });
        }
    });
}

#[test]
fn a_service_that_ends_in_the_middle_of_a_call_fails_it_at_once() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let service = Small::start(&bus);
        let client = client(&bus);
        let changes = changes(&client);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.call_method(NAME, "Silence", &[]));
            service.await_call("Silence");
            drop(service);
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        });
        await_change(&changes, |change| *change == DBusChange::ServiceGone);
        let error = client.call_method(NAME, "Echo", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");

        let _service = Small::start(&bus);
        await_change(&changes, |change| matches!(change, DBusChange::ServiceAppeared { .. }));
        assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
    }
}

#[test]
fn a_bus_that_is_not_there_is_said_and_nothing_is_tried_on() {
    let mut bus = DbusDaemon::start();
    bus.kill();
    let client = unconnected(&bus);
    let error = client.connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.text().contains(bus.address()), "{error}");
    assert_eq!(client.state(), DBusClientState::Idle);
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap_err().kind(), ErrorKind::Connection);
    bus.restart();
    client.connect().unwrap();
}

#[test]
fn a_bus_that_is_killed_under_load_fails_the_calls_at_once_and_is_found_again() {
    for mut bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let service = Small::start(&bus);
        let client = client(&bus);
        client.set_auth_token(token()).unwrap();
        let (heard, told) = mpsc::channel();
        client.register_signal_handler(NAME, "Told", move |_| heard.send(()).unwrap_or_default()).unwrap();
        let changes = changes(&client);
        let (done, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let _ending = Ending(&done);
            for _ in 0..8 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        if let Err(error) = client.call_method(NAME, "Echo", &[1_u32.into()]) {
                            assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
                            failed.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                        }
                    }
                });
            }
            let silent = scope.spawn(|| client.call_method(NAME, "Silence", &[]));
            service.await_call("Silence");
            bus.kill();
            let error = silent.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
            await_change(&changes, |change| matches!(change, DBusChange::Lost(_)));
            drop(service);
            bus.restart();
            let service = Small::start(&bus);
            await_change(&changes, |change| *change == DBusChange::Authenticated);
            assert_eq!(
                service.tokens(),
                [token().value.as_str()],
                "the token was shown to the new one, once"
            );
            assert!(client.call_method(NAME, "Tell", &[]).is_ok());
            told.recv_timeout(PATIENCE).expect("the handler hears on the new bus");
        });
        assert!(failed.load(Ordering::SeqCst) > 0);
    }
}

#[test]
fn signals_to_all_and_to_this_client_arrive_in_order_and_those_of_other_objects_do_not() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let _service = Small::start(&bus);
        let client = client(&bus);
        let (heard, told) = mpsc::channel();
        let every = heard.clone();
        let number = |signal: &Message| match DBusClient::signal_args(signal).unwrap().as_slice() {
            [MessageItem::UInt32(number)] => *number,
            other => panic!("{other:?}"),
        };
        client
            .register_signal_handler(NAME, "Told", move |signal| heard.send(number(signal)).unwrap())
            .unwrap();
        client
            .register_signal_handler(NAME, "", move |signal| every.send(100 + number(signal)).unwrap())
            .unwrap();
        client.register_signal_handler(NAME, "Other", |_| panic!("nobody sends this")).unwrap();
        client.call_method(NAME, "Tell", &[]).unwrap();
        let numbers: Vec<_> = (0..8).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(numbers, [1, 101, 2, 102, 3, 103, 5, 105]);
    }
}

#[test]
fn a_signal_of_one_who_does_not_own_the_name_is_not_heard() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let (heard, told) = mpsc::channel();
    client
        .register_signal_handler(NAME, "Told", move |signal| {
            heard.send(signal.read1::<u32>().unwrap()).unwrap()
        })
        .unwrap();
    let DBusClientState::Connected { unique_name, .. } = client.state() else { panic!() };
    // A stranger sends the same, to all and to the client, and has the bus take it before the service sends its own.
    let stranger = bus.connect();
    for destination in [None, Some(unique_name.as_str())] {
        let mut forged = Message::new_signal(PATH, NAME, "Told").unwrap().append1(66_u32);
        forged.set_destination(destination.map(Into::into));
        stranger.send(forged).unwrap();
    }
    let ping = Message::call_with_args(NAME, PATH, NAME, "Echo", ());
    stranger.send_with_reply_and_block(ping, PATIENCE).unwrap();
    client.call_method(NAME, "Tell", &[]).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 1);
}

#[test]
fn a_handler_may_call_take_itself_back_and_panic_and_the_others_go_on() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let (heard, told) = mpsc::channel();
    let once = Arc::new(AtomicUsize::new(0));
    let id = Arc::new(AtomicUsize::new(0));
    let taken = {
        let (client, id, once) = (client.clone(), Arc::clone(&id), Arc::clone(&once));
        move |_: &Message| {
            once.fetch_add(1, Ordering::SeqCst);
            client.unregister_signal_handler(id.load(Ordering::SeqCst) as u64).unwrap();
        }
    };
    id.store(client.register_signal_handler(NAME, "Told", taken).unwrap() as usize, Ordering::SeqCst);
    client.register_signal_handler(NAME, "Told", |_| panic!("on purpose")).unwrap();
    let caller = client.clone();
    client
        .register_signal_handler(NAME, "Told", move |signal| {
            let args = DBusClient::signal_args(signal).unwrap();
            heard.send(caller.call_method(NAME, "Echo", &args).unwrap()).unwrap();
        })
        .unwrap();
    client.call_method(NAME, "Tell", &[]).unwrap();
    for number in [1_u32, 2, 3, 5] {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), [number.into()]);
    }
    assert_eq!(once.load(Ordering::SeqCst), 1);
    let error = client.unregister_signal_handler(id.load(Ordering::SeqCst) as u64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Message);
    client.disconnect();
}

#[test]
fn a_handler_that_is_too_slow_misses_signals_and_is_told_and_calls_go_on() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.queued_signals = 10;
    let client = DBusClient::with_config(NAME, PATH, config).unwrap();
    client.connect().unwrap();
    let changes = changes(&client);
    let (entered, enters) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (heard, told) = mpsc::channel();
    client
        .register_signal_handler(NAME, "Told", move |signal| {
            entered.send(()).unwrap();
            // Ends once nothing more is held back.
            let _ = released.lock().unwrap().recv();
            heard.send(signal.read1::<u32>().unwrap()).unwrap();
        })
        .unwrap();
    client.call_method(NAME, "Flood", &[100_u32.into()]).unwrap();
    enters.recv_timeout(PATIENCE).unwrap();
    // What the flood sent is in the queue or lost by now: signals come before the answer.
    drop(release);
    let mut missed = 0;
    await_change(&changes, |change| matches!(change, DBusChange::SignalsMissed(_)));
    let mut numbers = Vec::new();
    while numbers.last() != Some(&99) {
        numbers.push(told.recv_timeout(PATIENCE).unwrap());
    }
    missed += 100 - numbers.len();
    assert!(missed >= 80, "{missed} of 100 were lost");
    assert_eq!(numbers.last(), Some(&99), "the newest are heard");
}

#[test]
fn a_token_is_shown_at_once_and_again_to_a_service_that_has_restarted_before_any_call() {
    let bus = DbusDaemon::start();
    let service = Small::start(&bus);
    let client = client(&bus);
    let changes = changes(&client);
    client.set_auth_token(token()).unwrap();
    assert_eq!(service.tokens(), [token().value.as_str()]);
    assert!(matches!(client.state(), DBusClientState::Connected { authenticated: true, .. }));

    drop(service);
    await_change(&changes, |change| *change == DBusChange::ServiceGone);
    let service = Small::start(&bus);
    await_change(&changes, |change| matches!(change, DBusChange::ServiceAppeared { .. }));
    client.call_method(NAME, "Echo", &[]).unwrap();
    let order: Vec<_> = service.called.try_iter().collect();
    assert_eq!(order, ["Authenticate", "Echo"]);

    client.clear_auth_token();
    drop(service);
    await_change(&changes, |change| *change == DBusChange::ServiceGone);
    let service = Small::start(&bus);
    await_change(&changes, |change| matches!(change, DBusChange::ServiceAppeared { .. }));
    client.call_method(NAME, "Echo", &[]).unwrap();
    assert_eq!(service.tokens(), Vec::<String>::new());
}

#[test]
fn a_token_that_is_refused_is_said_and_the_one_before_stays() {
    let bus = DbusDaemon::start();
    let service = Small::start_as(&bus, NAME, false);
    let client = client(&bus);
    let error = client.set_auth_token(token()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(error.text().contains("not for here"), "{error}");
    assert!(!error.text().contains("vb1."), "no token in an error");
    assert!(matches!(client.state(), DBusClientState::Connected { authenticated: false, .. }));
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);

    // A client that has one from the start is not connected when it is refused.
    let other = unconnected(&bus);
    other.set_auth_token(token()).unwrap();
    assert_eq!(other.connect().unwrap_err().kind(), ErrorKind::Authentication);
    assert_eq!(other.state(), DBusClientState::Idle);
    drop(service);
    let service = Small::start(&bus);
    other.connect().unwrap();
    assert_eq!(service.tokens(), [token().value.as_str()]);
    assert!(!format!("{other:?}").contains("vb1."), "no token in Debug");
}

#[test]
fn a_service_that_does_not_look_at_the_token_keeps_calls_waiting_for_a_bounded_time() {
    let bus = DbusDaemon::start();
    // It owns the name and never answers anything.
    let silent = bus.connect();
    let request = Message::call_with_args(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "RequestName",
        (NAME, 0_u32),
    );
    silent.send_with_reply_and_block(request, PATIENCE).unwrap();
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.timeout = Duration::from_secs(2);
    let client = DBusClient::with_config(NAME, PATH, config).unwrap();
    client.connect().unwrap();
    assert_eq!(client.set_auth_token(token()).unwrap_err().kind(), ErrorKind::Timeout);
    let error = client.call_method_with_timeout(NAME, "Echo", &[], Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn the_last_clone_takes_the_client_off_the_bus() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let DBusClientState::Connected { unique_name, .. } = client.state() else { panic!() };
    let clone = client.clone();
    drop(client);
    assert_eq!(bus.owner(&unique_name), Some(unique_name.clone()));
    let watcher = bus.connect();
    let rule = format!("type='signal',member='NameOwnerChanged',arg0='{unique_name}'");
    let bus_name = "org.freedesktop.DBus";
    let watch = Message::call_with_args(bus_name, "/org/freedesktop/DBus", bus_name, "AddMatch", (rule,));
    watcher.send_with_reply_and_block(watch, PATIENCE).unwrap();
    drop(clone);
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "the client is still on the bus");
        let message = watcher.blocking_pop_message(PATIENCE).unwrap();
        if message.is_some_and(|message| message.member().as_deref() == Some("NameOwnerChanged")) {
            break;
        }
    }
}

#[test]
fn what_calls_the_client_is_refused_and_changes_nothing() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let DBusClientState::Connected { unique_name, .. } = client.state() else { panic!() };
    let stranger = bus.connect();
    let ask = |interface: &str, member: &str| {
        let call = Message::call_with_args(unique_name.as_str(), "/", interface, member, ());
        stranger.send_with_reply_and_block(call, PATIENCE)
    };
    assert!(ask("org.freedesktop.DBus.Peer", "Ping").is_ok());
    assert!(ask("org.freedesktop.DBus.Peer", "GetMachineId").is_err());
    assert!(ask(NAME, "Echo").is_err());
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
}

#[test]
fn a_handler_that_the_bus_refuses_is_said_and_none_and_the_others_go_on() {
    // Room for the service's owner, and one handler.
    let limits = vec![("max_match_rules_per_connection", 2)];
    let bus = DbusDaemon::with(&BusOptions { limits, ..BusOptions::default() });
    let _service = Small::start(&bus);
    let client = client(&bus);
    let (heard, told) = mpsc::channel();
    let first = client.register_signal_handler(NAME, "Told", move |_| heard.send(()).unwrap()).unwrap();
    let error = client.register_signal_handler(NAME, "Other", |_| panic!("it is none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Message, "{error}");
    assert!(error.text().contains("LimitsExceeded"), "{error}");
    client.call_method(NAME, "Tell", &[]).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    // What is taken back makes room.
    client.unregister_signal_handler(first).unwrap();
    client.register_signal_handler(NAME, "Other", |_| {}).unwrap();
}

#[test]
fn a_service_that_the_bus_cannot_start_is_an_error_of_the_connection() {
    let files = tempfile::tempdir().unwrap();
    let service = format!("[D-BUS Service]\nName={NAME}\nExec=/bin/false\n");
    std::fs::write(files.path().join("small.service"), service).unwrap();
    let rules = format!("<servicedir>{}</servicedir>", files.path().display());
    let bus = DbusDaemon::with(&BusOptions { rules, ..BusOptions::default() });
    let client = client(&bus);
    let error = client.call_method(NAME, "Echo", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.text().contains("Spawn"), "{error}");
}

#[test]
fn a_client_that_shall_not_come_back_is_idle_once_its_bus_has_ended() {
    let mut bus = DbusDaemon::start();
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.reconnect = false;
    let client = DBusClient::with_config(NAME, PATH, config).unwrap();
    client.connect().unwrap();
    let changes = changes(&client);
    bus.kill();
    await_change(&changes, |change| matches!(change, DBusChange::Lost(_)));
    assert_eq!(client.state(), DBusClientState::Idle);
    bus.restart();
    let _service = Small::start(&bus);
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap_err().kind(), ErrorKind::Connection);
    client.connect().unwrap();
    assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
}

#[test]
fn a_bus_that_accepts_and_never_answers_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut config = DBusClientConfig::on(BusAddress::Address(format!("unix:path={}", path.display())));
    config.timeout = Duration::from_millis(50);
    let client = DBusClient::with_config(NAME, PATH, config).unwrap();
    assert_eq!(client.connect().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(client.state(), DBusClientState::Idle);
    assert_eq!(client.connect().unwrap_err().kind(), ErrorKind::Timeout, "it may be tried again");
    let began = Instant::now();
    client.disconnect();
    drop(client);
    assert!(began.elapsed() < PATIENCE);
}

/// A token, the same each time; the small service looks at its text alone.
fn token() -> AuthToken {
    static TOKEN: LazyLock<AuthToken> = LazyLock::new(|| {
        let keys = KeyFile::in_memory(1, [7; 32]);
        AuthToken::new(keys.mint(&TokenRequest::new("panel", &["*"])).unwrap()).unwrap()
    });
    TOKEN.clone()
}
