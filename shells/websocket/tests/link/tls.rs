use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_tests::certificates::Certificates;
use visorbus_websocket::{TlsClientConfig, WebSocketClient};

use crate::home::{Home, set_mode};

const SOON: Duration = Duration::from_secs(60);

/// What a client says that cannot connect with `config`.
fn refusal(home: &Home, url: &str, config: TlsClientConfig) -> String {
    let client = WebSocketClient::new(url, "panel").unwrap();
    client.set_tls_config(config).unwrap();
    let error = client.connect().unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error:?}");
    assert_eq!(home.echoed(), 0);
    assert_eq!(home.server.active_connections().unwrap(), Vec::<String>::new());
    error.to_string()
}

#[test]
fn a_hub_that_no_known_authority_vouches_for_is_not_believed() {
    let home = Home::secure();
    let text = refusal(&home, &home.url(), Certificates::in_files().client());
    assert!(text.contains("give the CA with ca_cert_path"), "{text}");
}

#[test]
fn a_hub_of_another_name_is_not_believed() {
    let home = Home::secure();
    let text = refusal(&home, &home.server.url().unwrap(), home.files.client());
    assert!(text.contains("another name") && text.contains("127.0.0.1"), "{text}");
}

#[test]
fn a_hub_with_an_expired_certificate_is_not_believed() {
    let home = Home::with(
        |_| {},
        |config, files| {
            files.make("hub", &["localhost"], |params| {
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2020, 1, 2);
            });
            config.tls = Some(files.server_as("hub"));
        },
    );
    let text = refusal(&home, &home.url(), home.files.client());
    assert!(text.contains("expired"), "{text}");
}

#[test]
fn who_skips_verification_connects_all_the_same() {
    let home = Home::secure();
    let client = WebSocketClient::new(&home.server.url().unwrap(), "panel").unwrap();
    client
        .set_tls_config(TlsClientConfig { danger_skip_verification: true, ..TlsClientConfig::default() })
        .unwrap();
    client.connect().unwrap();
}

fn mutual() -> Home {
    Home::with(
        |_| {},
        |config, files| {
            config.tls = Some(files.mutual_server());
        },
    )
}

#[test]
fn a_client_without_a_certificate_is_told_that_the_hub_asks_for_one() {
    let home = mutual();
    let text = refusal(&home, &home.url(), home.files.client());
    assert!(text.contains("asks for a client's certificate"), "{text}");
}

#[test]
fn a_client_with_a_certificate_of_somebody_else_is_told_that_it_is_refused() {
    let home = mutual();
    let others = Certificates::in_files();
    others.make("panel", &["panel"], |_| {});
    let config =
        TlsClientConfig { ca_cert_path: home.files.client().ca_cert_path, ..others.client_as("panel") };
    let text = refusal(&home, &home.url(), config);
    assert!(text.contains("does not accept this end's certificate"), "{text}");
}

#[test]
fn a_client_with_a_certificate_that_is_vouched_for_connects() {
    let home = mutual();
    home.files.make("panel", &["panel"], |_| {});
    let client = home.client("panel");
    client.set_tls_config(home.files.client_as("panel")).unwrap();
    client.connect().unwrap();
    client.authenticate(&home.token("panel")).unwrap();
    assert_eq!(home.server.active_connections().unwrap(), ["panel"]);
}

#[test]
fn a_key_that_others_can_read_is_refused_and_half_a_pair_too() {
    let files = Certificates::in_files();
    assert!(files.server_as("hub").load().is_ok());
    for mode in [0o640, 0o604, 0o644] {
        set_mode(&files.path("hub", "key"), mode);
        let error = files.server_as("hub").load().unwrap_err();
        assert!(matches!(&error, Error::Authorization(text) if text.contains("chmod 600")), "{error}");
    }
    set_mode(&files.path("hub", "key"), 0o400);
    assert!(files.server_as("hub").load().is_ok());
    let half = TlsClientConfig { key_path: None, ..files.client_as("hub") };
    assert!(half.load().unwrap_err().to_string().contains("belong together"));
    files.make("other", &["other"], |_| {});
    let mut mixed = files.server_as("hub");
    mixed.key_path = files.path("other", "key");
    assert!(mixed.load().unwrap_err().to_string().contains("cannot be used together"));
    fs::write(files.path("hub", "pem"), "nothing").unwrap();
    assert!(files.server_as("hub").load().unwrap_err().to_string().contains("no PEM certificate"));
}

#[test]
fn a_new_certificate_counts_for_new_connections_and_ends_none() {
    let home = Home::secure();
    let before = home.client("before");
    before.connect().unwrap();
    before.authenticate(&home.token("before")).unwrap();
    // The new one is for another name, so that it shows which one is used.
    home.files.make("hub", &["elsewhere"], |_| {});
    home.server.reload_tls().unwrap();
    let after = home.client("after");
    assert!(after.connect().unwrap_err().to_string().contains("another name"));
    let request = OwnedMessage::request("echo/a", OwnedPayload::Empty);
    before.send_request(&request, Some(SOON)).unwrap();
    // One that cannot be used changes nothing.
    fs::write(home.files.path("hub", "pem"), "nothing").unwrap();
    assert!(home.server.reload_tls().is_err());
    assert!(after.connect().unwrap_err().to_string().contains("another name"));
    before.send_request(&request, Some(SOON)).unwrap();
    home.files.make("hub", &["localhost"], |_| {});
    home.server.reload_tls().unwrap();
    after.connect().unwrap();
    assert_eq!(home.echoed(), 2);
}

/// What the hub says of itself to `config`'s client that speaks JSON.
fn json_hello(home: &Home, config: &TlsClientConfig) -> String {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let tls = rustls::ClientConnection::new(config.load().unwrap(), name).unwrap();
    let stream = TcpStream::connect(home.server.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut request = home.url().into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "visorbus.v1.json".parse().unwrap());
    let (mut socket, _) = tungstenite::client(request, rustls::StreamOwned::new(tls, stream)).unwrap();
    socket.send(r#"{"message_type":"Auth","payload":{"Hello":{"name":"panel"}}}"#.into()).unwrap();
    socket.read().unwrap().into_text().unwrap().to_string()
}

#[test]
fn only_a_hub_that_asks_for_certificates_says_that_one_logs_in_by_them() {
    let home = mutual();
    home.files.make("panel", &["panel"], |_| {});
    let hello = json_hello(&home, &home.files.client_as("panel"));
    assert!(hello.contains(r#""ApiKey","Certificate"]"#), "{hello}");
    let home = Home::secure();
    let hello = json_hello(&home, &home.files.client());
    assert!(hello.contains(r#""Token","UsernamePassword","ApiKey"]"#), "{hello}");
}
