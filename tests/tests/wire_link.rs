//! Lines with a key, held to the bytes in `golden/link-v1.txt`, which were made without this code.

use std::collections::BTreeMap;

use visorbus_core::Instant;
use visorbus_core::auth::Key;
use visorbus_core::secure::{
    Accepting, AnySuite, Connecting, HEAD_LEN, LinkKey, LinkKeys, MAX_LINK_KEY_TEXT, NonceSeed, SecureEnd,
    Suite,
};

#[test]
fn the_handshake_and_the_frames_of_both_suites_are_what_the_description_says() {
    let golden = golden();
    for suite in [Suite::Tag64, Suite::Sealed] {
        let of = |name: &str| golden[format!("{name}-{suite}").as_str()].clone();
        let mut board = Connecting::<AnySuite>::new(key(suite), 7, NonceSeed::counted(7)).unwrap();
        let mut hub = Accepting::new(Ring(key(suite)), 9);

        assert_eq!(said(&mut board), golden["link-init"]);
        hear(&mut hub, &golden["link-init"]);
        assert_eq!(said(&mut hub), of("link-reply"));
        hear(&mut board, &of("link-reply"));
        assert_eq!(said(&mut board), of("link-word"));
        hear(&mut hub, &of("link-word"));
        assert!(hub.take_change().is_some());
        assert_eq!(said(&mut hub), of("link-answer"));
        hear(&mut board, &of("link-answer"));

        assert_eq!(sealed(&mut board), of("link-heartbeat"));
        assert_eq!(hear(&mut hub, &of("link-heartbeat")).as_deref(), Some(HEARTBEAT));
        for _ in 3..16_386 {
            sealed(&mut board);
        }
        assert_eq!(sealed(&mut board), of("link-heartbeat-16386"));
        assert_eq!(
            hear(&mut hub, &of("link-heartbeat-16386")),
            None,
            "so many lost are told from old ones no more"
        );
    }
}

#[test]
fn a_frame_behind_many_that_were_lost_is_read_by_its_full_number() {
    let golden = golden();
    for suite in [Suite::Tag64, Suite::Sealed] {
        let mut board = Connecting::<AnySuite>::new(key(suite), 7, NonceSeed::counted(7)).unwrap();
        let mut hub = Accepting::new(Ring(key(suite)), 9);
        hear(&mut hub, &said(&mut board));
        hear(&mut board, &said(&mut hub));
        hear(&mut hub, &said(&mut board));
        hub.take_change();
        for number in 2..16_386 {
            let frame = sealed(&mut board);
            if number % 10_000 == 0 {
                assert!(hear(&mut hub, &frame).is_some());
            }
        }
        let last = sealed(&mut board);
        assert_eq!(last, golden[format!("link-heartbeat-16386-{suite}").as_str()]);
        assert_eq!(hear(&mut hub, &last).as_deref(), Some(HEARTBEAT));
    }
}

#[test]
fn an_end_that_has_forgotten_says_rekey() {
    let golden = golden();
    let mut hub = Accepting::new(Ring(key(Suite::Tag64)), 9);
    hear(&mut hub, &golden["link-heartbeat-tag64"]);
    assert_eq!(said(&mut hub), golden["link-rekey"]);
}

#[test]
fn a_key_has_the_text_that_the_description_says() {
    let page = include_str!("../../docs/wire-format.md");
    let mut text = [0; MAX_LINK_KEY_TEXT];
    let text = key(Suite::Tag64).encode(&mut text).to_owned();
    assert!(page.contains(&text), "{text}");
    let sealed = "vbl1.AgFpbXUAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw";
    assert_eq!(LinkKey::parse(sealed).unwrap().suite(), Suite::Sealed);
}

#[test]
fn the_page_shows_the_same_bytes() {
    let page: String = include_str!("../../docs/wire-format.md").split_whitespace().collect();
    let golden = golden();
    for name in [
        "link-init",
        "link-reply-tag64",
        "link-word-tag64",
        "link-answer-tag64",
        "link-heartbeat-tag64",
        "link-reply-sealed",
        "link-heartbeat-sealed",
    ] {
        let hex: String = golden[name].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(page.contains(&hex), "{name}");
    }
}

/// The hub's one key, and the one nonce of the description.
struct Ring(LinkKey);

impl LinkKeys for Ring {
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey> {
        (self.0.name() == name && self.0.id() == id).then_some(&self.0)
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        Some(std::array::from_fn(|at| 0xA0 + at as u8))
    }
}

fn key(suite: Suite) -> LinkKey {
    LinkKey::new(1, suite, "imu", Key::new(std::array::from_fn(|at| at as u8))).unwrap()
}

fn said(end: &mut impl SecureEnd) -> Vec<u8> {
    let mut frame = [0; 128];
    let len = end.poll_transmit(NOW, &mut frame);
    frame[..len].to_vec()
}

fn hear(end: &mut impl SecureEnd, frame: &[u8]) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let len = end.handle_frame(&mut frame, NOW)?;
    Some(frame[HEAD_LEN..HEAD_LEN + len].to_vec())
}

/// The heartbeat as the next frame.
fn sealed(end: &mut impl SecureEnd) -> Vec<u8> {
    let mut frame = [0; 64];
    frame[HEAD_LEN..HEAD_LEN + HEARTBEAT.len()].copy_from_slice(HEARTBEAT);
    let len = end.seal(&mut frame, HEARTBEAT.len()).unwrap();
    frame[..len].to_vec()
}

fn golden() -> BTreeMap<&'static str, Vec<u8>> {
    let lines = include_str!("../golden/link-v1.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(" | ").unwrap();
            let (hex, _) = rest.split_once(" | ").unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (name, (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

const HEARTBEAT: &[u8] = &[0x2c, 0x08, 0x03, 0x00, 0x00, 0xc0, 0x84, 0x3d];
const NOW: Instant = Instant::from_micros(1_000_000);
