//! Every kind of secret is used rightly and wrongly, and then looked for, in every form in which somebody could have
//! written it down, in all that was logged, told, audited or printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use visorbus_auth::{
    Accounts, AuthToken, AuthenticationProvider, Channel, Credentials as Shown, KeyFile, Policy, Secret,
    Store, TokenText,
};
use visorbus_core::auth::{Claims, Context, Key, KeyRing, Scopes, Slot, UnverifiedToken};
use visorbus_core::bus::{self, Credentials};
use visorbus_core::message::{Address, Message, MessagePayload, PayloadKind};
use visorbus_core::peer::DeviceKey;
use visorbus_core::seal::{BootNonce, Header, KEY_TEXT_LEN, OVERHEAD, Opener, PayloadKey, Sealer};
use visorbus_core::secure::{LinkKey, MAX_LINK_KEY_TEXT, Suite};
use visorbus_core::session::Verdict;
use visorbus_hub::info::Revoke;
use visorbus_hub::{HubConfig, OwnedMessage, OwnedPayload};
use visorbus_tests::raw_websocket::{Frame, RawWebSocket, Upgrade};

use crate::node::all_logged;
use crate::transports::{Keyed, KeyedSerial, LINK_SECRET, Serial, Transport, Unix, link_key};
use crate::world::{BOOT_ID, KEY_ID, Says, World, claims, hello, mint};

#[test]
fn no_secret_is_in_any_log_error_event_or_debug_print() {
    let (mut seen, mut secrets) = (Seen::default(), Vec::new());
    let logged = all_logged(|| secrets = use_them(&mut seen));
    seen.text(logged);
    assert!(
        seen.0.contains("a token was refused") && seen.0.contains("visorbus::audit"),
        "the log was taken"
    );
    for (what, secret) in secrets {
        for (form, text) in forms(&secret) {
            if let Some(at) = seen.0.find(&text) {
                let from = seen.0[..at].char_indices().rev().nth(200).map_or(0, |(from, _)| from);
                panic!("the {what} is shown as {form}: …{}…", &seen.0[from..at]);
            }
        }
    }
}

/// Uses every kind of secret; what was seen meanwhile, and the secrets.
fn use_them(seen: &mut Seen) -> Vec<(&'static str, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    let hex: String = ROOT.iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = directory.path().join("root.key");
    write_private(&keys, format!("{KEY_ID} {hex}\n").as_bytes());
    let key_file = KeyFile::open(&keys).unwrap();
    seen.debug(&key_file);
    let store = Arc::new(Store::open_or_create(directory.path().join("accounts.json")).unwrap());
    store.add_user("alice", &Secret::new(PASSWORD), &["request:vault/*".to_owned()]).unwrap();
    let api_key = store.add_api_key("alice", &[], None).unwrap();
    store.add_link_key(&link_key("imu")).unwrap();
    seen.debug(&(store.users(), store.api_keys(), store.link_key_list(), &store, store.link_keys().unwrap()));
    let policy = Arc::new(Policy::empty());
    let accounts = Arc::new(Accounts::new(Arc::clone(&store), key_file, Arc::clone(&policy)));
    seen.debug(&(&accounts, &policy, HubConfig::with_providers(Arc::clone(&accounts) as _, policy.clone())));
    let world = World::with(Arc::clone(&accounts), policy);
    let token = world.token("alice", &["request:vault/*"]);

    let mut secrets = vec![
        ("root key", ROOT.to_vec()),
        ("device key", device_secret()),
        ("link key", LINK_SECRET.to_vec()),
        ("payload key", PAYLOAD.to_vec()),
        ("password", PASSWORD.into()),
        ("wrong password", WRONG_PASSWORD.into()),
    ];
    let secret = api_key.expose().rsplit('.').next().unwrap();
    let bytes = secret
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    secrets.extend([("API key", secret.into()), ("bytes of the API key", bytes.collect())]);
    secrets.extend(token_secrets(&token));
    tokens(&world, seen, &token);
    logins(&world, seen, &api_key);
    let renewed = renewals(&world, seen);
    secrets.extend(renewed.iter().flat_map(|token| token_secrets(token)));
    links(&world, seen);
    payload_keys(seen);
    boards(&world, seen);
    requests(&world, seen, &token);
    texts(&world, seen, &token, &api_key);
    damaged_files(&directory, &store, seen, &hex);
    prints(seen, &token, &api_key);
    seen.debug(&world.handle.peers().unwrap());
    world.audited(|event| event.what == "authenticated" && event.subject == "imu");
    seen.text(world.all_audited());
    secrets
}

#[test]
fn a_secret_is_found_in_any_form() {
    let secret = b"\x00\x10hidden well enough\xff";
    let shown = [
        "..hidden well enough..".to_owned(),
        secret.iter().map(|byte| format!("{byte:02x}")).collect(),
        secret.iter().map(|byte| format!("{byte:02X}")).collect(),
        format!("{secret:?}"),
        format!("{:x?}", secret),
        base64(secret, b"-_"),
        base64(secret, b"+/"),
        format!("xx{}", base64(&secret[1..], b"-_")),
    ];
    for text in shown {
        assert!(forms(secret).iter().any(|(_, form)| text.contains(form.as_str())), "{text}");
    }
}

/// Tokens: good, changed, in places where they do not belong.
fn tokens(world: &World, seen: &mut Seen, token: &[u8]) {
    let mut forged = token.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let text = TokenText::encode(token).unwrap();
    let mut alice = world.greeted::<Unix>("alice");
    for bad in [&forged[..], &token[..token.len() - 1], &[token, token].concat()] {
        seen.error(alice.authenticate(bad));
        seen.error(alice.request_with(bad, "vault/open"));
    }
    seen.error(world.greeted::<Unix>("victim").authenticate(token));
    alice.authenticate(token).unwrap();
    alice.request_with(token, "vault/open").unwrap();
    let id = alice.take_id();
    let message = Message { auth_token: Some(token), ..Message::request(id, Address::literal("vault/open")) };
    seen.debug(&(&message, OwnedMessage::from(&message)));
    // Where something else is asked for.
    for address in [
        bus::SUBSCRIBE,
        bus::REGISTER,
        bus::SCHEMA,
        bus::UNSUBSCRIBE,
        bus::REVOKE,
        bus::REFRESH,
        bus::AUTHENTICATE,
    ] {
        seen.error(alice.request(address, MessagePayload::Binary(&forged)));
        seen.error(alice.request(address, MessagePayload::String(&format!("{}x", text.as_str()))));
        seen.error(
            alice.request(address, MessagePayload::Json(&format!("{{\"token\": \"{} \"", text.as_str()))),
        );
        seen.error(alice.request(address, MessagePayload::Json(&format!("\"{}x\"", text.as_str()))));
    }
    seen.debug(&(&text, AuthToken::new(text.clone()).unwrap(), Shown::Token(text.clone())));
    seen.debug(&(
        UnverifiedToken::read(token).unwrap(),
        Verdict::Authenticate { token },
        Credentials::Token(token),
    ));
    seen.debug(&Revoke::Token(text.clone()));
    seen.debug(&TokenText::parse(&format!("{}!", text.as_str())).map(drop));
    seen.debug(&TokenText::parse(&text.as_str()[..text.as_str().len() - 3]).map(drop));
    let grant = world.accounts.validate_token(token, &Channel::default(), crate::world::unix_s()).unwrap();
    seen.debug(&grant);
}

fn logins(world: &World, seen: &mut Seen, api_key: &Secret) {
    let mut alice = world.greeted::<Unix>("alice.desk");
    let password = |password| Credentials::UsernamePassword { username: "alice", password };
    seen.error(alice.show(&password(WRONG_PASSWORD)));
    seen.error(alice.show(&Credentials::ApiKey(&api_key.expose()[..api_key.expose().len() - 1])));
    seen.error(alice.show(&Credentials::ApiKey(&format!("{}0", api_key.expose()))));
    for broken in [
        format!(r#"{{"username_password": {{"username": "alice", "password": "{PASSWORD}", "x": 1}}"#),
        format!(r#"{{"username_password": {{"username": "{PASSWORD}"}}}}"#),
        format!(r#"{{"{PASSWORD}": "{}"}}"#, api_key.expose()),
        format!(r#"{{"api_key": ["{}"]}}"#, api_key.expose()),
        format!("\"{PASSWORD}\""),
    ] {
        seen.error(alice.request(bus::AUTHENTICATE, MessagePayload::Json(&broken)));
    }
    // Somebody who types the password where the name belongs.
    seen.error(alice.show(&Credentials::UsernamePassword { username: PASSWORD, password: "alice" }));
    seen.error(world.greeted::<Unix>("victim").show(&password(PASSWORD)));
    alice.show(&password(PASSWORD)).unwrap();
    world.greeted::<Unix>("alice.robot").show(&Credentials::ApiKey(api_key.expose())).unwrap();
    seen.debug(&(password(PASSWORD), Credentials::ApiKey(api_key.expose()), api_key));
}

/// The tokens that came of it.
fn renewals(world: &World, seen: &mut Seen) -> Vec<Vec<u8>> {
    let first = world.token("bob", &["request:vault/*"]);
    let text = TokenText::encode(&first).unwrap();
    let mut bob = world.greeted::<Unix>("bob");
    bob.authenticate(&first).unwrap();
    let answer = bob.request(bus::REFRESH, MessagePayload::String(text.as_str())).unwrap();
    let second: AuthToken = answer.payload.parse().unwrap();
    seen.debug(&second);
    let mut copy = world.greeted::<Unix>("bob.copy");
    seen.error(copy.authenticate(&first));
    seen.error(copy.authenticate(&crate::world::bytes(&second)));
    let third = world.token("bob", &[]);
    let mut bob = world.greeted::<Unix>("bob.two");
    bob.authenticate(&third).unwrap();
    bob.request(bus::REVOKE, MessagePayload::String(TokenText::encode(&third).unwrap().as_str())).unwrap();
    bob.read_to_end().iter().for_each(|message| seen.debug(&message.error()));
    seen.error(world.greeted::<Unix>("bob.two").authenticate(&third));
    vec![first, crate::world::bytes(&second), third]
}

fn links(world: &World, seen: &mut Seen) {
    let mut imu = KeyedSerial::attach(world, "imu");
    hello::<KeyedSerial>(&mut imu, "imu", 1).unwrap();
    seen.debug(&link_key("imu"));
    let wrong = LinkKey::new(1, Suite::Tag64, "imu", Key::new([0x5a; 32])).unwrap();
    let (_radio, tape) = KeyedSerial::attach_with(world, Some(wrong));
    tape.wait_for(2);
    let mut text = [0; MAX_LINK_KEY_TEXT];
    let text = link_key("imu").encode(&mut text).to_owned();
    for bad in [&text[1..], &text[..text.len() - 1], &text.replace("vbl1.", "vbl1. "), &format!("{text}=")] {
        seen.debug(&LinkKey::parse(bad).map(drop));
        seen.text(LinkKey::parse(bad).unwrap_err().to_string());
    }
}

fn payload_keys(seen: &mut Seen) {
    let key = PayloadKey::new(PAYLOAD);
    let mut text = [0; KEY_TEXT_LEN];
    let text = key.encode_text(&mut text).to_owned();
    for bad in [&text[1..], &text[..text.len() - 1], &format!("{text}=")] {
        let error = bad.parse::<PayloadKey>().unwrap_err();
        seen.text(format!("{error} {error:?}"));
    }
    let mut sealer = Sealer::new(&key, "panel", "safe", BootNonce::new(1, [0; 8]));
    let mut opener = Opener::new(&PayloadKey::new([1; 32]), "panel", "safe");
    let request = Message::request(1, Address::literal("safe/open"));
    let header = Header::of(&request, Address::literal("panel")).unwrap();
    let (mut sealed, mut opened) = ([0; 4 + OVERHEAD], [0; 64]);
    sealer.seal(&header, PayloadKind::Binary, b"open", &mut sealed).unwrap();
    let error = opener.open(&header, &sealed, &mut opened).unwrap_err();
    seen.text(format!("{error} {error:?} {key:?} {sealer:?} {opener:?}"));
}

/// A token in what comes before a WebSocket, where browsers and people put them.
fn requests(world: &World, seen: &mut Seen, token: &[u8]) {
    let (address, token) = (world.websockets(), TokenText::encode(token).unwrap());
    let token = token.as_str();
    let good = Upgrade::new(address, "visorbus.v1.json");
    for bad in [
        good.clone().with_line(&format!("GET /?token={token} HTTP/1.1")),
        good.clone().with_line(&format!("GET /?x={token} HTTP/1.1")).without("Upgrade"),
        good.clone().with_line(&format!("GET /{token} HTTP/1.1")),
        good.clone().with_line(&format!("{token} / HTTP/1.1")),
        good.clone().with("Sec-WebSocket-Protocol", token),
        good.clone().with("Sec-WebSocket-Key", token),
        good.clone().with("Sec-WebSocket-Version", token).with("Authorization", &format!("Bearer {token}")),
        good.also("Cookie", token).also(token, token),
    ] {
        let answer = RawWebSocket::connect(address).ask(&bad.to_bytes());
        assert!(answer.status == 101 || answer.body.len() > 10, "{answer:?}");
        seen.debug(&answer);
    }
}

/// Secrets in texts that are wrong, and in the wrong places of those that are not.
fn texts(world: &World, seen: &mut Seen, token: &[u8], api_key: &Secret) {
    let token = TokenText::encode(token).unwrap();
    let auth = |payload: &str| format!(r#"{{"message_type":"Auth","payload":{payload}}}"#);
    let login = |shown: &str| auth(&format!(r#"{{"Authenticate":{shown}}}"#));
    let ipc = |more: &str| {
        let begin = r#""id":"1","message_type":"Request","destination":"vault/open""#;
        format!(r#"{{"message_type":"IPC","payload":{{{begin},{more}}}}}"#)
    };
    for secret in [token.as_str(), api_key.expose(), PASSWORD] {
        // Where a name belongs, whoever wrote it is told which name it was, but not what can be seen to be a secret.
        let names = [
            format!(r#"{{"message_type":"{secret}"}}"#),
            format!(r#"{{"{secret}":1}}"#),
            auth(&format!(r#"{{"{secret}":""}}"#)),
            login(&format!(r#"{{"UsernamePassword":{{"username":"alice","{secret}":"x"}}}}"#)),
        ];
        let values = [
            secret.to_owned(),
            format!("\"{secret}\""),
            auth(&format!(r#""{secret}""#)),
            auth(&format!(r#"{{"Hello":{{"name":"{secret}"}}}}"#)),
            auth(&format!(r#"{{"Refresh":"{secret}x"}}"#)),
            auth(&format!(r#"{{"Revoke":"x{secret}"}}"#)),
            login(&format!(r#""{secret}""#)),
            login(&format!(r#"{{"Token":"{secret}!"}}"#)),
            login(&format!(r#"{{"Token":"{secret}"#)),
            login(&format!(r#"{{"ApiKey":"{secret}0"}}"#)),
            login(&format!(r#"{{"ApiKey":["{secret}"]}}"#)),
            login(&format!(r#"{{"UsernamePassword":{{"username":"{secret}","password":"x"}}}}"#)),
            login(&format!(r#"{{"UsernamePassword":{{"username":"alice","password":"{secret}{secret}"}}}}"#)),
            ipc(&format!(r#""auth_token":"{secret}~""#)),
            ipc(&format!(r#""source":"{secret}""#)),
            ipc(&format!(r#""payload":"{secret}""#)),
            ipc(&format!(r#""payload":{{"Binary":"{secret}"}}"#)),
            ipc(&format!(r#""flags":{{"priority":"{secret}"}}"#)),
            ipc(&format!(r#""timestamp":"{secret}""#)),
        ];
        let names = names.into_iter().filter(|_| secret != PASSWORD);
        for text in names.chain(values) {
            let mut socket = RawWebSocket::connect(world.websockets());
            socket.upgrade(&Upgrade::new(world.websockets(), "visorbus.v1.json"));
            let hello = auth(r#"{"Hello":{"name":"alice.panel"}}"#);
            if !text.contains("Hello") {
                socket.send(&Frame::text(hello));
                socket.read_frame().unwrap();
            }
            socket.send(&Frame::text(text));
            let told = socket.read_frame().expect("what is wrong is said");
            seen.text(String::from_utf8(told.payload).unwrap());
        }
    }
}

fn boards(world: &World, seen: &mut Seen) {
    let own = Claims { issuer: "gyro", serial: BOOT_ID, scopes: Scopes::new(&[]), ..claims("gyro") };
    let mut ring = KeyRing::new();
    ring.add(Slot::root(KEY_ID, Key::new(ROOT))).unwrap();
    let mut gyro = Serial::attach(world, "gyro");
    hello::<Serial>(&mut gyro, "gyro", 1).unwrap();
    seen.error(gyro.authenticate(&mint(&ring, KEY_ID, &Claims { serial: 1, ..own })));
    gyro.authenticate(&mint(&ring, KEY_ID, &own)).unwrap();
    let device = DeviceKey::new(KEY_ID, Key::new(ROOT).derive("gyro"));
    seen.debug(&(&device, &ring, Key::new(ROOT)));
    seen.debug(&ring.check(&[0; 40], &Context::new("bus", Some(1))).map(drop));
}

/// Files with a mistake in them are not quoted.
fn damaged_files(directory: &tempfile::TempDir, store: &Store, seen: &mut Seen, hex: &str) {
    for bad in [
        format!("{KEY_ID} {hex}0\n"),
        format!("{hex} {KEY_ID}\n"),
        format!("{KEY_ID} {hex} soon\n"),
        format!("{hex}\n"),
    ] {
        let path = directory.path().join("bad.key");
        write_private(&path, bad.as_bytes());
        seen.debug(&KeyFile::open(&path).map(drop));
        seen.text(KeyFile::open(&path).unwrap_err().to_string());
    }
    let text = fs::read_to_string(store.path()).unwrap();
    for (from, to) in [
        ("\"password\":\"", "\"password\":["),
        ("\"key\":\"", "\"kei\":\""),
        ("accounts", "acounts"),
        ("}", ""),
    ] {
        let path = directory.path().join("bad.json");
        write_private(&path, text.replacen(from, to, 1).as_bytes());
        let error = Store::open(&path).unwrap_err();
        seen.text(format!("{error} {error:?}"));
    }
    // The hashes are no secrets to look for, but nobody has to see them either.
    assert!(!seen.0.contains("$argon2"), "a password's hash is shown");
}

fn prints(seen: &mut Seen, token: &[u8], api_key: &Secret) {
    let username = "alice".to_owned();
    seen.debug(&Shown::UsernamePassword { username, password: Secret::new(PASSWORD) });
    seen.debug(&Shown::ApiKey(api_key.clone()));
    seen.debug(&OwnedMessage {
        auth_token: Some(token.to_vec()),
        ..OwnedMessage::request("vault/open", OwnedPayload::Empty)
    });
}

/// All that anybody could have seen.
#[derive(Default)]
struct Seen(String);

impl Seen {
    fn text(&mut self, text: String) {
        self.0.push_str(&text);
        self.0.push('\n');
    }

    fn debug(&mut self, shown: &impl std::fmt::Debug) {
        self.text(format!("{shown:?} {shown:#?}"));
    }

    /// What somebody was refused with.
    #[track_caller]
    fn error(&mut self, outcome: visorbus_hub::Result<OwnedMessage>) {
        let error = outcome.expect_err("it is refused");
        self.text(format!("{error} {error:?}"));
    }
}

/// A secret, and every part of it that is long enough to matter, in every form in which it could stand somewhere.
fn forms(secret: &[u8]) -> Vec<(&'static str, String)> {
    let join = |part: &[u8], between: &str, form: fn(&u8) -> String| {
        part.iter().map(form).collect::<Vec<_>>().join(between)
    };
    let mut forms = Vec::new();
    // Every second one: what is a little longer has a whole one in it, at any place of base64.
    for part in secret.windows(PART.min(secret.len())).step_by(2) {
        if let Ok(text) = std::str::from_utf8(part) {
            forms.push(("text", text.to_owned()));
        }
        forms.push(("hexadecimal", join(part, "", |byte| format!("{byte:02x}"))));
        forms.push(("hexadecimal", join(part, "", |byte| format!("{byte:02X}"))));
        forms.push(("a list of numbers", join(part, ", ", u8::to_string)));
        forms.push(("a list of hexadecimal numbers", join(part, ", ", |byte| format!("{byte:x}"))));
        for alphabet in [b"-_", b"+/"] {
            // Three bytes are four characters: whole ones of these, wherever they begin.
            forms.push(("base64", base64(&part[..part.len() / 3 * 3], alphabet)));
        }
    }
    forms
}

fn base64(bytes: &[u8], last: &[u8; 2]) -> String {
    let letters: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*last).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(char::from(letters[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}

/// What nobody can have of a token who does not have it: its tag, and so its text. What it says of itself is none.
fn token_secrets(token: &[u8]) -> [(&'static str, Vec<u8>); 2] {
    let tag = token[token.len() - 16..].to_vec();
    [("tag of a token", tag), ("text of a token", base64(token, b"-_").into_bytes())]
}

fn device_secret() -> Vec<u8> {
    // HKDF is checked elsewhere: this is what the board of that name holds.
    let key = Key::new(ROOT).derive("gyro");
    key.expose_secret().to_vec()
}

fn write_private(path: &std::path::Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Bytes of a part of a secret that nobody may see.
const PART: usize = 9;
const ROOT: [u8; 32] = crate::world::ROOT;
const PAYLOAD: [u8; 32] = *b"umber-lagoon-tuba-4410-walnut-ox";
const PASSWORD: &str = "correct horse battery staple";
const WRONG_PASSWORD: &str = "incorrect zebra socket paperclip";
