//! What `call`, `publish`, `subscribe` and `services` share: a client of the hub, and JSON for its typed addresses.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visorbus_auth::{Accounts, AuthToken, AuthenticationProvider, TokenRequest, TokenText};
use visorbus_client::{Credentials, Delivery, StateChange, Subscription};
use visorbus_core::auth::{Caveat, UnverifiedToken};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_hub::info::SchemaInfo;
use visorbus_hub::schema::{Schemas, to_json};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use visorbus_unix::UnixSocketClient;

use crate::progress::Progress;
use crate::unanswered::Unanswered;
use crate::{args, prompt};

/// A connected, authenticated client.
pub(crate) struct Client {
    pub(crate) inner: visorbus_client::Client,
    schemas: HashMap<String, Option<Schemas>>,
    /// The hub's own keys, where this client makes its tokens itself.
    accounts: Option<Accounts>,
    /// When the token in use is over, or is to be replaced; `None` when the connection sees to that.
    renew_at: Option<SystemTime>,
    /// Why the hub takes this client back no more.
    shut_out: Arc<Mutex<Option<Error>>>,
}

impl Client {
    /// Logs in as asked, else shows the token given, else one made from the hub's own key file.
    pub(crate) fn connect(args: &args::Client) -> Result<Self> {
        let hub = Hub::new(&args.place, &args.reach);
        if args.login.is_given() {
            return Self::log_in(hub, &args.login).map(|(client, _)| client);
        }
        match (args.token.as_deref().filter(|text| !text.is_empty()), hub.url()) {
            (Some(text), _) => Self::with_token(hub, text),
            (None, None) => Self::as_owner(&args.place),
            (None, Some(url)) => Err(Error::Authentication(format!(
                "the hub at {url} is not shown the keys of the one here: give a --token, or log in with --user"
            ))),
        }
    }

    /// As [`Client::connect`], to a hub that may not be there yet, for at most this time.
    pub(crate) fn connect_within(args: &args::Client, time: Duration, json: bool) -> Result<Self> {
        Progress::leave_tidy(json)?;
        let deadline = Instant::now() + time;
        let progress = Progress::for_time("waiting for the hub", time, json);
        // A password is asked for once, when there is somebody to show it to.
        while let Err(error) = Self::open(Hub::new(&args.place, &args.reach), "waiting") {
            // A socket that systemd has opened is there before the hub is, which then does not answer yet.
            let may_come = matches!(error, Error::Connection(_) | Error::Timeout(_));
            if !may_come || Instant::now() >= deadline {
                return Err(error);
            }
            thread::sleep(CONNECT_PAUSE);
        }
        drop(progress);
        Self::connect(args)
    }

    /// Connects with a token made from the hub's own key file; `None` where no hub runs.
    pub(crate) fn connect_if_served(place: &args::Place) -> Result<Option<Self>> {
        match Self::as_owner(place) {
            Err(Error::Connection(_)) if !is_served(place) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Connects and proves itself by credentials; the client, and the token that came of them.
    pub(crate) fn log_in(hub: Hub<'_>, login: &args::Login) -> Result<(Self, AuthToken)> {
        let name = match &login.user {
            Some(name) => name.clone(),
            None => own_user_name(),
        };
        let credentials = match login {
            args::Login { peer: true, .. } => {
                let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                Credentials::Peer { uid, gid: Some(gid) }
            }
            args::Login { certificate: true, .. } => Credentials::Certificate(Vec::new()),
            args::Login { api_key_stdin: true, .. } => Credentials::ApiKey(prompt::line_of_stdin("API key")?),
            _ => {
                let password = prompt::password(&name, login.password_stdin)?;
                Credentials::UsernamePassword { username: name.clone(), password }
            }
        };
        let client = Self::open(hub, &name)?;
        let token = client.inner.authenticate(&credentials)?;
        Ok((client, token))
    }

    /// Connects with a token that somebody else has made.
    pub(crate) fn with_token(hub: Hub<'_>, text: &str) -> Result<Self> {
        let given = given_token(text)?;
        let mut client = Self::open(hub, &given.subject)?;
        client.renew_at = Some(given.expiry);
        client.inner.authenticate(&Credentials::Token(given.token))?;
        Ok(client)
    }

    /// Connects with a token made from the hub's own key file.
    fn as_owner(place: &args::Place) -> Result<Self> {
        // Before the keys are looked for: where there is no hub, nobody has made them.
        let mut client = Self::open(place.into(), SUBJECT)?;
        client.accounts = Some(place.accounts()?);
        client.renew().map_err(|error| other_keys(place, error))?;
        Ok(client)
    }

    /// A connection that has not proven anything yet, as `subject` and the number of this process.
    fn open(hub: Hub<'_>, subject: &str) -> Result<Self> {
        let name = format!("{subject}.{}", std::process::id());
        let inner = hub.client(&name)?;
        inner.connect().map_err(|error| match &error {
            Error::Timeout(_) if hub.url().is_none() => no_answer(hub.place),
            _ => no_hub(hub, &error),
        })?;
        Ok(Self { inner, schemas: HashMap::new(), accounts: None, renew_at: None, shut_out: Arc::default() })
    }

    /// Shares the key that was given, if one was, with the component that `address` or a pattern begins with.
    pub(crate) fn share_key(&self, sealing: &args::Sealing, address: &str) -> Result<()> {
        let Some(key) = sealing.key()? else { return Ok(()) };
        let component = address.split('/').next().unwrap_or_default();
        self.inner.share_key(component, key)
    }

    /// Calls `address` with a JSON request; the answer as JSON.
    pub(crate) fn call(
        &mut self,
        address: &str,
        request: Option<&serde_json::Value>,
        compressed: bool,
        timeout: Duration,
    ) -> Result<serde_json::Value> {
        let mut request = OwnedMessage::request(address, self.payload(address, request)?);
        request.flags.compressed = compressed;
        let answer = self.inner.send_request(request, Some(timeout))?;
        match self.schemas(address)? {
            Some(schemas) => schemas.decode_response(&answer.payload),
            None => to_json(&answer.payload),
        }
    }

    /// The payload of `json` for `address`: of its type where that is known, else JSON as it is.
    pub(crate) fn payload(
        &mut self,
        address: &str,
        json: Option<&serde_json::Value>,
    ) -> Result<OwnedPayload> {
        let null = serde_json::Value::Null;
        match (self.schemas(address)?, json) {
            (Some(schemas), json) => schemas.encode_request(json.unwrap_or(&null)),
            (None, Some(json)) => OwnedPayload::json(json),
            (None, None) => Ok(OwnedPayload::Empty),
        }
    }

    /// What a notification says, as JSON.
    pub(crate) fn notification_json(&mut self, message: &OwnedMessage) -> Result<serde_json::Value> {
        if !matches!(message.payload, OwnedPayload::Binary(_)) {
            return to_json(&message.payload);
        }
        match self.schemas(&message.destination)? {
            Some(schemas) => schemas.decode_request(&message.payload),
            None => to_json(&message.payload),
        }
    }

    /// Hears `pattern` until it has been enough, and says so on standard error: whoever starts this in the background knows
    /// from when on nothing is missed.
    pub(crate) fn watch(&self, pattern: &str) -> Result<Subscription> {
        self.tell_changes()?;
        let subscription = self.inner.subscribe(pattern, SlowConsumer::default())?;
        eprintln!("visorbus: watching");
        Ok(subscription)
    }

    /// Says on standard error when the hub goes and comes back, for those who stay longer than one call.
    pub(crate) fn tell_changes(&self) -> Result<()> {
        let shut_out = Arc::clone(&self.shut_out);
        self.inner.on_state_change(move |change| match change {
            StateChange::Connected => eprintln!("visorbus: the hub is back"),
            StateChange::Disconnected(error) => eprintln!("visorbus: {error}; waiting for the hub"),
            // A token that is refused once is refused for good.
            StateChange::NotRestored { error: error @ Error::Authentication(_), .. } => {
                *shut_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            StateChange::NotRestored { what, error } => {
                eprintln!("visorbus: the hub refuses {what}: {error}")
            }
            _ => {}
        })
    }

    /// The next delivery, however long it takes; the token is kept fresh meanwhile.
    pub(crate) fn next(&mut self, subscription: &Subscription) -> Result<Delivery> {
        loop {
            let shut_out = self.shut_out.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever has the keys of the hub makes another token.
            if let Some(error) = shut_out.clone().filter(|_| self.accounts.is_none()) {
                return Err(error);
            }
            let left = match self.renew_at {
                Some(at) => at.duration_since(SystemTime::now()).unwrap_or_default(),
                None => LONGEST_WAIT,
            };
            if left.is_zero() || shut_out.is_some() {
                match self.renew() {
                    // The hub is away; it is shown the token when it is back.
                    Ok(()) | Err(Error::Connection(_) | Error::Timeout(_)) => continue,
                    Err(error) => return Err(error),
                }
            }
            // Not for the whole time at once: this clock goes on while the machine sleeps, that of the wait does not.
            if let Some(delivery) = subscription.recv(Some(left.min(LONGEST_WAIT)))? {
                return Ok(delivery);
            }
        }
    }

    /// Keeps the token fresh, for those who go on calling.
    ///
    /// # Errors
    /// `Authentication` when it is over and was given; what the hub says of a new one.
    pub(crate) fn keep_fresh(&mut self) -> Result<()> {
        match self.renew_at {
            Some(at) if SystemTime::now() >= at => self.renew(),
            _ => Ok(()),
        }
    }

    /// Shows the hub a new token. One that was given cannot be replaced: whoever gave it may use it too.
    fn renew(&mut self) -> Result<()> {
        let Some(accounts) = &self.accounts else {
            return Err(Error::Authentication("the token has expired: get a new one".to_owned()));
        };
        // Others may have taken tokens back since.
        accounts.reload()?;
        let request = TokenRequest::new(SUBJECT, &["*"]);
        self.renew_at = Some(SystemTime::now() + request.lifetime / 2);
        let token = accounts.mint(&request)?;
        self.inner.authenticate(&Credentials::Token(token.value)).map(|_| ())
    }

    /// The types of an address, asked for once; `None` where nobody has told them.
    fn schemas(&mut self, address: &str) -> Result<Option<&Schemas>> {
        if !self.schemas.contains_key(address) {
            let known = match self.ask_schema(address) {
                Ok(info) if info.request.is_empty() => None,
                Ok(info) => Some(Schemas::new(&info)?),
                // Nobody told them, or the token may not use the address: the call itself is told what is missing.
                Err(Error::Message(_) | Error::Authorization(_)) => None,
                Err(error) => return Err(error),
            };
            self.schemas.insert(address.to_owned(), known);
        }
        Ok(self.schemas.get(address).and_then(Option::as_ref))
    }

    /// Asks the hub for the types of an address. It has them a moment after a board came.
    fn ask_schema(&self, address: &str) -> Result<SchemaInfo> {
        let deadline = Instant::now() + SCHEMA_TIME;
        loop {
            let ask = OwnedMessage::request(bus::SCHEMA, OwnedPayload::String(address.to_owned()));
            let info: SchemaInfo = self.inner.send_request(ask, None)?.payload.parse()?;
            if !(info.request.is_empty() || info.response.is_empty()) || Instant::now() >= deadline {
                return Ok(info);
            }
            thread::sleep(SCHEMA_PAUSE);
        }
    }
}

/// Which hub is meant: the one at the place's socket, unless a URL was given.
#[derive(Clone, Copy)]
pub(crate) struct Hub<'a> {
    place: &'a args::Place,
    reach: Option<&'a args::Reach>,
}

impl<'a> Hub<'a> {
    pub(crate) const fn new(place: &'a args::Place, reach: &'a args::Reach) -> Self {
        Self { place, reach: Some(reach) }
    }

    fn url(self) -> Option<&'a str> {
        self.reach.and_then(|reach| reach.url.as_deref()).filter(|url| !url.is_empty())
    }

    /// A client of it called `name`, not connected yet.
    fn client(self, name: &str) -> Result<visorbus_client::Client> {
        match (self.url(), self.reach) {
            (Some(url), Some(reach)) => Ok((*reach.client(url, self.place, name)?).clone()),
            _ => Ok((*UnixSocketClient::new(self.place.socket(), name)?).clone()),
        }
    }
}

impl<'a> From<&'a args::Place> for Hub<'a> {
    fn from(place: &'a args::Place) -> Self {
        Self { place, reach: None }
    }
}

/// A token from outside, and what it says of itself.
struct Given {
    token: TokenText,
    subject: String,
    expiry: SystemTime,
}

fn given_token(text: &str) -> Result<Given> {
    let token: TokenText = text.parse()?;
    let bytes = token.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
    let unverified = UnverifiedToken::read(&bytes).map_err(|e| Error::Authentication(e.to_string()))?;
    let narrowed = unverified.caveats().filter_map(|caveat| match caveat {
        Caveat::Expiry(at) => Some(at),
        _ => None,
    });
    let expiry = narrowed.fold(unverified.claims().expiry, u64::min);
    // One that no clock reaches does not expire.
    let expiry = UNIX_EPOCH + Duration::from_secs(expiry.min(LAST_EXPIRY));
    Ok(Given { token, subject: unverified.claims().subject.to_owned(), expiry })
}

/// What a newcomer needs to know beside why there is no connection.
fn no_hub(hub: Hub<'_>, error: &Error) -> Error {
    let hint = match hub.url() {
        Some(_) => "; --url or VISORBUS_URL names another hub",
        None => "; `visorbus serve` starts one, --socket or VISORBUS_SOCKET names another",
    };
    Error::new(error.kind(), format!("{}{hint}", error.text()))
}

/// Why a hub does not say hello, though it has its socket.
fn no_answer(place: &args::Place) -> Error {
    let Unanswered { what, mend } = Unanswered::at(&place.socket());
    Error::Timeout(format!("{what}; {mend}"))
}

/// Whether somebody listens at the hub's socket.
fn is_served(place: &args::Place) -> bool {
    match UnixStream::connect(place.socket()) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    }
}

/// The name of the user that runs this.
fn own_user_name() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map_or_else(|| SUBJECT.to_owned(), |user| user.name)
}

/// What to do when the hub does not take what the key file made.
fn other_keys(place: &args::Place, error: Error) -> Error {
    match error {
        Error::Authentication(text) => Error::Authentication(format!(
            "{text}: the hub at {} has other keys than {}; name its file with --key-file, or give a --token",
            place.socket().display(),
            place.key_file().display()
        )),
        other => other,
    }
}

/// Whom the tokens speak for that this command makes itself.
const SUBJECT: &str = "cli";
/// A board at 9 600 baud takes so long for the schemas of some ten addresses.
const SCHEMA_TIME: Duration = Duration::from_secs(2);
const SCHEMA_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks for a hub that is not there.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// For so long a client may not know that it was shut out.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// A time that every clock can tell: the year 9999.
const LAST_EXPIRY: u64 = 253_402_300_799;
