use super::*;
use crate::auth::Key;

struct Keys(LinkKey, u8);

impl LinkKeys for Keys {
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey> {
        (self.0.name() == name && self.0.id() == id).then_some(&self.0)
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        self.1 += 1;
        Some([self.1; 16])
    }
}

fn key(suite: Suite) -> LinkKey {
    LinkKey::new(1, suite, "imu", Key::new([7; 32])).unwrap()
}

#[test]
fn a_handshake_opens_a_channel_at_both_ends() {
    let now = Instant::from_micros(1);
    let mut board = Connecting::<Tag64>::new(key(Suite::Tag64), 5, NonceSeed::random([9; 16])).unwrap();
    let mut hub = Accepting::new(Keys(key(Suite::Tag64), 0), 6);
    let mut frame = [0; 138];
    let len = board.poll_transmit(now, &mut frame);
    assert_eq!(hub.handle_frame(&mut frame[..len], now), None);
    let len = hub.poll_transmit(now, &mut frame);
    assert_eq!(board.handle_frame(&mut frame[..len], now), None);
    assert!(board.is_open() && hub.proof().is_none());
    let len = board.poll_transmit(now, &mut frame);
    assert_eq!(hub.handle_frame(&mut frame[..len], now), None);
    assert!(!hub.is_open());
    assert_eq!(hub.take_change().map(LinkProof::name), Some("imu"));
    assert!(hub.is_open());
    frame[2..7].copy_from_slice(b"hello");
    let len = board.seal(&mut frame, 5).unwrap();
    assert_eq!(len, 2 + 5 + 8);
    assert_eq!(hub.handle_frame(&mut frame[..len], now), Some(5));
    assert_eq!(&frame[2..7], b"hello");
}
