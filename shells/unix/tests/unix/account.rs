//! A client with an account: how it comes in, stays in, and what it is told when it may not any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tempfile::TempDir;
use visorbus_auth::{
    Accounts, AuthenticationProvider, Channel, KeyFile, Policy, RevokeAll, Store, TokenProvider, TokenScopes,
};
use visorbus_core::auth::{Claims, Grant, MintError, Scopes, UnverifiedToken};
use visorbus_core::bus::SlowConsumer;
use visorbus_hub::{Error, HubConfig, OwnedMessage, OwnedPayload, Result};
use visorbus_unix::{
    AuthToken, Credentials, Secret, StateChange, TokenText, UnixSocketClient, UnixSocketServer,
};
use zeroize::Zeroizing;

use crate::opposite::SOON;
use crate::server::{Echo, House};

#[test]
fn a_user_comes_in_by_password_and_again_by_the_token_after_the_hub_was_gone() {
    let home = Home::new("[[rule]]\nscope = \"guest\"\nallow = [\"request:echo/*\"]\n");
    home.accounts.store().add_user("alice", &Secret::new("open sesame"), &["guest".to_owned()]).unwrap();
    let mut server = home.server();
    let client = home.client("alice.phone");
    let wrong = password("alice", "open says me");
    assert!(matches!(client.authenticate(&wrong).unwrap_err(), Error::Authentication(_)));
    assert!(matches!(call(&client).unwrap_err(), Error::Authentication(_)));
    let token = client.authenticate(&password("alice", "open sesame")).unwrap();
    assert_eq!((token.scope.as_slice(), token.issuer.as_str()), (&["guest".to_owned()][..], "bus"));
    call(&client).unwrap();
    let permissions = client.permissions().unwrap();
    assert!(permissions.iter().any(|permission| permission.resource == "echo/*"), "{permissions:?}");

    server.stop().unwrap();
    let _server = home.server();
    await_back(&client);
    call(&client).unwrap();
}

#[test]
fn a_process_comes_in_as_the_user_that_it_runs_as() {
    let uid = nix::unistd::getuid().as_raw();
    let rules = format!("[[unix]]\nuid = {uid}\nsubject = \"panel\"\nscopes = [\"request:echo/*\"]\n");
    let home = Home::new(&rules);
    let _server = home.server();
    let client = home.client("panel");
    // What it says of itself is not sent: the kernel tells the hub.
    client.authenticate(&Credentials::Peer { uid: 4_000_000, gid: Some(4_000_000) }).unwrap();
    call(&client).unwrap();
    let other = home.client("root");
    let error = other.authenticate(&Credentials::Peer { uid: 0, gid: Some(0) }).unwrap_err();
    assert!(error.text().contains("does not prove the name 'root'"), "{error}");
    let error = other.authenticate(&Credentials::Certificate(vec![1, 2, 3])).unwrap_err();
    assert!(error.text().contains("shows no certificate"), "{error}");
}

#[test]
fn a_new_token_takes_the_place_of_the_old_one_which_nobody_else_can_use_then() {
    let home = Home::new("");
    let key = home.accounts.store().add_api_key("robot", &["request:echo/*".to_owned()], None).unwrap();
    let mut server = home.server();
    let client = home.client("robot");
    assert!(matches!(client.refresh_token().unwrap_err(), Error::Authentication(_)), "it has none yet");
    let old = client.authenticate(&Credentials::ApiKey(key)).unwrap();
    let new = client.refresh_token().unwrap();
    assert!(old.value != new.value && old.scope == new.scope);
    call(&client).unwrap();
    server.stop().unwrap();
    let _server = home.server();
    await_back(&client);
    call(&client).unwrap();
    let thief = home.client("robot.thief");
    let error = thief.authenticate(&Credentials::Token(old.value)).unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
}

#[test]
fn a_token_that_its_owner_takes_back_is_void_for_everybody() {
    let home = Home::new("");
    let key = home.accounts.store().add_api_key("robot", &["request:echo/*".to_owned()], None).unwrap();
    let _server = home.server();
    let client = home.client("robot");
    let token = client.authenticate(&Credentials::ApiKey(key.clone())).unwrap();
    let copy = home.client("robot.copy");
    copy.authenticate(&Credentials::Token(token.value)).unwrap();
    client.revoke_token().unwrap();
    assert!(matches!(call(&copy).unwrap_err(), Error::Connection(_) | Error::Authentication(_)));
    assert!(client.permissions().is_err());
    let again = home.client("robot.again");
    again.authenticate(&Credentials::ApiKey(key)).unwrap();
    call(&again).unwrap();
}

#[test]
fn whoever_loses_a_subscription_is_told_why() {
    let home =
        Home::new("[[rule]]\nscope = \"reader\"\nallow = [\"subscribe:news/**\", \"register:radio\"]\n");
    let token = home.mint("reader", &["reader"]);
    let server = home.server();
    let client = home.client("reader");
    let (tell, told) = sync_channel(8);
    client
        .on_state_change(move |change| {
            let _ = tell.send(change);
        })
        .unwrap();
    client.authenticate(&token).unwrap();
    let news = client.subscribe("news/**", SlowConsumer::default()).unwrap();
    client.register_handler(Box::new(Echo("radio"))).unwrap();
    home.write_policy("");
    let ended = server.handle().reload().unwrap();
    assert_eq!((ended.sessions, ended.subscriptions, ended.components), (0, 1, 1));
    let error = news.recv(Some(SOON)).unwrap_err();
    assert!(matches!(&error, Error::Authorization(text) if text.contains("news/**")), "{error}");
    let lost: Vec<String> = (0..2).map(|_| not_restored(&told)).collect();
    assert_eq!(lost, ["the subscription 'news/**'", "the component 'radio'"]);
}

#[test]
fn a_token_from_a_login_is_renewed_before_it_expires_and_one_that_was_given_is_not() {
    let (renewed, renewals) = sync_channel(8);
    let desk = Arc::new(ShortLived {
        tokens: TokenProvider::new(House::keys(), 1),
        next: AtomicU64::new(1),
        renewed: Mutex::new(renewed),
    });
    let house = House::new();
    let given = desk.make("given");
    let config = HubConfig::with_providers(desk, Arc::new(TokenScopes));
    let mut server = UnixSocketServer::new(house.path(), config).unwrap();
    server.register_handler(Box::new(Echo("echo"))).unwrap();
    server.start().unwrap();
    let client = UnixSocketClient::new(house.path(), "short").unwrap();
    client.connect().unwrap();
    let first = client.authenticate(&password("short", "")).unwrap();
    let holder = UnixSocketClient::new(house.path(), "given").unwrap();
    holder.connect().unwrap();
    holder.authenticate(&Credentials::Token(given.value)).unwrap();
    for _ in 0..2 {
        let (subject, at) = renewals.recv_timeout(SOON).unwrap();
        assert_eq!(subject, "short");
        assert!(at < first.expiration.unwrap() + LIFE_S);
    }
    assert!(unix_s() >= first.expiration.unwrap(), "the first one is over");
    call(&client).unwrap();
    assert!(matches!(call(&holder).unwrap_err(), Error::Authentication(_)));
}

/// A directory with the keys, the policy and the socket of one hub.
struct Home {
    directory: TempDir,
    accounts: Arc<Accounts>,
    policy: Arc<Policy>,
}

impl Home {
    fn new(rules: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("policy.toml"), rules).unwrap();
        let policy = Arc::new(Policy::open(directory.path().join("policy.toml")).unwrap());
        let keys = KeyFile::open_or_create(directory.path().join("root.key")).unwrap();
        let accounts = Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy));
        Self { directory, accounts: Arc::new(accounts), policy }
    }

    fn write_policy(&self, rules: &str) {
        std::fs::write(self.directory.path().join("policy.toml"), rules).unwrap();
    }

    fn server(&self) -> UnixSocketServer {
        let config =
            HubConfig::with_providers(Arc::clone(&self.accounts) as _, Arc::clone(&self.policy) as _);
        let mut server = UnixSocketServer::new(self.directory.path().join("hub.sock"), config).unwrap();
        server.register_handler(Box::new(Echo("echo"))).unwrap();
        server.start().unwrap();
        server
    }

    /// A client that is connected and nobody yet.
    fn client(&self, name: &str) -> UnixSocketClient {
        let client = UnixSocketClient::new(self.directory.path().join("hub.sock"), name).unwrap();
        client.connect().unwrap();
        client
    }

    fn mint(&self, subject: &str, scopes: &[&str]) -> Credentials {
        let request = visorbus_auth::TokenRequest::new(subject, scopes);
        Credentials::Token(self.accounts.mint(&request).unwrap().value)
    }
}

/// Accounts whose tokens live for [`LIFE_S`] seconds.
struct ShortLived {
    tokens: TokenProvider,
    next: AtomicU64,
    renewed: Mutex<SyncSender<(String, u64)>>,
}

impl ShortLived {
    fn make(&self, subject: &str) -> AuthToken {
        let (serial, issued_at) = (self.next.fetch_add(1, Ordering::SeqCst), unix_s());
        let (expiry, scopes) = (issued_at + LIFE_S, Scopes::new(&["request:echo/*"]));
        let claims =
            Claims { issuer: "bus", subject, audience: "bus", serial, issued_at, expiry, epoch: 0, scopes };
        AuthToken::new(TokenText::encode(&self.mint_own(&claims).unwrap()).unwrap()).unwrap()
    }
}

impl AuthenticationProvider for ShortLived {
    fn authenticate(&self, credentials: &Credentials, _channel: &Channel<'_>) -> Result<AuthToken> {
        let Credentials::UsernamePassword { username, .. } = credentials else { panic!("not asked for") };
        Ok(self.make(username))
    }

    fn validate_token(&self, token: &[u8], channel: &Channel<'_>, unix_now: u64) -> Result<Grant> {
        self.tokens.validate_token(token, channel, unix_now)
    }

    fn refresh_token(&self, token: &AuthToken, _channel: &Channel<'_>) -> Result<AuthToken> {
        let bytes = token.value.to_bytes().unwrap();
        let subject = UnverifiedToken::read(&bytes).unwrap().claims().subject.to_owned();
        self.tokens.revoke_token(token)?;
        let _ = self.renewed.lock().unwrap().send((subject.clone(), unix_s()));
        Ok(self.make(&subject))
    }

    fn revoke_token(&self, token: &AuthToken) -> Result<()> {
        self.tokens.revoke_token(token)
    }

    fn revoke_all(&self, of: &RevokeAll) -> Result<()> {
        self.tokens.revoke_all(of)
    }

    fn is_live(&self, grant: &Grant, unix_now: u64) -> bool {
        self.tokens.is_live(grant, unix_now)
    }

    fn mint_own(&self, claims: &Claims<'_>) -> std::result::Result<Zeroizing<Vec<u8>>, MintError> {
        self.tokens.mint_own(claims)
    }
}

fn password(username: &str, password: &str) -> Credentials {
    Credentials::UsernamePassword { username: username.to_owned(), password: Secret::new(password) }
}

fn call(client: &UnixSocketClient) -> Result<OwnedMessage> {
    client.send_request(OwnedMessage::request("echo/a", OwnedPayload::Empty), None)
}

/// Waits until the client has made its connection again.
fn await_back(client: &UnixSocketClient) {
    let end = Instant::now() + SOON;
    while !client.is_connected() {
        assert!(Instant::now() < end, "it does not come back");
        std::thread::yield_now();
    }
}

/// What the next word on something that was lost names.
fn not_restored(told: &Receiver<StateChange>) -> String {
    loop {
        if let StateChange::NotRestored { what, .. } = told.recv_timeout(SOON).unwrap() {
            return what;
        }
    }
}

fn unix_s() -> u64 {
    visorbus_hub::unix_micros() / 1_000_000
}

const LIFE_S: u64 = 4;
