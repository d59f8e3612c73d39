//! The hub's end of a device's line, as small as it gets: one session, one call at a time, what is published in between.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use serde::de::DeserializeOwned;
use visorbus_core::auth::{BUS, Claims, Context, Key, KeyRing, Scopes, Slot};
use visorbus_core::bus::{self, Describe, RowInfo, RowPart};
use visorbus_core::codec::{decode_with, encode_error};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::session::{Name, Role, SessionConfig, Verdict};
use visorbus_core::{
    ErrorKind as Kind, Instant, IpcError, Link, Message, MessagePayload, MessageType, Session,
};
use visorbus_device::{DEVELOPMENT_ROOT_KEY, KEY_ID, Line, MAX_FRAME, line};

/// The hub's end of the line of one device.
pub struct Hub {
    device: &'static str,
    session: Session,
    link: Line<Wire>,
    ring: KeyRing,
    started: std::time::Instant,
    scopes: Vec<&'static str>,
    /// How often the other end has said hello.
    pub hellos: u32,
    /// How often the other end has proven itself.
    pub proofs: u32,
    /// How often it has taken this end's token.
    pub taken: u32,
    published: Vec<(String, Vec<u8>)>,
    answer: Option<(u64, Answer)>,
    /// The addresses of the device's table, as far as it was asked for them.
    rows: Vec<String>,
}

impl Hub {
    /// Waits for the hello of `device`; it calls it with `scopes`.
    pub fn new(stream: UnixStream, device: &'static str, scopes: &[&'static str]) -> Self {
        let mut ring = KeyRing::new();
        ring.add(Slot::root(KEY_ID, Key::new(DEVELOPMENT_ROOT_KEY))).unwrap();
        let mut session = Session::new(SessionConfig {
            role: Role::Accepting,
            name: Name::try_from(BUS).unwrap(),
            boot_id: 1,
            max_frame: MAX_FRAME as u32,
            heartbeat_ms: 1_000,
            rows: 0,
            requires_authentication: true,
            lossy: true,
        });
        session.offer_lane();
        session.set_clock(Instant::default(), unix().as_micros() as u64);
        Self {
            device,
            session,
            link: line(Wire::new(stream)),
            ring,
            started: std::time::Instant::now(),
            scopes: scopes.to_vec(),
            hellos: 0,
            proofs: 0,
            taken: 0,
            published: Vec::new(),
            answer: None,
            rows: Vec::new(),
        }
    }

    /// Turns the loop until `done`, for at most ten seconds.
    pub fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(
                std::time::Instant::now() < deadline,
                "waited in vain for {what}: {:?}",
                self.link.stats()
            );
            if !self.turn() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Shows the device a token with these scopes, instead of the last one.
    pub fn authenticate(&mut self, scopes: &[&'static str]) {
        self.scopes = scopes.to_vec();
        let before = self.taken;
        self.prove();
        self.run_until("the device to take the token", |hub| hub.taken > before);
    }

    /// Forgets what the device has published.
    pub fn clear(&mut self) {
        self.published.clear();
    }

    /// What the device has published on a topic, in the order it came.
    pub fn published<T: Topic>(&self) -> Vec<T::Message> {
        let of_topic = self.published.iter().filter(|(topic, _)| topic == T::ADDRESS.as_str());
        of_topic.map(|(_, payload)| parse(payload)).collect()
    }

    /// Calls an endpoint of the device.
    ///
    /// # Errors
    /// The device's refusal.
    pub fn call<E: Endpoint>(&mut self, request: &E::Request) -> Result<E::Response, (Kind, String)> {
        let mut payload = [0; 64];
        let payload = postcard::to_slice(request, &mut payload).unwrap();
        let answer = self.ask(E::ADDRESS, payload)?;
        Ok(postcard::from_bytes(&answer).unwrap())
    }

    /// The device's boot id, as it said in its hello.
    pub fn boot_id(&self) -> u64 {
        self.session.remote().unwrap().boot_id
    }

    /// Asks for each row of the device's table: address, and the two schemas.
    pub fn describe(&mut self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let rows = self.session.remote().unwrap().rows;
        (0..rows)
            .map(|row| {
                let info = self.describe_part(row, RowPart::Info);
                let info: RowInfo<'_> = postcard::from_bytes(&info).unwrap();
                if self.rows.len() == usize::from(row) {
                    self.rows.push(info.address.to_owned());
                }
                let [request, response] =
                    [RowPart::Request, RowPart::Response].map(|part| self.describe_part(row, part));
                (info.address.to_owned(), request, response)
            })
            .collect()
    }

    fn describe_part(&mut self, row: u16, part: RowPart) -> Vec<u8> {
        let mut payload = [0; 8];
        let payload = postcard::to_slice(&Describe { row, part }, &mut payload).unwrap();
        self.ask(Address::literal(bus::DESCRIBE), payload).unwrap()
    }

    fn ask(&mut self, address: Address<'static>, payload: &[u8]) -> Answer {
        let id = self.session.begin_request(self.now().plus_millis(5_000)).unwrap();
        let request = Message::request(id, address).with_payload(MessagePayload::Binary(payload));
        let mut frame = [0; MAX_FRAME];
        let len = visorbus_core::encode(&request, &mut frame).unwrap();
        assert!(self.link.send(&frame[..len]).unwrap());
        self.run_until("an answer", |hub| hub.answer.as_ref().is_some_and(|(of, _)| *of == id));
        self.answer.take().unwrap().1
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// `true` when there was something to do.
    fn turn(&mut self) -> bool {
        let now = self.now();
        self.link.flush(now).unwrap();
        let Some(frame) = self.link.receive().unwrap().map(<[u8]>::to_vec) else {
            let _ = self.session.handle_timeout(now);
            let mut out = [0; MAX_FRAME];
            let len = self.session.poll_transmit(now, &mut out);
            self.send(&out[..len]);
            if self.session.wants_token(now) {
                self.prove();
            }
            return false;
        };
        let row = |row: u16| match self.session.is_open() {
            true => Address::new(self.rows.get(usize::from(row))?).ok(),
            // Of a session that this end knows nothing of.
            false => Some(Address::literal("unknown")),
        };
        let message = decode_with(&frame, row).unwrap();
        let mut out = [0; MAX_FRAME];
        let len = match self.session.handle(&message, now, &mut out) {
            // A call to another component, of which there is none here.
            Verdict::Deliver if message.message_type == MessageType::Request => {
                encode_error(&message, &IpcError::Message("nobody else is here"), &mut out).unwrap()
            }
            Verdict::Deliver => {
                assert_eq!(message.message_type, MessageType::Notification);
                let topic = message.destination.expect("a notification has a topic").as_str().to_owned();
                self.published.push((topic, message.payload.as_bytes().to_vec()));
                0
            }
            Verdict::Opened { answer } => {
                self.hellos += 1;
                self.link.reset(self.session.epoch());
                answer
            }
            Verdict::Authenticate { token } => {
                let context = Context::new(BUS, Some(unix().as_secs())).with_boot_id(self.session.boot_id());
                let outcome = self.ring.check(token, &context);
                self.proofs += u32::from(outcome.is_ok());
                let outcome = outcome.map_err(|error| IpcError::Authentication(error.for_peer()));
                self.session.finish_authentication(&message, outcome, self.now(), &mut out)
            }
            Verdict::Authenticated => {
                self.taken += 1;
                0
            }
            Verdict::Reply { id, outcome } => {
                let outcome = outcome.map(|payload| payload.as_bytes().to_vec());
                self.answer = Some((id, outcome.map_err(|error| (error.kind(), (*error.text()).to_owned()))));
                0
            }
            Verdict::Answer(answer) | Verdict::Refused { answer } => answer,
            other => panic!("unexpected: {other:?}"),
        };
        self.send(&out[..len]);
        true
    }

    fn prove(&mut self) {
        let now = unix().as_secs();
        let claims = Claims {
            issuer: BUS,
            subject: BUS,
            audience: self.device,
            serial: self.boot_id(),
            issued_at: now,
            expiry: now + 3_600,
            epoch: 0,
            scopes: Scopes::new(&self.scopes),
        };
        let (mut token, mut out) = ([0; MAX_TOKEN], [0; MAX_FRAME]);
        let len = self.ring.mint(KEY_ID, &claims, &mut token).unwrap();
        let len = self.session.authenticate(&token[..len], self.now(), &mut out);
        self.send(&out[..len]);
    }

    fn send(&mut self, frame: &[u8]) {
        if !frame.is_empty() {
            assert!(self.link.send(frame).unwrap());
            self.link.flush(self.now()).unwrap();
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).unwrap()
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The payload that came back, or why none did.
type Answer = Result<Vec<u8>, (Kind, String)>;

/// One end of a stream of bytes as a UART.
pub struct Wire {
    stream: UnixStream,
    /// A byte that was read to see whether there is one.
    ahead: Option<u8>,
    /// Whether the line is pulled out.
    cut: Box<dyn Fn() -> bool + Send>,
}

impl Wire {
    /// A line that is never cut.
    pub fn new(stream: UnixStream) -> Self {
        Self::with_cut(stream, || false)
    }

    /// A line that is gone as soon as `cut` says so.
    pub fn with_cut(stream: UnixStream, cut: impl Fn() -> bool + Send + 'static) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self { stream, ahead: None, cut: Box::new(cut) }
    }
}

impl ErrorType for Wire {
    type Error = embedded_io::ErrorKind;
}

impl ReadReady for Wire {
    fn read_ready(&mut self) -> Result<bool, Self::Error> {
        if (self.cut)() {
            return Err(embedded_io::ErrorKind::NotConnected);
        }
        let mut byte = [0];
        if self.ahead.is_none() {
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(embedded_io::ErrorKind::NotConnected),
                Ok(_) => self.ahead = Some(byte[0]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        Ok(self.ahead.is_some())
    }
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, Self::Error> {
        out[0] = self.ahead.take().expect("asked whether there is a byte before");
        match self.stream.read(&mut out[1..]) {
            Ok(len) => Ok(1 + len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(1),
            Err(error) => panic!("{error}"),
        }
    }
}

impl WriteReady for Wire {
    fn write_ready(&mut self) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        match self.stream.write(bytes) {
            Ok(len) => Ok(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(embedded_io::ErrorKind::NotConnected),
        }
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
