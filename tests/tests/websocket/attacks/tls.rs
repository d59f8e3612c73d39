//! Attacks on TLS: old versions, weak suites, renegotiation, and certificates that prove nothing, at either end.

use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use rustls::crypto::ring;
use rustls::{CipherSuite, ConnectionTrafficSecrets};
use visorbus_hub::Error;
use visorbus_tests::certificates::Certificates;
use visorbus_tests::raw_websocket::{RawWebSocket, Upgrade};
use visorbus_websocket::{Reason, TlsClientConfig, WebSocketClient, WebSocketConfig};

use crate::world::World;

#[test]
fn a_server_whose_certificate_proves_nothing_is_not_believed_and_the_client_says_why() {
    let certificates = Certificates::in_files();
    certificates.make("expired", &["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    certificates.make("early", &["localhost"], |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    certificates.make("renamed", &["elsewhere"], |_| {});
    certificates.make_self_signed("alone", &["localhost"]);
    for (name, word) in [
        ("expired", "expired"),
        ("early", "not valid yet"),
        ("renamed", "another name"),
        ("alone", "vouches"),
    ] {
        let mut config = WebSocketConfig::default();
        config.tls = Some(certificates.server_as(name));
        let world = World::with(config);
        let text = refusal(&world, certificates.client());
        assert!(text.contains(word), "{name}: {text}");
        world.wait_for_door(|stats| stats.refused(Reason::Tls) == 1);
        assert_eq!(world.stats().upgraded, 0, "{name}");
        world.is_unharmed();
    }
}

#[test]
fn under_mutual_tls_who_has_no_certificate_of_the_authority_is_refused_and_told() {
    let (certificates, others) = (Certificates::in_files(), Certificates::in_files());
    others.make("panel", &["panel"], |_| {});
    others.make_self_signed("alone", &["alone"]);
    certificates.make("expired", &["panel"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    certificates.make("panel", &["panel"], |_| {});
    let world = World::with(certificates.mutual_port());
    let of_others =
        |name| TlsClientConfig { ca_cert_path: certificates.client().ca_cert_path, ..others.client_as(name) };
    let attacks = [
        (certificates.client(), "asks for a client's certificate"),
        (of_others("panel"), "does not accept this end's certificate"),
        (of_others("alone"), "does not accept this end's certificate"),
        (certificates.client_as("expired"), "does not accept this end's certificate"),
    ];
    for (count, (config, word)) in attacks.into_iter().enumerate() {
        let text = refusal(&world, config);
        assert!(text.contains(word), "{text}");
        world.wait_for_door(|stats| stats.refused(Reason::Tls) == count as u64 + 1);
    }
    assert_eq!(world.stats().upgraded, 0);
    // A certificate of the authority opens the connection, and makes nobody somebody.
    let client = WebSocketClient::new(&url(&world), "panel").unwrap();
    client.set_tls_config(certificates.client_as("panel")).unwrap();
    client.connect().unwrap();
    world.is_unharmed();
}

#[test]
fn versions_and_suites_that_are_not_safe_any_more_get_an_alert() {
    let world = World::with(Certificates::in_files().port());
    // TLS_RSA_WITH_AES_128_CBC_SHA, _WITH_RC4_128_SHA, _WITH_3DES_EDE_CBC_SHA; and a good one, for the versions.
    let (weak, good) = ([0x00, 0x2f, 0x00, 0x05, 0x00, 0x0a], [0xc0, 0x2f, 0xc0, 0x2b]);
    let attacks = [
        ("SSL 3.0", client_hello(0x00, &good), PROTOCOL_VERSION),
        ("TLS 1.0", client_hello(0x01, &good), PROTOCOL_VERSION),
        ("TLS 1.1", client_hello(0x02, &good), PROTOCOL_VERSION),
        ("weak suites", client_hello(0x03, &weak), HANDSHAKE_FAILURE),
    ];
    for (count, (what, hello, alert)) in attacks.into_iter().enumerate() {
        let mut attacker = RawWebSocket::connect(world.address());
        attacker.write(&hello);
        let answer = attacker.read_to_end();
        // A record of an alert, and in it that it is fatal and which one (RFC 8446 section 6).
        assert_eq!(answer.len(), 7, "{what}: {}", answer.escape_ascii());
        assert_eq!((answer[0], &answer[5..]), (21, &[2, alert][..]), "{what}");
        world.wait_for_door(|stats| stats.refused(Reason::Tls) == count as u64 + 1);
        assert_eq!(world.stats().upgraded, 0, "{what}");
    }
    world.is_unharmed();
}

/// In TLS 1.2 a client may ask to begin anew within the connection, at the server's cost and, before RFC 5746, for
/// somebody else. No library of today asks for it, so the record is made by hand with the connection's own keys.
#[test]
fn a_renegotiation_is_refused() {
    let certificates = Certificates::in_files();
    let world = World::with(certificates.port());
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| {
        let wanted = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
        suite.suite() == wanted
    });
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(certificates.roots())
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let upgrade = Upgrade::new(world.address(), "visorbus.v1.json").with("Host", "localhost");
    for opens in [false, true] {
        let mut attacker = certificates.connect_with(world.address(), Arc::new(config.clone()));
        if opens {
            attacker.upgrade(&upgrade);
        }
        let (mut attacker, secrets) = attacker.into_secrets();
        let (number, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets.tx else {
            panic!("another suite was agreed on");
        };
        // The first is answered by an alert that it is not done, the second by the end.
        let hello = hello_message(0x03, &[0xcc, 0xa9]);
        for number in number..number + 2 {
            attacker.write(&sealed(key.as_ref(), iv.as_ref(), number, &hello));
        }
        let answer = attacker.read_to_end();
        // What is said to that is sealed too: alerts, what else was to say, and no hello of a server.
        assert_eq!(answer[0], 21, "{}", answer.escape_ascii());
        let mut rest = &answer[..];
        while let [kind, _, _, high, low, ..] = rest {
            assert!([21, 23].contains(kind), "{}", answer.escape_ascii());
            rest = &rest[5 + usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        world.wait_until(|peers| peers.len() == 1);
        world.is_unharmed();
    }
}

/// What a client says that does not come through.
#[track_caller]
fn refusal(world: &World, config: TlsClientConfig) -> String {
    let client = WebSocketClient::new(&url(world), "panel").unwrap();
    client.set_tls_config(config).unwrap();
    let error = client.connect().unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error:?}");
    error.to_string()
}

/// By the name that the certificates have.
fn url(world: &World) -> String {
    world.door.url().replace("127.0.0.1", "localhost")
}

/// The record of a hello of a client of TLS 1.`minor - 1` with these suites (RFC 5246 section 7.4.1.2).
fn client_hello(minor: u8, suites: &[u8]) -> Vec<u8> {
    let message = hello_message(minor, suites);
    let len = (message.len() as u16).to_be_bytes();
    [&[22, 3, minor.min(1)][..], &len, &message].concat()
}

fn hello_message(minor: u8, suites: &[u8]) -> Vec<u8> {
    // X25519 and P-256, ECDSA and RSA with SHA-256, points that are not compressed.
    let extensions = [
        &[0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17][..],
        &[0x00, 0x0d, 0x00, 0x06, 0x00, 0x04, 0x04, 0x03, 0x04, 0x01],
        &[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00],
    ]
    .concat();
    let len = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    let body =
        [&[3, minor][..], &[7; 32], &[0], &len(suites), suites, &[1, 0], &len(&extensions), &extensions]
            .concat();
    let [_, high, middle, low] = (body.len() as u32).to_be_bytes();
    [&[1, high, middle, low][..], &body].concat()
}

/// A record of TLS 1.2 with ChaCha20-Poly1305 (RFC 7905) that goes on with a handshake.
fn sealed(key: &[u8], iv: &[u8], number: u64, message: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce.iter_mut().zip(iv).for_each(|(byte, iv)| *byte ^= iv);
    let len = |len: usize| (len as u16).to_be_bytes();
    let (header, mut content) = ([22, 3, 3], message.to_vec());
    let about = [&number.to_be_bytes()[..], &header, &len(content.len())].concat();
    let cipher = ChaCha20Poly1305::new_from_slice(key).unwrap();
    let tag =
        cipher.encrypt_inout_detached(&Nonce::from(nonce), &about, content.as_mut_slice().into()).unwrap();
    content.extend_from_slice(&tag);
    [&header[..], &len(content.len()), &content].concat()
}

/// RFC 8446 section 6.
const PROTOCOL_VERSION: u8 = 70;
const HANDSHAKE_FAILURE: u8 = 40;
