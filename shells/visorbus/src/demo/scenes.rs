//! The scenes of the demonstration: what each shows on the running system, says, and leaves for the summary.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use visorbus_client::Client;
use visorbus_controller::messages::{self as controller, Haptic};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_hub::{Error, Result};
use visorbus_imu::messages::{Info, Sample, SetRate};
use visorbus_mcu::{NoBoardKeys, SerialPort, SerialSpec, Trust};
use visorbus_unix::{Credentials, Delivery, Subscription, UnixSocketClient};
use visorbus_websocket::WebSocketClient;

use super::board::{Board, CONTROLLER, Kind, Running, SENSOR};
use super::desktop::Desktop;
use super::nod::{self, Nod};
use super::setting::{self, Heard};
use super::{CALLS, OPERATOR_SCOPES, Percentiles, RunningHub, Stage, call_info, show, wait_for_boards};
use crate::progress::Progress;

/// The hub, the boards, and who looks on; in the order in which they leave.
pub(super) struct Cast<'s> {
    stage: &'s Stage,
    running: &'s Running,
    pub(super) kind: Kind,
    /// The sensor first.
    boards: Vec<Board>,
    operator: UnixSocketClient,
    /// What the operator hears of boards that come and go.
    changes: Subscription,
    pub(super) hub: RunningHub,
    pub(super) desktop: Result<Desktop>,
}

/// What the calls took, by the way they went.
pub(super) struct Calls {
    pub(super) by_socket: Percentiles,
    pub(super) by_websocket: Percentiles,
    pub(super) by_desktop: Option<Percentiles>,
}

/// What became of a stream of samples.
pub(super) struct Stream {
    /// The rate that the sensor took over.
    pub(super) asked_hz: u16,
    pub(super) delays: Percentiles,
    pub(super) rate_hz: f64,
    pub(super) missed: u32,
}

/// What a crash did.
pub(super) struct Crash {
    pub(super) caller_saw: Error,
    pub(super) told: Duration,
    pub(super) back: Duration,
}

impl<'s> Cast<'s> {
    /// Starts a hub, two boards, and clients.
    pub(super) fn enter(stage: &'s Stage, running: &'s Running, kind: Kind) -> Result<Self> {
        stage.title("A hub, and two boards on serial lines");
        let desktop = Desktop::find(stage, running);
        let hub = RunningHub::start(stage, desktop.as_ref().ok())?;
        let dashboard = hub.dashboard();
        stage.say(
            "dashboard",
            format!("{dashboard} in a browser, while this runs (`--stay` keeps it); its token:"),
        );
        stage.say("", hub.token("visitor", &OPERATOR_SCOPES)?.as_str());
        let operator = hub.client("operator", &OPERATOR_SCOPES)?;
        let changes = operator.subscribe(bus::SERVICES_CHANGED, SlowConsumer::default())?;
        let desktop = desktop.and_then(|desktop| desktop.served(hub.bus()));
        match &desktop {
            Ok(desktop) => {
                stage.say(
                    "desktop",
                    format!("{}; from another terminal, while this runs:", desktop.describe()),
                );
                stage.say("", desktop.command());
            }
            Err(why) => stage.say("desktop", format!("no bus: {}", why.text())),
        }
        let mut cast = Self { stage, running, kind, boards: Vec::new(), operator, changes, hub, desktop };
        cast.start_boards()?;
        Ok(cast)
    }

    fn start_boards(&mut self) -> Result<()> {
        let started = Instant::now();
        for model in [&SENSOR, &CONTROLLER] {
            let line = self.stage.line(model);
            self.boards.push(self.kind.start(model, &line, self.running)?);
            let mut spec = SerialSpec::new(line);
            spec.trust = Trust::Token { name: model.name.to_owned() };
            self.hub.manager.handle()?.attach(Box::new(SerialPort::new(spec, Arc::new(NoBoardKeys))))?;
            self.stage.say(model.name, self.kind.describe(model));
        }
        if let Some(why) = self.kind.why_not_emulated() {
            self.stage.say("", format!("not emulated: {why}"));
        }
        wait_for_boards(&self.changes, &[SENSOR.name, CONTROLLER.name], true)?;
        let started = show(started.elapsed());
        self.stage.say(
            "in service",
            format!("{started} after the start: both proved their key and said what they offer"),
        );
        Ok(())
    }

    /// An app on the other end of a WebSocket.
    pub(super) fn companion(&self) -> Result<WebSocketClient> {
        let companion = WebSocketClient::new(&self.hub.url, "companion")?;
        companion.connect()?;
        let scopes = ["request:imu/*", "request:config/set/display/*"];
        companion.authenticate(&Credentials::Token(self.hub.token("companion", &scopes)?))?;
        Ok(companion)
    }

    /// Who may only look at the sensor.
    pub(super) fn viewer(&self) -> Result<UnixSocketClient> {
        self.hub.client("viewer", &["request:imu/*", "subscribe:imu/*"])
    }

    /// The same call from a process, from an app and from the desktop.
    pub(super) fn call(&self, companion: &WebSocketClient) -> Result<Calls> {
        self.stage.title("A call");
        let Info { firmware, board, rate_hz, boot_id, .. } = call_info(&self.operator)?;
        self.stage.say(
            "imu/info",
            format!("firmware {firmware} on {board}, {rate_hz} samples/s, boot id {boot_id:x}"),
        );
        let by_socket = measure_calls(&self.operator)?;
        let count = by_socket.count;
        self.stage
            .say("round trip", format!("{by_socket} over {count} calls, process to hub to board and back"));
        let by_websocket = measure_calls(companion)?;
        self.stage.say("app", format!("{by_websocket} for the same over {}", self.hub.url));
        let by_desktop = match &self.desktop {
            Ok(desktop) => {
                let (answer, calls) = desktop.call()?;
                let text = format!("{calls} for the same over D-Bus, which answers {answer}");
                self.stage.say("desktop", text);
                Some(calls)
            }
            Err(_) => None,
        };
        Ok(Calls { by_socket, by_websocket, by_desktop })
    }

    /// A setting that the app changes, and who hears of it.
    pub(super) fn change_setting(&self, companion: &WebSocketClient) -> Result<Heard> {
        let heard = setting::change(companion, &self.operator, self.desktop.as_ref().ok())?;
        let by_desktop = heard.by_desktop.map(|time| format!(", by a desktop program after {}", show(time)));
        let by_service = show(heard.by_service);
        let text = format!("heard by a service after {by_service}{}", by_desktop.unwrap_or_default());
        self.stage.say("setting", format!("display.brightness = {} by the app; {text}", setting::BRIGHTNESS));
        Ok(heard)
    }

    /// What somebody is told who may not.
    pub(super) fn refuse(&self, viewer: &UnixSocketClient) -> Result<Error> {
        self.stage.title("A call that is refused");
        let refusal = match viewer.call::<SetRate>(&STREAM_HZ, None) {
            Err(error) => error,
            Ok(rate) => {
                return Err(Error::Internal(format!("the viewer was allowed to set the rate to {rate}")));
            }
        };
        let text = format!("calls imu/set-rate {STREAM_HZ} with a token for imu/* and is told");
        self.stage.say("viewer", text);
        self.stage.say("", refusal.to_string());
        Ok(refusal)
    }

    /// The sensor's samples at a higher rate, for `time`.
    pub(super) fn stream(&self, viewer: &UnixSocketClient, time: Duration) -> Result<Stream> {
        self.stage.title("A stream");
        let asked_hz = self.operator.call::<SetRate>(&STREAM_HZ, None)?;
        let progress = Progress::for_time("measuring the stream", time, self.stage.json);
        let stream = measure_stream(viewer, asked_hz, time)?;
        drop(progress);
        let Stream { delays, rate_hz, missed, .. } = &stream;
        self.stage.say("operator", format!("may: imu/set-rate {STREAM_HZ}"));
        let (count, took) = (delays.count, show(time));
        self.stage.say("imu/sample", format!("{count} in {took}: {rate_hz:.1} Hz, {missed} missed"));
        self.stage.say("jitter", format!("{delays} behind the fastest"));
        Ok(stream)
    }

    /// An app that listens to one board and calls the other.
    pub(super) fn nod(&self) -> Result<Nod> {
        self.stage.title("A nod of the head that shakes the hand");
        let scopes =
            ["subscribe:imu/*", "subscribe:controller/*", "request:controller/*", controller::CONTROL];
        let app = self.hub.client("app", &scopes)?;
        let nod = nod::answer(&app)?;
        let Nod { answered, inputs, changes, missed } = &nod;
        let Haptic { amplitude, frequency_hz, duration_ms } = nod::PULSE;
        let strength = format!("{amplitude} of full strength at {frequency_hz} Hz for {duration_ms} ms");
        self.stage.say("app", format!("hears imu/sample and at a nod calls controller/haptic: {strength}"));
        let answered = show(*answered);
        self.stage.say("shaken", format!("{answered} after the sample came, and for as long as asked"));
        let text = format!(
            "{inputs} controller/input meanwhile, {missed} missed; the buttons changed {changes} times"
        );
        self.stage.say("input", text);
        Ok(nod)
    }

    /// The sensor is killed while a call waits for it, and comes back; the controller does not notice.
    pub(super) fn crash(&mut self) -> Result<Crash> {
        self.stage.title("A crash in the middle of a call");
        let (before, beside) = (call_info(&self.operator)?.boot_id, nod::info(&self.operator)?);
        let (caller_saw, told) = kill_amid_call(&self.operator, self.boards.remove(0))?;
        let later = show(told);
        let text = format!("the sensor, while a call waited for it; {later} later the caller was told");
        self.stage.say("killed", text);
        self.stage.say("", without(self.stage.directory.path(), &caller_saw));
        wait_for_boards(&self.changes, &[SENSOR.name], false)?;
        let restarted = Instant::now();
        self.boards.insert(0, self.kind.start(&SENSOR, &self.stage.line(&SENSOR), self.running)?);
        wait_for_boards(&self.changes, &[SENSOR.name], true)?;
        let back = restarted.elapsed();
        let again = call_info(&self.operator)?.boot_id;
        let wrong = |text: &str| Err(Error::Internal(text.to_owned()));
        if again == before {
            return wrong("the board that came back has the boot id of the one that was killed");
        }
        let text = format!("the sensor again: in service after {}, boot id {again:x}", show(back));
        self.stage.say("started", text);
        let after = nod::info(&self.operator)?;
        if after.boot_id != beside.boot_id {
            return wrong("the controller restarted when the sensor was killed");
        }
        let published = after.inputs_sent.wrapping_sub(beside.inputs_sent);
        self.stage.say("controller", format!("went on meanwhile and published {published} inputs"));
        Ok(Crash { caller_saw, told, back })
    }

    /// Lets a visitor look at the dashboard until a signal ends the process.
    pub(super) fn stay(&self) -> Result<()> {
        self.operator.call::<SetRate>(&STREAM_HZ, None)?;
        self.stage.stay(&self.hub.dashboard(), self.desktop.as_ref().ok());
        Ok(())
    }

    /// Ends the boards, then the hub, then the bus.
    pub(super) fn leave(self) -> Result<()> {
        drop((self.boards, self.operator));
        self.hub.stop()
    }
}

fn measure_calls(client: &Client) -> Result<Percentiles> {
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let started = Instant::now();
        call_info(client)?;
        times.push(started.elapsed());
    }
    Ok(Percentiles::of(times))
}

/// Counts samples for `time`, and how much longer than the fastest each took from its timestamp to here.
fn measure_stream(client: &Client, asked_hz: u16, time: Duration) -> Result<Stream> {
    let samples = client.subscribe("imu/sample", SlowConsumer::default())?;
    let started = Instant::now();
    let mut missed = 0;
    let mut arrivals: Vec<(u64, Duration)> = Vec::new();
    while let Some(left) = time.checked_sub(started.elapsed()) {
        match samples.recv(Some(left))? {
            Some(Delivery::Message(message)) => {
                let sample: Sample = message.payload.parse()?;
                arrivals.push((sample.timestamp_us, started.elapsed()));
            }
            Some(Delivery::Missed(count)) => missed += count,
            None => break,
        }
    }
    let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else {
        return Err(Error::Timeout(format!("no sample came within {}", show(time))));
    };
    let span = (last.1 - first.1).as_secs_f64();
    let rate_hz = if span > 0.0 { (arrivals.len() - 1) as f64 / span } else { 0.0 };
    // The two clocks have nothing in common but their speed: only differences between samples mean anything.
    let offset = |(taken, arrived): &(u64, Duration)| arrived.as_micros() as i128 - i128::from(*taken);
    let fastest = arrivals.iter().map(offset).min().unwrap_or(0);
    let delays =
        arrivals.iter().map(|arrival| Duration::from_micros((offset(arrival) - fastest) as u64)).collect();
    Ok(Stream { asked_hz, delays: Percentiles::of(delays), rate_hz, missed })
}

/// Kills the board while a call waits for it; what the caller saw, and how long after.
fn kill_amid_call(client: &UnixSocketClient, board: Board) -> Result<(Error, Duration)> {
    board.freeze()?;
    let caller = client.clone();
    let (sent, is_sent) = channel();
    let call = thread::spawn(move || {
        let _ = sent.send(());
        let outcome = call_info(&caller);
        (outcome, Instant::now())
    });
    // The call is on its way once the caller runs; the board is frozen, so it cannot be answered.
    let _ = is_sent.recv();
    thread::sleep(Duration::from_millis(50));
    let killed = Instant::now();
    board.kill();
    let (outcome, told) = call.join().map_err(|_| Error::Internal("the caller panicked".to_owned()))?;
    match outcome {
        Err(error) => Ok((error, told.saturating_duration_since(killed))),
        Ok(_) => Err(Error::Internal("a board that was stopped has answered".to_owned())),
    }
}

/// What an error says, without the temporary directory.
fn without(directory: &Path, error: &Error) -> String {
    error.to_string().replace(&directory.display().to_string(), "…")
}

const STREAM_HZ: u16 = 200;
