//! Every way to make an opener take what was not sealed for it, for now and under this header; and that nothing moves then.

extern crate std;

use std::collections::BTreeSet;
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::message::MessagePayload;

const SECRET: &[u8] = b"the door code is 4711";

fn key() -> PayloadKey {
    PayloadKey::new([7; 32])
}

fn sealer(boot: u64) -> Sealer {
    Sealer::new(&key(), "panel", "vault", BootNonce::new(boot, [boot as u8; 8]))
}

fn opener() -> Opener {
    Opener::new(&key(), "panel", "vault")
}

fn request(id: u64) -> Message<'static> {
    Message::request(id, Address::literal("vault/put"))
}

fn header_of<'a>(message: &Message<'a>) -> Header<'a> {
    Header::of(message, Address::literal("panel/ui")).unwrap()
}

fn seal(sealer: &mut Sealer, header: &Header<'_>) -> Vec<u8> {
    let mut out = vec![0; SECRET.len() + OVERHEAD];
    let len = sealer.seal(header, PayloadKind::String, SECRET, &mut out).unwrap();
    assert_eq!(len, out.len());
    out
}

fn open(opener: &mut Opener, header: &Header<'_>, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut out = vec![0; sealed.len()];
    let (kind, content) = opener.open(header, sealed, &mut out)?;
    assert_eq!(kind, PayloadKind::String);
    Ok(content.to_vec())
}

/// A message that is good in every way opens after whatever was tried before.
fn is_open_for_the_good(opener: &mut Opener, sealer: &mut Sealer) {
    let request = request(99);
    let header = header_of(&request);
    let sealed = seal(sealer, &header);
    assert_eq!(open(opener, &header, &sealed).as_deref(), Ok(SECRET));
}

#[test]
fn what_is_sealed_opens_once_and_shows_nothing_of_itself() {
    let request = request(5);
    let header = header_of(&request);
    let (mut sealer, mut opener) = (sealer(1), opener());
    let sealed = seal(&mut sealer, &header);
    assert!(!sealed.windows(4).any(|part| SECRET.windows(4).any(|secret| secret == part)));
    assert_eq!(open(&mut opener, &header, &sealed).as_deref(), Ok(SECRET));
    assert_eq!(open(&mut opener, &header, &sealed), Err(OpenError::Replayed));
    is_open_for_the_good(&mut opener, &mut sealer);
}

#[test]
fn a_sealed_payload_under_another_header_does_not_open() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let own = request(5);
    let sealed = seal(&mut sealer, &header_of(&own));
    let flags = |flags| Message { flags, ..own };
    let to = |text| Message { destination: Some(Address::literal(text)), ..own };
    let moved = [
        Message { id: 6, ..own },
        Message { message_type: MessageType::Notification, ..own },
        Message { message_type: MessageType::Response, ..own },
        to("vault/get"),
        to("vault"),
        to("vault/put/x"),
        flags(MessageFlags { compressed: true, ..own.flags }),
        flags(MessageFlags { requires_response: false, ..own.flags }),
        flags(MessageFlags { priority: MessagePriority::High, ..own.flags }),
    ];
    for message in moved {
        let outcome = open(&mut opener, &header_of(&message), &sealed);
        assert_eq!(outcome, Err(OpenError::NotSealedForThis), "{message:?}");
    }
    for source in ["panel", "panel/u", "panel/ui/x", "mallory/ui"] {
        let header = Header::of(&own, Address::literal(source)).unwrap();
        assert_eq!(open(&mut opener, &header, &sealed), Err(OpenError::NotSealedForThis), "{source}");
    }
    assert_eq!(open(&mut opener, &header_of(&own), &sealed).as_deref(), Ok(SECRET));
}

#[test]
fn what_the_hub_rewrites_does_not_matter() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let own = request(5);
    let sealed = seal(&mut sealer, &header_of(&own));
    let mut rewritten = Message { timestamp: Some(9), uncertainty_us: Some(3), auth_token: None, ..own };
    rewritten.flags.timeout_ms = Some(17);
    rewritten.payload = MessagePayload::Binary(&sealed);
    assert_eq!(open(&mut opener, &header_of(&rewritten), &sealed).as_deref(), Ok(SECRET));
    let told = Message::notification(6, Address::literal("vault/hint"));
    let mut wanted = told;
    wanted.flags.requires_response = true;
    let sealed = seal(&mut sealer, &header_of(&wanted));
    assert_eq!(
        open(&mut opener, &header_of(&told), &sealed).as_deref(),
        Ok(SECRET),
        "the hub gives the receipt"
    );
}

#[test]
fn addresses_cannot_be_shifted_into_each_other() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let message = |to| Message::request(5, Address::literal(to));
    let header = |from, to| Header::of(&message(to), Address::literal(from)).unwrap();
    let sealed = seal(&mut sealer, &header("panel/a", "vault/b"));
    assert_eq!(open(&mut opener, &header("panel/a/vault", "b"), &sealed), Err(OpenError::NotSealedForThis));
    assert_eq!(open(&mut opener, &header("panel", "a/vault/b"), &sealed), Err(OpenError::NotSealedForThis));
}

#[test]
fn every_bit_and_every_length_counts() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let own = request(5);
    let header = header_of(&own);
    let sealed = seal(&mut sealer, &header);
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&mut opener, &header, &flipped), Err(OpenError::NotSealedForThis), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(open(&mut opener, &header, &sealed[..len]).is_err(), "cut to {len}");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(open(&mut opener, &header, &longer), Err(OpenError::NotSealedForThis));
    assert_eq!(opener.boot_number(), None, "nothing has moved");
    assert_eq!(open(&mut opener, &header, &sealed).as_deref(), Ok(SECRET));
}

#[test]
fn a_forged_nonce_moves_no_window_and_starts_no_boot() {
    let (mut sealer, mut opener) = (sealer(5), opener());
    is_open_for_the_good(&mut opener, &mut sealer);
    let own = request(5);
    let sealed = seal(&mut sealer, &header_of(&own));
    for (at, value) in [(0, 0xff), (7, 6), (16, 0xff), (23, 200)] {
        let mut forged = sealed.clone();
        forged[at] = value;
        assert_eq!(open(&mut opener, &header_of(&own), &forged), Err(OpenError::NotSealedForThis));
    }
    assert_eq!(opener.boot_number(), Some(5));
    assert_eq!(open(&mut opener, &header_of(&own), &sealed).as_deref(), Ok(SECRET));
}

#[test]
fn the_window_takes_what_is_late_once_and_not_what_is_too_late() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let messages: Vec<Message<'_>> = (0..200).map(request).collect();
    let sealed: Vec<Vec<u8>> = messages.iter().map(|own| seal(&mut sealer, &header_of(own))).collect();
    let mut take = |number: usize| open(&mut opener, &header_of(&messages[number]), &sealed[number]);
    assert!(take(100).is_ok());
    for late in [99, 60, 37] {
        assert!(take(late).is_ok(), "{late}");
        assert_eq!(take(late), Err(OpenError::Replayed), "{late}");
    }
    assert_eq!(take(36), Err(OpenError::Replayed), "64 back");
    assert!(take(199).is_ok());
    assert_eq!(take(100), Err(OpenError::Replayed));
    assert!(take(136).is_ok());
    assert_eq!(take(135), Err(OpenError::Replayed));
}

#[test]
fn what_overtakes_by_its_priority_leaves_the_rest_to_come() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let slow: Vec<Message<'_>> = (0..100).map(request).collect();
    let sealed: Vec<Vec<u8>> = slow.iter().map(|own| seal(&mut sealer, &header_of(own))).collect();
    let mut urgent = request(500);
    urgent.flags.priority = MessagePriority::Critical;
    let first = seal(&mut sealer, &header_of(&urgent));
    assert!(open(&mut opener, &header_of(&urgent), &first).is_ok());
    for (message, sealed) in slow.iter().zip(&sealed) {
        assert!(open(&mut opener, &header_of(message), sealed).is_ok());
    }
    assert_eq!(open(&mut opener, &header_of(&urgent), &first), Err(OpenError::Replayed));
}

#[test]
fn after_a_restart_of_the_sender_nothing_older_opens() {
    let mut opener = opener();
    let (mut before, mut after) = (sealer(8), sealer(9));
    let (own, late) = (request(5), request(6));
    let seen = seal(&mut before, &header_of(&own));
    let unseen = seal(&mut before, &header_of(&late));
    assert!(open(&mut opener, &header_of(&own), &seen).is_ok());
    is_open_for_the_good(&mut opener, &mut after);
    assert_eq!(open(&mut opener, &header_of(&own), &seen), Err(OpenError::OlderBoot));
    assert_eq!(
        open(&mut opener, &header_of(&late), &unseen),
        Err(OpenError::OlderBoot),
        "held back until now"
    );
    // The same number with other random bytes is no later start either.
    let mut twin = Sealer::new(&key(), "panel", "vault", BootNonce::new(9, [77; 8]));
    let twins = seal(&mut twin, &header_of(&own));
    assert_eq!(open(&mut opener, &header_of(&own), &twins), Err(OpenError::OlderBoot));
    is_open_for_the_good(&mut opener, &mut after);
}

#[test]
fn an_opener_can_be_told_which_starts_are_over() {
    let mut opener = opener();
    opener.refuse_boots_before(9);
    let own = request(5);
    let recorded = seal(&mut sealer(8), &header_of(&own));
    assert_eq!(open(&mut opener, &header_of(&own), &recorded), Err(OpenError::OlderBoot));
    is_open_for_the_good(&mut opener, &mut sealer(9));
}

#[test]
fn nonces_never_repeat_over_restarts_although_the_counter_begins_again() {
    let own = request(5);
    let mut nonces = BTreeSet::new();
    for boot in 0..50 {
        // A board without a random source: the number alone.
        let mut sealer = Sealer::new(&key(), "panel", "vault", BootNonce::new(boot, [0; 8]));
        for _ in 0..20 {
            let sealed = seal(&mut sealer, &header_of(&own));
            assert_eq!(sealed[16..24], (nonces.len() as u64 % 20).to_be_bytes(), "the counter begins again");
            assert!(nonces.insert(nonce_of(&sealed).unwrap()));
        }
    }
    // A clock that was set back: the random bytes keep the starts apart.
    for random in 0..50 {
        let mut sealer = Sealer::new(&key(), "panel", "vault", BootNonce::new(3, [random + 1; 8]));
        assert!(nonces.insert(nonce_of(&seal(&mut sealer, &header_of(&own))).unwrap()));
    }
}

#[test]
fn a_sealer_stops_before_its_counter_comes_round() {
    let mut sealer = sealer(1);
    sealer.counter = u64::MAX;
    let own = request(5);
    let outcome = sealer.seal(&header_of(&own), PayloadKind::String, SECRET, &mut [0; 200]);
    assert_eq!(outcome, Err(SealError::Spent));
}

#[test]
fn a_message_sent_back_or_on_to_a_third_does_not_open() {
    let own = request(5);
    let header = header_of(&own);
    let sealed = seal(&mut sealer(1), &header);
    for (from, to) in [("vault", "panel"), ("panel", "panel"), ("panel", "vaul"), ("mallory", "vault")] {
        let mut other = Opener::new(&key(), from, to);
        assert_eq!(open(&mut other, &header, &sealed), Err(OpenError::NotSealedForThis), "{from} to {to}");
    }
    let mut stranger = Opener::new(&PayloadKey::new([8; 32]), "panel", "vault");
    assert_eq!(open(&mut stranger, &header, &sealed), Err(OpenError::NotSealedForThis));
}

#[test]
fn an_answer_opens_only_as_the_answer_to_its_own_request() {
    let mut vault = Sealer::new(&key(), "vault", "panel", BootNonce::new(1, [0; 8]));
    let mut panel = Opener::new(&key(), "vault", "panel");
    let own = request(5);
    // Sent twice under the same id, as after a restart of the asker.
    let mut sealer = sealer(1);
    let [first, second] = [(); 2].map(|()| nonce_of(&seal(&mut sealer, &header_of(&own))).unwrap());
    let header = |message_type, nonce| {
        let answer = Message { source: Some(Address::literal("panel/ui")), ..own }.answer(message_type);
        Header::of_answer(&answer, Address::literal("vault/put"), Address::literal("panel/ui"), nonce)
    };
    let answer_to = |nonce| header(MessageType::Response, nonce);
    let recorded = seal(&mut vault, &answer_to(first));
    assert_eq!(open(&mut panel, &answer_to(second), &recorded), Err(OpenError::NotSealedForThis));
    let as_error = header(MessageType::Error, first);
    assert_eq!(open(&mut panel, &as_error, &recorded), Err(OpenError::NotSealedForThis));
    assert_eq!(open(&mut panel, &answer_to(first), &recorded).as_deref(), Ok(SECRET));
}

#[test]
fn what_a_hub_would_number_has_no_header() {
    let bare = Message::notification(0, Address::literal("vault/hint"));
    assert!(Header::of(&bare, Address::literal("panel")).is_none());
    assert!(Header::of(&Message::heartbeat(4), Address::literal("panel")).is_none());
}

#[test]
fn buffers_that_are_too_short_are_told_of_and_cost_no_message() {
    let (mut sealer, mut opener) = (sealer(1), opener());
    let own = request(5);
    let header = header_of(&own);
    let short = sealer.seal(&header, PayloadKind::String, SECRET, &mut [0; SECRET.len() + OVERHEAD - 1]);
    assert_eq!(short, Err(SealError::NoRoom));
    let sealed = seal(&mut sealer, &header);
    assert_eq!(opener.open(&header, &sealed, &mut [0; 4]), Err(OpenError::NoRoom));
    assert_eq!(open(&mut opener, &header, &sealed).as_deref(), Ok(SECRET));
}

#[test]
fn a_key_goes_through_its_text_and_is_shown_nowhere_else() {
    let mut text = [0; KEY_TEXT_LEN];
    let text = key().encode_text(&mut text);
    assert_eq!(text, "vbp1.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
    let back: PayloadKey = text.parse().unwrap();
    assert_eq!(back.0.expose_secret(), &[7; 32]);
    for bad in ["", "vbp1.", "vb1.BwcH", &text[..47], &format!("{text}A"), &text.replace('B', "+")] {
        assert!(bad.parse::<PayloadKey>().is_err(), "{bad}");
    }
    let shown = format!("{:?} {:?} {:?}", key(), sealer(1), opener());
    assert!(!shown.contains('7'), "{shown}");
}

#[test]
fn the_form_is_the_one_that_is_specified() {
    // Made anew from the parts that the specification names, by hand.
    let own = request(0x0102);
    let sealed = seal(&mut sealer(3), &header_of(&own));
    let salted = PayloadKey::new([7; 32]).0.expand(b"visorbus v1 payload key", b"\x05panel\x05vault");
    let cipher = XChaCha20Poly1305::new(salted.expose_secret().into());
    let mut nonce = [0; 24];
    nonce[7] = 3;
    nonce[8..16].fill(3);
    let bound = b"\x01\x68\x00\x00\x00\x00\x00\x00\x01\x02\x08panel/ui\x09vault/put";
    let mut body = [&[PayloadKind::String as u8], SECRET].concat();
    let tag = cipher.encrypt_inout_detached(&nonce.into(), bound, body.as_mut_slice().into()).unwrap();
    assert_eq!(sealed, [&nonce[..], &body, &tag].concat());
}
