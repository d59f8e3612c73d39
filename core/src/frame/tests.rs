//! The serial framing against every kind of damage a line does.

extern crate std;
use std::{vec, vec::Vec};

use super::*;

const MAX: usize = 300;
type Decoder = SerialDecoder<{ MAX + CRC_LEN }>;

fn encoded(frame: &[u8]) -> Vec<u8> {
    let mut out = vec![0xEE; max_encoded_len(frame.len())];
    let len = encode(&[frame], &mut out).unwrap();
    out.truncate(len);
    out
}

/// Every frame that `decoder` finds in `bytes`, handed to it in pieces of `piece`.
fn decoded<const N: usize>(decoder: &mut SerialDecoder<N>, bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let taken = decoder.push(piece);
            piece = &piece[taken..];
            frames.extend(decoder.frame().map(<[u8]>::to_vec));
        }
    }
    frames
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

    /// Bytes with many zeros, many `0xFF`, or neither.
    fn frame(&mut self, longest: usize) -> Vec<u8> {
        let len = 1 + self.below(longest);
        let kind = self.below(3);
        (0..len)
            .map(|_| match (kind, self.next() as u8) {
                (0, byte) if byte < 128 => 0,
                (1, _) => 0xFF,
                (_, byte) => byte,
            })
            .collect()
    }
}

#[test]
fn the_wire_form_is_cobs_of_frame_and_crc_and_a_delimiter() {
    // CRC-32/ISO-HDLC of "123456789" is the catalogue's check value, 0xCBF43926.
    let mut wire = b"\x0E123456789".to_vec();
    wire.extend([0x26, 0x39, 0xF4, 0xCB, 0x00]);
    assert_eq!(encoded(b"123456789"), wire);
    // CRC-32 of one zero byte is 0xD202EF8D.
    assert_eq!(encoded(&[0]), [0x01, 0x05, 0x8D, 0xEF, 0x02, 0xD2, 0x00]);
}

#[test]
fn every_length_and_content_comes_back_as_it_went() {
    let mut random = XorShift(0x9E37_79B9_7F4A_7C15);
    for len in 1..=MAX {
        for fill in [0u8, 1, 0xFF] {
            let frame = vec![fill; len];
            let wire = encoded(&frame);
            assert!(!wire[..wire.len() - 1].contains(&0));
            assert_eq!(decoded(&mut Decoder::new(), &wire, wire.len()), [frame]);
        }
        let frame = random.frame(MAX);
        assert_eq!(decoded(&mut Decoder::new(), &encoded(&frame), 1 + random.below(40)), [frame]);
    }
}

#[test]
fn a_stream_may_be_split_anywhere() {
    let mut random = XorShift(7);
    let frames: Vec<_> = (0..50).map(|_| random.frame(MAX)).collect();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| encoded(frame)).collect();
    for piece in [1, 2, 3, 5, 17, 253, 254, 255, 256, 1000, wire.len()] {
        assert_eq!(decoded(&mut Decoder::new(), &wire, piece), frames);
    }
}

#[test]
fn parts_encode_as_the_frame_they_make_up() {
    let frame = [1, 0, 2, 0xFF, 0, 0, 9];
    let mut out = [0; 32];
    for cut in 0..frame.len() {
        let (head, tail) = frame.split_at(cut);
        let len = encode(&[head, &[], tail], &mut out).unwrap();
        assert_eq!(out[..len], encoded(&frame));
    }
}

#[test]
fn the_longest_encoding_is_as_long_as_stated_and_none_is_longer() {
    for len in 1..1100 {
        let wire = encoded(&vec![0x55; len]);
        assert!(wire.len() <= max_encoded_len(len));
        let frame = max_frame_len(max_encoded_len(len));
        assert_eq!(frame, len);
        assert!(max_encoded_len(max_frame_len(len)) <= len.max(max_encoded_len(0)));
    }
    assert_eq!(encoded(&[0x55; 250]).len(), max_encoded_len(250));
    assert_eq!(encoded(&[0x55; 251]).len(), max_encoded_len(251));
    assert_eq!(max_frame_len(0), 0);
    assert_eq!(max_encoded_len(usize::MAX), usize::MAX);
}

#[test]
fn a_frame_that_does_not_fit_is_not_encoded() {
    for fill in [0, 0x55] {
        let frame = [fill; 260];
        let whole = encoded(&frame).len();
        let mut out = vec![0; whole];
        for room in 0..whole {
            assert_eq!(encode(&[&frame], &mut out[..room]), None);
        }
        assert_eq!(encode(&[&frame], &mut out), Some(whole));
    }
}

#[test]
fn an_empty_frame_is_neither_sent_nor_received() {
    assert_eq!(encode(&[], &mut [0; 16]), None);
    assert_eq!(encode(&[&[], &[]], &mut [0; 16]), None);
    let mut decoder = Decoder::new();
    // The CRC of nothing is 0: four zeros, stuffed.
    assert!(decoded(&mut decoder, &[1, 1, 1, 1, 1, 0], 6).is_empty());
    assert_eq!(decoder.faults().cut_off, 1);
}

#[test]
fn delimiters_alone_are_ignored_silently() {
    let mut decoder = Decoder::new();
    let mut wire = vec![0; 9];
    wire.extend(encoded(b"x"));
    wire.extend([0; 9]);
    assert_eq!(decoded(&mut decoder, &wire, 4), [b"x"]);
    assert_eq!(decoder.faults(), SerialFaults::default());
}

#[test]
fn the_tail_of_an_over_long_frame_is_never_a_frame() {
    let inner = encoded(b"open the door");
    for junk in 0..40 {
        let mut decoder = SerialDecoder::<20>::new();
        let mut wire = vec![0xFF; 20 + junk];
        wire.extend(&inner);
        wire.extend(encoded(b"good"));
        assert_eq!(decoded(&mut decoder, &wire, 3), [b"good"], "{junk}");
        assert_eq!(decoder.faults(), SerialFaults { too_long: 1, ..SerialFaults::default() });
    }
}

#[test]
fn a_frame_of_exactly_the_longest_length_fits_and_one_byte_more_does_not() {
    for fill in [0, 7] {
        let mut decoder = SerialDecoder::<{ 8 + CRC_LEN }>::new();
        assert_eq!(decoded(&mut decoder, &encoded(&[fill; 8]), 5), [[fill; 8]]);
        assert!(decoded(&mut decoder, &encoded(&[fill; 9]), 5).is_empty());
        assert_eq!(decoder.faults().too_long, 1);
    }
}

#[test]
fn a_cut_off_frame_spares_the_next_when_a_delimiter_lies_between() {
    let whole = encoded(b"one two three");
    for cut in 1..whole.len() - 1 {
        let mut decoder = Decoder::new();
        let mut wire = whole[..cut].to_vec();
        wire.push(DELIMITER);
        wire.extend(encoded(b"next"));
        assert_eq!(decoded(&mut decoder, &wire, 6), [b"next"]);
        assert_eq!(decoder.faults(), SerialFaults { cut_off: 1, ..SerialFaults::default() });
    }
}

#[test]
fn a_cut_off_frame_without_a_delimiter_costs_the_next_and_no_more() {
    let whole = encoded(b"one two three");
    for cut in 1..whole.len() {
        let mut decoder = Decoder::new();
        let mut wire = whole[..cut].to_vec();
        wire.extend(encoded(b"next"));
        wire.extend(encoded(b"after"));
        let frames = decoded(&mut decoder, &wire, 6);
        assert_eq!(frames.last().map(Vec::as_slice), Some(&b"after"[..]));
        assert!(frames.len() == 1 || cut == whole.len() - 1);
    }
}

#[test]
fn any_damaged_byte_costs_at_most_two_frames_and_invents_none() {
    let frames: [&[u8]; 3] = [b"first \x00 frame", b"second", b"third"];
    let wire: Vec<u8> = frames.iter().flat_map(|frame| encoded(frame)).collect();
    for at in 0..wire.len() {
        for flip in 1..=255 {
            let mut damaged = wire.clone();
            damaged[at] ^= flip;
            let out = decoded(&mut Decoder::new(), &damaged, 64);
            assert!(!out.is_empty() && out.iter().all(|frame| frames.contains(&frame.as_slice())));
        }
    }
}

#[test]
fn a_lost_or_doubled_byte_invents_no_frame() {
    let frames: [&[u8]; 3] = [b"first \x00 frame", b"second", b"third"];
    let wire: Vec<u8> = frames.iter().flat_map(|frame| encoded(frame)).collect();
    for at in 0..wire.len() {
        let mut lost = wire.clone();
        lost.remove(at);
        let mut doubled = wire.clone();
        doubled.insert(at, wire[at]);
        for damaged in [lost, doubled] {
            let out = decoded(&mut Decoder::new(), &damaged, 64);
            assert!(!out.is_empty() && out.iter().all(|frame| frames.contains(&frame.as_slice())));
        }
    }
}

#[test]
fn a_million_random_bytes_neither_panic_nor_make_a_frame() {
    let mut random = XorShift(0xDEAD_BEEF_CAFE_F00D);
    let mut decoder = SerialDecoder::<64>::new();
    for _ in 0..1_000_000 {
        // Every sixteenth byte a delimiter on average, so that most frames are judged by their CRC.
        let byte = if random.below(16) == 0 { 0 } else { random.next() as u8 % 24 };
        decoder.push(&[byte]);
        assert_eq!(decoder.frame(), None);
    }
    let faults = decoder.faults();
    assert!(faults.too_long > 50 && faults.cut_off > 1000 && faults.bad_crc > 1000, "{faults:?}");
    assert_eq!(decoded(&mut decoder, &[&[0], &encoded(b"still there")[..]].concat(), 1), [b"still there"]);
}

#[test]
fn after_lost_bytes_the_rest_of_a_frame_is_passed_over() {
    let mut decoder = Decoder::new();
    assert!(decoded(&mut decoder, b"\x20some bytes", 3).is_empty());
    decoder.desynchronise();
    let wire = [encoded(b"a tail that looks whole"), encoded(b"good")].concat();
    assert_eq!(decoded(&mut decoder, &wire, 9), [b"good"]);
    assert_eq!(decoder.faults(), SerialFaults::default());
}

#[test]
fn a_waiting_frame_outlives_lost_and_skipped_bytes() {
    let mut decoder = Decoder::new();
    decoder.push(&encoded(b"waiting"));
    decoder.skip(&encoded(b"two"));
    decoder.skip(&[encoded(b"three"), encoded(b"four")].concat()[..10]);
    decoder.desynchronise();
    assert_eq!(decoder.frame(), Some(&b"waiting"[..]));
    assert_eq!(decoder.faults(), SerialFaults { dropped: 2, ..SerialFaults::default() });
    assert_eq!(decoded(&mut decoder, &[&b"tail\0"[..], &encoded(b"five")].concat(), 4), [b"five"]);
}
