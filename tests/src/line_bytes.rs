//! What a message costs on a serial line beside its payload, counted from what the encoders write: header, COBS,
//! delimiter and CRC-32, and on the reliable lane its header and the acknowledgement too.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use visorbus_core::codec::encode_header_to;
use visorbus_core::frame::serial;
use visorbus_core::message::{Address, Message, MessagePayload, MessagePriority, MessageType};
use visorbus_core::secure::{Cipher, HEAD_LEN, Sealed, Suite, Tag64};
use visorbus_core::{Instant, Link};
use visorbus_hal::{Lane, lane_len};

use crate::memory_link::{MemoryLink, Unplugged};

/// Most bytes that a 24-byte sample may cost beside itself on an unsecured line.
pub const SAMPLE_LIMIT: usize = 16;

/// Most bytes that one may cost on a line with a key of the suite `tag64`, up to 9.5 hours after the board's start where
/// each tells the time, and ever after where it does not.
pub const TAGGED_SAMPLE_LIMIT: usize = 24;

/// What others cost beside the payload, in bytes, by what their makers publish of them.
pub const PEERS: [(&str, &str); 4] = [
    ("postcard-rpc", "5 to 15, without a CRC"),
    ("MAVLink 2", "12, signed 25"),
    ("zenoh-pico", "14 and more"),
    ("ergot, a topic", "19 to 23"),
];

/// One kind of message on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Which.
    pub what: &'static str,
    /// Bytes of its payload.
    pub payload: usize,
    /// Bytes on the line for it, both ways.
    pub line: usize,
}

impl Cost {
    /// Bytes beside the payload.
    pub const fn over(&self) -> usize {
        self.line - self.payload
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<52} {:>3} + {:>2}", self.what, self.payload, self.over())
    }
}

/// What a best-effort sample of 24 bytes costs in each form that it has; the alias is that of `row`.
pub fn sample_costs(row: u16) -> Vec<Cost> {
    let sample = Message::notification(0, SAMPLE).with_payload(MessagePayload::Binary(&[0x55; 24]));
    let at = |timestamp| Message { timestamp: Some(timestamp), ..sample };
    let cost = |what, row, message| plain_cost(what, row, &message);
    vec![
        cost("sample", Some(row), sample),
        cost("sample with the time, 10 s after the start", Some(row), at(10 * S)),
        cost("sample with the time, 9.5 h after the start", Some(row), at(34_200 * S)),
        cost("sample with the time, 50 days after the start", Some(row), at(50 * 86_400 * S)),
        cost("sample before the hub knows its row", None, sample),
    ]
}

/// What the samples of [`sample_costs`] cost on a line with a key.
pub fn secured_sample_costs(row: u16, suite: Suite) -> Vec<Cost> {
    let tag = match suite {
        Suite::Tag64 => Tag64::MAX_TAG,
        _ => Sealed::MAX_TAG,
    };
    let secured = |cost: Cost| {
        // No zero among what is added: COBS takes what it takes of any frame as short as this.
        let line = cost.line + HEAD_LEN + tag;
        assert!(line < 254, "COBS takes one byte more of longer ones");
        Cost { line, ..cost }
    };
    sample_costs(row).into_iter().map(secured).collect()
}

/// What requests and their answers cost, to and from a board.
pub fn call_costs() -> Vec<Cost> {
    let request = |id| {
        let mut request = Message::request(id, Address::literal("imu/set-rate"));
        request.source = Some(Address::literal("panel.1"));
        request.flags.timeout_ms = Some(5_000);
        request.with_payload(MessagePayload::Binary(&[0x55; 4]))
    };
    let response = |id| {
        let response = request(id).answer(MessageType::Response);
        response.with_payload(MessagePayload::Binary(&[0x55; 4]))
    };
    vec![
        plain_cost("request from panel.1, the first", Some(1), &request(1)),
        plain_cost("request from panel.1, the four thousand millionth", Some(1), &request(4_000_000_000)),
        plain_cost("request from panel.1 to an address without a row", None, &request(1)),
        plain_cost("response to panel.1", None, &response(1)),
    ]
}

/// What a notification costs that is acknowledged, as things are on a quiet line: its frame, and the acknowledgement
/// that comes back because nothing else does.
pub fn reliable_cost() -> Cost {
    let mut tap = Message::notification(0, SAMPLE).with_payload(MessagePayload::Binary(&[0x55; 24]));
    tap.flags.priority = MessagePriority::High;
    let frame = frame_of(Some(3), &tap);
    let line = Rc::new(Cell::new(0));
    let (near, far) = MemoryLink::pair(8, 128);
    let mut ends = [near, far].map(|link| {
        let mut lane = Lane::<_, { lane_len(256) }>::new(Counted { link, line: Rc::clone(&line) });
        lane.reset(Some(7));
        lane
    });
    // What opens the lane is not the message's.
    run(&mut ends);
    line.set(0);
    assert_eq!(ends[0].send(&frame), Ok(true), "an open lane has room for one message");
    let arrived = run(&mut ends);
    assert_eq!(arrived, [frame], "a line without faults delivers once");
    Cost { what: "sample of High priority, acknowledged", payload: 24, line: line.get() }
}

/// The table, beside what others publish.
pub fn table() -> String {
    let ours = sample_costs(3).into_iter().chain([reliable_cost()]).chain(call_costs());
    let mut table = String::from("bytes on a serial line: payload + all else\n");
    for cost in ours {
        table += &format!("{cost}\n");
    }
    for suite in [Suite::Tag64, Suite::Sealed] {
        table += &format!("on a line with a key, {suite}\n");
        for cost in secured_sample_costs(3, suite) {
            table += &format!("{cost}\n");
        }
    }
    for (name, over) in PEERS {
        table += &format!("{name:<52} {over}\n");
    }
    table
}

/// Lets both ends do what they have to for a while; what arrives at the second.
fn run<const N: usize>(ends: &mut [Lane<Counted, N>; 2]) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    for ms in 1..=200 {
        let now = Instant::from_micros(ms * 1_000);
        for end in &mut *ends {
            end.flush(now).expect("it is plugged in");
        }
        while let Some(frame) = ends[1].receive().expect("it is plugged in") {
            arrived.push(frame.to_vec());
        }
        assert_eq!(ends[0].receive(), Ok(None), "nobody sends to the first");
    }
    arrived
}

fn plain_cost(what: &'static str, row: Option<u16>, message: &Message<'_>) -> Cost {
    let payload = message.payload.as_bytes().len();
    Cost { what, payload, line: line_len(&frame_of(row, message)) }
}

fn frame_of(row: Option<u16>, message: &Message<'_>) -> Vec<u8> {
    let mut head = [0; 256];
    let len = encode_header_to(message, row, &mut head).expect("a header fits");
    [&head[..len], message.payload.as_bytes()].concat()
}

/// Bytes that a frame takes on a serial line.
fn line_len(frame: &[u8]) -> usize {
    let mut line = vec![0; serial::max_encoded_len(frame.len())];
    serial::encode(&[frame], &mut line).expect("it has the room that a frame takes at most")
}

/// A link that counts what its frames would take on a serial line.
struct Counted {
    link: MemoryLink,
    line: Rc<Cell<usize>>,
}

impl Link for Counted {
    type Error = Unplugged;

    fn room(&mut self) -> usize {
        self.link.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Unplugged> {
        self.link.receive()
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Unplugged> {
        let sent = self.link.send(frame)?;
        if sent {
            self.line.set(self.line.get() + line_len(frame));
        }
        Ok(sent)
    }

    fn flush(&mut self, now: Instant) -> Result<bool, Unplugged> {
        self.link.flush(now)
    }

    fn max_frame(&self) -> usize {
        self.link.max_frame()
    }
}

const SAMPLE: Address<'static> = Address::literal("imu/sample");
const S: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_costs_at_most_16_bytes_beside_itself_whatever_the_time_is() {
        for row in [0, 3, 63, 64, 16_383] {
            let costs = sample_costs(row);
            let (unknown, known) = costs.split_last().unwrap();
            for cost in known {
                assert!(cost.over() <= SAMPLE_LIMIT, "row {row}: {cost}");
            }
            assert!(unknown.over() > known[0].over());
        }
        let over: Vec<usize> = sample_costs(3).iter().map(Cost::over).collect();
        // Head, parts, alias; CRC; COBS and delimiter. Then 4 to 6 bytes of time, or 10 more of text.
        assert_eq!(over, [9, 13, 14, 15, 19]);
    }

    #[test]
    fn a_tagged_sample_costs_at_most_24_bytes_beside_itself() {
        let over = |suite| -> Vec<usize> { secured_sample_costs(3, suite).iter().map(Cost::over).collect() };
        // After 9.5 hours a sample that tells the time has a byte more of it.
        assert_eq!(over(Suite::Tag64), [19, 23, 24, 25, 29]);
        assert!(over(Suite::Tag64)[..3].iter().all(|over| *over <= TAGGED_SAMPLE_LIMIT));
        assert_eq!(over(Suite::Sealed), [27, 31, 32, 33, 37]);
    }

    #[test]
    fn the_alias_of_a_row_spares_a_request_its_address() {
        let over: Vec<usize> = call_costs().iter().map(Cost::over).collect();
        assert_eq!(over[2] - over[0], "imu/set-rate".len());
        assert_eq!(over[1] - over[0], 4, "the id");
    }

    #[test]
    fn the_table_has_a_line_for_each_of_ours_and_of_the_others() {
        let table = table();
        println!("{table}");
        assert_eq!(table.lines().count(), 1 + 5 + 1 + 4 + 2 * 6 + PEERS.len());
        assert!(reliable_cost().over() < 60, "{}", reliable_cost());
    }
}
