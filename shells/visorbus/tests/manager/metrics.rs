//! The figures as a page of the hub's port: to whom they are shown.

use std::io::{Read, Write};
use std::net::TcpStream;

use visorbus::IpcManager;
use visorbus_auth::{AuditEvent, AuthToken};
use visorbus_client::{Credentials, Delivery};
use visorbus_core::bus::SlowConsumer;

use crate::world::{PATIENCE, World};

/// What the page answers.
fn page(manager: &IpcManager, bearer: Option<&str>) -> String {
    let address = manager.websocket_server().unwrap().local_addr().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let token = bearer.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n{token}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn token(world: &World, scopes: &[&str]) -> String {
    match world.token("scraper", scopes) {
        Credentials::Token(token) => token.as_str().to_owned(),
        _ => unreachable!("it is a token"),
    }
}

fn config(prometheus: &str) -> String {
    format!(
        "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n[monitoring]\nprometheus = \"{prometheus}\"\n"
    )
}

#[test]
fn the_figures_are_shown_to_whoever_may_request_them() {
    let world = World::new();
    let manager = world.running(&config("token"));
    assert!(page(&manager, None).starts_with("HTTP/1.1 401"));
    assert!(page(&manager, Some("vb1.nonsense")).starts_with("HTTP/1.1 401"));
    let other = token(&world, &["request:monitoring/health", "subscribe:**"]);
    assert!(page(&manager, Some(&other)).starts_with("HTTP/1.1 403"));
    let answer = page(&manager, Some(&token(&world, &["request:monitoring/prometheus"])));
    let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    let format = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.lines().any(|line| line == format), "{head}");
    assert!(answer.ends_with("# EOF\n"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("# TYPE "), "{answer}");
}

#[test]
fn a_refusal_is_counted_and_told_and_a_token_that_was_taken_back_shows_nothing() {
    let world = World::new();
    let manager = world.running(&config("token"));
    let warden = world.client(&manager, "warden");
    let events = warden.subscribe("bus/audit", SlowConsumer::Disconnect).unwrap();
    let Credentials::Token(scraper) = world.token("scraper", &["request:monitoring/prometheus"]) else {
        unreachable!("it is a token")
    };
    assert!(page(&manager, Some(scraper.as_str())).starts_with("HTTP/1.1 200"));
    let before = manager.handle().unwrap().statistics().unwrap();
    manager.handle().unwrap().revoke_token(AuthToken::new(scraper.clone()).unwrap()).unwrap();
    assert!(page(&manager, Some(scraper.as_str())).starts_with("HTTP/1.1 401"));
    assert!(page(&manager, Some(&token(&world, &["request:monitoring/health"]))).starts_with("HTTP/1.1 403"));
    let after = manager.handle().unwrap().statistics().unwrap();
    assert_eq!(after.auth_refusals - before.auth_refusals, 1);
    assert_eq!(after.refused.authorization - before.refused.authorization, 1);
    for what in ["revoked", "refused", "denied"] {
        let event: AuditEvent = match events.recv(Some(PATIENCE)).unwrap().expect("it is told in time") {
            Delivery::Message(message) => message.payload.parse().unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(event.what, what, "{event:?}");
    }
}

#[test]
fn who_may_have_them_changes_while_the_port_is_served() {
    let world = World::new();
    let mut manager = world.running(&config("local"));
    let port = manager.websocket_server().unwrap().local_addr();
    assert!(page(&manager, None).starts_with("HTTP/1.1 200"), "who is on this machine");
    for (prometheus, status) in [("off", "404"), ("token", "401"), ("local", "200")] {
        world.write(&config(prometheus));
        assert_eq!(manager.reload().unwrap().applied, ["monitoring.prometheus"]);
        assert!(page(&manager, None).starts_with(&format!("HTTP/1.1 {status}")), "{prometheus}");
    }
    world.write(&(config("local") + "enabled = false\n"));
    manager.reload().unwrap();
    assert!(page(&manager, None).starts_with("HTTP/1.1 404"), "nothing is measured");
    assert_eq!(manager.websocket_server().unwrap().local_addr(), port);
}
