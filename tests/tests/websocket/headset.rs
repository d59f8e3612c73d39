//! A hub as one is used: with accounts, a port with the dashboard, one with TLS, and a motion sensor on a serial line.

use std::sync::Arc;

use visorbus_auth::{Accounts, KeyFile, Policy, Secret, Store, TokenRequest};
use visorbus_hub::HubConfig;
use visorbus_imu::{DEVELOPMENT_ROOT_KEY, KEY_ID, device_key};
use visorbus_mcu::{NoBoardKeys, SerialPort, SerialSpec};
use visorbus_tests::certificates::Certificates;
use visorbus_tests::echo::Echo;
use visorbus_tests::pty::Pty;
use visorbus_websocket::{Pages, WebSocketListener, WebSocketServer};

use crate::sensor::Node;

/// The hub and its sensor; both end with the test.
pub(crate) struct Headset {
    pub(crate) accounts: Arc<Accounts>,
    policy: Arc<Policy>,
    server: WebSocketServer,
    /// The address with the port, which stays the same over a restart.
    pub(crate) host: String,
    directory: tempfile::TempDir,
    _sensor: Node,
    _pty: Pty,
}

impl Headset {
    pub(crate) fn start() -> Self {
        let policy = Arc::new(Policy::parse("").unwrap());
        let keys = KeyFile::in_memory(KEY_ID, DEVELOPMENT_ROOT_KEY);
        let accounts = Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy));
        accounts.store().add_user("alice", &Secret::new(PASSWORD), &["*".to_owned()]).unwrap();
        let accounts = Arc::new(accounts);
        let (directory, pty) = (tempfile::tempdir().unwrap(), Pty::open().unwrap());
        pty.plug(&directory.path().join("imu-line")).unwrap();
        let sensor = Node::sensor(&pty, 7, device_key());
        let server = serve(&accounts, &policy, "127.0.0.1:0");
        let host = server.local_addr().unwrap().to_string();
        let headset = Self { accounts, policy, server, host, directory, _sensor: sensor, _pty: pty };
        headset.attach_sensor();
        headset
    }

    /// What a browser opens.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.host)
    }

    /// A token that lives an hour.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> String {
        self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap().value.as_str().to_owned()
    }

    /// Who is connected to the port and let in.
    pub(crate) fn clients(&self) -> Vec<String> {
        self.server.active_connections().unwrap()
    }

    /// Listens with TLS too; gives the URL.
    pub(crate) fn listen_with_tls(&self, certificates: &Certificates) -> String {
        let listener = WebSocketListener::bind("127.0.0.1:0", certificates.port()).unwrap();
        let address = listener.door().local_addr();
        self.server.handle().listen(Box::new(listener)).unwrap();
        format!("wss://localhost:{}/", address.port())
    }

    /// Ends the hub; the sensor goes on.
    pub(crate) fn stop(&mut self) {
        self.server.stop().unwrap();
    }

    /// Another hub on the same port, with the same accounts.
    pub(crate) fn start_again(&mut self) {
        self.server = serve(&self.accounts, &self.policy, &self.host);
        self.attach_sensor();
    }

    fn attach_sensor(&self) {
        let line = self.directory.path().join("imu-line");
        let spec: SerialSpec = format!("{}@921600,unkeyed=imu", line.display()).parse().unwrap();
        self.server.handle().attach(Box::new(SerialPort::new(spec, Arc::new(NoBoardKeys)))).unwrap();
    }
}

fn serve(accounts: &Arc<Accounts>, policy: &Arc<Policy>, address: &str) -> WebSocketServer {
    let config = HubConfig::with_providers(Arc::clone(accounts) as _, Arc::clone(policy) as _);
    let mut server = WebSocketServer::new(address, config).unwrap();
    server.set_pages(Pages::dashboard()).unwrap();
    // On any port: a test has a relay in between.
    server.allow_host("127.0.0.1").unwrap();
    server.register_handler(Box::new(Echo::new("echo"))).unwrap();
    server.start().unwrap();
    server
}

/// Of the account `alice`.
pub(crate) const PASSWORD: &str = "correct horse battery";
