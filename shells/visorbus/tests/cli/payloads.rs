//! Payloads that are sealed or compressed on the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use visorbus_auth::{KeyFile, TokenRequest};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::seal::PayloadKey;
use visorbus_core::{IpcError, Message, MessagePayload};
use visorbus_hub::{OwnedMessage, OwnedPayload};
use visorbus_unix::{Credentials, UnixSocketClient};

use crate::place::Place;

const KEY: &str = "vbp1.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

/// Answers with how the payload came.
struct Vault(Arc<Mutex<usize>>);

impl MessageHandler for Vault {
    fn id(&self) -> &str {
        "vault"
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        *self.0.lock().unwrap() += 1;
        reply.payload(MessagePayload::Json(match message.payload.as_bytes().len() {
            0..64 => "\"short\"",
            _ => "\"long\"",
        }))
    }
}

fn vault(place: &Place) -> (UnixSocketClient, Arc<Mutex<usize>>) {
    let client = UnixSocketClient::new(place.socket(), "vault").unwrap();
    let token = KeyFile::open(place.key_file()).unwrap().mint(&TokenRequest::new("vault", &["*"])).unwrap();
    client.authenticate(&Credentials::Token(token)).unwrap();
    client.connect().unwrap();
    let runs = Arc::default();
    client.register_handler(Box::new(Vault(Arc::clone(&runs)))).unwrap();
    (client, runs)
}

#[test]
fn a_key_from_a_file_or_a_line_seals_a_call() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (client, runs) = vault(&place);
    client.share_key("vault", KEY.parse::<PayloadKey>().unwrap()).unwrap();
    let file = place.path().join("vault.key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let file_name = file.to_str().unwrap();
    let loose = place.run(&["call", "vault/put", "1", "--payload-key", file_name]);
    loose.expect_failure(1, "visorbus: message error:", &["others may read this key", "chmod 600"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // Before the calls: what is published nobody answers, but its turn is then over.
    place.succeed(&["publish", "vault/hint", "1", "--payload-key", KEY]);
    for key in [file_name, KEY] {
        assert_eq!(place.succeed(&["call", "vault/put", "1", "--payload-key", key]), "\"short\"");
    }
    place.run(&["call", "vault/put", "1"]).expect_failure(
        4,
        "visorbus: authentication error:",
        &["not sent sealed"],
    );
    let other = KEY.replace("Bwc", "Cwc");
    let refused = place.run(&["call", "vault/put", "1", "--payload-key", &other]);
    refused.expect_failure(4, "visorbus: authentication error:", &["does not open"]);
    let damaged = place.run(&["call", "vault/put", "1", "--payload-key", "vbp1.abc"]);
    damaged.expect_failure(1, "visorbus: message error:", &["copy all of it"]);
    assert_eq!((*runs.lock().unwrap(), client.refused_payloads()), (3, 2));
}

#[test]
fn what_is_published_sealed_is_printed_to_who_has_the_key() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (client, _) = vault(&place);
    client.share_key("vault", KEY.parse::<PayloadKey>().unwrap()).unwrap();
    let mut watch = place.start(&["subscribe", "vault/**", "--count", "1", "--payload-key", KEY]);
    // Until it has subscribed nobody has it.
    let line = std::iter::repeat_with(|| {
        let opened = OwnedMessage::notification("vault/opened", OwnedPayload::Json("4711".to_owned()));
        client.send_message(opened).unwrap();
        watch.try_line()
    });
    let line = line.flatten().next().unwrap();
    assert!(line.contains("\"payload\":4711"), "{line}");
}

#[test]
fn a_payload_is_compressed_on_demand_and_not_with_a_key() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (_client, runs) = vault(&place);
    let long = format!("[{}]", vec!["200"; 500].join(","));
    place.succeed(&["publish", "vault/hint", &long, "--compressed"]);
    assert_eq!(place.succeed(&["call", "vault/put", &long, "--compressed"]), "\"long\"");
    let both = place.run(&["call", "vault/put", &long, "--compressed", "--payload-key", KEY]);
    assert_eq!(both.code, Some(2), "{both:?}");
    assert_eq!(*runs.lock().unwrap(), 2);
}
