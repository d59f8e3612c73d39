//! Handlers of the program's own: before the start, after it, over an end, and when they misbehave.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use visorbus::Log;
use visorbus::settings::{LogLevel, LogOutput, LogSettings};
use visorbus_core::ErrorKind;
use visorbus_core::IpcError;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::message::{Message, MessagePayload};

use crate::world::{PATIENCE, World, call, eventually};

/// Counts how often it was called, and does what its address says.
struct Lamp {
    id: &'static str,
    calls: Arc<AtomicUsize>,
    /// Never told anything: whoever waits for it waits for ever.
    never: Receiver<()>,
    _hold: Sender<()>,
    /// Told when somebody begins to wait.
    begun: Sender<()>,
}

impl Lamp {
    fn new(id: &'static str) -> (Box<Self>, Arc<AtomicUsize>, Receiver<()>) {
        let (calls, (hold, never), (begun, begins)) = (Arc::default(), channel(), channel());
        let lamp = Self { id, calls: Arc::clone(&calls), never, _hold: hold, begun };
        (Box::new(lamp), calls, begins)
    }
}

impl MessageHandler for Lamp {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        true
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match message.destination.map(|to| to.as_str().to_owned()).unwrap_or_default().rsplit('/').next() {
            Some("panic") => panic!("the bulb bursts"),
            Some("never") => {
                self.begun.send(()).unwrap();
                let _ = self.never.recv();
                Ok(())
            }
            _ => reply.payload(MessagePayload::String("lit")),
        }
    }
}

#[test]
fn a_handler_serves_whether_it_came_before_the_start_or_after() {
    let world = World::new();
    let mut manager = world.manager("");
    let (early, early_calls, _) = Lamp::new("early");
    manager.register_handler(early).unwrap();
    manager.initialize().unwrap();
    let (late, late_calls, _) = Lamp::new("late");
    manager.register_handler(late).unwrap();
    let client = world.client(&manager, "panel");
    call(&client, "early/light").unwrap();
    call(&client, "late/light").unwrap();
    manager.unregister_handler("early").unwrap();
    assert!(call(&client, "early/light").is_err());
    assert_eq!((early_calls.load(Ordering::SeqCst), late_calls.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(manager.unregister_handler("early").unwrap_err().kind(), ErrorKind::Message);
}

#[test]
fn a_handler_comes_and_goes_while_another_thread_serves_the_manager() {
    let world = World::new();
    let mut manager = world.running("");
    let (client, control) = (world.client(&manager, "panel"), manager.control());
    let serving = thread::spawn(move || manager.serve(|_| {}));
    let (lamp, calls, _) = Lamp::new("lamp");
    control.register_handler(lamp).unwrap();
    call(&client, "lamp/light").unwrap();
    let (second, ..) = Lamp::new("lamp");
    assert_eq!(control.register_handler(second).unwrap_err().kind(), ErrorKind::Message);
    control.unregister_handler("lamp").unwrap();
    assert!(call(&client, "lamp/light").is_err());
    assert_eq!(control.unregister_handler("lamp").unwrap_err().kind(), ErrorKind::Message);
    control.shutdown();
    serving.join().unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let (late, ..) = Lamp::new("late");
    assert_eq!(control.register_handler(late).unwrap_err().kind(), ErrorKind::Connection, "it has ended");
}

#[test]
fn a_handler_is_there_again_when_its_manager_is_started_again() {
    let world = World::new();
    let mut manager = world.manager("");
    let (lamp, calls, _) = Lamp::new("lamp");
    manager.register_handler(lamp).unwrap();
    for round in 1..=3 {
        manager.initialize().unwrap();
        call(&world.client(&manager, "panel"), "lamp/light").unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), round);
        manager.shutdown().unwrap();
    }
}

#[test]
fn a_name_that_is_taken_is_refused_before_and_after_the_start() {
    let world = World::new();
    let mut manager = world.manager("");
    manager.register_handler(Lamp::new("lamp").0).unwrap();
    assert!(manager.register_handler(Lamp::new("lamp").0).is_err());
    manager.initialize().unwrap();
    assert!(manager.register_handler(Lamp::new("lamp").0).is_err());
    assert!(manager.register_handler(Lamp::new("manager").0).is_err(), "the manager's own component");
    assert!(manager.unregister_handler("manager").is_err(), "it is not the program's to take away");
    call(&world.client(&manager, "panel"), "manager/status").unwrap();
}

#[test]
fn a_name_that_is_a_parts_own_fails_the_start_and_names_it() {
    let world = World::new();
    let mut manager = world.manager("");
    manager.register_handler(Lamp::new("hardware").0).unwrap();
    assert!(manager.initialize().unwrap_err().text().contains("hardware"));
    assert!(world.left().is_empty());
    manager.unregister_handler("hardware").unwrap();
    manager.initialize().unwrap();
}

#[test]
fn a_handler_that_panics_is_answered_for_and_nothing_else_ends() {
    let world = World::new();
    let mut manager = world.manager("");
    let (lamp, calls, _) = Lamp::new("lamp");
    manager.register_handler(lamp).unwrap();
    manager.initialize().unwrap();
    let client = world.client(&manager, "panel");
    assert_eq!(call(&client, "lamp/panic").unwrap_err().kind(), ErrorKind::Internal);
    call(&client, "lamp/light").unwrap();
    call(&client, "manager/status").unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    manager.shutdown().unwrap();
}

#[test]
fn a_handler_that_never_returns_holds_up_neither_others_nor_the_end() {
    let world = World::new();
    let mut manager = world.manager("");
    let (lamp, _, begins) = Lamp::new("lamp");
    manager.register_handler(lamp).unwrap();
    manager.initialize().unwrap();
    let client = world.client(&manager, "panel");
    let waiting = client.clone();
    let stuck = std::thread::spawn(move || call(&waiting, "lamp/never"));
    begins.recv_timeout(PATIENCE).unwrap();
    call(&client, "manager/status").unwrap();
    let began = Instant::now();
    let error = manager.shutdown().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert!(world.left().is_empty(), "{:?}", world.left());
    assert!(stuck.join().unwrap().is_err(), "whoever waited is told");
    assert!(!manager.is_initialized());
    // The handler did not come back; all else did.
    manager.initialize().unwrap();
    call(&world.client(&manager, "panel"), "manager/status").unwrap();
}

/// Runs inline, and comes back when it is told to.
struct Clamp {
    begun: Sender<()>,
    go_on: Receiver<()>,
}

impl MessageHandler for Clamp {
    fn id(&self) -> &str {
        "clamp"
    }

    fn handle_message(&mut self, _: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.begun.send(()).unwrap();
        let _ = self.go_on.recv();
        reply.payload(MessagePayload::String("let go"))
    }
}

#[test]
fn a_handler_that_runs_inline_and_does_not_return_is_named_in_the_log_in_the_program_and_to_others() {
    let world = World::new();
    let log = world.path("log");
    let mut settings = LogSettings::text(LogLevel::Warn);
    settings.output = LogOutput::File(log.clone());
    Log::start(&settings).unwrap();
    let said =
        |text: &str| fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains(text)).count();
    let mut manager = world.manager("[links]\nserial = [\"/nowhere/tty\"]\n");
    let ((begun, begins), (let_go, go_on)) = (channel(), channel());
    manager.register_handler(Box::new(Clamp { begun, go_on })).unwrap();
    manager.initialize().unwrap();
    let (hub, client) = (manager.handle().unwrap(), world.client(&manager, "panel"));
    assert_eq!(hub.held_up_by(), None);
    let waits = std::thread::spawn(move || call(&client, "clamp/hold"));
    begins.recv_timeout(PATIENCE).unwrap();
    eventually(|| hub.held_up_by().as_deref() == Some("clamp"), || "nobody notices".to_owned());
    assert_eq!(said("the handler 'clamp' holds up the hub: it runs inline, has not returned for 2 s"), 1);
    // What only the hub knows is not known, and why; all else is.
    let status = manager.status();
    let line = status.part("links").unwrap();
    assert!(line.state == "unknown" && line.trouble.contains("the handler 'clamp'"), "{line:?}");
    assert_eq!(status.part("unix_socket").unwrap().state, "on");
    // Another process sees it too.
    let mut command = Command::new(env!("CARGO_BIN_EXE_visorbus"));
    let (socket, keys) = (world.socket(), world.path("state/root.key"));
    command.arg("status").arg("--socket").arg(socket).arg("--key-file").arg(keys);
    let asked = command.env("XDG_CONFIG_HOME", world.path("config")).output().unwrap();
    let told = String::from_utf8_lossy(&asked.stderr);
    let whose = format!("the hub of process {} does not answer: ", std::process::id());
    assert!(told.contains(&whose) && told.contains("'clamp'"), "{told}");
    assert_eq!(asked.status.code(), Some(5));
    assert_eq!(said("holds up the hub"), 1, "once, however long it takes");
    // Nor does the end wait for it.
    let began = Instant::now();
    let error = manager.shutdown().unwrap_err();
    assert!(began.elapsed().as_secs() < 10 && !manager.is_initialized(), "{:?}", began.elapsed());
    assert!(error.kind() == ErrorKind::Timeout && error.text().contains("the handler 'clamp'"), "{error}");
    let_go.send(()).unwrap();
    let _ = waits.join().unwrap();
    eventually(|| hub.held_up_by().is_none(), || "it is held up for ever".to_owned());
    eventually(|| world.left().is_empty(), || format!("{:?} is left", world.left()));
    eventually(
        || said("the hub goes on: the handler 'clamp' has returned after") == 1,
        || fs::read_to_string(&log).unwrap(),
    );
}
