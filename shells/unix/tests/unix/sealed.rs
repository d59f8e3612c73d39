//! Payloads that only two components can read: through a real hub, and against one that does what it likes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use visorbus_core::bus::SlowConsumer;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::seal::PayloadKey;
use visorbus_core::{IpcError, Message, MessageFlags, MessagePriority, MessageType};
use visorbus_hub::compress::compress;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use visorbus_unix::{Delivery, UnixSocketClient};

use crate::opposite::{Opposite, SOON};
use crate::server::House;

const SECRET: &str = "the door code is 4711";
const REPLY: &str = "and the safe's is 0815";

fn key() -> PayloadKey {
    PayloadKey::new([42; 32])
}

fn secret() -> OwnedMessage {
    OwnedMessage::request("vault/put", text(SECRET))
}

fn text(text: &str) -> OwnedPayload {
    OwnedPayload::String(text.to_owned())
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(outcome: Result<T>, why: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Authentication(_)) && error.text().contains(why), "{error}");
}

/// Takes secrets, and counts them.
#[derive(Clone, Default)]
struct Vault {
    took: Arc<Mutex<Vec<OwnedMessage>>>,
}

impl Vault {
    fn served_by(client: &UnixSocketClient) -> Self {
        let vault = Self::default();
        client.register_handler(Box::new(vault.clone())).unwrap();
        vault
    }

    fn runs(&self) -> usize {
        self.took.lock().unwrap().len()
    }
}

impl MessageHandler for Vault {
    fn id(&self) -> &str {
        "vault"
    }

    fn handle_message(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        self.took.lock().unwrap().push(OwnedMessage::from(message));
        match message.destination.map(|to| to.as_str()) {
            Some("vault/open") => Err(IpcError::Authorization(REPLY)),
            _ => reply.payload(visorbus_core::MessagePayload::String(REPLY)),
        }
    }
}

/// What goes to and fro between a hub and whoever connects here instead.
struct Tap {
    path: PathBuf,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn before(house: &House) -> Self {
        let (path, hub) = (house.path().with_file_name("tap.sock"), house.path());
        let listener = UnixListener::bind(&path).unwrap();
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = Arc::clone(&bytes);
        thread::spawn(move || {
            while let Ok((here, _)) = listener.accept() {
                let Ok(there) = UnixStream::connect(&hub) else { return };
                let ways = [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)];
                for (from, to) in ways {
                    let all = Arc::clone(&all);
                    thread::spawn(move || copy(from, to, &all));
                }
            }
        });
        Self { path, bytes }
    }

    fn client(&self, name: &str) -> UnixSocketClient {
        let client = UnixSocketClient::new(&self.path, name).unwrap();
        client.authenticate(&House::token_with(name, &["*"])).unwrap();
        client.connect().unwrap();
        client
    }

    fn holds(&self, part: &str) -> bool {
        holds(&self.bytes.lock().unwrap(), part)
    }

    fn len(&self) -> usize {
        self.bytes.lock().unwrap().len()
    }
}

fn copy(mut from: UnixStream, mut to: UnixStream, all: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        all.lock().unwrap().extend_from_slice(&buffer[..len]);
        if to.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn two_who_share_a_key_are_read_by_nobody_between_them() {
    let house = House::new();
    let _server = house.server();
    let tap = Tap::before(&house);
    let (panel, owner) = (tap.client("panel"), tap.client("vault"));
    let vault = Vault::served_by(&owner);
    panel.share_key("vault", key()).unwrap();
    owner.share_key("panel", key()).unwrap();
    let answer = panel.send_request(secret(), None).unwrap();
    assert_eq!((answer.payload, answer.flags.encrypted), (text(REPLY), true));
    assert_eq!(vault.took.lock().unwrap()[0].payload, text(SECRET));
    let refused = panel.send_request(OwnedMessage::request("vault/open", text(SECRET)), None).unwrap_err();
    assert_eq!(refused, Error::Authorization(REPLY.to_owned()), "what a handler refuses is sealed too");
    assert!(tap.holds("vault/put") && !tap.holds(SECRET) && !tap.holds(REPLY));
    assert!(panel.unshare_key("vault") && owner.unshare_key("panel"));
    panel.send_request(secret(), None).unwrap();
    assert!(tap.holds(SECRET) && tap.holds(REPLY), "without a key the hub reads everything");
    assert_eq!((panel.refused_payloads(), owner.refused_payloads()), (0, 0));
}

#[test]
fn a_component_that_shares_a_key_under_its_own_name_shares_it_with_all_who_have_it() {
    let house = House::new();
    let _server = house.server();
    let tap = Tap::before(&house);
    // Not called what it serves: what it says on its topics it says as that.
    let owner = tap.client("vaults");
    let vault = Vault::served_by(&owner);
    owner.share_key("vault", key()).unwrap();
    let clients = ["panel.1", "panel.2"].map(|name| tap.client(name));
    for client in &clients {
        client.share_key("vault", key()).unwrap();
        for _ in 0..3 {
            assert_eq!(client.send_request(secret(), None).unwrap().payload, text(REPLY));
        }
    }
    assert_eq!(vault.runs(), 6);
    let subscriptions =
        clients.each_ref().map(|client| client.subscribe("vault/*", SlowConsumer::default()).unwrap());
    owner.send_message(OwnedMessage::notification("vault/opened", text(SECRET))).unwrap();
    for subscription in subscriptions {
        let Ok(Some(Delivery::Message(told))) = subscription.recv(Some(SOON)) else { panic!("nothing came") };
        assert_eq!((told.payload, told.source.as_str()), (text(SECRET), "vault"));
    }
    assert!(!tap.holds(SECRET) && !tap.holds(REPLY));
}

#[test]
fn what_is_not_sealed_is_refused_where_a_key_is_shared() {
    let house = House::new();
    let _server = house.server();
    let [panel, owner, mallory] = ["panel", "vault", "mallory"].map(|name| house.client(name));
    let vault = Vault::served_by(&owner);
    owner.share_key("panel", key()).unwrap();
    is_refused(panel.send_request(secret(), None), "key that is shared with 'panel'");
    owner.share_key("vault", key()).unwrap();
    is_refused(mallory.send_request(secret(), None), "key that is shared with 'vault'");
    mallory.share_key("vault", PayloadKey::new([43; 32])).unwrap();
    is_refused(mallory.send_request(secret(), None), "does not open");
    assert_eq!((vault.runs(), owner.refused_payloads()), (0, 3));
    panel.share_key("vault", key()).unwrap();
    panel.send_request(secret(), None).unwrap();
    assert_eq!(vault.runs(), 1);
}

#[test]
fn one_without_the_key_says_so_and_runs_no_handler() {
    let house = House::new();
    let _server = house.server();
    let (panel, owner) = (house.client("panel"), house.client("vault"));
    let vault = Vault::served_by(&owner);
    panel.share_key("vault", key()).unwrap();
    is_refused(panel.send_request(secret(), None), "no payload key is shared with 'panel'");
    assert_eq!((vault.runs(), owner.refused_payloads(), panel.refused_payloads()), (0, 1, 1));
    // One that was asked to encrypt, and by whom there is no key.
    let mut plain = OwnedMessage::request("panel/x", text(SECRET));
    plain.flags.encrypted = true;
    let error = owner.send_request(plain, None).unwrap_err();
    assert!(matches!(&error, Error::Message(text) if text.contains("'panel'")), "{error}");
    assert!(panel.share_key("bus", key()).is_err() && panel.share_key("no name", key()).is_err());
}

#[test]
fn what_the_hub_says_of_a_sealed_request_passes_as_what_it_is() {
    let house = House::new();
    let _server = house.server();
    let (panel, owner) = (house.client("panel"), house.client("vault"));
    panel.share_key("vault", key()).unwrap();
    panel.share_key("ghost", key()).unwrap();
    let error = panel.send_request(OwnedMessage::request("ghost/x", text(SECRET)), None).unwrap_err();
    assert!(matches!(&error, Error::Message(text) if text.contains("nobody serves 'ghost'")), "{error}");
    // Has it read what comes.
    owner.on_message(|_| {}).unwrap();
    owner.share_key("panel", key()).unwrap();
    // Nobody serves it, but who says so has the key.
    let error = panel.send_request(secret(), None).unwrap_err();
    assert_eq!(error, Error::Message("nobody serves this address".to_owned()));
}

#[test]
fn subscribers_hear_once_that_what_comes_is_not_sealed() {
    let house = House::new();
    let _server = house.server();
    let (panel, owner) = (house.client("panel"), house.client("vault"));
    panel.share_key("vault", key()).unwrap();
    let subscription = panel.subscribe("vault/*", SlowConsumer::default()).unwrap();
    let tell = || owner.send_message(OwnedMessage::notification("vault/opened", text(SECRET))).unwrap();
    tell();
    is_refused(subscription.recv(Some(SOON)), "'vault/opened' was not sent sealed");
    (0..3).for_each(|_| _ = tell());
    owner.share_key("vault", key()).unwrap();
    tell();
    assert!(
        matches!(subscription.recv(Some(SOON)), Ok(Some(Delivery::Message(told))) if told.payload == text(SECRET))
    );
    assert_eq!(panel.refused_payloads(), 4);
}

/// A hub that sends the second of two clients what it likes of what the first has sent.
struct Mallory {
    hub: Opposite,
    panel: UnixSocketClient,
    _owner: UnixSocketClient,
    vault: Vault,
}

impl Mallory {
    fn between() -> Self {
        let hub = Opposite::start(|message, answer| {
            let to = message.destination.map_or("bus", |to| to.component());
            if message.wants_answer() && to == "bus" {
                answer.echo(message);
            }
        });
        let [panel, owner] = ["panel", "vault"].map(|name| {
            let client = UnixSocketClient::new(&hub.path, name).unwrap();
            client.connect().unwrap();
            client
        });
        let vault = Vault::served_by(&owner);
        panel.share_key("vault", key()).unwrap();
        owner.share_key("panel", key()).unwrap();
        Self { hub, panel, _owner: owner, vault }
    }

    /// A sealed request of the panel's, as the hub has it.
    fn sealed(&self) -> OwnedMessage {
        self.panel.send_message(secret()).unwrap();
        self.next_from("panel")
    }

    fn next_from(&self, source: &str) -> OwnedMessage {
        loop {
            let message = self.hub.next();
            if message.source == source || source.is_empty() && message.message_type == MessageType::Error {
                return message;
            }
        }
    }

    /// Has the vault have a request, and says what it answers.
    fn put(&self, message: &OwnedMessage) -> OwnedMessage {
        self.hub.send(message);
        loop {
            let answer = self.hub.next();
            if answer.borrow().unwrap().is_reply() {
                return answer;
            }
        }
    }
}

#[test]
fn a_hub_that_moves_a_sealed_payload_under_another_header_reaches_no_handler() {
    let mallory = Mallory::between();
    let sealed = mallory.sealed();
    assert!(sealed.flags.encrypted && !holds(sealed.payload.borrow().as_bytes(), SECRET));
    let flags = |flags| OwnedMessage { flags, ..sealed.clone() };
    let mut moved = vec![
        OwnedMessage { id: sealed.id + 1, ..sealed.clone() },
        OwnedMessage { source: "panel/other".to_owned(), ..sealed.clone() },
        OwnedMessage { source: "vault".to_owned(), ..sealed.clone() },
        OwnedMessage { source: String::new(), ..sealed.clone() },
        OwnedMessage { destination: "vault/open".to_owned(), ..sealed.clone() },
        OwnedMessage { destination: "vault".to_owned(), ..sealed.clone() },
        OwnedMessage { message_type: MessageType::Notification, ..sealed.clone() },
        flags(MessageFlags { encrypted: false, ..sealed.flags }),
        flags(MessageFlags { compressed: true, ..sealed.flags }),
        flags(MessageFlags { priority: MessagePriority::High, ..sealed.flags }),
        OwnedMessage { payload: text(SECRET), ..flags(MessageFlags { encrypted: false, ..sealed.flags }) },
        OwnedMessage { payload: OwnedPayload::Empty, ..sealed.clone() },
    ];
    let bytes = sealed.payload.borrow().as_bytes().to_vec();
    for at in [0, 8, 16, 23, 24, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        moved.push(OwnedMessage { payload: OwnedPayload::Binary(flipped), ..sealed.clone() });
    }
    for message in &moved {
        let answer = mallory.put(message);
        assert_eq!(answer.message_type, MessageType::Error, "{message:?}");
        assert!(!answer.flags.encrypted, "nothing is sealed for who has no key");
    }
    assert_eq!(mallory.vault.runs(), 0);
    // What it may rewrite changes nothing, and the same once more is a replay.
    let mut passed = sealed.clone();
    (passed.timestamp, passed.uncertainty_us, passed.flags.timeout_ms) = (Some(1), Some(1), Some(9_000));
    let answer = mallory.put(&passed);
    assert!(answer.message_type == MessageType::Response && answer.flags.encrypted, "{answer:?}");
    assert!(!holds(answer.payload.borrow().as_bytes(), REPLY));
    let replayed = mallory.put(&passed).error().unwrap();
    assert!(replayed.text().contains("a replay"), "{replayed}");
    assert_eq!(mallory.vault.runs(), 1);
}

#[test]
fn what_was_held_back_does_not_open_once_its_sender_has_started_anew() {
    let mut mallory = Mallory::between();
    let held = mallory.sealed();
    // As a new process of the same name: the newest connection is then its own.
    mallory.panel.share_key("vault", key()).unwrap();
    let fresh = mallory.sealed();
    assert_eq!(mallory.put(&fresh).message_type, MessageType::Response);
    let refused = mallory.put(&held).error().unwrap();
    assert!(refused.text().contains("before its sender last started"), "{refused}");
    assert_eq!(mallory.vault.runs(), 1);
    mallory.vault = Vault::default();
}

/// A hub that answers every sealed request by this rule.
fn answered_by(
    rule: impl Fn(&Message<'_>, &dyn Fn(&Message<'_>)) + Send + 'static,
) -> (Opposite, UnixSocketClient) {
    let hub = Opposite::start(move |message, answer| {
        if message.flags.encrypted {
            rule(message, &|forged| answer.send(forged));
        }
    });
    let panel = UnixSocketClient::new(&hub.path, "panel").unwrap();
    panel.connect().unwrap();
    panel.share_key("vault", key()).unwrap();
    (hub, panel)
}

type Forge = fn(&mut Message<'_>);

#[test]
fn a_hub_that_answers_in_the_vaults_place_is_not_believed() {
    let vault = visorbus_core::message::Address::literal("vault");
    let forge: [(&str, Forge); 4] = [
        ("not sealed with the shared key", |_| {}),
        ("not sealed with the shared key", |answer| answer.source = None),
        ("does not open", |answer| answer.flags.encrypted = true),
        ("authorization error", |answer| answer.message_type = MessageType::Error),
    ];
    for (why, forge) in forge {
        let (_hub, panel) = answered_by(move |request, send| {
            // Its own sealed bytes, come back.
            let mut answer = request.answer(MessageType::Response).with_payload(request.payload);
            answer.source = Some(vault);
            forge(&mut answer);
            if answer.message_type == MessageType::Error {
                answer.payload = visorbus_core::MessagePayload::Binary(b"\x02no");
            }
            send(&answer);
        });
        is_refused(panel.send_request(secret(), None), why);
        assert_eq!(panel.refused_payloads(), 1);
    }
}

#[test]
fn an_answer_that_was_recorded_does_not_answer_again() {
    let house = House::new();
    let _server = house.server();
    // An honest vault, whose answers the hub has kept.
    let owner = house.client("vault");
    let _vault = Vault::served_by(&owner);
    owner.share_key("panel", key()).unwrap();
    let recorded: Arc<Mutex<Vec<OwnedMessage>>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    let (log, asked) = (Arc::clone(&recorded), Arc::clone(&count));
    let helper = visorbus_unix::UnixSocketConnection::connect(house.path(), "panel").unwrap();
    let helper = Mutex::new(helper);
    helper.lock().unwrap().set_auth_token(House::token_text("panel", &["*"]));
    helper.lock().unwrap().wait_authenticated(SOON).unwrap();
    let (_hub, panel) = answered_by(move |request, send| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut hub = helper.lock().unwrap();
            hub.send_message(OwnedMessage::from(request)).unwrap();
            log.lock().unwrap().push(hub.wait_message(SOON).unwrap());
        }
        let mut answer = log.lock().unwrap()[0].clone();
        answer.id = request.id;
        send(&answer.borrow().unwrap());
    });
    assert_eq!(panel.send_request(secret(), None).unwrap().payload, text(REPLY));
    is_refused(panel.send_request(secret(), None), "replay");
    // Not even to one that has started anew and asks under the same id.
    panel.share_key("vault", key()).unwrap();
    panel.disconnect();
    panel.connect().unwrap();
    is_refused(panel.send_request(secret(), None), "does not open");
}

#[test]
fn a_request_that_nobody_answers_times_out_and_leaves_nothing() {
    let (_hub, panel) = answered_by(|_, _| {});
    let error = panel.send_request(secret(), Some(Duration::from_millis(20))).unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    assert_eq!(panel.refused_payloads(), 0);
}

fn json() -> OwnedPayload {
    OwnedPayload::Json(format!("[{}]", vec!["{\"hz\":200}"; 2_000].join(",")))
}

fn compressed(address: &str) -> OwnedMessage {
    let mut message = OwnedMessage::request(address, json());
    message.flags.compressed = true;
    message
}

#[test]
fn a_message_that_asks_for_it_is_compressed_where_the_hub_expands() {
    let house = House::new();
    let _server = house.server();
    let tap = Tap::before(&house);
    let (panel, owner) = (tap.client("panel"), house.client("vault"));
    let vault = Vault::served_by(&owner);
    let before = tap.len();
    assert_eq!(panel.send_request(compressed("vault/put"), None).unwrap().payload, text(REPLY));
    assert!(tap.len() - before < 1_000, "{} bytes", tap.len() - before);
    assert_eq!(vault.took.lock().unwrap()[0].payload, json());
    let subscription = owner.subscribe("news/*", SlowConsumer::default()).unwrap();
    let news = OwnedMessage { message_type: MessageType::Notification, ..compressed("news/x") };
    panel
        .send_message(OwnedMessage { flags: MessageFlags { compressed: true, ..MessageFlags::NONE }, ..news })
        .unwrap();
    let Ok(Some(Delivery::Message(told))) = subscription.recv(Some(SOON)) else { panic!("nothing came") };
    assert_eq!(told.payload, json());
    // By hand, both ways.
    let mut hand = visorbus_unix::UnixSocketConnection::connect(&tap.path, "hand").unwrap();
    hand.set_auth_token(House::token_text("hand", &["*"]));
    hand.wait_authenticated(SOON).unwrap();
    let before = tap.len();
    hand.send_message(compressed("vault/put")).unwrap();
    assert_eq!(hand.wait_message(SOON).unwrap().payload, text(REPLY));
    assert!(tap.len() - before < 1_000);
    panel
        .send_message(OwnedMessage { message_type: MessageType::Notification, ..compressed("hand/x") })
        .unwrap();
    assert_eq!(hand.wait_message(SOON).unwrap().payload, json());
}

#[test]
fn to_a_hub_that_does_not_expand_it_goes_as_it_is() {
    let hub = Opposite::echoing();
    let client = UnixSocketClient::new(&hub.path, "panel").unwrap();
    client.connect().unwrap();
    assert_eq!(client.send_request(compressed("echo/x"), None).unwrap().payload, json());
    let sent = hub.next();
    assert_eq!((sent.payload, sent.flags.compressed), (json(), false));
}

#[test]
fn what_is_sealed_is_not_compressed_unless_that_danger_is_taken() {
    let house = House::new();
    let _server = house.server();
    let tap = Tap::before(&house);
    let (panel, owner) = (tap.client("panel"), house.client("vault"));
    let vault = Vault::served_by(&owner);
    panel.share_key("vault", key()).unwrap();
    owner.share_key("panel", key()).unwrap();
    let error = panel.send_request(compressed("vault/put"), None).unwrap_err();
    assert!(matches!(&error, Error::Message(text) if text.contains("by its length")), "{error}");
    assert_eq!(vault.runs(), 0);
    panel.danger_compress_what_is_sealed();
    let before = tap.len();
    assert_eq!(panel.send_request(compressed("vault/put"), None).unwrap().payload, text(REPLY));
    assert!(tap.len() - before < 1_000);
    assert_eq!(vault.took.lock().unwrap()[0].payload, json());
}

#[test]
fn bad_compressed_payloads_reach_nobody() {
    let hub = Opposite::start(|message, answer| {
        if message.wants_answer() && message.destination.is_none_or(|to| to.component() == "bus") {
            answer.echo(message);
        }
    });
    let client = UnixSocketClient::new(&hub.path, "vault").unwrap();
    client.connect().unwrap();
    let vault = Vault::served_by(&client);
    let subscription = client.subscribe("news/*", SlowConsumer::default()).unwrap();
    let good = compress(json().borrow()).unwrap();
    let bomb = [&[2, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 3_000]].concat();
    for (bytes, why) in
        [(bomb, "4294967295"), (good[..good.len() - 2].to_vec(), "damaged"), (vec![], "damaged")]
    {
        let mut bad = OwnedMessage::request("vault/put", OwnedPayload::Binary(bytes));
        (bad.id, bad.flags.compressed) = (9, true);
        hub.send(&bad);
        let answer =
            std::iter::repeat_with(|| hub.next()).find(|answer| answer.id == 9 && answer.source.is_empty());
        let error = answer.and_then(|answer| answer.error()).unwrap();
        assert!(error.text().contains(why), "{error}");
        let news = OwnedMessage { destination: "news/x".to_owned(), ..bad };
        hub.send(&OwnedMessage {
            message_type: MessageType::Notification,
            flags: MessageFlags { compressed: true, ..MessageFlags::NONE },
            ..news
        });
        let error = subscription.recv(Some(SOON)).unwrap_err();
        assert!(error.text().contains(why), "{error}");
    }
    assert_eq!((vault.runs(), client.refused_payloads()), (0, 6));
    let mut sound = OwnedMessage::request("vault/put", OwnedPayload::Binary(good));
    (sound.id, sound.flags.compressed) = (10, true);
    hub.send(&sound);
    std::iter::repeat_with(|| hub.next())
        .find(|answer| answer.message_type == MessageType::Response)
        .unwrap();
    assert_eq!(vault.took.lock().unwrap()[0].payload, json());
}
