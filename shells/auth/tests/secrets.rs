//! Nothing that shows itself shows a secret: each public type is printed in both ways and searched.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use visorbus_auth::*;
use visorbus_core::auth::{Access, BUS, Claims, Key, Operation, Scopes};
use visorbus_core::message::Pattern;
use visorbus_core::secure::{LinkKey, MAX_LINK_KEY_TEXT, Suite};

/// All that was shown, and what must not be in it.
#[derive(Default)]
struct Shown {
    texts: Vec<String>,
    secrets: Vec<String>,
}

impl Shown {
    fn add(&mut self, what: &dyn std::fmt::Debug) {
        self.texts.extend([format!("{what:?}"), format!("{what:#?}")]);
    }

    fn error(&mut self, error: &dyn std::error::Error) {
        self.texts.extend([format!("{error:?}"), error.to_string()]);
    }

    /// A secret, and the other forms that it could be shown in.
    fn secret(&mut self, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.secrets.extend([hex.to_uppercase(), hex, format!("{bytes:?}"), format!("{bytes:#?}")]);
        self.secrets.extend(std::str::from_utf8(bytes).map(str::to_owned));
    }

    fn check(&self) {
        assert!(self.texts.len() > 80 && self.secrets.len() > 20);
        for secret in &self.secrets {
            let secret = secret.trim();
            assert!(secret.len() >= 8, "too short to be told from chance");
            for text in &self.texts {
                assert!(!text.contains(secret), "a secret is in {text}");
            }
        }
    }
}

/// Keeps all that is logged.
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(format!("{} ", event.metadata().target()));
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn no_debug_display_error_or_log_line_shows_a_secret() {
    let log = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Log(log.clone())).unwrap();
    let mut shown = Shown::default();
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let password = Secret::new("correct-horse-battery");
    shown.secret(password.expose().as_bytes());

    let store = Arc::new(Store::open_or_create(place("accounts.json")).unwrap());
    store.add_user("alice", &password, &["panel".to_owned()]).unwrap();
    let api_key = store.add_api_key("ci", &[], None).unwrap();
    shown.secret(api_key.expose().rsplit('.').next().unwrap().as_bytes());
    let link_key = LinkKey::new(3, Suite::Sealed, "imu", Key::new([0xA7; 32])).unwrap();
    store.add_link_key(&link_key).unwrap();
    shown.secret(&[0xA7; 32]);
    shown.secret(&link_key.encode(&mut [0; MAX_LINK_KEY_TEXT]).as_bytes()[12..]);
    store.add_certificate(CertificateId::Sha256([7; 32]), "phone", &[]).unwrap();
    let file = std::fs::read_to_string(store.path()).unwrap();
    let hash = file.split("$argon2id$").nth(1).unwrap().split('"').next().unwrap();
    shown.secret(hash.rsplit('$').next().unwrap().as_bytes());

    let mut keys = KeyFile::open_or_create(place("root.key")).unwrap();
    keys.rotate(Duration::from_secs(60)).unwrap();
    let lines = std::fs::read_to_string(keys.path()).unwrap();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let hex = line.split(' ').nth(1).unwrap();
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        shown.secret(&bytes);
    }
    shown.add(&keys);
    let policy = Arc::new(Policy::parse("[[unix]]\nuid = 1\nsubject = \"panel\"\n").unwrap());
    let accounts = Accounts::new(store.clone(), keys, policy.clone());

    let token = accounts.mint(&TokenRequest::new("viewer", &["request:imu/*"])).unwrap();
    shown.secret(&token.value.as_str().as_bytes()[5..]);
    shown.secret(&token.value.to_bytes().unwrap());
    let named = |password: &Secret| Credentials::UsernamePassword {
        username: "alice".to_owned(),
        password: password.clone(),
    };
    let channel = Channel { address: "10.0.0.1", uid: Some(1), gid: Some(1), ..Channel::default() };
    let wrong = "hunter2-hunter2-hunter2";
    shown.secret(wrong.as_bytes());
    let credentials = [
        named(&password),
        named(&Secret::new(wrong)),
        Credentials::ApiKey(api_key.clone()),
        Credentials::ApiKey(Secret::new(format!("vbk1.0011.{wrong}"))),
        // A secret in the wrong place.
        Credentials::UsernamePassword { username: wrong.to_owned(), password: password.clone() },
        Credentials::Certificate(wrong.as_bytes().to_vec()),
        Credentials::Peer { uid: 1, gid: Some(1) },
        Credentials::Token(token.value.clone()),
    ];
    for credentials in &credentials {
        shown.add(credentials);
        match accounts.authenticate(credentials, &channel) {
            Ok(token) => {
                shown.secret(&token.value.as_str().as_bytes()[5..]);
                shown.add(&token);
            }
            Err(error) => shown.error(&error),
        }
    }
    let grant = accounts.validate_token(&token.value.to_bytes().unwrap(), &channel, now()).unwrap();
    let fresh = accounts.refresh_token(&token, &channel).unwrap();
    shown.secret(&fresh.value.as_str().as_bytes()[5..]);
    for error in [
        accounts.validate_token(&token.value.to_bytes().unwrap(), &channel, now()).unwrap_err(),
        accounts.refresh_token(&fresh, &channel).unwrap_err(),
        store
            .add_user(wrong, &password, &[])
            .map(|()| store.add_user(wrong, &password, &[]))
            .unwrap()
            .unwrap_err(),
        store.add_user("Hunter2-hunter2", &password, &[]).unwrap_err(),
        store.set_password("bob", &password).unwrap_err(),
        store.add_link_key(&link_key).unwrap_err(),
    ] {
        // The name of a user is no secret, wherever it came from.
        if !error.to_string().contains("there is a user") {
            shown.error(&error);
        }
    }
    for list in [
        format!("{:?}", store.api_keys()),
        format!("{:?}", store.certificates()),
        format!("{:?}", store.link_key_list()),
        format!("{:?}", store.link_keys().unwrap()),
        serde_json::to_string(&(store.api_keys(), store.link_key_list())).unwrap(),
    ] {
        shown.texts.push(list);
    }
    let asked = Asked {
        grant: Some(&grant),
        operation: Operation::Request,
        resource: Pattern::new("imu/a").unwrap(),
        access: Access::Permission,
        transport: Transport::Unix,
        payload_len: 0,
        unix_now: now(),
        counts: true,
    };
    shown.add(&asked);
    shown.add(&policy.is_authorized(&asked));
    shown.add(&policy.permissions(&grant));
    shown.add(&policy.explain("viewer", &["panel"], &asked));
    shown.add(&AuditEvent::new(AuditKind::Refused).channel(&channel).reason("x"));
    for value in [
        &store as &dyn std::fmt::Debug,
        &accounts,
        &*policy,
        &password,
        &token,
        &token.value,
        &channel,
        &grant,
    ] {
        shown.add(value);
    }
    shown.secret(&accounts.mint_own(&claims()).unwrap());
    shown.add(&TokenProvider::new(KeyFile::in_memory(1, [0xB3; 32]).ring(), 1));
    shown.secret(&[0xB3; 32]);

    // Damaged files hold secrets too.
    for at in (0..file.len()).step_by(23) {
        std::fs::write(store.path(), &file[..at]).unwrap();
        shown.error(&Store::open(store.path()).unwrap_err());
        shown.error(&store.disable("x").unwrap_err());
    }
    for text in [lines.replace("0 ", "x "), lines.replace('a', "g"), lines.replace('\n', " ")] {
        std::fs::write(place("root.key"), text).unwrap();
        if let Err(error) = KeyFile::open(place("root.key")) {
            shown.error(&error);
        }
    }
    AuditEvent::new(AuditKind::Authenticated).subject("alice").channel(&channel).emit();
    let log = log.lock().unwrap();
    assert!(log.iter().any(|line| line.starts_with("visorbus::audit") && line.contains("alice")), "{log:?}");
    shown.texts.extend(log.iter().cloned());
    shown.check();
}

fn claims() -> Claims<'static> {
    Claims {
        issuer: BUS,
        subject: BUS,
        audience: "imu",
        serial: 5,
        issued_at: now(),
        expiry: now() + 60,
        epoch: 0,
        scopes: Scopes::new(&["*"]),
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
