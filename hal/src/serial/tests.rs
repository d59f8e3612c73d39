//! The serial link over an in-memory line that does to bytes what real ones do.

extern crate std;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::{vec, vec::Vec};

use embedded_io::ErrorType;

use super::*;

const NOW: Instant = Instant::from_micros(0);

const FRAME: usize = 256;
type Serial = SerialLink<Uart, { serial_buffer_len(FRAME) }>;

/// One direction of a line: bytes on their way, errors where the receiver's UART meets them.
#[derive(Default)]
struct Wire {
    queue: VecDeque<Result<u8, ErrorKind>>,
    capacity: usize,
    closed: bool,
}

impl Wire {
    fn new(capacity: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { capacity, ..Self::default() }))
    }

    fn put(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes.iter().copied().map(Ok));
    }

    fn bytes(&self) -> Vec<u8> {
        self.queue.iter().map(|byte| byte.unwrap()).collect()
    }
}

/// One end of a line. It panics where a real UART would block.
struct Uart {
    rx: Rc<RefCell<Wire>>,
    tx: Rc<RefCell<Wire>>,
    /// Bytes a single read or write moves at most.
    step: usize,
    write_error: Option<ErrorKind>,
}

impl ErrorType for Uart {
    type Error = ErrorKind;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        let wire = self.rx.borrow();
        Ok(wire.closed || !wire.queue.is_empty())
    }
}

impl Read for Uart {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        assert!(self.read_ready()? && !buf.is_empty(), "this read would block");
        let mut wire = self.rx.borrow_mut();
        if let Some(Err(error)) = wire.queue.front().copied() {
            wire.queue.pop_front();
            return Err(error);
        }
        let mut len = 0;
        for place in buf.iter_mut().take(self.step) {
            let Some(Ok(byte)) = wire.queue.front().copied() else { break };
            wire.queue.pop_front();
            *place = byte;
            len += 1;
        }
        Ok(len)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        let wire = self.tx.borrow();
        Ok(self.write_error.is_some() || wire.queue.len() < wire.capacity)
    }
}

impl Write for Uart {
    fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        assert!(self.write_ready()? && !buf.is_empty(), "this write would block");
        if let Some(error) = self.write_error.take() {
            return Err(error);
        }
        let mut wire = self.tx.borrow_mut();
        let len = buf.len().min(self.step).min(wire.capacity - wire.queue.len());
        wire.put(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        panic!("this flush would block");
    }
}

/// Two links on one line whose two directions hold `capacity` bytes each.
fn pair(capacity: usize, step: usize) -> (Serial, Serial) {
    let (there, back) = (Wire::new(capacity), Wire::new(capacity));
    let near = Uart { rx: back.clone(), tx: there.clone(), step, write_error: None };
    let far = Uart { rx: there, tx: back, step, write_error: None };
    (SerialLink::new(near), SerialLink::new(far))
}

fn send(link: &mut Serial, frame: &[u8]) {
    assert!(link.send(frame).unwrap());
    assert!(link.flush(NOW).unwrap());
}

fn receive(link: &mut Serial) -> Option<Vec<u8>> {
    link.receive().unwrap().map(<[u8]>::to_vec)
}

fn receive_all(link: &mut Serial) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        frames.extend(std::iter::from_fn(|| receive(link)));
        if link.uart.rx.borrow().queue.is_empty() && link.inbox.bytes().is_empty() {
            return frames;
        }
    }
}

fn encoded(frame: &[u8]) -> Vec<u8> {
    let mut out = vec![0; serial::max_encoded_len(frame.len())];
    let len = serial::encode(&[frame], &mut out).unwrap();
    out.truncate(len);
    out
}

struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn frames_arrive_whatever_pieces_the_uart_takes() {
    for step in [1, 2, 7, 31, 32, 33, 1000] {
        let (mut near, mut far) = pair(100_000, step);
        for len in 1..=FRAME {
            let frame = vec![len as u8; len];
            send(&mut near, &frame);
            assert_eq!(receive(&mut far), Some(frame));
        }
        assert_eq!(receive(&mut far), None);
        assert_eq!((near.stats().frames_sent, far.stats().frames_received), (256, 256));
        assert_eq!(near.stats().bytes_sent, far.stats().bytes_received);
        assert_eq!(far.stats().faults, Default::default());
    }
}

#[test]
fn frames_sent_together_arrive_one_by_one() {
    let (mut near, mut far) = pair(1000, 1000);
    for frame in [b"one", b"two", b"six"] {
        assert!(near.send(frame).unwrap());
    }
    assert!(near.flush(NOW).unwrap());
    assert_eq!(receive_all(&mut far), [b"one", b"two", b"six"]);
}

#[test]
fn noise_before_the_first_frame_does_not_spoil_it() {
    let (mut near, mut far) = pair(1000, 8);
    far.uart.rx.borrow_mut().put(b"\x30noise");
    send(&mut near, b"hello");
    assert_eq!(receive(&mut far), Some(b"hello".to_vec()));
    assert_eq!(far.stats().faults.cut_off, 1);
    let after = b"again";
    send(&mut near, after);
    assert_eq!(far.uart.rx.borrow().bytes(), encoded(after));
}

#[test]
fn the_buffer_length_fits_the_longest_frame_from_the_first_one_on() {
    assert_eq!(serial_buffer_len(256), 264);
    assert_eq!(Serial::MAX_FRAME, 256);
    let (mut near, mut far) = pair(1000, 1000);
    for _ in 0..3 {
        assert_eq!((near.room(), near.max_frame()), (256, 256));
        send(&mut near, &[0x55; 256]);
        assert_eq!(receive(&mut far), Some(vec![0x55; 256]));
    }
    assert!(!near.send(&[0x55; 257]).unwrap());
    assert!(!near.send(&[]).unwrap());
}

#[test]
fn a_frame_without_room_is_not_taken_and_nothing_of_it_is_sent() {
    let (mut near, mut far) = pair(0, 1000);
    let mut taken = 0;
    while near.room() >= 20 {
        assert!(near.send(&[taken; 20]).unwrap());
        taken += 1;
        assert!(!near.flush(NOW).unwrap());
    }
    assert!(!near.send(&[0xEE; 40]).unwrap());
    assert_eq!(near.stats().frames_sent, u32::from(taken));
    near.uart.tx.borrow_mut().capacity = 1000;
    assert!(near.flush(NOW).unwrap());
    assert_eq!(near.room(), FRAME);
    let frames = receive_all(&mut far);
    assert_eq!(frames, (0..taken).map(|fill| vec![fill; 20]).collect::<Vec<_>>());
}

#[test]
fn what_arrives_while_output_is_stuck_is_kept_for_receive() {
    let (mut near, far) = pair(0, 1000);
    assert!(near.send(b"stuck").unwrap());
    let wire = [encoded(b"one"), encoded(b"two")].concat();
    near.uart.rx.borrow_mut().put(&wire);
    for _ in 0..PATIENCE - 1 {
        assert!(!near.flush(NOW).unwrap());
    }
    assert!(far.uart.tx.borrow().queue.is_empty());
    assert_eq!(receive_all(&mut near), [b"one", b"two"]);
    assert_eq!(near.stats().faults, Default::default());
}

#[test]
fn while_output_stays_stuck_whole_frames_are_dropped_and_counted() {
    let (mut near, _far) = pair(0, 1000);
    assert!(near.send(b"stuck").unwrap());
    near.uart.rx.borrow_mut().put(&encoded(b"kept"));
    for _ in 0..PATIENCE {
        assert!(!near.flush(NOW).unwrap());
    }
    let dropped = [encoded(b"first dropped"), encoded(&[7; 200]), encoded(b"cut in two")].concat();
    near.uart.rx.borrow_mut().put(&dropped[..dropped.len() - 4]);
    assert!(!near.flush(NOW).unwrap());
    assert!(near.uart.rx.borrow().queue.is_empty());
    near.uart.rx.borrow_mut().put(&[&dropped[dropped.len() - 4..], &encoded(b"taken again")[..]].concat());
    assert_eq!(receive_all(&mut near), [&b"kept"[..], b"taken again"]);
    assert_eq!(near.stats().faults.dropped, 3);
}

#[test]
fn two_ends_that_only_want_to_write_set_each_other_free() {
    for capacity in [1, 16, 100, 300] {
        let (mut near, mut far) = pair(capacity, 1000);
        let mut sent = [0u8; 2];
        let mut seen = [Vec::new(), Vec::new()];
        for _ in 0..1_000_000 {
            for (at, link) in [&mut near, &mut far].into_iter().enumerate() {
                // As a peer that answers every frame with one of the longest: no room, no receiving.
                if link.room() == FRAME {
                    if let Some(frame) = receive(link) {
                        seen[at].push(frame[0]);
                    }
                    if sent[at] < 100 && link.send(&[sent[at] + 1; FRAME]).unwrap() {
                        sent[at] += 1;
                    }
                }
                link.flush(NOW).unwrap();
            }
            if sent == [100, 100] && near.flush(NOW).unwrap() && far.flush(NOW).unwrap() {
                break;
            }
        }
        assert_eq!(sent, [100, 100], "stuck with {capacity} bytes on the line");
        for (link, seen) in [&mut near, &mut far].into_iter().zip(&mut seen) {
            seen.extend(receive_all(link).iter().map(|frame| frame[0]));
            assert!(seen.is_sorted() && seen.len() > 10, "{capacity}: {seen:?}");
            assert_eq!(seen.len() + link.stats().faults.dropped as usize, 100);
        }
    }
}

#[test]
fn an_error_of_the_uart_costs_the_frame_it_falls_into_and_no_other() {
    let inner = encoded(b"looks whole");
    for kind in [ErrorKind::Other, ErrorKind::InvalidData, ErrorKind::TimedOut] {
        let (mut near, _far) = pair(1000, 8);
        {
            let mut wire = near.uart.rx.borrow_mut();
            wire.put(&encoded(b"before"));
            wire.put(b"\x40half a frame");
            wire.queue.push_back(Err(kind));
            wire.put(&inner);
            wire.put(&encoded(b"after"));
        }
        assert_eq!(receive_all(&mut near), [&b"before"[..], b"after"]);
        assert_eq!(near.stats().read_errors, 1);
    }
}

#[test]
fn an_error_behind_a_waiting_frame_leaves_it_whole() {
    let (mut near, _far) = pair(0, 1000);
    assert!(near.send(b"stuck").unwrap());
    {
        let mut wire = near.uart.rx.borrow_mut();
        wire.put(&encoded(b"waiting"));
        wire.put(b"\x09");
        wire.queue.push_back(Err(ErrorKind::Other));
        wire.put(b"tail\0");
        wire.put(&encoded(b"after"));
    }
    for _ in 0..8 {
        assert!(!near.flush(NOW).unwrap());
    }
    assert_eq!(receive_all(&mut near), [&b"waiting"[..], b"after"]);
}

#[test]
fn an_error_while_writing_is_counted_and_the_rest_goes_out() {
    let (mut near, mut far) = pair(1000, 1000);
    near.uart.write_error = Some(ErrorKind::Other);
    assert!(near.send(b"frame").unwrap());
    assert!(!near.flush(NOW).unwrap());
    assert!(near.flush(NOW).unwrap());
    assert_eq!(receive(&mut far), Some(b"frame".to_vec()));
    assert_eq!(near.stats().write_errors, 1);
}

#[test]
fn a_uart_that_is_gone_is_an_error() {
    let kinds = [
        ErrorKind::NotConnected,
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
    ];
    for kind in kinds {
        let (mut near, _far) = pair(1000, 1000);
        near.uart.rx.borrow_mut().queue.push_back(Err(kind));
        assert_eq!(near.receive(), Err(SerialError::Gone(kind)));
        near.uart.write_error = Some(kind);
        assert_eq!(near.flush(NOW), Err(SerialError::Gone(kind)));
    }
}

#[test]
fn a_closed_line_is_an_error_once_its_last_frame_is_out() {
    let (mut near, mut far) = pair(1000, 1000);
    send(&mut near, b"last");
    far.uart.rx.borrow_mut().closed = true;
    assert_eq!(receive(&mut far), Some(b"last".to_vec()));
    assert_eq!(far.receive(), Err(SerialError::Closed));
}

#[test]
fn a_line_that_never_falls_silent_does_not_hold_up_its_reader() {
    struct Babble(XorShift);
    impl ErrorType for Babble {
        type Error = ErrorKind;
    }
    impl ReadReady for Babble {
        fn read_ready(&mut self) -> Result<bool, ErrorKind> {
            Ok(true)
        }
    }
    impl WriteReady for Babble {
        fn write_ready(&mut self) -> Result<bool, ErrorKind> {
            Ok(false)
        }
    }
    impl Read for Babble {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
            buf.iter_mut().for_each(|byte| *byte = self.0.next() as u8);
            Ok(buf.len())
        }
    }
    impl Write for Babble {
        fn write(&mut self, _: &[u8]) -> Result<usize, ErrorKind> {
            unreachable!("not ready")
        }
        fn flush(&mut self) -> Result<(), ErrorKind> {
            unreachable!("never called")
        }
    }

    let mut link = SerialLink::<_, 64>::new(Babble(XorShift(0x1234_5678_9ABC_DEF1)));
    for _ in 0..20_000 {
        assert_eq!(link.receive(), Ok(None));
        assert_eq!(link.flush(NOW), Ok(false));
    }
    assert!(link.stats().bytes_received > 1_000_000);
}

#[test]
fn a_faulty_line_loses_frames_but_makes_none() {
    for seed in 1..=20 {
        let mut random = XorShift(0x9E37_79B9_7F4A_7C15 ^ seed);
        let (mut near, mut far) = pair(usize::MAX, 1 + random.below(40));
        let mut sent = Vec::new();
        let mut seen = Vec::new();
        for id in 0..500u16 {
            let mut frame = id.to_le_bytes().to_vec();
            frame.extend((0..random.below(80)).map(|_| random.next() as u8 & 0x3F));
            send(&mut near, &frame);
            sent.push(frame);
            damage(&mut far.uart.rx.borrow_mut().queue, &mut random);
            if random.below(3) == 0 {
                seen.extend(receive_all(&mut far));
            }
        }
        seen.extend(receive_all(&mut far));
        let mut rest = sent.iter();
        assert!(seen.iter().all(|frame| rest.any(|sent| sent == frame)), "invented, doubled or reordered");
        assert!(seen.len() > 100 && seen.len() < 500, "{}", seen.len());

        // The line is well again: one frame at most is still lost.
        let last: Vec<_> = (0..3u8).map(|id| vec![id; 9]).collect();
        last.iter().for_each(|frame| send(&mut near, frame));
        let seen = receive_all(&mut far);
        assert!(last.ends_with(&seen) && seen.len() >= 2);
    }
}

/// Drops, flips, adds or doubles a byte, or makes the UART report an error, about once in two frames.
fn damage(queue: &mut VecDeque<Result<u8, ErrorKind>>, random: &mut XorShift) {
    if queue.is_empty() || random.below(2) == 0 {
        return;
    }
    let at = random.below(queue.len());
    match random.below(5) {
        0 => drop(queue.remove(at)),
        1 => queue[at] = queue[at].map(|byte| byte ^ (1 << random.below(8))),
        2 => queue.insert(at, Ok(random.next() as u8)),
        3 => queue.insert(at, queue[at]),
        _ => queue[at] = Err(ErrorKind::Other),
    }
}
