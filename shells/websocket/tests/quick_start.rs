//! The Python program of docs/websocket.md, against a hub that serves WebSockets.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use visorbus_auth::TokenText;
use visorbus_core::auth::{Claims, Key, KeyRing, Scopes, Slot};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_hub::HubConfig;
use visorbus_websocket::WebSocketServer;

#[test]
fn the_quick_start_in_python_calls_and_watches() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("panel.py");
    std::fs::write(&program, program_of(include_str!("../../../docs/websocket.md"))).unwrap();
    let mut server = WebSocketServer::new("127.0.0.1:0", HubConfig::new(keys(), 1)).unwrap();
    server.start().unwrap();
    let url = server.url().unwrap();
    let run = |token: &str, rest: &[&str]| {
        let mut command = Command::new("python3");
        command.env("no_proxy", "*");
        command.arg(&program).args([&url, token]).args(rest).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let token = token("panel", &["request:**", "subscribe:**"]);

    let mut watching = Running(run(&token, &["watch", "bus/services/*"]).spawn().expect("python3"));
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("watching bus/services/*"));

    let called = run(&token, &["call", "bus/services"]).output().unwrap();
    let (out, faults) = (String::from_utf8_lossy(&called.stdout), String::from_utf8_lossy(&called.stderr));
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{faults}"));
    let services = answer["Json"].as_array().unwrap();
    assert_eq!(services.len(), 2, "the one that watches and the one that asks: {out}");
    assert!(
        services.iter().all(|service| service["component"].as_str().unwrap().starts_with("panel.")),
        "{out}"
    );

    let line = lines.next().unwrap();
    let change = line.strip_prefix("bus/services/changed ").expect(&line);
    let change: serde_json::Value = serde_json::from_str(change).unwrap();
    assert!(change["Json"]["component"].as_str().unwrap().starts_with("panel."), "{line}");
    assert_eq!(change["Json"]["up"], true, "{line}");

    let refused = run(&token[..token.len() - 4], &["call", "bus/services"]).output().unwrap();
    let faults = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && faults.contains("Authentication: "), "{faults}");
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program_of(page: &str) -> &str {
    let program = page.split("```python\n").nth(1).expect("a program");
    program.split("```").next().unwrap()
}

fn keys() -> KeyRing {
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
    keys
}

fn token(subject: &str, scopes: &[&str]) -> String {
    let now = visorbus_hub::unix_micros() / 1_000_000;
    let claims = Claims {
        issuer: "bus",
        subject,
        audience: "bus",
        serial: 1,
        issued_at: now,
        expiry: now + 600,
        epoch: 0,
        scopes: Scopes::new(scopes),
    };
    let mut out = [0; MAX_TOKEN];
    let len = keys().mint(1, &claims, &mut out).unwrap();
    TokenText::encode(&out[..len]).unwrap().as_str().to_owned()
}
