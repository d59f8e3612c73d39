//! The hand controller on the Cortex-M3, alone and beside the sensor.

use std::time::Instant;

use rustix::process::Signal;
use visorbus_controller::hand::{buttons_at, next_change, stick_at};
use visorbus_controller::messages::{
    Buttons, GetBattery, GetInfo, Haptic, INPUT_RATE_HZ, Input, NAME, Pulse, Shake, SwitchLed,
};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_hub::info::SchemaInfo;
use visorbus_hub::{OwnedMessage, OwnedPayload, Value};
use visorbus_services::hardware::{HardwareConfig, HardwareManager, HardwareMessageHandler};
use visorbus_tests::patience::{PATIENCE, wait_until};
use visorbus_unix::{Delivery, Subscription};

use crate::board::{Board, CONTROLLER, SENSOR, expect_sound_line};
use crate::line::{AT_ONCE, Operator, TestHub, samples, samples_without_gaps};

#[test]
fn the_controller_shakes_for_those_who_may_and_says_so_while_it_does() {
    let (hub, operator, _board) = board();
    assert_eq!(operator.call::<GetInfo>(&()).board, "mps2-an385");
    let viewer = hub.client("viewer", &["request:controller/*"]);
    let refusal = viewer.call::<Shake>(&HUM, None).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Authorization);
    assert!(
        refusal.text().starts_with("controller/haptic: this needs the scope 'controller.control'"),
        "{refusal}"
    );
    let hard = Haptic { amplitude: 2.0, ..HUM };
    let wrong = operator.client.call::<Shake>(&hard, None).unwrap_err();
    assert_eq!((wrong.kind(), wrong.text().as_str()), (ErrorKind::Message, "the amplitude goes from 0 to 1"));
    let before = operator.call::<GetInfo>(&());
    assert_eq!((before.pulse, before.pulses), (None, 0), "nothing of that shook");

    let pulse = operator.call::<Shake>(&HUM);
    let info = viewer.call::<GetInfo>(&(), None).unwrap();
    assert_eq!((info.pulse, info.pulses), (Some(pulse), 1));
    let inputs = hub.client("listener", &["subscribe:controller/input"]);
    let inputs = inputs.subscribe("controller/input", SlowConsumer::default()).unwrap();
    while next(&inputs).timestamp_us < pulse.ends_us {}
    assert_eq!(operator.call::<GetInfo>(&()).pulse, None, "it is over in time");
    let battery = viewer.call::<GetBattery>(&(), None).unwrap();
    assert!(
        battery.percent == 100 && battery.millivolts < 4_200 && battery.minutes_left == 479,
        "{battery:?}"
    );
    let peer = hub.peer(NAME).unwrap();
    assert_eq!((peer.sessions, peer.undecodable, peer.refused), (1, 0, 0), "{peer:?}");
    expect_sound_line(&peer);
}

#[test]
fn the_led_is_a_command_of_the_board_and_its_register_says_what_was_ordered() {
    let (hub, operator, board) = board();
    let led = || {
        let text = board.monitor(READ_LEDS);
        let value = text.lines().find_map(|line| line.rsplit_once(": 0x")).expect("a register").1;
        u32::from_str_radix(value.trim(), 16).unwrap()
    };
    assert_eq!((operator.call::<GetInfo>(&()).led, led()), (false, 0));
    // The board takes postcard: what is JSON becomes that when the hub has been told its types.
    wait_until("the board tells its types", || {
        let asked = OwnedMessage::request("bus/schema", OwnedPayload::String("controller/led".to_owned()));
        let told = operator.client.send_request(asked, None).and_then(|answer| answer.payload.parse());
        told.is_ok_and(|told: SchemaInfo| !told.request.is_empty())
    });

    let viewer = hub.client("viewer", &["request:controller/*"]);
    let refusal = viewer.call::<SwitchLed>(&true, None).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Authorization);
    assert!(refusal.text().starts_with("controller/led: this needs the scope 'controller.control'"));
    // Whoever may not is not told that this is no order for a lamp.
    for (client, kind) in [(&viewer, ErrorKind::Authorization), (&operator.client, ErrorKind::Serialization)]
    {
        for brightness in ["50", "2", "\"on\"", "{\"on\":true}"] {
            let wrong = OwnedMessage::request("controller/led", OwnedPayload::Json(brightness.to_owned()));
            let refusal = client.send_request(wrong, None).unwrap_err();
            assert_eq!(refusal.kind(), kind, "{brightness}: {refusal}");
        }
    }
    assert_eq!((operator.call::<GetInfo>(&()).led, led()), (false, 0), "nothing of that switched it");

    let config = HardwareConfig {
        sysfs_root: hub.line("no-sysfs"),
        kernel_events: false,
        command_timeout: PATIENCE,
        ..HardwareConfig::default()
    };
    let hardware = HardwareManager::new(config, hub.handle.clone()).unwrap();
    hub.handle.register_handler(Box::new(HardwareMessageHandler::new(hardware.clone()))).unwrap();
    while hardware.device(DEVICE).is_none_or(|board| board.command("led").is_none()) {
        std::thread::yield_now();
    }
    // The motor's lamp is the first, this one the second.
    for (on, register) in [(true, 2), (false, 0), (true, 2)] {
        let argument = Some(Value::Bool(on));
        assert_eq!(hardware.command(DEVICE, "led", argument).unwrap(), Value::Bool(on));
        assert_eq!((operator.call::<GetInfo>(&()).led, led()), (on, register));
    }
    operator.call::<Shake>(&Haptic { duration_ms: 5_000, ..HUM });
    assert_eq!((operator.call::<GetInfo>(&()).led, led()), (true, 3), "the one is nothing to the other");
    operator.call::<Shake>(&Haptic { amplitude: 0.0, ..HUM });
    assert_eq!((operator.call::<GetInfo>(&()).led, led()), (true, 2));
    let told = |board: &visorbus_services::hardware::Device| {
        board.property("led").is_some_and(|led| led.value == Value::Bool(true) && !led.reading)
    };
    while !hardware.device(DEVICE).is_some_and(|board| told(&board)) {
        std::thread::yield_now();
    }
    let wrong = hardware.command(DEVICE, "led", Some(Value::Integer(50))).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Serialization, "{wrong}");
    let peer = hub.peer(NAME).unwrap();
    assert_eq!((peer.sessions, peer.undecodable, peer.refused), (1, 0, 0), "{peer:?}");

    board.monitor("system_reset");
    operator.wait(NAME, false);
    operator.wait(NAME, true);
    assert_eq!((operator.call::<GetInfo>(&()).led, led()), (false, 0), "it is out at the start");
}

#[test]
fn every_change_of_a_button_is_published_and_the_stick_at_its_rate() {
    let (_hub, operator, _board) = board();
    let stream = operator.client.subscribe("controller/input", SlowConsumer::default()).unwrap();
    let inputs: Vec<Input> = (0..150).map(|_| next(&stream)).collect();
    for pair in inputs.windows(2) {
        let apart_us = pair[1].timestamp_us - pair[0].timestamp_us;
        assert!((1..=1_000_000 / u64::from(INPUT_RATE_HZ)).contains(&apart_us), "{pair:?}");
        assert!(next_change(pair[0].timestamp_us) >= pair[1].timestamp_us, "no change is left out: {pair:?}");
    }
    for input in &inputs {
        let expected = (buttons_at(input.timestamp_us), stick_at(input.timestamp_us));
        assert_eq!((input.buttons, input.stick), expected, "the values of this machine");
    }
    let pressed = |input: &Input| input.buttons.contains(Buttons::TRIGGER);
    assert!(inputs.iter().any(pressed) && !inputs.iter().all(pressed));
    assert_eq!(operator.call::<GetInfo>(&()).inputs_dropped, 0);
}

#[test]
fn a_reset_in_the_middle_of_a_call_fails_it_and_ends_the_pulse() {
    let (hub, operator, mut board) = board();
    let long = Haptic { duration_ms: 5_000, ..HUM };
    let pulse = operator.call::<Shake>(&long);
    let before = operator.call::<GetInfo>(&());
    assert_eq!(before.pulse, Some(pulse));
    // What is on the line at the reset is lost, as in a real UART.
    board.relay.set_deaf(true);
    let call = hub.pending_call::<GetBattery>(&hub.client("caller", &["*"]));
    let reset = Instant::now();
    board.monitor("system_reset");
    board.relay.set_deaf(false);
    call.expect_gone(reset, "it started again");
    operator.wait(NAME, false);
    operator.wait(NAME, true);
    assert!(reset.elapsed() < AT_ONCE, "{:?}", reset.elapsed());
    let after = operator.call::<GetInfo>(&());
    assert_ne!(after.boot_id, before.boot_id);
    assert_eq!((after.pulse, after.pulses), (None, 0));
    assert_eq!(hub.peer(NAME).unwrap().sessions, 2);
}

#[test]
fn two_boards_share_a_hub_and_the_loss_of_one_is_nothing_to_the_other() {
    let (hub, operator, controller) = board();
    let _sensor = controller.start_beside(&SENSOR, &hub.line("imu-line"));
    hub.attach("imu-line", ",unkeyed=imu");
    operator.wait("imu", true);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    // What one board measures shakes the other.
    let pulse = shake_at_a_nod(&operator, &stream);
    assert_eq!(operator.call::<GetInfo>(&()).pulse, Some(pulse));

    controller.signal(Signal::KILL);
    operator.wait(NAME, false);
    let refusal = operator.client.call::<Shake>(&HUM, None).unwrap_err();
    assert!(refusal.text().starts_with("nobody serves 'controller'"), "{refusal}");
    samples_without_gaps(&stream, 100, 100);
    assert_eq!(hub.peer("imu").unwrap().sessions, 1);
}

/// Waits until the head goes through the level, nose down, and shakes the hand then.
fn shake_at_a_nod(operator: &Operator, stream: &Subscription) -> Pulse {
    let deadline = Instant::now() + PATIENCE;
    let mut last = samples(stream, 1)[0];
    loop {
        assert!(Instant::now() < deadline, "the head nods every three seconds");
        let next = samples(stream, 1)[0];
        if last.accel[0] >= 0.0 && next.accel[0] < 0.0 {
            return operator.call::<Shake>(&HUM);
        }
        last = next;
    }
}

#[track_caller]
fn next(inputs: &Subscription) -> Input {
    match inputs.recv(Some(PATIENCE)).unwrap() {
        Some(Delivery::Message(message)) => message.payload.parse().unwrap(),
        Some(Delivery::Missed(count)) => panic!("{count} inputs were missed"),
        None => panic!("no input came"),
    }
}

/// A hub with the board in service.
fn board() -> (TestHub, Operator, Board) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let board = Board::start(&CONTROLLER, &hub.line("controller-line"));
    hub.attach("controller-line", ",unkeyed=controller");
    operator.wait(NAME, true);
    (hub, operator, board)
}

/// The register of the lamps, as the emulator has it.
const READ_LEDS: &str = "xp /1wx 0x40028000";
const DEVICE: &str = "board/controller";
const HUM: Haptic = Haptic { amplitude: 0.6, frequency_hz: 160, duration_ms: 800 };
