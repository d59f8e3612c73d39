//! The same hub over WebSockets, with TLS and without: who gets in, by what, and what is refused before.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::place::{Done, Place, Process};

/// A hub with WebSockets, and the URL that it says.
fn serve(place: &Place, args: &[&str]) -> (Process, String) {
    let mut hub = place.start(&[&["serve", "--websocket", "127.0.0.1:0"], args].concat());
    let said = hub.wait_for_error("visorbus serves on");
    let url = said.split([' ', ',']).find(|word| word.starts_with("ws")).unwrap_or_else(|| panic!("{said}"));
    (hub, url.to_owned())
}

fn token(place: &Place, scopes: &[&str]) -> String {
    let mut args = vec!["auth", "token", "mint", "--subject", "app"];
    args.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    place.succeed(&args)
}

fn call(place: &Place, url: &str, args: &[&str]) -> Done {
    place.run(&[&["call", "bus/services", "--url", url], args].concat())
}

fn expect_services(done: &Done) {
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let list: Value = serde_json::from_str(&done.out).unwrap();
    assert!(list.as_array().is_some_and(|list| !list.is_empty()), "{list}");
}

fn init_tls(place: &Place) -> PathBuf {
    let done = place.run(&["tls", "init"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    done.out.into()
}

/// Another home of the same user, where nothing is known of the hub.
fn elsewhere() -> Place {
    Place::new()
}

#[test]
fn a_token_opens_the_hub_over_a_websocket_and_without_one_nothing_does() {
    let place = Place::new();
    let (_hub, url) = serve(&place, &[]);
    let token = token(&place, &["request:bus/*"]);
    expect_services(&call(&place, &url, &["--token", &token]));
    call(&place, &url, &[]).expect_failure(
        4,
        "visorbus: authentication error: the hub at ws://",
        &["--token"],
    );
    let other = elsewhere();
    let _other_hub = other.serve(&[]);
    let forged = self::token(&other, &["*"]);
    call(&place, &url, &["--token", &forged]).expect_failure(4, "visorbus: authentication error", &[]);
    expect_services(&call(&place, &url, &["--token", &token]));
}

#[test]
fn a_stream_comes_over_a_websocket_as_over_the_socket() {
    let place = Place::new();
    let (_hub, url) = serve(&place, &[]);
    let token = token(&place, &["subscribe:room/*", "notify:room/*"]);
    let mut watch = place.start(&["subscribe", "room/*", "--url", &url, "--token", &token]);
    let published = loop {
        place.succeed(&["publish", "room/light", r#"{"lux":7}"#]);
        if let Some(line) = watch.try_line() {
            break line;
        }
    };
    let line: Value = serde_json::from_str(&published).unwrap();
    assert_eq!((&line["topic"], &line["payload"]["lux"]), (&"room/light".into(), &7.into()));
    place.succeed(&["publish", "room/light", "8", "--url", &url, "--token", &token]);
}

#[test]
fn one_command_makes_what_tls_needs_and_a_stranger_needs_the_authority() {
    let place = Place::new();
    place.run(&["serve", "--websocket", "127.0.0.1:0", "--tls"]).expect_failure(
        6,
        "visorbus: ",
        &["websocket.tls_enabled", "there is no certificate in", "`visorbus tls init`"],
    );
    let ca = init_tls(&place);
    let (_hub, url) = serve(&place, &["--tls"]);
    assert!(url.starts_with("wss://127.0.0.1:"), "{url}");
    let token = token(&place, &["request:bus/*"]);
    expect_services(&call(&place, &url, &["--token", &token]));
    expect_services(&call(&place, &url.replace("127.0.0.1", "localhost"), &["--token", &token]));
    let stranger = elsewhere();
    let refused = call(&stranger, &url, &["--token", &token]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(!refused.err.contains(&token), "{refused:?}");
    expect_services(&call(&stranger, &url, &["--token", &token, "--ca", ca.to_str().unwrap()]));
    let plain = call(&place, &url.replace("wss:", "ws:"), &["--token", &token]);
    assert_ne!(plain.code, Some(0), "{plain:?}");
    let danger = call(&stranger, &url, &["--token", &token, "--danger-skip-verification"]);
    assert!(danger.code == Some(0) && danger.err.contains("verif"), "it warns: {danger:?}");
}

#[test]
fn a_user_logs_in_with_a_password_over_tls() {
    let place = Place::new();
    init_tls(&place);
    let (_hub, url) = serve(&place, &["--tls"]);
    let password = "correct horse battery staple\n";
    let added = place.run_reading(
        &["auth", "user", "add", "anna", "--password-stdin", "--scope", "request:bus/*"],
        password,
    );
    assert_eq!(added.code, Some(0), "{added:?}");
    let log_in = ["auth", "login", "--user", "anna", "--password-stdin", "--url", &url];
    let wrong = place.run_reading(&log_in, "wrong\n");
    wrong.expect_failure(4, "visorbus: authentication error", &[]);
    let done = place.run_reading(&log_in, password);
    assert!(done.code == Some(0) && done.out.starts_with("vb1."), "{done:?}");
    expect_services(&call(&place, &url, &["--token", &done.out]));
}

#[test]
fn under_mutual_tls_a_certificate_is_what_a_client_is_known_by() {
    let place = Place::new();
    init_tls(&place);
    let (_hub, url) = serve(&place, &["--tls", "--tls-client-ca"]);
    let made: Value = serde_json::from_str(&place.run(&["tls", "client", "panel", "--json"]).out).unwrap();
    let (cert, key) = (made["certificate"].as_str().unwrap(), made["key"].as_str().unwrap());
    let token = token(&place, &["request:bus/*"]);
    let without = call(&place, &url, &["--token", &token]);
    assert!(without.code != Some(0) && without.err.contains("certificate"), "{without:?}");
    expect_services(&call(&place, &url, &["--token", &token, "--cert", cert, "--cert-key", key]));
    let log_in = [
        "auth",
        "login",
        "--certificate",
        "--user",
        "panel",
        "--url",
        &url,
        "--cert",
        cert,
        "--cert-key",
        key,
    ];
    place.run(&log_in).expect_failure(4, "visorbus: authentication error", &[]);
    let added = place.run(&[
        "auth",
        "certificate",
        "add",
        "uri:visorbus:panel",
        "--subject",
        "panel",
        "--scope",
        "request:bus/*",
    ]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let done = place.run(&log_in);
    assert!(done.code == Some(0) && done.out.starts_with("vb1."), "{done:?}");
    // The token is bound to nothing: whoever has it still needs a certificate to come in at all.
    expect_services(&call(&place, &url, &["--token", &done.out, "--cert", cert, "--cert-key", key]));
    let other = elsewhere();
    init_tls(&other);
    let foreign: Value = serde_json::from_str(&other.run(&["tls", "client", "panel", "--json"]).out).unwrap();
    let files = (foreign["certificate"].as_str().unwrap(), foreign["key"].as_str().unwrap());
    let foreign = call(&place, &url, &["--token", &token, "--cert", files.0, "--cert-key", files.1]);
    assert!(foreign.code != Some(0) && foreign.err.contains("certificate"), "{foreign:?}");
}

#[test]
fn what_is_not_private_is_refused_unless_it_is_asked_for_in_so_many_words() {
    let place = Place::new();
    let open = place.run(&["serve", "--websocket", "0.0.0.0:0"]);
    open.expect_failure(6, "visorbus: ", &["websocket.bind_address", "TLS"]);
    let mut hub = place.start(&["serve", "--websocket", "0.0.0.0:0", "--allow-plaintext-network"]);
    hub.wait_for_error("visorbus serves on");
    let token = token(&place, &["*"]);
    call(&place, "ws://192.0.2.1:7400", &["--token", &token]).expect_failure(
        4,
        "visorbus: authorization error: '192.0.2.1' is another machine",
        &["wss://", "--allow-plaintext-network"],
    );
    for vain in [&["--tls"][..], &["--allow-origin", "https://a.example"], &["--allow-host", "a.example"]] {
        let done = place.run(&[&["serve"], vain].concat());
        done.expect_failure(1, &format!("visorbus: message error: {} is for WebSockets", vain[0]), &[]);
    }
}

#[test]
fn new_certificates_are_taken_while_connections_go_on() {
    let place = Place::new();
    let ca = init_tls(&place);
    let (mut hub, url) = serve(&place, &["--tls"]);
    let token = token(&place, &["subscribe:room/*", "request:bus/*"]);
    let mut watch = place.start(&["subscribe", "room/*", "--url", &url, "--token", &token]);
    loop {
        place.succeed(&["publish", "room/light", "1"]);
        if watch.try_line().is_some() {
            break;
        }
    }
    let certificate = ca.with_file_name("hub.crt");
    fs::write(&certificate, "no certificate").unwrap();
    hub.signal(Signal::SIGHUP);
    hub.wait_for_error("the certificates stay as they were");
    expect_services(&call(&place, &url, &["--token", &token]));
    fs::remove_file(&certificate).unwrap();
    let renewed = place.run(&["tls", "renew"]);
    assert_eq!(renewed.code, Some(0), "{renewed:?}");
    hub.signal(Signal::SIGHUP);
    hub.wait_for_error("the certificates are read again");
    expect_services(&call(&place, &url, &["--token", &token]));
    place.succeed(&["publish", "room/light", "99"]);
    loop {
        let line: Value = serde_json::from_str(&watch.line()).unwrap();
        if line["payload"] == 99 {
            break;
        }
    }
    assert!(!watch.has_ended());
}

#[test]
fn the_dashboard_is_served_on_the_same_port_and_only_when_it_is_wanted() {
    let place = Place::new();
    let (hub, url) = serve(&place, &[]);
    assert!(!get(&url, "/").starts_with("HTTP/1.1 200"), "{}", get(&url, "/"));
    drop(hub);
    let mut hub = place.start(&["serve", "--websocket", "127.0.0.1:0", "--dashboard"]);
    let said = hub.wait_for_error("the dashboard is at");
    let page =
        said.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches(';');
    let answer = get(page, "/");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<!doctype html>"), "{answer}");
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(get(page, "/../../etc/passwd").starts_with("HTTP/1.1 40"));
}

/// What a browser gets.
pub(crate) fn get(url: &str, path: &str) -> String {
    let address = url.split("://").nth(1).unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
