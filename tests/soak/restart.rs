//! Boards that reset, cables that are pulled and hubs that are killed, at random moments, while calls are pending.
//!
//! ```text
//! callers --socket--> hub --pseudo-terminal--> cable --socket--> board
//! process             process                  thread            process
//! ```
//! Hub and board are this program started again, and end by SIGKILL. The cable is a thread of this process that moves
//! bytes, swallows them, or puts another pseudo-terminal in the place of the one that the hub has open.

use std::env;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use visorbus_auth::{KeyFile, TokenRequest};
use visorbus_core::Instant;
use visorbus_core::serve::serve;
use visorbus_hub::{Hub, HubConfig};
use visorbus_imu::messages::GetInfo;
use visorbus_imu::{DEVELOPMENT_ROOT_KEY, ImuBoard, ImuNode, KEY_ID, device_key, leaf};
use visorbus_mcu::{NoBoardKeys, SerialPort, SerialSpec};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::pty::Pty;
use visorbus_tests::stats::RoundTrips;
use visorbus_unix::{Credentials, UnixSocketClient, UnixSocketListener};

/// Plays the part that this process was started for, if it was; the first thing that `main` does.
pub(crate) fn play_part() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    let (part, argument) = (arguments.next()?, arguments.next()?);
    let played = match part.as_str() {
        HUB_PART => be_hub(Path::new(&argument)),
        BOARD_PART => be_board(argument.parse().ok()?),
        _ => return None,
    };
    // A board ends when its line does, with this program.
    match played {
        Err(error) if part == HUB_PART => eprintln!("{part}: {error}"),
        _ => {}
    }
    Some(ExitCode::FAILURE)
}

/// Goes through `events` of them and prints the table.
pub(crate) fn print(events: u32, seed: u64) -> Result<(), String> {
    println!("Back in service: {events} events at random moments, seed {seed}, {CALLERS} callers.");
    println!(
        "From the moment that the hub or the board is killed (another is started at once) or the cable is back"
    );
    println!("until a call that began after it is answered.\n");
    let mut system = System::start(seed).map_err(|error| error.to_string())?;
    let result = system.run(events).map_err(|error| error.to_string());
    let hung = system.stop();
    result?;
    if hung > 0 {
        return Err(format!("{hung} calls did not end"));
    }
    println!(
        "\ncalls {} answered, {} failed with an error that says why, {hung} did not end",
        system.answered(),
        system.failed()
    );
    system.leaks()
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The board's process is killed, in the middle of whatever it does, and started with a new boot id.
    BoardReset,
    /// Bytes get lost for a while, and neither end is told.
    CableCut,
    /// The hub's device vanishes for a while, as a USB adapter does.
    Unplugged,
    /// The hub's process is killed and started again.
    HubKilled,
}

impl Event {
    const ALL: [Self; 4] = [Self::BoardReset, Self::CableCut, Self::Unplugged, Self::HubKilled];

    const fn name(self) -> &'static str {
        match self {
            Self::BoardReset => "board reset",
            Self::CableCut => "cable cut",
            Self::Unplugged => "device unplugged",
            Self::HubKilled => "hub killed",
        }
    }
}

/// Hub, board, the cable between them, and callers.
struct System {
    directory: tempfile::TempDir,
    random: Random,
    hub: Part,
    board: Part,
    /// The board's end of the cable, for the next process that is the board.
    board_end: UnixStream,
    boots: u64,
    cable: Arc<Cable>,
    cable_thread: Option<JoinHandle<()>>,
    calls: Arc<Calls>,
    callers: Vec<JoinHandle<()>>,
    /// What one hub held after the first events and after all that it lived through.
    hub_before: Usage,
    hub_after: Usage,
    own_before: Usage,
    own_after: Usage,
}

impl System {
    fn start(seed: u64) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (cable_end, board_end) = UnixStream::pair()?;
        let cable = Arc::new(Cable::new(directory.path().join("line"))?);
        let cable_thread = cable.carry(cable_end)?;
        let hub = Part::hub(directory.path())?;
        let board = Part::board(1, &board_end)?;
        let calls = Arc::new(Calls::default());
        let mut system = Self {
            random: Random::new(seed),
            hub,
            board,
            board_end,
            boots: 1,
            cable,
            cable_thread: Some(cable_thread),
            callers: Vec::new(),
            calls,
            directory,
            hub_before: Usage::default(),
            hub_after: Usage::default(),
            own_before: Usage::default(),
            own_after: Usage::default(),
        };
        for number in 0..CALLERS {
            let client = caller(system.directory.path(), number)?;
            let calls = Arc::clone(&system.calls);
            system.callers.push(thread::spawn(move || calls.run(&client)));
        }
        system.calls.wait_for_one_after(Clock::now())?;
        Ok(system)
    }

    /// Four fifths of them befall one hub, so that it would show a leak; in the last fifth hubs are killed.
    fn run(&mut self, events: u32) -> io::Result<()> {
        println!("{:<18}{:>8}{:>10}{:>10}{:>10}", "event", "times", "p50 ms", "p99 ms", "max ms");
        let mut times: [Vec<Duration>; 4] = Default::default();
        let lived_through = events - events / 5;
        for number in 0..events {
            let event = if number < lived_through {
                Event::ALL[self.random.below(3) as usize]
            } else {
                Event::HubKilled
            };
            if number == lived_through / 5 {
                self.hub_before = Usage::of(self.hub.0.id())?;
            }
            // A client whose connection did not last a second takes its time before it connects again.
            let steady_ms = if event == Event::HubKilled { 1_100 } else { 0 };
            thread::sleep(Duration::from_micros(steady_ms * 1_000 + self.random.below(60_000)));
            let since = self.befall(event)?;
            let back = self.calls.wait_for_one_after(since).map_err(|error| {
                io::Error::other(format!("{error} after event {number}, {}", event.name()))
            })?;
            times[event as usize].push(back);
            if number + 1 == lived_through {
                self.hub_after = Usage::of(self.hub.0.id())?;
                self.own_before = Usage::of(std::process::id())?;
            }
        }
        self.own_after = Usage::of(std::process::id())?;
        for (event, times) in Event::ALL.into_iter().zip(&mut times) {
            print_row(event, times);
        }
        Ok(())
    }

    /// Lets it happen; the moment from which on a call should work again.
    fn befall(&mut self, event: Event) -> io::Result<Clock> {
        match event {
            Event::BoardReset => {
                self.board.kill();
                let killed = Clock::now();
                self.boots += 1;
                self.board = Part::board(self.boots, &self.board_end)?;
                Ok(killed)
            }
            Event::HubKilled => {
                self.hub.kill();
                let killed = Clock::now();
                self.hub = Part::hub(self.directory.path())?;
                Ok(killed)
            }
            Event::CableCut | Event::Unplugged => {
                // Now and then for longer than a session bears.
                let most_ms = if self.random.below(16) == 0 { 4_000 } else { 400 };
                let away = Duration::from_micros(self.random.below(most_ms * 1_000));
                if event == Event::CableCut {
                    self.cable.swallows.store(true, Ordering::SeqCst);
                    thread::sleep(away);
                    self.cable.swallows.store(false, Ordering::SeqCst);
                } else {
                    self.cable.unplug();
                    thread::sleep(away);
                    self.cable.plug()?;
                }
                Ok(Clock::now())
            }
        }
    }

    /// Ends the callers; how many calls did not end.
    fn stop(&mut self) -> usize {
        self.calls.stop.store(true, Ordering::SeqCst);
        let deadline = Clock::now() + DEADLINE + GRACE;
        while self.callers.iter().any(|caller| !caller.is_finished()) && Clock::now() < deadline {
            // A thread that ends tells nobody who waits for a while.
            thread::sleep(Duration::from_millis(5));
        }
        let hung = self.callers.iter().filter(|caller| !caller.is_finished()).count();
        self.cable.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.cable_thread.take() {
            let _ = thread.join();
        }
        hung + self.calls.late.load(Ordering::SeqCst) as usize
    }

    fn answered(&self) -> u32 {
        self.calls.answered.load(Ordering::SeqCst)
    }

    fn failed(&self) -> u32 {
        self.calls.failed.load(Ordering::SeqCst)
    }

    /// Prints what hub and callers hold, and fails when it grew.
    fn leaks(&self) -> Result<(), String> {
        let mut leaks = Vec::new();
        for (who, before, after) in
            [("hub", self.hub_before, self.hub_after), ("callers", self.own_before, self.own_after)]
        {
            println!(
                "{who}: descriptors {} -> {}, resident {} -> {} KiB",
                before.descriptors, after.descriptors, before.resident_kib, after.resident_kib
            );
            if after.descriptors > before.descriptors + SPARE_DESCRIPTORS
                || after.resident_kib > before.resident_kib + SPARE_KIB
            {
                leaks.push(who);
            }
        }
        if leaks.is_empty() { Ok(()) } else { Err(format!("leaks: {}", leaks.join(" and "))) }
    }
}

fn print_row(event: Event, times: &mut [Duration]) {
    let Some(trips) = RoundTrips::from_samples(times) else { return };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:<18}{:>8}{:>10.1}{:>10.1}{:>10.1}",
        event.name(),
        trips.count,
        ms(trips.p50),
        ms(trips.p99),
        ms(trips.max)
    );
}

/// What the callers' calls came to.
#[derive(Default)]
struct Calls {
    stop: AtomicBool,
    answered: AtomicU32,
    failed: AtomicU32,
    /// Calls that ended long after their deadline.
    late: AtomicU32,
    /// What the last call that failed said.
    last_error: Mutex<String>,
    /// The last call that was answered: when it began and ended.
    last: Mutex<Option<(Clock, Clock)>>,
    /// Told when there is one.
    is_answered: Condvar,
    /// The first that began after the moment in question.
    began_after: Mutex<Option<Clock>>,
}

impl Calls {
    /// Calls until it is told to stop.
    fn run(&self, client: &UnixSocketClient) {
        while !self.stop.load(Ordering::SeqCst) {
            let began = Clock::now();
            let outcome = client.call::<GetInfo>(&(), Some(DEADLINE));
            let ended = Clock::now();
            self.late.fetch_add(u32::from(ended - began > DEADLINE + GRACE), Ordering::SeqCst);
            if let Err(error) = outcome {
                *self.last_error.lock().expect("nobody panics") = error.to_string();
                self.failed.fetch_add(1, Ordering::SeqCst);
                // A hub that is not there refuses at once, and is not asked a thousand times for that.
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            self.answered.fetch_add(1, Ordering::SeqCst);
            let mut last = self.last.lock().expect("nobody panics");
            let since = *self.began_after.lock().expect("nobody panics");
            let counts = since.is_some_and(|since| began >= since);
            if counts && last.is_none() {
                *last = Some((began, ended));
                self.is_answered.notify_all();
            }
        }
    }

    /// Waits until a call that began after `since` is answered; how long after it that was.
    fn wait_for_one_after(&self, since: Clock) -> io::Result<Duration> {
        *self.last.lock().expect("nobody panics") = None;
        *self.began_after.lock().expect("nobody panics") = Some(since);
        let last = self.last.lock().expect("nobody panics");
        let is_missing = |last: &mut Option<_>| last.is_none();
        let (last, _) =
            self.is_answered.wait_timeout_while(last, PATIENCE, is_missing).expect("nobody panics");
        let Some((_, ended)) = *last else {
            let why = self.last_error.lock().expect("nobody panics");
            return Err(io::Error::other(format!("no call was answered within a minute ({why})")));
        };
        Ok(ended.saturating_duration_since(since))
    }
}

fn caller(directory: &Path, number: usize) -> io::Result<UnixSocketClient> {
    let other = |error: visorbus_hub::Error| io::Error::other(error.to_string());
    let name = format!("caller-{number}");
    let client = UnixSocketClient::new(socket(directory), &name).map_err(other)?;
    let deadline = Clock::now() + PATIENCE;
    while let Err(error) = client.connect() {
        if Clock::now() > deadline {
            return Err(other(error));
        }
        // Nothing tells that a hub has its socket.
        thread::sleep(Duration::from_millis(5));
    }
    let token = keys().mint(&TokenRequest::new(&name, &["request:imu/*"])).map_err(io::Error::other)?;
    client.authenticate(&Credentials::Token(token)).map_err(other)?;
    Ok(client)
}

/// Bytes from the board to the hub's device and back.
struct Cable {
    /// Names the device that the hub opens.
    line: PathBuf,
    pty: Mutex<Option<Arc<Pty>>>,
    swallows: AtomicBool,
    stop: AtomicBool,
}

impl Cable {
    fn new(line: PathBuf) -> io::Result<Self> {
        let cable = Self {
            line,
            pty: Mutex::default(),
            swallows: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        cable.plug()?;
        Ok(cable)
    }

    fn carry(self: &Arc<Self>, board: UnixStream) -> io::Result<JoinHandle<()>> {
        board.set_nonblocking(true)?;
        let cable = Arc::clone(self);
        Ok(thread::spawn(move || {
            while !cable.stop.load(Ordering::SeqCst) {
                // Not locked while it waits, or nobody else would ever get it.
                let pty = cable.pty.lock().expect("nobody panics").clone();
                let mut fds = vec![PollFd::new(&board, PollFlags::IN)];
                fds.extend(pty.iter().map(|pty| PollFd::new(&pty.master, PollFlags::IN)));
                // Soon again, because another device may be in its place.
                let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 2_000_000 }));
                cable.move_bytes(&board, pty.as_deref());
            }
        }))
    }

    /// What nobody takes is lost, as on a line without flow control.
    fn move_bytes(&self, board: &UnixStream, pty: Option<&Pty>) {
        let mut bytes = [0; 1_024];
        while let Ok(count @ 1..) = rustix::io::read(board, &mut bytes) {
            if let Some(pty) = pty.filter(|_| !self.swallows.load(Ordering::SeqCst)) {
                let _ = rustix::io::write(&pty.master, &bytes[..count]);
            }
        }
        let Some(pty) = pty else { return };
        while let Ok(count @ 1..) = rustix::io::read(&pty.master, &mut bytes) {
            if !self.swallows.load(Ordering::SeqCst) {
                let _ = rustix::io::write(board, &bytes[..count]);
            }
        }
    }

    fn plug(&self) -> io::Result<()> {
        let pty = Pty::open()?;
        pty.plug(&self.line)?;
        *self.pty.lock().expect("nobody panics") = Some(Arc::new(pty));
        Ok(())
    }

    fn unplug(&self) {
        *self.pty.lock().expect("nobody panics") = None;
        let _ = fs::remove_file(&self.line);
    }
}

/// A process that is killed when this is dropped.
struct Part(Child);

impl Part {
    fn hub(directory: &Path) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(HUB_PART).arg(directory).stdin(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    fn board(boot_id: u64, end: &UnixStream) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(BOARD_PART).arg(boot_id.to_string()).stdin(OwnedFd::from(end.try_clone()?));
        Ok(Self(command.spawn()?))
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

fn be_hub(directory: &Path) -> Result<(), String> {
    let keys = keys();
    let hub = Hub::new(HubConfig::new(keys.ring(), keys.current_id())).map_err(|error| error.to_string())?;
    let handle = hub.handle();
    let spec: SerialSpec = format!("{}@921600,unkeyed=imu", directory.join("line").display())
        .parse()
        .map_err(|_| "no device")?;
    let socket = socket(directory);
    thread::spawn(move || {
        let begun = UnixSocketListener::bind(&socket)
            .and_then(|listener| handle.listen(Box::new(listener)))
            .and_then(|_| handle.attach(Box::new(SerialPort::new(spec, Arc::new(NoBoardKeys)))));
        if let Err(error) = begun {
            eprintln!("hub: {error}");
            std::process::exit(1);
        }
    });
    hub.run().map_err(|error| error.to_string())
}

fn be_board(boot_id: u64) -> Result<(), String> {
    let line = rustix::io::dup(io::stdin()).map_err(|error| error.to_string())?;
    rustix::io::ioctl_fionbio(&line, true).map_err(|error| error.to_string())?;
    let started = Clock::now();
    let waiter = line.try_clone().map_err(|error| error.to_string())?;
    let mut node = ImuNode::new(Host(started), boot_id);
    let Err(error) = serve(&mut leaf(Uart(line), boot_id, device_key()), &mut node, |due| {
        let left = due.map_or(LONGEST_WAIT, |due| due.duration_since(now(started))).min(LONGEST_WAIT);
        let time = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let _ = poll(&mut [PollFd::new(&waiter, PollFlags::IN)], Some(&time));
        now(started)
    });
    Err(error.to_string())
}

/// The board's end of the cable as a UART.
struct Uart(OwnedFd);

impl Uart {
    fn is_ready(&self, flags: PollFlags) -> bool {
        let mut fds = [PollFd::new(&self.0, flags)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && !fds[0].revents().is_empty()
    }
}

impl ErrorType for Uart {
    type Error = ErrorKind;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.is_ready(PollFlags::IN))
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.is_ready(PollFlags::OUT))
    }
}

impl Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        rustix::io::read(&self.0, bytes).map_err(|_| ErrorKind::Other)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        rustix::io::write(&self.0, bytes).map_err(|_| ErrorKind::Other)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

struct Host(Clock);

impl ImuBoard for Host {
    const NAME: &'static str = "a process";

    fn now_us(&self) -> u64 {
        now(self.0).as_micros()
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    descriptors: usize,
    resident_kib: usize,
}

impl Usage {
    fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next());
        Ok(Self {
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
            resident_kib: resident.and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    }
}

fn now(started: Clock) -> Instant {
    Instant::from_micros(started.elapsed().as_micros() as u64)
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("run/bus.sock")
}

fn keys() -> KeyFile {
    KeyFile::in_memory(KEY_ID, DEVELOPMENT_ROOT_KEY)
}

const HUB_PART: &str = "--be-hub";
const BOARD_PART: &str = "--be-board";
/// Callers at once; a session to the board has four requests at most.
const CALLERS: usize = 3;
/// What a call may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How much later than that it may end, on a busy machine.
const GRACE: Duration = Duration::from_secs(1);
/// How long service may be away.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// A leak in a thousand events is more than this.
const SPARE_DESCRIPTORS: usize = 4;
const SPARE_KIB: usize = 2_048;
