//! Payloads that only two components can read, put under other headers by whoever has seen them go by. What a hub of bad
//! will can do besides, stripped flags among it, is attacked beside the client, in `shells/unix/tests/unix/sealed.rs`.

use visorbus_core::message::{Address, Message, MessageFlags, MessagePayload, MessageType};
use visorbus_core::seal::{BootNonce, Header, OVERHEAD, Opener, PayloadKey, Sealer};
use visorbus_tests::raw_peer::RawPeer;

use crate::transports::{Transport, Unix, over_every_transport};
use crate::world::World;

over_every_transport! {
    a_sealed_payload_opens_under_its_own_header_and_once
}

fn a_sealed_payload_opens_under_its_own_header_and_once<T: Transport>() {
    let world = World::start();
    let mut safe = Safe::new(&world);
    let mut panel = world.admitted::<T>("panel", &["request:safe/*", "notify:safe/*"]);
    let mut mallory = world.admitted::<Unix>("mallory", &["request:safe/*", "notify:safe/*"]);
    let sealed = seal(&PayloadKey::new(SECRET));
    let request = request(&sealed);
    assert!(safe.takes(&mut panel, &request), "what is well sealed");
    assert!(!sealed.windows(4).any(|part| part == b"open"), "nobody in between reads it");
    // The same again, from the same one: who has seen it can have it sent twice on a line without a key.
    assert!(!safe.takes(&mut panel, &request), "a replay");
    let other = seal(&PayloadKey::new(SECRET));
    let request = self::request(&other);
    let to = |address| Message { destination: Some(Address::new(address).unwrap()), ..request };
    let flags = |change: fn(&mut MessageFlags)| {
        let mut flags = request.flags;
        change(&mut flags);
        Message { flags, ..request }
    };
    let moved = [
        to("safe/close"),
        to("safe/open2"),
        to("safe/x"),
        Message { id: 501, ..request },
        Message { message_type: MessageType::Notification, ..request },
        flags(|flags| flags.encrypted = false),
        Message { payload: MessagePayload::Binary(&other[..other.len() - 1]), ..request },
    ];
    for message in &moved {
        assert!(!safe.takes(&mut panel, message), "{message:?}");
    }
    for message in moved.iter().chain([&request]) {
        assert!(!safe.takes(&mut mallory, message), "in another's name: {message:?}");
    }
    // Another key, and one that was sealed the other way round.
    for strange in [seal(&PayloadKey::new([9; 32])), reflected()] {
        assert!(!safe.takes(&mut panel, &self::request(&strange)));
    }
    assert_eq!(safe.opened, 1);
    world.is_unharmed();
}

/// A component that does what it is told, where that is sealed for it.
struct Safe {
    peer: RawPeer,
    opener: Opener,
    opened: usize,
}

impl Safe {
    fn new(world: &World) -> Self {
        let peer = world.admitted::<Unix>("safe", &[]);
        Self { peer, opener: Opener::new(&PayloadKey::new(SECRET), "panel", "safe"), opened: 0 }
    }

    /// Whether what somebody sends opens; it is done then.
    fn takes(&mut self, from: &mut RawPeer, message: &Message<'_>) -> bool {
        from.send(message);
        let opens = self.opens();
        if message.wants_answer() {
            from.answer_to(message.id).unwrap();
        }
        opens
    }

    fn opens(&mut self) -> bool {
        let message = self.peer.read_where(|message| message.destination.starts_with("safe/"));
        let message = message.borrow().unwrap();
        // Answered either way, so that the next one may have the same id.
        if message.wants_answer() {
            self.peer.send(&message.answer(MessageType::Response));
        }
        let source = message.source.unwrap();
        let mut opened = [0; 64];
        let header = Header::of(&message, source).unwrap();
        let is_open = message.flags.encrypted
            && self
                .opener
                .open(&header, message.payload.as_bytes(), &mut opened)
                .is_ok_and(|(_, text)| text == b"open");
        self.opened += usize::from(is_open);
        is_open
    }
}

fn seal(key: &PayloadKey) -> Vec<u8> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STARTS: AtomicU64 = AtomicU64::new(1);
    let boot = BootNonce::new(STARTS.fetch_add(1, Ordering::SeqCst), [0; 8]);
    seal_by(&mut Sealer::new(key, "panel", "safe", boot), "panel")
}

/// What the safe itself has sealed for the panel.
fn reflected() -> Vec<u8> {
    seal_by(&mut Sealer::new(&PayloadKey::new(SECRET), "safe", "panel", BootNonce::new(900, [0; 8])), "panel")
}

fn seal_by(sealer: &mut Sealer, from: &str) -> Vec<u8> {
    let mut sealed = [0; 4 + OVERHEAD];
    let header = request(&[]);
    let header = Header::of(&header, Address::new(from).unwrap()).unwrap();
    let len =
        sealer.seal(&header, visorbus_core::message::PayloadKind::Binary, b"open", &mut sealed).unwrap();
    sealed[..len].to_vec()
}

/// The one request of this test.
fn request(sealed: &[u8]) -> Message<'_> {
    let mut request = Message::request(500, Address::literal("safe/open"));
    request.flags.encrypted = true;
    request.with_payload(MessagePayload::Binary(sealed))
}

const SECRET: [u8; 32] = *b"what the panel and the safe know";
