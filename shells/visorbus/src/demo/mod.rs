//! `visorbus demo`: a hub, two boards and clients in a minute, with a crash in the middle; nothing is left behind.

mod board;
mod desktop;
mod nod;
mod node;
mod scenes;
mod secure;
mod setting;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use visorbus::{IpcManager, settings};
use visorbus_auth::{Accounts, AuthenticationProvider, KeyFile, Policy, Store, TokenRequest, TokenText};
use visorbus_client::Client;
use visorbus_controller::messages as controller;
use visorbus_dbus::DBusDoor;
use visorbus_hub::info::ServiceChange;
use visorbus_hub::{Error, Result, Value};
use visorbus_imu::messages::{CONTROL, GetInfo, Info};
use visorbus_imu::{DEVELOPMENT_ROOT_KEY, KEY_ID};
use visorbus_services::config::ConfigManager;
use visorbus_unix::{Credentials, Delivery, Subscription, UnixSocketClient};

use crate::output::{BOLD, INTERRUPTED, paint, print_line};
use crate::progress::{self, Progress};
use crate::{args, interrupt};
use desktop::Desktop;
use scenes::Cast;

pub(crate) use node::run as run_node;

/// Shows the whole system at work.
pub(crate) fn run(args: &args::Demo, json: bool) -> Result<()> {
    let signals = interrupt::block()?;
    let stage = Stage::new(json)?;
    let running = stage.end_on(signals);
    if args.secure {
        return secure::run(stage, &running);
    }
    let progress = Progress::of("the first time takes a minute", json);
    let kind = board::Kind::choose(args.board, &running, &mut |text| stage.print(&format!("{text} …")))?;
    drop(progress);

    let mut cast = Cast::enter(&stage, &running, kind)?;
    let companion = cast.companion()?;
    let calls = cast.call(&companion)?;
    let heard = cast.change_setting(&companion)?;
    drop(companion);
    let viewer = cast.viewer()?;
    let refusal = cast.refuse(&viewer)?;
    let stream = cast.stream(&viewer, args.stream)?;
    let nod = cast.nod()?;
    let crash = cast.crash()?;

    let summary = serde_json::json!({
        "board": cast.kind.name(),
        "dashboard": cast.hub.dashboard(),
        "calls": calls.by_socket.json(),
        "calls_over_websocket": calls.by_websocket.json(),
        "calls_over_dbus": calls.by_desktop.as_ref().map(Percentiles::json),
        "busctl": cast.desktop.as_ref().map(Desktop::command).ok(),
        "stream": { "asked_hz": stream.asked_hz, "measured_hz": stream.rate_hz, "missed": stream.missed, "delay": stream.delays.json() },
        "refused": refusal.to_string(),
        "setting": { "service_heard_us": micros(heard.by_service), "desktop_heard_us": heard.by_desktop.map(micros) },
        "nod": { "answered_us": micros(nod.answered), "inputs": nod.inputs, "missed": nod.missed },
        "crash": { "caller_saw": crash.caller_saw.to_string(), "after_us": micros(crash.told), "back_in_service_us": micros(crash.back) },
    });
    stage.title("Summary");
    let (calls, delays) = (&calls.by_socket, &stream.delays);
    stage.say("call", format!("p50 {}, p99 {}", show(calls.p50), show(calls.p99)));
    let rate = format!("{:.1} of {} Hz", stream.rate_hz, stream.asked_hz);
    stage.say("stream", format!("{rate}, jitter p50 {}, p99 {}", show(delays.p50), show(delays.p99)));
    stage.say("nod", format!("hand shaken after {}", show(nod.answered)));
    let (told, back) = (show(crash.told), show(crash.back));
    stage.say("crash", format!("caller told after {told}, sensor back after {back}"));
    drop(viewer);
    if args.stay || stage.is_watched() {
        cast.stay()?;
    }
    cast.leave()?;
    stage.finish(&summary)
}

/// Where the demonstration takes place, and how it speaks.
struct Stage {
    json: bool,
    directory: tempfile::TempDir,
    socket: PathBuf,
    /// All is shown: a signal is then the end that was waited for.
    is_over: Arc<AtomicBool>,
}

impl Stage {
    fn new(json: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("visorbus-demo-").tempdir();
        let directory = directory.map_err(|e| Error::Internal(format!("no temporary directory: {e}")))?;
        let socket = directory.path().join("run/bus.sock");
        Ok(Self { json, directory, socket, is_over: Arc::default() })
    }

    /// What a board's serial line is called.
    fn line(&self, model: &board::Model) -> PathBuf {
        self.directory.path().join(format!("tty-{}", model.name))
    }

    /// Has a signal end the boards and remove what is on disk before it ends the process; returns where the boards that
    /// run are noted.
    fn end_on(&self, signals: SigSet) -> board::Running {
        let running = board::Running::default();
        let (noted, directory) = (running.clone(), self.directory.path().to_owned());
        let is_over = Arc::clone(&self.is_over);
        thread::spawn(move || {
            if signals.wait().is_ok() {
                progress::clear();
                noted.kill();
                // What cannot be removed now cannot be removed later either.
                let _ = std::fs::remove_dir_all(directory);
                std::process::exit(if is_over.load(Ordering::Relaxed) { 0 } else { INTERRUPTED.into() });
            }
        });
        running
    }

    fn title(&self, text: &str) {
        let terminal = std::io::stdout().is_terminal();
        self.print(&paint(terminal, BOLD, text));
    }

    /// What a word of the left column stands for; without one, what the line before tells.
    fn say(&self, word: &str, text: impl AsRef<str>) {
        self.print(&format!("  {word:<10}  {}", text.as_ref()));
    }

    fn print(&self, text: &str) {
        if !self.json {
            // A reader that has gone does not end the demonstration half-way.
            let _ = progress::above(|| print_line(text));
        }
    }

    /// Whether a person looks on, who can end it.
    fn is_watched(&self) -> bool {
        !self.json && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
    }

    /// Waits for the signal that ends the process.
    fn stay(&self, dashboard: &str, desktop: Option<&Desktop>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.title("All is shown");
        self.say("dashboard", format!("{dashboard} goes on, with the token above; Ctrl-C ends it"));
        if let Some(desktop) = desktop {
            self.say("desktop", "programs reach it meanwhile, too:");
            self.say("", desktop.command());
        }
        loop {
            thread::park();
        }
    }

    /// Removes what is on disk.
    fn finish(self, summary: &serde_json::Value) -> Result<()> {
        let path = self.directory.path().display().to_string();
        self.directory.close().map_err(|e| Error::Internal(format!("{path} could not be removed: {e}")))?;
        if self.json {
            return print_line(&summary.to_string()).map_err(|e| Error::Internal(e.to_string()));
        }
        Ok(())
    }
}

/// The hub of the demonstration.
struct RunningHub {
    manager: IpcManager,
    accounts: Arc<Accounts>,
    socket: PathBuf,
    url: String,
}

impl RunningHub {
    /// With everything on it: by a configuration that is in no file.
    fn start(stage: &Stage, desktop: Option<&Desktop>) -> Result<Self> {
        let keys = KeyFile::in_memory(KEY_ID, DEVELOPMENT_ROOT_KEY);
        let policy = Policy::parse(&policy()).map_err(|e| Error::Internal(e.to_string()))?;
        let policy = Arc::new(policy);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let auth = Arc::clone(&accounts) as Arc<dyn AuthenticationProvider>;
        let mut manager = IpcManager::with_providers(configuration(stage, desktop)?, auth, policy)?;
        manager.initialize()?;
        let url = manager.websocket_server().and_then(|server| server.url());
        let url = url.ok_or_else(|| Error::Internal("the hub serves no WebSockets".to_owned()))?;
        Ok(Self { manager, accounts, socket: stage.socket.clone(), url })
    }

    /// How the hub stands with the bus.
    fn bus(&self) -> Option<DBusDoor> {
        self.manager.dbus_service().and_then(|service| service.door())
    }

    /// Where a browser finds the dashboard.
    fn dashboard(&self) -> String {
        format!("http{}/", self.url.trim_start_matches("ws").trim_end_matches('/'))
    }

    fn token(&self, name: &str, scopes: &[&str]) -> Result<TokenText> {
        Ok(self.accounts.mint(&TokenRequest::new(name, scopes))?.value)
    }

    fn client(&self, name: &str, scopes: &[&str]) -> Result<UnixSocketClient> {
        let token = self.token(name, scopes)?;
        let client = UnixSocketClient::new(&self.socket, name)?;
        client.connect()?;
        client.authenticate(&Credentials::Token(token))?;
        Ok(client)
    }

    fn stop(mut self) -> Result<()> {
        self.manager.shutdown()
    }
}

/// What the hub of the demonstration serves, and where.
fn configuration(stage: &Stage, desktop: Option<&Desktop>) -> Result<ConfigManager> {
    let config = ConfigManager::in_memory(settings::schema_with([setting::display()]));
    let text = |text: String| Value::Text(text);
    let mut options = vec![
        ("unix_socket", "path", text(stage.socket.display().to_string())),
        ("websocket", "bind_address", text("127.0.0.1:0".to_owned())),
        ("websocket", "dashboard", Value::Bool(true)),
        ("websocket", "enabled", Value::Bool(true)),
    ];
    if let Some(desktop) = desktop {
        options.extend([("dbus", "bus", text(desktop.bus())), ("dbus", "enabled", Value::Bool(true))]);
    }
    for (category, key, value) in options {
        config.set(category, key, value, "demo").map_err(|e| Error::Internal(e.to_string()))?;
    }
    Ok(config)
}

/// Waits until boards came, or went.
fn wait_for_boards(changes: &Subscription, names: &[&str], up: bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut awaited = names.to_vec();
    while !awaited.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        match changes.recv(Some(left))? {
            Some(Delivery::Message(message)) => {
                let change: ServiceChange = message.payload.parse()?;
                awaited.retain(|name| change.component != *name || change.up != up);
            }
            Some(Delivery::Missed(_)) => {}
            None => {
                let what = if up { "come up" } else { "go" };
                let who = awaited.join(" and ");
                return Err(Error::Timeout(format!("{who} did not {what} within {}", show(PATIENCE))));
            }
        }
    }
    Ok(())
}

fn call_info(client: &Client) -> Result<Info> {
    client.call::<GetInfo>(&(), None)
}

/// How times are distributed.
#[derive(Debug, Clone, Copy)]
struct Percentiles {
    count: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at =
            |share: usize| times.get((times.len().max(1) - 1) * share / 100).copied().unwrap_or_default();
        Self { count: times.len(), p50: at(50), p99: at(99), max: at(100) }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "count": self.count, "p50_us": micros(self.p50), "p99_us": micros(self.p99), "max_us": micros(self.max),
        })
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {}, p99 {}, max {}", show(self.p50), show(self.p99), show(self.max))
    }
}

/// A time with three digits that count.
fn show(time: Duration) -> String {
    let (value, unit) = match time.as_secs_f64() {
        seconds if seconds < 1e-3 => (seconds * 1e6, "µs"),
        seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Whom desktop programs of this user are taken for, and what they may do.
fn policy() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let allow = ["imu/*", "controller/*", "org.visorbus.config1/**"].map(|of| format!("request:{of}"));
    let hear = ["imu/*", "controller/*", "org.visorbus.config1/**"].map(|of| format!("subscribe:{of}"));
    let read = ["request:config/get/**".to_owned()];
    let allow = [&allow[..], &hear, &read].concat();
    format!(
        "[[unix]]\nuid = {uid}\nsubject = \"desktop\"\nscopes = [\"desktop\"]\n\n[[rule]]\nscope = \"desktop\"\nallow = {allow:?}\n"
    )
}

/// What an operator may do here: everything that the boards offer.
const OPERATOR_SCOPES: [&str; 4] = ["request:**", "subscribe:**", CONTROL, controller::CONTROL];
const CALLS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        let percentiles = Percentiles::of(times);
        assert_eq!(
            (micros(percentiles.p50), micros(percentiles.p99), micros(percentiles.max)),
            (50, 99, 100)
        );
        assert_eq!(Percentiles::of(Vec::new()).max, Duration::ZERO);
    }

    #[test]
    fn times_are_shown_with_three_digits() {
        let shown = [0, 7, 66, 999, 1_240, 38_200, 269_870, 3_000_000, 90_000_000]
            .map(|us| show(Duration::from_micros(us)));
        assert_eq!(
            shown,
            ["0.00 µs", "7.00 µs", "66.0 µs", "999 µs", "1.24 ms", "38.2 ms", "270 ms", "3.00 s", "90.0 s"]
        );
    }
}
