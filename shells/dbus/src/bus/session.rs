//! One session of a sender in the hub, as the end of a link that has no wire: the frames that the hub is to take, who waits
//! for which answer, and how far the proof is. The protocol is the hub's own.

use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use visorbus_auth::{AuthToken, TokenText};
use visorbus_core::auth::UnverifiedToken;
use visorbus_core::bus::{self, Identity};
use visorbus_core::codec::{self, MAX_HEADER};
use visorbus_core::frame::length::{PREFIX_LEN, Split, prefix, split};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_core::{ErrorKind, IpcError};
use visorbus_hub::{Error, LinkSignal, OwnedPayload, ReceiveBuffer, Result, unix_micros};
use zeroize::{Zeroize as _, Zeroizing};

use super::HashMap;
use super::chain::Chain;
use super::senders::SenderKey;
use crate::step::{Request, Then};

slotmap::new_key_type! {
    /// Names a session; never names another one later.
    pub(super) struct SessionKey;
}

/// One session, from before the hub has its link until the hub drops that.
pub(super) struct Session {
    /// Whose it is; `None`: everybody's who has none.
    pub(super) owner: Option<SenderKey>,
    pub(super) proof: Proof,
    pub(super) stage: Stage,
    /// What the hub is told of the link.
    pub(super) suffix: String,
    signal: Option<LinkSignal>,
    /// Frames for the hub, each behind its length.
    inbox: Vec<u8>,
    /// What is asked before the session is open.
    early: Vec<(Request, Waiting)>,
    waiting: HashMap<u64, Waiting>,
    last_id: u64,
    /// The longest frame that the hub takes.
    max_frame: usize,
    /// Since when it is open.
    pub(super) since: Instant,
    /// When its token expires, as far as that is known.
    pub(super) expires: Option<Instant>,
    /// When its proof is shown again; not before the answer to the last one.
    pub(super) renew: Option<Instant>,
    /// Why the hub ends it, in its own words.
    pub(super) goodbye: Option<String>,
    /// The hub takes nothing from it just now, and looks again when it is told to.
    pub(super) is_stuck: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The hub has not said yet whether it takes the proof.
    Proving,
    Open,
    /// Nothing comes from it any longer; the hub has yet to drop its link.
    Over,
}

/// What it proves its owner with.
pub(super) enum Proof {
    /// The user that the bus tells of.
    Peer,
    /// A token, and who waits to hear what came of it.
    Token(Zeroizing<Vec<u8>>, Option<(Then, Chain)>),
    /// Nothing: the hub believes this name, which may do nothing.
    Guest(String),
}

/// Who waits for an answer of the hub's.
pub(super) enum Waiting {
    /// A call, or a notification, on its way.
    Call(Then, Chain),
    /// The session, for its proof.
    Proof,
}

/// What a proof is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    /// Whom it proves.
    pub(super) subject: String,
    /// Until when, in Unix seconds.
    expiry: u64,
}

impl Session {
    /// A session whose hello and proof wait for the hub.
    pub(super) fn new(owner: Option<SenderKey>, proof: Proof, suffix: String, now: Instant) -> Self {
        let mut session = Self {
            owner,
            proof,
            stage: Stage::Proving,
            suffix,
            signal: None,
            inbox: Vec::new(),
            early: Vec::new(),
            waiting: HashMap::default(),
            last_id: 0,
            max_frame: FIRST_FRAMES,
            since: now,
            expires: None,
            renew: None,
            goodbye: None,
            is_stuck: false,
        };
        session.greet();
        if !matches!(session.proof, Proof::Guest(_)) {
            session.prove();
        }
        session
    }

    /// The hub has its link.
    pub(super) fn attached(&mut self, signal: LinkSignal) {
        signal.input();
        self.signal = Some(signal);
    }

    /// Asks the hub, once the session is open.
    ///
    /// # Errors
    /// Nothing was asked, and so much is what is wrong; `waiting` comes back.
    pub(super) fn ask(
        &mut self,
        request: Request,
        waiting: Waiting,
    ) -> std::result::Result<Asked, (Waiting, Error)> {
        if self.owner.is_none() && self.waits_of(&waiting) >= GUEST_CALLS {
            let text =
                format!("{GUEST_CALLS} calls of yours wait for their answers, the limit of who is unknown");
            return Err((waiting, Error::Message(text)));
        }
        match self.stage {
            Stage::Proving => self.early.push((request, waiting)),
            Stage::Over => return Err((waiting, Error::Connection("the session is over".to_owned()))),
            Stage::Open => {
                let id = self.take_id();
                let message = Message {
                    message_type: request.message_type,
                    flags: request.flags,
                    payload: request.payload.borrow(),
                    ..Message::request(id, request.destination.as_address())
                };
                if let Err(error) = self.put(&message) {
                    return Err((waiting, error));
                }
                if !message.wants_answer() {
                    return Ok(Asked::Sent(waiting));
                }
                self.waiting.insert(id, waiting);
            }
        }
        Ok(Asked::Waits)
    }

    /// Shows its proof, for the first time or again.
    pub(super) fn prove(&mut self) {
        self.renew = None;
        let id = self.take_id();
        let credentials = match &self.proof {
            Proof::Guest(_) => return,
            Proof::Peer => Zeroizing::new(postcard::to_stdvec(&bus::Credentials::Peer).unwrap_or_default()),
            Proof::Token(token, _) => {
                Zeroizing::new(postcard::to_stdvec(&bus::Credentials::Token(token)).unwrap_or_default())
            }
        };
        let request = Message::request(id, const { Address::literal(bus::AUTHENTICATE) });
        let request = request.with_payload(MessagePayload::Binary(&credentials));
        // It is far shorter than any limit.
        if self.put(&request).is_ok() {
            self.waiting.insert(id, Waiting::Proof);
        }
    }

    /// What the proof was worth, from the hub's answer to it.
    pub(super) fn proven(&self, answer: &[u8]) -> Option<Proven> {
        let made;
        let token = match &self.proof {
            Proof::Token(token, _) => token,
            Proof::Peer => {
                let token: AuthToken = postcard::from_bytes(answer).ok()?;
                made = Zeroizing::new(token.value.to_bytes().ok()?.to_vec());
                &made
            }
            Proof::Guest(_) => return None,
        };
        let token = UnverifiedToken::read(token).ok()?;
        let (expiry, _) = token.narrowed()?;
        Some(Proven { subject: token.claims().subject.to_owned(), expiry })
    }

    /// It is open from now on, or goes on; returns what was asked meanwhile.
    pub(super) fn open(&mut self, proven: Option<&Proven>, now: Instant) -> Vec<(Request, Waiting)> {
        if self.stage == Stage::Proving {
            (self.stage, self.since) = (Stage::Open, now);
        }
        if let Some(proven) = proven {
            let left = Duration::from_secs(proven.expiry.saturating_sub(unix_micros() / 1_000_000));
            self.expires = now.checked_add(left);
            // In time for an answer, and not at once again.
            let before = (left / 4).min(RENEW_BEFORE);
            self.renew =
                matches!(self.proof, Proof::Peer).then(|| now + (left - before).max(RENEW_NOT_BEFORE));
        }
        std::mem::take(&mut self.early)
    }

    /// It is over for its owner; the hub is told, and drops the link. Returns everybody who waits.
    pub(super) fn end(&mut self) -> Vec<Waiting> {
        self.stage = Stage::Over;
        self.expires = None;
        self.renew = None;
        self.inbox.zeroize();
        if let Some(signal) = &self.signal {
            signal.input();
        }
        let early = std::mem::take(&mut self.early).into_iter().map(|(_, waiting)| waiting);
        early.chain(std::mem::take(&mut self.waiting).into_values()).collect()
    }

    /// What was asked before the session was open and may be asked by anybody.
    pub(super) fn take_guests(&mut self) -> Vec<(Request, Waiting)> {
        let (guests, early) =
            std::mem::take(&mut self.early).into_iter().partition(|(request, _)| request.as_guest);
        self.early = early;
        guests
    }

    /// Who waits for the answer `id`.
    pub(super) fn answered(&mut self, id: u64) -> Option<Waiting> {
        self.waiting.remove(&id)
    }

    /// Whether more may wait for its answers.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.waiting.len() + self.early.len() < most
    }

    /// How many answers the sender of `one` waits for.
    fn waits_of(&self, one: &Waiting) -> usize {
        let sender = |waiting: &Waiting| match waiting {
            Waiting::Call(_, chain) => Some(chain.sender),
            Waiting::Proof => None,
        };
        let early = self.early.iter().map(|(_, waiting)| waiting);
        early.chain(self.waiting.values()).filter(|other| sender(other) == sender(one)).count()
    }

    /// Takes what the hub says to hello.
    pub(super) fn greeted(&mut self, answer: &MessagePayload<'_>) {
        if let Ok(identity) = answer.parse::<Identity<'_>>() {
            self.max_frame = identity.max_frame as usize;
        }
    }

    /// Gives the hub what waits for it, so much that others have their turn too.
    pub(super) fn receive(&mut self, into: &mut ReceiveBuffer) {
        let mut used = 0;
        while used < AT_A_TIME {
            match split(&self.inbox[used..], usize::MAX) {
                Ok(Split::Frame { consumed, .. }) => used += consumed,
                _ => break,
            }
        }
        into.extend(&self.inbox[..used]);
        if self.stage == Stage::Proving {
            // There may be a token in it.
            self.inbox[..used].zeroize();
        }
        self.inbox.drain(..used);
        if self.inbox.is_empty() {
            self.inbox.shrink_to(KEPT);
        } else if let Some(signal) = &self.signal {
            signal.input();
        }
    }

    /// There is room again for what the hub could not give.
    pub(super) fn unstick(&mut self) {
        if std::mem::take(&mut self.is_stuck)
            && let Some(signal) = &self.signal
        {
            signal.output();
        }
    }

    /// Says to whoever asks this end for something that it offers nothing.
    pub(super) fn refuse(&mut self, request: &Message<'_>) {
        let text = "this program is on the desktop bus and offers nothing: only it can call";
        if request.wants_answer() && self.inbox.len() < AT_A_TIME {
            let mut frame = [0; 512];
            let error = IpcError::new(ErrorKind::Message, text);
            if let Some(len) = codec::encode_error(request, &error, &mut frame) {
                self.append(&frame[..len], &[]);
            }
        }
    }

    fn greet(&mut self) {
        let id = self.take_id();
        let name = match &self.proof {
            Proof::Guest(name) => name.clone(),
            // The hub gives it its name.
            _ => "dbus".to_owned(),
        };
        let identity = Identity {
            min_version: bus::WIRE_VERSION,
            max_version: bus::WIRE_VERSION,
            name: &name,
            boot_id: std::hash::RandomState::new().hash_one(&self.suffix),
            max_frame: u32::MAX,
            // This end is gone exactly when the link is.
            heartbeat_ms: 0,
            capabilities: 0,
            rows: 0,
            unix_us: 0,
        };
        let payload = postcard::to_stdvec(&identity).unwrap_or_default();
        let hello = Message::request(id, const { Address::literal(bus::HELLO) });
        // It is far shorter than any limit.
        let _ = self.put(&hello.with_payload(MessagePayload::Binary(&payload)));
    }

    fn put(&mut self, message: &Message<'_>) -> Result<()> {
        let mut header = [0; MAX_HEADER + 2 + MAX_TOKEN];
        let len = codec::encode_header(message, &mut header);
        let len = len.map_err(|_| Error::Internal("this message has no room for its header".to_owned()))?;
        let payload = message.payload.as_bytes();
        if len + payload.len() > self.max_frame {
            return Err(Error::Message(format!(
                "this message has {} bytes, the hub takes at most {}",
                len + payload.len(),
                self.max_frame
            )));
        }
        self.append(&header[..len], payload);
        Ok(())
    }

    fn append(&mut self, header: &[u8], payload: &[u8]) {
        let was_empty = self.inbox.is_empty();
        self.inbox.reserve(PREFIX_LEN + header.len() + payload.len());
        self.inbox.extend_from_slice(&prefix(header.len() + payload.len()));
        self.inbox.extend_from_slice(header);
        self.inbox.extend_from_slice(payload);
        if was_empty && let Some(signal) = &self.signal {
            signal.input();
        }
    }

    fn take_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// What came of [`Session::ask`].
pub(super) enum Asked {
    /// The hub is going to answer.
    Waits,
    /// It is not asked to.
    Sent(Waiting),
}

impl Proof {
    /// That of a token.
    ///
    /// # Errors
    /// `Authentication` when there is none in the text.
    pub(super) fn token(
        text: &TokenText,
        then: Then,
        chain: Chain,
    ) -> std::result::Result<Self, (Then, Error)> {
        match text.to_bytes() {
            Ok(bytes) => Ok(Self::Token(Zeroizing::new(bytes.to_vec()), Some((then, chain)))),
            Err(error) => Err((then, Error::Authentication(format!("this is no token: {error}")))),
        }
    }
}

/// The payload of an answer, or the error that it is.
pub(super) fn outcome(message: &Message<'_>) -> Result<OwnedPayload> {
    if message.message_type == MessageType::Error {
        return Err(IpcError::from_payload(message.payload.as_bytes()).map(String::from));
    }
    Ok(OwnedPayload::from(message.payload))
}

/// Answers that one sender waits for in the session that it shares with all who are unknown.
const GUEST_CALLS: usize = 8;
/// The id of the hello.
pub(super) const HELLO_ID: u64 = 1;
/// What the hub takes before it has said how much it takes: enough for hello and proof.
const FIRST_FRAMES: usize = 4096;
/// Bytes that the hub is given at a time.
const AT_A_TIME: usize = 64 << 10;
/// What an inbox that is empty keeps of its memory.
const KEPT: usize = 512;
/// How long before a proof expires it is shown again.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// How soon after the last one at the earliest.
const RENEW_NOT_BEFORE: Duration = Duration::from_millis(200);
