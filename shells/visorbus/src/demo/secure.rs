//! `visorbus demo --secure`: a line with a key, users, a policy, a payload that the hub cannot read, a token taken back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use visorbus::StoredBoardKeys;
use visorbus_auth::{
    Accounts, Asked, AuditEvent, AuthToken, AuthenticationProvider, Credentials, KeyFile, Policy, Secret,
    Store, TokenRequest, Transport,
};
use visorbus_core::IpcError;
use visorbus_core::auth::{Access, Key, Operation};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_core::seal::PayloadKey;
use visorbus_core::secure::{LinkKey, MAX_LINK_KEY_TEXT, Suite};
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, OwnedMessage, OwnedPayload, Result, unix_micros};
use visorbus_imu::messages::{CONTROL, Info, SetRate};
use visorbus_mcu::{SerialPort, SerialSpec};
use visorbus_unix::{Delivery, StateChange, Subscription, UnixSocketClient, UnixSocketListener};

use super::board::{Board, Kind, Running, SENSOR};
use super::{Stage, call_info, micros, show, wait_for_boards};

/// Shows who may do what, and what becomes of those who may not.
pub(crate) fn run(stage: Stage, running: &Running) -> Result<()> {
    stage.title("A board on a line with a key");
    let hub = SecureHub::start(&stage)?;
    let operator = hub.operator()?;
    let changes = operator.subscribe(bus::SERVICES_CHANGED, SlowConsumer::default())?;
    let audit = operator.subscribe("bus/audit", SlowConsumer::default())?;
    let link_key = provision(&hub, 1)?;
    stage.say(
        "provision",
        format!(
            "a new link key of '{}', id 1, {}: half in the store, half in the board",
            SENSOR.name,
            Suite::Tag64
        ),
    );
    let started = Instant::now();
    let _board = start_board(&stage, &hub, running, "tty-imu", &link_key)?;
    stage.say(SENSOR.name, "its node as a process of this machine, on a pseudo-terminal");
    wait_for_boards(&changes, &[SENSOR.name], true)?;
    stage.say(
        "in service",
        format!(
            "after {}: hub and board proved the key to each other, every frame is tagged",
            show(started.elapsed())
        ),
    );
    let Info { firmware, board, .. } = call_info(&operator)?;
    stage.say("imu/info", format!("firmware {firmware} on {board}"));

    stage.title("A board that says that it is the same, with another key");
    let forged = LinkKey::new(1, Suite::Tag64, SENSOR.name, Key::new(random()?)).ok_or_else(no_name)?;
    let impostor = start_board(&stage, &hub, running, "tty-impostor", &encode(&forged))?;
    let refused = wait_for_refusal(&hub)?;
    drop(impostor);
    stage.say(
        "impostor",
        format!(
            "asked {refused} times, was not heard; the true one goes on: boot id {:x}",
            call_info(&operator)?.boot_id
        ),
    );

    stage.title("A user logs in");
    let anna = UnixSocketClient::new(&hub.socket, "anna")?;
    anna.connect()?;
    let wrong = refusal(anna.authenticate(&password("hunter2")))?;
    stage.say("wrong", wrong.to_string());
    let started = Instant::now();
    let token = anna.authenticate(&password(PASSWORD))?;
    stage.say(
        "right",
        format!(
            "in after {} (argon2id); a token for one hour, scopes: {}",
            show(started.elapsed()),
            token.scope.join(" ")
        ),
    );
    call_info(&anna)?;
    stage.say("anna", "calls imu/info: allowed, and why:");
    stage.say("", hub.explain("imu/info", Access::Permission)?);

    stage.title("A call that is refused, and why");
    let refused_call = refusal(anna.call::<SetRate>(&200, None))?;
    stage.say("anna", "calls imu/set-rate 200 and is told");
    stage.say("", refused_call.to_string());
    stage.say("explained", hub.explain("imu/set-rate", Access::Scope(CONTROL))?);

    stage.title("A payload that the hub cannot read");
    let sealed = seal(&hub)?;
    stage.say(
        "vault",
        format!("answers the sealed question of 'app' in {}: {:?}", show(sealed.took), sealed.answer),
    );
    stage.say("hub", format!("carried {} bytes of it; without the key: {}", sealed.carried, sealed.refused));

    stage.title("A token that is taken back");
    let cut = revoke(&operator, &anna, &token)?;
    stage.say(
        "revoked",
        format!(
            "by the operator, on disk and answered after {}; anna's stream was cut off after {}",
            show(cut.written),
            show(cut.after)
        ),
    );
    stage.say("anna", cut.told.to_string());

    stage.title("What was written down");
    let events = take_events(&audit)?;
    for event in &events {
        stage.say(&event.what, describe(event));
    }
    let summary = serde_json::json!({
        "impostor_refused": refused, "wrong_password": wrong.to_string(),
        "refused": refused_call.to_string(), "sealed": { "took_us": micros(sealed.took), "without_key": sealed.refused.to_string() },
        "revoked": { "written_us": micros(cut.written), "cut_off_us": micros(cut.after), "told": cut.told.to_string() },
        "audit": events.iter().map(|event| event.what.clone()).collect::<Vec<_>>(),
    });
    drop((anna, operator));
    hub.stop()?;
    stage.finish(&summary)
}

/// A hub with accounts and a policy on disk.
struct SecureHub {
    handle: HubHandle,
    thread: thread::JoinHandle<Result<()>>,
    accounts: Arc<Accounts>,
    policy: Arc<Policy>,
    socket: PathBuf,
}

impl SecureHub {
    fn start(stage: &Stage) -> Result<Self> {
        let place = |name: &str| stage.directory.path().join(name);
        let broken = |e: &dyn std::fmt::Display| Error::Internal(e.to_string());
        let keys = KeyFile::open_or_create(place("root.key")).map_err(|e| broken(&e))?;
        let store = Store::open_or_create(place("accounts.json")).map_err(|e| broken(&e))?;
        std::fs::write(place("policy.toml"), POLICY).map_err(|e| broken(&e))?;
        let policy = Arc::new(Policy::open(place("policy.toml")).map_err(|e| broken(&e))?);
        store.add_user("anna", &Secret::new(PASSWORD), &["player".to_owned()])?;
        let accounts = Arc::new(Accounts::new(Arc::new(store), keys, Arc::clone(&policy)));
        let auth = Arc::clone(&accounts) as Arc<dyn AuthenticationProvider>;
        let hub = Hub::new(HubConfig::with_providers(auth, Arc::clone(&policy) as _))?;
        let handle = hub.handle();
        let thread = thread::spawn(move || hub.run());
        handle.listen(Box::new(UnixSocketListener::bind(&stage.socket)?))?;
        Ok(Self { handle, thread, accounts, policy, socket: stage.socket.clone() })
    }

    fn client(&self, name: &str, scopes: &[&str]) -> Result<UnixSocketClient> {
        let token = self.accounts.mint(&TokenRequest::new(name, scopes))?;
        let client = UnixSocketClient::new(&self.socket, name)?;
        client.connect()?;
        client.authenticate(&Credentials::Token(token.value))?;
        Ok(client)
    }

    fn operator(&self) -> Result<UnixSocketClient> {
        self.client("operator", &["*"])
    }

    /// Which rule decides what anna asks of `address`, in words.
    fn explain(&self, address: &str, access: Access<'_>) -> Result<String> {
        let resource = Address::new(address).map_err(|e| Error::Internal(e.to_string()))?.into();
        let asked = Asked {
            grant: None,
            operation: Operation::Request,
            resource,
            access,
            transport: Transport::Unix,
            payload_len: 0,
            unix_now: unix_micros() / 1_000_000,
            counts: false,
        };
        let explained = self.policy.explain("anna", &["player"], &asked)?;
        Ok(explained.text.replace(&self.directory(), ""))
    }

    /// What names of files begin with.
    fn directory(&self) -> String {
        let directory = self.policy.path().parent().map(|path| format!("{}/", path.display()));
        directory.unwrap_or_default()
    }

    fn stop(self) -> Result<()> {
        self.handle.stop();
        self.thread.join().map_err(|_| Error::Internal("the hub panicked".to_owned()))?
    }
}

/// Makes a link key for the sensor and puts the hub's half into the store; the board's half.
fn provision(hub: &SecureHub, id: u8) -> Result<String> {
    let key = LinkKey::new(id, Suite::Tag64, SENSOR.name, Key::new(random()?)).ok_or_else(no_name)?;
    hub.accounts.store().add_link_key(&key)?;
    Ok(encode(&key))
}

fn encode(key: &LinkKey) -> String {
    key.encode(&mut [0; MAX_LINK_KEY_TEXT]).to_owned()
}

fn start_board(
    stage: &Stage,
    hub: &SecureHub,
    running: &Running,
    line: &str,
    link_key: &str,
) -> Result<Board> {
    let line = stage.directory.path().join(line);
    let board = Kind::start_keyed(&SENSOR, &line, running, link_key)?;
    let keys = Arc::new(StoredBoardKeys::new(Arc::clone(hub.accounts.store())));
    hub.handle.attach(Box::new(SerialPort::new(SerialSpec::new(line), keys)))?;
    Ok(board)
}

/// Waits until the hub has refused a handshake; how many it has refused.
fn wait_for_refusal(hub: &SecureHub) -> Result<u64> {
    let deadline = Instant::now() + super::PATIENCE;
    while Instant::now() < deadline {
        let refused = hub
            .handle
            .peers()?
            .iter()
            .flat_map(|peer| &peer.faults)
            .filter(|fault| fault.name == "bad_key")
            .map(|fault| fault.count)
            .sum();
        if refused >= REFUSALS {
            return Ok(refused);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(Error::Timeout("the impostor did not try".to_owned()))
}

fn password(text: &str) -> Credentials {
    Credentials::UsernamePassword { username: "anna".to_owned(), password: Secret::new(text) }
}

/// What came of a sealed question.
struct Sealed {
    answer: String,
    took: Duration,
    carried: usize,
    refused: Error,
}

/// Has a component answer to one that shares its key, and to one that does not.
fn seal(hub: &SecureHub) -> Result<Sealed> {
    let key = random()?;
    let vault = hub.client("vault", &[])?;
    vault.share_key("app", PayloadKey::new(key))?;
    vault.register_handler(Box::new(Vault))?;
    let app = hub.client("app", &["request:vault/*"])?;
    let question = || OwnedMessage::request("vault/open", OwnedPayload::String("sesame".to_owned()));
    let refused = refusal(app.send_request(question(), None))?;
    app.share_key("vault", PayloadKey::new(key))?;
    let started = Instant::now();
    let answer = app.send_request(question(), None)?;
    let took = started.elapsed();
    let OwnedPayload::String(answer) = answer.payload else {
        return Err(Error::Internal("the vault answers with a text".to_owned()));
    };
    let carried = "sesame".len() + visorbus_core::seal::OVERHEAD;
    Ok(Sealed { answer, took, carried, refused })
}

/// Answers to those who know the word.
struct Vault;

impl MessageHandler for Vault {
    fn id(&self) -> &str {
        "vault"
    }

    fn handle_message(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        match message.payload {
            MessagePayload::String("sesame") => reply.payload(MessagePayload::String("open")),
            _ => Err(IpcError::Message("that is not the word")),
        }
    }
}

/// How somebody was cut off.
struct CutOff {
    written: Duration,
    after: Duration,
    told: Error,
}

/// Has the operator take a token back while its holder hears a stream.
fn revoke(operator: &UnixSocketClient, holder: &UnixSocketClient, token: &AuthToken) -> Result<CutOff> {
    let (tell, told) = channel();
    holder.on_state_change(move |change| {
        if let StateChange::Disconnected(error) = change {
            let _ = tell.send((Instant::now(), error));
        }
    })?;
    let stream = holder.subscribe("imu/sample", SlowConsumer::default())?;
    stream.recv(Some(super::PATIENCE))?;
    let started = Instant::now();
    let question = OwnedPayload::String(token.value.as_str().to_owned());
    operator.send_request(OwnedMessage::request(bus::REVOKE, question), None)?;
    let written = started.elapsed();
    let gone = told.recv_timeout(super::PATIENCE);
    let (at, told) = gone.map_err(|_| Error::Internal("anna was not cut off".to_owned()))?;
    Ok(CutOff { written, after: at.saturating_duration_since(started), told })
}

/// The audit events so far.
fn take_events(audit: &Subscription) -> Result<Vec<AuditEvent>> {
    let mut events = Vec::new();
    while let Some(delivery) = audit.try_recv()? {
        if let Delivery::Message(message) = delivery {
            events.push(message.payload.parse()?);
        }
    }
    Ok(events)
}

fn describe(event: &AuditEvent) -> String {
    let asked = [&event.operation, &event.resource].map(String::as_str).join(" ");
    let parts = [&event.subject, &event.method, asked.trim(), &event.reason].map(|part: &str| part);
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

/// The error of what must not have been allowed.
fn refusal<T>(outcome: Result<T>) -> Result<Error> {
    match outcome {
        Err(error) => Ok(error),
        Ok(_) => Err(Error::Internal("what had to be refused was allowed".to_owned())),
    }
}

fn no_name() -> Error {
    Error::Internal("the board's name is none".to_owned())
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    Ok(bytes)
}

const PASSWORD: &str = "correct horse battery staple";
/// Times that an impostor is let try.
const REFUSALS: u64 = 3;
/// What the demonstration allows.
const POLICY: &str = r#"[[rule]]
scope = "player"
allow = ["request:imu/info", "subscribe:imu/*"]
transports = ["unix"]
max_rate = 100
"#;
