//! One scenario for the node, wherever it runs: on this machine behind a socket, and in the emulated microcontroller.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use visorbus_controller::messages::{
    Battery, Buttons, GetBattery, GetInfo, Haptic, INPUT_RATE_HZ, Info, Input, Inputs, NAME, Pulse, Shake,
    SwitchLed,
};
use visorbus_controller::{Board, ControllerBoard, ControllerNode, device_key, hand, leaf};
use visorbus_core::ErrorKind;
use visorbus_core::auth::Access;
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, TypeSchema};
use visorbus_core::serve::serve;
use visorbus_firmware_harness::{Emulator, Host, Hub, build_firmware, run_with_resets};

#[test]
fn the_node_on_this_machine() {
    let (near, far) = UnixStream::pair().unwrap();
    let (resets, driven) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
    let switched = Arc::new(Mutex::new(Vec::new()));
    let node = std::thread::spawn({
        let (resets, driven, switched) = (resets.clone(), driven.clone(), switched.clone());
        move || {
            run_with_resets(&far, &resets, |line, boot_id, host| {
                let hand = Hand { host, driven: driven.clone(), switched: switched.clone(), led: false };
                let mut peer = leaf(line, boot_id, device_key());
                let _gone = serve(&mut peer, &mut ControllerNode::new(hand, boot_id), |due| host.wait(due));
            });
        }
    });
    let mut hub = Hub::new(near, NAME, &["request:controller/*"]);
    scenario(&mut hub, Host::NAME, || {
        resets.fetch_add(1, Ordering::SeqCst);
    });
    drop(hub);
    node.join().unwrap();
    // Two pulses ended by themselves, one by the order to.
    let driven = driven.lock().unwrap().iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(driven, [true, false, true, false, true, false], "the motor is told when to run");
    assert_eq!(*switched.lock().unwrap(), [true, false, true], "nothing that was refused reached the lamp");
}

#[test]
fn the_firmware_in_the_emulator() {
    let mut emulator =
        Emulator::start("mps2-an385", &build_firmware("controller-board", "thumbv7m-none-eabi"));
    let mut hub = Hub::new(emulator.connect("uart.sock"), NAME, &["request:controller/*"]);
    let mut monitor = emulator.connect("monitor.sock");
    scenario(&mut hub, "mps2-an385", || monitor.write_all(b"system_reset\n").unwrap());
    let log = emulator.stop();
    assert!(!log.is_empty(), "the firmware logs over semihosting");
}

/// Everything that the node does, and its reset at the end.
fn scenario(hub: &mut Hub, board: &str, reset: impl FnOnce()) {
    hub.run_until("hello and both proofs", |hub| hub.hellos == 1 && hub.proofs == 1 && hub.taken == 1);
    let boot_id = hub.boot_id();

    assert_eq!(hub.describe(), table());

    let info = hub.call::<GetInfo>(&()).unwrap();
    assert_eq!((info.board.as_str(), info.boot_id, info.pulse), (board, boot_id, None));
    assert!(!info.led, "it is out at the start");
    assert_eq!(info.firmware, env!("CARGO_PKG_VERSION"));
    expect_inputs(hub);

    let short = Haptic { amplitude: 0.5, frequency_hz: 160, duration_ms: 100 };
    let refused = hub.call::<Shake>(&short).unwrap_err();
    assert_eq!(refused.0, ErrorKind::Authorization);
    assert!(refused.1.contains("'controller.control'"), "{}", refused.1);
    assert_eq!(hub.call::<GetInfo>(&()).unwrap().pulses, 0, "nothing shook");

    // Not even what it says is looked at.
    for refused in [hub.call::<SwitchLed>(&true).unwrap_err(), hub.call::<Dim>(&50).unwrap_err()] {
        assert_eq!(refused.0, ErrorKind::Authorization);
        assert!(refused.1.contains("'controller.control'"), "{}", refused.1);
    }

    hub.authenticate(&["request:controller/*", "controller.control"]);
    expect_lamp(hub);
    for (wrong, why) in [
        (Haptic { amplitude: 1.5, ..short }, "the amplitude goes from 0 to 1"),
        (Haptic { amplitude: f32::NAN, ..short }, "the amplitude goes from 0 to 1"),
        (Haptic { frequency_hz: 0, ..short }, "the frequency goes from 20 to 500 Hz"),
        (Haptic { duration_ms: u16::MAX, ..short }, "the duration goes from 1 to 5000 ms"),
    ] {
        let refused = hub.call::<Shake>(&wrong).unwrap_err();
        assert_eq!(refused, (ErrorKind::Message, why.to_owned()));
    }
    expect_pulse(hub, &short);

    // Two seconds at full strength: as much as forty without.
    let before = hub.call::<GetBattery>(&()).unwrap();
    expect_pulse(hub, &Haptic { amplitude: 1.0, frequency_hz: 500, duration_ms: 2_000 });
    let after = hub.call::<GetBattery>(&()).unwrap();
    assert!((1..=2).contains(&(before.millivolts - after.millivolts)), "{before:?} {after:?}");

    let long = Haptic { duration_ms: 5_000, ..short };
    assert_eq!(hub.call::<Shake>(&long).unwrap().frequency_hz, 160);
    hub.call::<Shake>(&Haptic { amplitude: 0.0, ..long }).unwrap();
    let later = hub.call::<GetInfo>(&()).unwrap();
    assert!(later.led, "the motor is nothing to the lamp");
    assert_eq!((later.pulse, later.pulses), (None, 3), "silence ends it");
    assert!(later.uptime_us > info.uptime_us && later.inputs_sent > info.inputs_sent);
    assert_eq!(later.inputs_dropped, 0, "the line is fast enough");

    reset();
    hub.run_until("hello again", |hub| hub.hellos == 2 && hub.proofs == 2 && hub.taken == 3);
    assert_ne!(hub.boot_id(), boot_id);
    let anew = hub.call::<GetInfo>(&()).unwrap();
    assert_eq!((anew.pulses, anew.led), (0, false), "it has started anew");
    expect_inputs(hub);
}

/// Waits for a second of inputs, in which the trigger is pressed and released; none is missing and each tells what the
/// hand did at that moment.
fn expect_inputs(hub: &mut Hub) {
    hub.clear();
    let first = |hub: &Hub| hub.published::<Inputs>().first().copied();
    hub.run_until("an input", |hub| first(hub).is_some());
    let until_us = first(hub).unwrap().timestamp_us + 1_100_000;
    hub.run_until("a second of inputs", |hub| {
        hub.published::<Inputs>().last().is_some_and(|input| input.timestamp_us >= until_us)
    });
    let inputs = hub.published::<Inputs>();
    let (mut downs, mut ups) = (0, 0);
    for pair in inputs.windows(2) {
        let apart_us = pair[1].timestamp_us - pair[0].timestamp_us;
        assert!((1..=1_000_000 / u64::from(INPUT_RATE_HZ)).contains(&apart_us), "{pair:?}");
        assert!(hand::next_change(pair[0].timestamp_us) >= pair[1].timestamp_us, "no change is left out");
        let held = |input: &Input| input.buttons.contains(Buttons::TRIGGER);
        match (held(&pair[0]), held(&pair[1])) {
            (false, true) => downs += 1,
            (true, false) => ups += 1,
            _ => {}
        }
    }
    assert!(downs >= 1 && ups >= 1, "{inputs:?}");
    for Input { timestamp_us, buttons, stick } in inputs {
        assert_eq!((buttons, stick), (hand::buttons_at(timestamp_us), hand::stick_at(timestamp_us)));
    }
}

/// Switches the lamp on, off and on, and demands that nothing but on and off does so.
fn expect_lamp(hub: &mut Hub) {
    for on in [true, false, true] {
        assert_eq!(hub.call::<SwitchLed>(&on).unwrap(), on);
        assert_eq!(hub.call::<GetInfo>(&()).unwrap().led, on);
        for brightness in [2, 50, u8::MAX] {
            let refused = hub.call::<Dim>(&brightness).unwrap_err();
            assert_eq!(refused.0, ErrorKind::Serialization, "{brightness}: {}", refused.1);
        }
        assert_eq!(hub.call::<GetInfo>(&()).unwrap().led, on, "as it was");
    }
}

/// Shakes, and demands that the controller says so as long as it lasts, and not for longer.
fn expect_pulse(hub: &mut Hub, haptic: &Haptic) {
    let before = hub.call::<GetInfo>(&()).unwrap();
    let pulse = hub.call::<Shake>(haptic).unwrap();
    assert_eq!((pulse.amplitude, pulse.frequency_hz), (haptic.amplitude, haptic.frequency_hz));
    let running = hub.call::<GetInfo>(&()).unwrap();
    assert_eq!((running.pulse, running.pulses), (Some(pulse), before.pulses + 1));
    assert!(pulse.ends_us - running.uptime_us <= u64::from(haptic.duration_ms) * 1_000);
    hub.clear();
    hub.run_until("the end of the pulse", |hub| {
        hub.published::<Inputs>().last().is_some_and(|input| input.timestamp_us >= pulse.ends_us)
    });
    assert_eq!(hub.call::<GetInfo>(&()).unwrap().pulse, None);
}

/// What the node tells of itself.
fn table() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    fn row(address: &str, request: TypeSchema, response: TypeSchema) -> (String, Vec<u8>, Vec<u8>) {
        (address.to_owned(), request.bytes.to_vec(), response.bytes.to_vec())
    }
    vec![
        row("controller/info", TypeSchema::of::<()>(), TypeSchema::of::<Info>()),
        row("controller/battery", TypeSchema::of::<()>(), TypeSchema::of::<Battery>()),
        row("controller/haptic", TypeSchema::of::<Haptic>(), TypeSchema::of::<Pulse>()),
        row("controller/led", TypeSchema::of::<bool>(), TypeSchema::of::<bool>()),
        row("controller/input", TypeSchema::of::<Input>(), TypeSchema::of::<()>()),
    ]
}

/// `controller/led` of somebody who takes the lamp for one that can be dimmed.
struct Dim;

impl Endpoint for Dim {
    type Request = u8;
    type Response = bool;
    const ADDRESS: Address<'static> = SwitchLed::ADDRESS;
    const ACCESS: Access<'static> = SwitchLed::ACCESS;
}

/// This machine as a controller; what its motor and its lamp were told.
struct Hand {
    host: Host,
    driven: Arc<Mutex<Vec<Option<Pulse>>>>,
    switched: Arc<Mutex<Vec<bool>>>,
    led: bool,
}

impl Board for Hand {
    const NAME: &'static str = Host::NAME;

    fn now_us(&self) -> u64 {
        self.host.now_us()
    }
}

impl ControllerBoard for Hand {
    fn drive(&mut self, pulse: Option<Pulse>) {
        self.driven.lock().unwrap().push(pulse);
    }

    fn set_led(&mut self, on: bool) {
        self.switched.lock().unwrap().push(on);
        self.led = on;
    }

    fn is_led_lit(&self) -> bool {
        self.led
    }
}
