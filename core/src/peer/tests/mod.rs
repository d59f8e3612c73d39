//! A leaf with a small table on a link that the test holds the other end of.

extern crate std;

use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::auth::{Access, BUS, Claims, Context, Key, KeyRing, Refusal, Scopes, Slot};
use crate::bus::Identity;
use crate::codec::{decode, decode_with, encode, encode_header_to};
use crate::dispatch::{Answers, Hears};
use crate::error::ErrorKind;
use crate::limits::MAX_PENDING;
use crate::message::{MessagePriority, MessageType};
use crate::secure::LinkProof;
use crate::session::{Name, Role};

mod calls;
mod link;
mod rights;
mod rows;
mod time;

/// A peer, its node, and the other end of its link.
struct Board {
    peer: Peer<TestLink, DeviceKey, OUT>,
    node: Imu,
    now: Instant,
    requires_authentication: bool,
    next_id: u64,
}

impl Board {
    fn new(incoming: Vec<Vec<u8>>) -> Self {
        let config = SessionConfig {
            role: Role::Connecting,
            name: Name::try_from("imu").unwrap(),
            boot_id: BOOT_ID,
            max_frame: OUT as u32,
            heartbeat_ms: 0,
            rows: Imu::ROWS.len() as u16,
            requires_authentication: false,
            lossy: true,
        };
        let link = TestLink { incoming: incoming.into(), ..TestLink::default() };
        let keys = DeviceKey::new(1, Key::new([9; 32]).derive("imu"));
        Self {
            peer: Peer::new(config, link, keys),
            node: Imu::default(),
            now: Instant::from_micros(0),
            requires_authentication: false,
            next_id: 100,
        }
    }

    fn open() -> Self {
        let mut board = Self::new(Vec::new());
        board.open_session(256);
        board
    }

    fn open_session(&mut self, max_frame: u32) {
        self.greet(max_frame, UNIX_S);
    }

    /// A hub says hello that takes frames of so many bytes and says that it is so late.
    fn greet(&mut self, max_frame: u32, unix_s: u64) {
        self.peer.reset(self.now);
        let hello = self.poll().pop().unwrap();
        let id = decode(&hello).unwrap().id;
        let identity = Identity {
            min_version: 1,
            max_version: 1,
            name: "bus",
            boot_id: 1,
            max_frame,
            heartbeat_ms: 0,
            capabilities: u32::from(self.requires_authentication),
            rows: 0,
            unix_us: unix_s * 1_000_000,
        };
        let payload = postcard_of(&identity);
        let answer = Message::request(id, Address::literal("x")).answer(MessageType::Response);
        let frame = frame_of(&answer.with_payload(MessagePayload::Binary(&payload)));
        self.link().incoming.push_back(frame);
        assert_eq!(self.peer.poll(&mut self.node, self.now), Ok(Some(Event::Opened)));
    }

    /// As the hub, which allows itself only `scopes`.
    fn authenticate(&mut self, scopes: &[&str]) {
        self.show(&mint(&Claims { subject: BUS, serial: BOOT_ID, ..claims(scopes) })).unwrap();
    }

    fn show(&mut self, token: &[u8]) -> Outcome {
        let payload = postcard_of(&bus::Credentials::Token(token));
        let request = Message::request(99, Address::literal(bus::AUTHENTICATE));
        self.outcome(&request.with_payload(MessagePayload::Binary(&payload)))
    }

    /// Asks for what needs the scope `imu.control`, with `token` in the message.
    fn call_with(&mut self, token: &[u8]) -> Outcome {
        self.next_id += 1;
        let payload = postcard_of(&100u16);
        let mut request = Message::request(self.next_id, SetRate::ADDRESS);
        request.auth_token = Some(token);
        self.outcome(&request.with_payload(MessagePayload::Binary(&payload)))
    }

    fn ask<T: Serialize>(&mut self, address: &'static str, value: &T) -> Outcome {
        self.next_id += 1;
        let payload = postcard_of(value);
        let request = Message::request(self.next_id, Address::literal(address));
        self.outcome(&request.with_payload(MessagePayload::Binary(&payload)))
    }

    fn ask_row<T: Serialize>(&mut self, row: u16, value: &T) -> Outcome {
        self.next_id += 1;
        let payload = postcard_of(value);
        let request = Message::request(self.next_id, Address::literal("imu/row"));
        let frame = frame_to_row(&request.with_payload(MessagePayload::Binary(&payload)), row);
        let answers = self.hear_frame(&frame);
        outcome_in(&answers, self.next_id)
    }

    fn describe(&mut self, row: u16, part: RowPart) {
        // What comes of it is tested elsewhere.
        let _ = self.ask(bus::DESCRIBE, &Describe { row, part });
    }

    /// The header of what the node publishes.
    fn publish(&mut self) -> Vec<u8> {
        assert_eq!(self.peer.publish::<Imu, Sample>(&[1, 2, 3]), Ok(true));
        let mut sent = self.link().sent.pop().unwrap();
        let row = |row: u16| Imu::ROWS.get(usize::from(row)).map(|row| row.info.address);
        let message = decode_with(&sent, row).unwrap();
        assert_eq!(message.destination, Some(Sample::ADDRESS));
        assert!(message.is_bare());
        let header = sent.len() - message.payload.as_bytes().len();
        sent.truncate(header);
        sent
    }

    fn outcome(&mut self, request: &Message<'_>) -> Outcome {
        let answers = self.hear(request);
        outcome_in(&answers, request.id)
    }

    fn hear(&mut self, message: &Message<'_>) -> Vec<Vec<u8>> {
        self.hear_frame(&frame_of(message))
    }

    fn hear_frame(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.link().incoming.push_back(frame.to_vec());
        // What the session has to say of its own is not an answer.
        let mut answers = self.poll();
        answers.retain(|frame| decode(frame).unwrap().is_reply());
        answers
    }

    /// Polls until nothing happens; what went out.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        while self.peer.poll(&mut self.node, self.now).unwrap().is_some() {}
        let sent = core::mem::take(&mut self.link().sent);
        self.link().lengths.extend(sent.iter().map(Vec::len));
        sent
    }

    fn sent_lengths(&mut self) -> Vec<usize> {
        // The hello went out before the other end had said what it takes.
        self.link().lengths.split_off(1)
    }

    fn link(&mut self) -> &mut TestLink {
        self.peer.link_mut()
    }
}

/// The one answer to the request `id`.
fn outcome_in(answers: &[Vec<u8>], id: u64) -> Outcome {
    assert_eq!(answers.len(), 1, "one answer to one request");
    let answer = decode(&answers[0]).unwrap();
    assert_eq!(answer.id, id);
    match answer.message_type {
        MessageType::Response => Ok(answer.payload.as_bytes().to_vec()),
        MessageType::Error => {
            let error = IpcError::from_payload(answer.payload.as_bytes());
            Err((error.kind(), error.text().to_string()))
        }
        other => panic!("{other:?} is no answer"),
    }
}

/// The frame of `message`, its destination as the alias of `row`.
fn frame_to_row(message: &Message<'_>, row: u16) -> Vec<u8> {
    let mut frame = [0; 256];
    let len = encode_header_to(message, Some(row), &mut frame).unwrap();
    [&frame[..len], message.payload.as_bytes()].concat()
}

type Outcome<T = Vec<u8>> = Result<T, (ErrorKind, String)>;

#[derive(Default)]
struct Imu {
    calls: u32,
    rates: u32,
    heard: u32,
    replies: Vec<(u64, Outcome<u32>)>,
}

impl Node for Imu {
    const ROWS: &'static [Row<Self>] = &[
        Row::endpoint::<Double>(),
        Row::endpoint::<SetRate>(),
        Row::endpoint::<Dump>(),
        Row::publishes::<Sample>(),
        Row::hears::<Light>(),
    ];

    fn handle_reply(&mut self, id: u64, outcome: Result<MessagePayload<'_>, IpcError<&str>>) {
        let outcome = outcome.map(|payload| payload.parse().unwrap());
        self.replies.push((id, outcome.map_err(|error| (error.kind(), error.text().to_string()))));
    }
}

impl Answers<Double> for Imu {
    fn answer(&mut self, number: u32) -> Result<u32, IpcError> {
        self.calls += 1;
        Ok(number * 2)
    }
}

impl Answers<SetRate> for Imu {
    fn answer(&mut self, rate: u16) -> Result<u16, IpcError> {
        self.calls += 1;
        self.rates += 1;
        Ok(rate)
    }
}

impl Answers<Dump> for Imu {
    fn answer(&mut self, (): ()) -> Result<[[u8; 32]; 5], IpcError> {
        self.calls += 1;
        Ok([[7; 32]; 5])
    }
}

impl Hears<Light> for Imu {
    fn hear(&mut self, _on: bool) -> Result<(), IpcError> {
        self.heard += 1;
        Ok(())
    }
}

macro_rules! endpoint {
    ($name:ident, $address:literal, $access:expr, $request:ty => $response:ty) => {
        struct $name;
        impl Endpoint for $name {
            type Request = $request;
            type Response = $response;
            const ADDRESS: Address<'static> = Address::literal($address);
            const ACCESS: Access<'static> = $access;
        }
    };
}

endpoint!(Double, "imu/double", Access::Open, u32 => u32);
endpoint!(SetRate, "imu/set-rate", Access::Scope("imu.control"), u16 => u16);
endpoint!(Dump, "imu/dump", Access::Open, () => [[u8; 32]; 5]);
endpoint!(Lookup, "registry/lookup", Access::Open, u32 => u32);
endpoint!(Store, "registry/store", Access::Open, [[u8; 32]; 5] => ());

struct Sample;
impl Topic for Sample {
    type Message = [i16; 3];
    const ADDRESS: Address<'static> = Address::literal("imu/sample");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Light;
impl Topic for Light {
    type Message = bool;
    const ADDRESS: Address<'static> = Address::literal("imu/light");
    const ACCESS: Access<'static> = Access::Open;
}

/// A link whose other end is the test.
struct TestLink {
    incoming: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    sent: Vec<Vec<u8>>,
    lengths: Vec<usize>,
    room: usize,
    frames_of_room: usize,
    max: usize,
    gone: bool,
    proof: Option<LinkProof>,
}

impl Default for TestLink {
    fn default() -> Self {
        Self {
            incoming: VecDeque::new(),
            current: Vec::new(),
            sent: Vec::new(),
            lengths: Vec::new(),
            room: OUT,
            frames_of_room: usize::MAX,
            max: OUT,
            gone: false,
            proof: None,
        }
    }
}

impl Link for TestLink {
    type Error = Gone;

    fn room(&mut self) -> usize {
        if self.frames_of_room == 0 { 0 } else { self.room }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Gone> {
        let Some(frame) = self.incoming.pop_front() else { return Ok(None) };
        self.current = frame;
        Ok(Some(&self.current))
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Gone> {
        if frame.len() > self.room() {
            return Ok(false);
        }
        self.frames_of_room -= 1;
        self.sent.push(frame.to_vec());
        Ok(true)
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, Gone> {
        if self.gone { Err(Gone) } else { Ok(true) }
    }

    fn max_frame(&self) -> usize {
        self.max
    }

    fn proof(&self) -> Option<&LinkProof> {
        self.proof.as_ref()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Gone;

fn root_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([9; 32]))).unwrap();
    ring
}

/// A token of the hub for `imu`, for an hour.
fn hub_token(scopes: &[&str]) -> Vec<u8> {
    mint(&claims(scopes))
}

/// What the hub says of alice to `imu`, for an hour.
fn claims<'a>(scopes: &'a [&'a str]) -> Claims<'a> {
    Claims {
        issuer: BUS,
        subject: "alice",
        audience: "imu",
        serial: 1,
        issued_at: UNIX_S,
        expiry: UNIX_S + 3_600,
        epoch: 0,
        scopes: Scopes::new(scopes),
    }
}

fn mint(claims: &Claims<'_>) -> Vec<u8> {
    let mut out = [0; crate::limits::MAX_TOKEN];
    let len = root_ring().mint(1, claims, &mut out).unwrap();
    out[..len].to_vec()
}

fn postcard_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = [0; 256];
    postcard::to_slice(value, &mut out).unwrap().to_vec()
}

fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; 256];
    let len = encode(message, &mut out).unwrap();
    out[..len].to_vec()
}

const OUT: usize = 160;
const BOOT_ID: u64 = 7;
const UNIX_S: u64 = 1_790_000_000;
