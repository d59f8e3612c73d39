//! A hand-made accepting end: a session and a framed stream for each connection, and a rule for what is answered.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;
use visorbus_core::frame::length::{Split, split};
use visorbus_core::session::{Name, Role, SessionConfig, Verdict};
use visorbus_core::{Instant, Message, MessageType, Session, encode};
use visorbus_hub::{HubLink, Listener, OwnedMessage, ReceiveBuffer};
use visorbus_unix::{FramedStream, UnixSocketListener};

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The accepting end. What it gets goes to `heard`; what it answers is up to its rule.
pub(crate) struct Opposite {
    pub(crate) path: PathBuf,
    pub(crate) heard: Receiver<OwnedMessage>,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Removed with the end itself.
    directory: Option<TempDir>,
}

/// One connection of it.
struct Link {
    stream: Mutex<FramedStream>,
    raw: UnixStream,
}

/// What a rule answers through.
pub(crate) struct Answer<'a>(&'a Link);

impl Answer<'_> {
    pub(crate) fn send(&self, message: &Message<'_>) {
        let mut frame = vec![0; message.payload.as_bytes().len() + 512];
        let len = encode(message, &mut frame).unwrap();
        self.0.write(&frame[..len]);
    }

    /// Answers a request with its own payload.
    pub(crate) fn echo(&self, message: &Message<'_>) {
        self.send(&message.answer(MessageType::Response).with_payload(message.payload));
    }

    /// Ends the connection without a word.
    pub(crate) fn hang_up(&self) {
        self.0.raw.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

impl Link {
    fn write(&self, frame: &[u8]) {
        let mut stream = self.stream.lock().unwrap();
        // A client that is gone is not what these tests are about.
        let _ = stream.send(frame, &[], true);
        while stream.flush(Instant::default()).is_ok_and(|empty| !empty) {
            wait(&self.raw, PollFlags::POLLOUT);
        }
    }
}

impl Opposite {
    /// One that answers every request to its bus, and every one to `echo/…` with its own payload.
    pub(crate) fn echoing() -> Self {
        Self::start(|message, answer| {
            let to = message.destination.map_or("bus", |to| to.component());
            if message.wants_answer() && ["bus", "echo"].contains(&to) {
                answer.echo(message);
            }
        })
    }

    pub(crate) fn start(rule: impl FnMut(&Message<'_>, &Answer<'_>) + Send + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hub.sock");
        let mut started = Self::start_at(path, 1 << 20, rule);
        started.directory = Some(directory);
        started
    }

    pub(crate) fn start_at(
        path: PathBuf,
        max_frame: u32,
        rule: impl FnMut(&Message<'_>, &Answer<'_>) + Send + 'static,
    ) -> Self {
        let mut listener = UnixSocketListener::bind(&path).unwrap();
        let (heard_by, heard) = channel();
        let links: Arc<Mutex<Vec<Arc<Link>>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (all, ends) = (Arc::clone(&links), Arc::clone(&stopped));
        let rule: Arc<Mutex<Box<Rule>>> = Arc::new(Mutex::new(Box::new(rule)));
        let thread = thread::spawn(move || {
            let mut served = Vec::new();
            while !ends.load(Ordering::SeqCst) {
                let mut fds = [PollFd::new(listener.fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::NONE).unwrap();
                let Some(link) = listener_accept(&mut listener) else { continue };
                all.lock().unwrap().push(Arc::clone(&link));
                let (rule, heard_by) = (Arc::clone(&rule), heard_by.clone());
                served.push(thread::spawn(move || serve(&link, max_frame, &rule, &heard_by)));
            }
            all.lock().unwrap().iter().for_each(|link| drop(link.raw.shutdown(std::net::Shutdown::Both)));
            served.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Self { path, heard, links, stopped, thread: Some(thread), directory: None }
    }

    /// The next message that it got.
    pub(crate) fn next(&self) -> OwnedMessage {
        self.heard.recv_timeout(SOON).expect("a message")
    }

    /// Sends a message on the newest connection.
    pub(crate) fn send(&self, message: &OwnedMessage) {
        let link = self.links.lock().unwrap().last().cloned().expect("a connection");
        Answer(&link).send(&message.borrow().unwrap());
    }

    /// Ends the newest connection without a word.
    pub(crate) fn cut(&self) {
        let link = self.links.lock().unwrap().last().cloned().expect("a connection");
        Answer(&link).hang_up();
    }
}

impl Drop for Opposite {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which then sees that it is to end.
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

type Rule = dyn FnMut(&Message<'_>, &Answer<'_>) + Send;

fn listener_accept(listener: &mut UnixSocketListener) -> Option<Arc<Link>> {
    let stream = listener.accept_stream().unwrap()?;
    let raw = stream.try_clone().unwrap();
    Some(Arc::new(Link { stream: Mutex::new(FramedStream::new(stream).unwrap()), raw }))
}

fn serve(link: &Link, max_frame: u32, rule: &Mutex<Box<Rule>>, heard: &Sender<OwnedMessage>) {
    static BOOTS: AtomicUsize = AtomicUsize::new(1);
    let mut session = Session::new(SessionConfig {
        role: Role::Accepting,
        name: Name::try_from("hub").unwrap(),
        boot_id: BOOTS.fetch_add(1, Ordering::SeqCst) as u64,
        max_frame,
        heartbeat_ms: 0,
        rows: 0,
        requires_authentication: false,
        lossy: false,
    });
    let mut buffer = ReceiveBuffer::default();
    loop {
        wait(&link.raw, PollFlags::POLLIN);
        buffer.clear();
        let received = link.stream.lock().unwrap().receive(&mut buffer);
        let mut at = 0;
        while let Ok(Split::Frame { frame, consumed }) = split(&buffer.as_slice()[at..], 1 << 24) {
            let message = visorbus_core::decode(frame).unwrap();
            let mut out = [0; 512];
            match session.handle(&message, Instant::default(), &mut out) {
                Verdict::Deliver => {
                    let _ = heard.send(OwnedMessage::from(&message));
                    rule.lock().unwrap()(&message, &Answer(link));
                }
                Verdict::Answer(len) | Verdict::Opened { answer: len } if len != 0 => link.write(&out[..len]),
                _ => {}
            }
            at += consumed;
        }
        if at < buffer.as_slice().len() {
            link.stream.lock().unwrap().keep(&buffer.as_slice()[at..]);
        }
        if received.is_err() {
            return;
        }
    }
}

pub(crate) fn wait(stream: &UnixStream, events: PollFlags) {
    use std::os::fd::AsFd;
    poll(&mut [PollFd::new(stream.as_fd(), events)], PollTimeout::NONE).unwrap();
}
