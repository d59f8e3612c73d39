//! The JavaScript client in Node: its own tests, with a real hub to talk to.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use visorbus_tests::certificates::Certificates;

use rustix::process::{Pid, Signal, kill_process};

use crate::headset::Headset;

#[test]
fn the_javascript_client_passes_its_tests_in_node() {
    let headset = Headset::start();
    let certificates = Certificates::in_files();
    let tls_url = headset.listen_with_tls(&certificates);
    let api_key = headset.accounts.store().add_api_key("robot", &["*".to_owned()], None).unwrap();
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec"])
        .args(["test/client.test.js", "test/session.test.js", "test/node-websocket.test.js"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shells/websocket/js"))
        .env("VISORBUS_URL", format!("ws://{}/", headset.host))
        .env("VISORBUS_TLS_URL", tls_url)
        .env("VISORBUS_CA", certificates.path("ca", "pem"))
        .env("VISORBUS_TOKEN", headset.token("panel", &["*", "imu.control"]))
        .env("VISORBUS_GUEST", headset.token("guest", &["request:bus/services"]))
        .env("VISORBUS_API_KEY", api_key.expose());
    let (succeeded, text) = run(node);
    assert!(succeeded, "{text}");
}

/// Whether a program ended well, and what it wrote.
fn run(mut program: Command) -> (bool, String) {
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started =
        program.spawn().unwrap_or_else(|e| panic!("cannot run node ({e}): `tests/run tools` installs it"));
    let id = Pid::from_child(&started);
    let (send, ended) = mpsc::channel();
    thread::spawn(move || send.send(started.wait_with_output().unwrap()));
    let output = ended.recv_timeout(LONGEST).unwrap_or_else(|_| {
        // It has not been waited for yet, so the id is still its own.
        kill_process(id, Signal::KILL).unwrap();
        ended.recv().unwrap()
    });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What all its tests may take together.
const LONGEST: Duration = Duration::from_secs(600);
