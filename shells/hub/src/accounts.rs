//! What sessions and people ask about accounts and policy: a new token, one taken back, both read again, what one may do.
//! Each becomes an errand, and what came of it the answer and the end of what may not go on.

use visorbus_auth::{AuditEvent, AuditKind, AuthMethod, AuthToken, RevokeAll, TokenText};
use visorbus_core::Instant;
use visorbus_core::auth::{Access, BUS, Grant, Operation, UnverifiedToken};
use visorbus_core::bus;
use visorbus_core::message::{AddressBuf, Message, MessageFlags, MessagePayload, MessageType};
use visorbus_core::time::earlier;

use crate::bus::{parse, parse_text};
use crate::errands::{Errand, Errands, OwnedChannel, Party, Run};
use crate::handle::Outcome;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::info::{Ended, Revoke};
use crate::login::no_token;
use crate::owned::{Error, Result};
use crate::peer::Peer;
use crate::peers::PeerKey;

impl Hub {
    /// Makes a new token in the place of the session's own.
    pub(crate) fn refresh(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        self.wipes_input = true;
        let token = token_in(&incoming.message.payload)?;
        let grant = self.require_live_grant(incoming, own)?;
        let bytes = token.value.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
        // That the token is good is checked by who renews it; this is only whether it can be this session's.
        let shown =
            UnverifiedToken::read(&bytes).map_err(|e| Error::Authentication(e.for_peer().to_owned()))?;
        let (theirs, own, serial) = (shown.claims().subject, grant.subject(), shown.claims().serial);
        if theirs != own {
            return Err(Error::Authentication(format!(
                "a session of '{own}' cannot renew a token of '{theirs}': authenticate with it first"
            )));
        }
        let Some(peer) = self.peers.get(incoming.from) else { return Ok(()) };
        let errand = Errand::Refresh(token.clone(), OwnedChannel::from(peer.channel()));
        let asker = Asker::Peer(incoming.from, Question::of(&incoming.message));
        self.begin_errand(asker, Purpose::Refresh { serial }, errand)
    }

    /// Takes tokens back: one, for whoever has it, or many, for whoever may administer that.
    pub(crate) fn revoke(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        self.wipes_input = true;
        let asked = match incoming.message.payload {
            MessagePayload::String(_) => Revoke::Token(token_in(&incoming.message.payload)?.value),
            ref payload => parse(payload)?,
        };
        self.require_live_grant(incoming, own)?;
        let (errand, purpose) = match asked {
            Revoke::Token(token) => {
                let token = AuthToken::new(token)?;
                let text = format!("a token that '{}' made", token.issuer);
                (Errand::Revoke(token), text)
            }
            Revoke::Subject(subject) => {
                let text = format!("all tokens of '{subject}'");
                (Errand::RevokeAll(RevokeAll::Subject(subject)), text)
            }
            Revoke::KeyEpoch(id) => {
                (Errand::RevokeAll(RevokeAll::KeyEpoch(id)), format!("all tokens of key {id}"))
            }
        };
        if matches!(errand, Errand::RevokeAll(_)) {
            self.authorize(incoming, own, Operation::Administer, Access::Permission)?;
        }
        let asker = Asker::Peer(incoming.from, Question::of(&incoming.message));
        self.begin_errand(asker, Purpose::Revoke(purpose), errand)
    }

    /// Reads accounts or the policy again.
    pub(crate) fn reload(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        self.authorize(incoming, own, Operation::Administer, Access::Permission)?;
        let auth = incoming.message.destination.is_some_and(|to| to.as_str() == bus::AUTH_RELOAD);
        let asker = Asker::Peer(incoming.from, Question::of(&incoming.message));
        let (auth, policy) = (auth, !auth);
        self.begin_errand(asker, Purpose::Reload { auth, policy }, Errand::Reload { auth, policy })
    }

    /// Tells a session what it may do.
    pub(crate) fn tell_permissions(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let permissions = self.config.policy.permissions(self.require_live_grant(incoming, own)?);
        self.answer_with(incoming, &permissions)
    }

    /// Has an errand done for a peer, which may have one at a time, or for the program that the hub runs in.
    pub(crate) fn begin_errand(&mut self, asker: Asker, purpose: Purpose, errand: Errand) -> Result<()> {
        let peer = match &asker {
            Asker::Peer(key, _) => self.peers.get(*key),
            Asker::Program(_) | Asker::Hub => None,
        };
        if peer.is_some_and(|peer| peer.errand.is_some()) {
            let text = "this session waits for the outcome of such a request already: wait for it";
            return Err(Error::Message(text.to_owned()));
        }
        let errands = match self.errands.take() {
            Some(errands) => errands,
            None => Errands::new(&self.config.auth, &self.config.policy, self.handle.waker())
                .map_err(|e| Error::Internal(format!("no thread to check credentials on: {e}")))?,
        };
        let party = peer.map(|peer| Party {
            subject: peer.session.grant().map(|grant| grant.subject().to_owned()).unwrap_or_default(),
            user: peer.guesser.clone(),
        });
        let number = self.errands.insert(errands).start(errand, party)?;
        if let Asker::Peer(key, _) = &asker
            && let Some(peer) = self.peers.get_mut(*key)
        {
            peer.errand = Some(number);
        }
        self.askers.insert(number, (asker, purpose));
        Ok(())
    }

    /// Takes what the errands have come to. However many have changed something, sessions are asked about once.
    pub(crate) fn take_runs(&mut self, now: Instant) {
        let mut changes = Changes::default();
        while let Some(Run { number, outcome }) = self.errands.as_mut().and_then(Errands::take_run) {
            let Some((asker, purpose)) = self.askers.remove(&number) else { continue };
            self.take_run(number, asker, &purpose, outcome, &mut changes, now);
        }
        if !changes.any {
            return;
        }
        if changes.askers.is_empty() && now < self.recheck_from {
            // What somebody does with tokens of theirs over and over has all policy asked about now and then.
            self.cut_off_void(now);
            self.recheck_at = earlier(self.recheck_at, Some(self.recheck_from));
            return;
        }
        let ended = self.recheck(now);
        for asker in changes.askers {
            match asker {
                // Whoever asked may have gone.
                Asker::Program(done) => drop(done.send(Ok(ended))),
                Asker::Peer(key, question) => {
                    let message = question.message();
                    let incoming = Incoming { from: key, message, at_once: true, now };
                    if let Err(error) = self.answer_with(&incoming, &ended) {
                        self.send_error(key, &message, &error);
                    }
                }
                Asker::Hub => {}
            }
        }
    }

    fn take_run(
        &mut self,
        number: u64,
        asker: Asker,
        purpose: &Purpose,
        outcome: Result<Option<AuthToken>>,
        changes: &mut Changes,
        now: Instant,
    ) {
        match asker {
            Asker::Program(_) | Asker::Hub => {
                let event = AuditEvent::new(AuditKind::Revoked).subject(BUS);
                match (self.settle(event, None, purpose, outcome, changes), asker) {
                    (Err(error), Asker::Program(done)) => drop(done.send(Err(error))),
                    (Ok(()), asker) => changes.askers.push(asker),
                    (Err(_), _) => {}
                }
            }
            Asker::Peer(key, question) => {
                let waits = |peer: &&mut Peer| peer.errand == Some(number);
                let peer = self.peers.get_mut(key).filter(waits);
                if let Some(peer) = peer {
                    peer.errand = None;
                    self.finish(key, question, purpose, outcome, changes, now);
                } else if !matches!(purpose, Purpose::Login(_)) {
                    // The session is over, what it has brought about is not.
                    let event = self.event(AuditKind::Revoked, key);
                    drop(self.settle(event, Some(key), purpose, outcome, changes));
                }
            }
        }
    }

    fn finish(
        &mut self,
        key: PeerKey,
        question: Question,
        purpose: &Purpose,
        outcome: Result<Option<AuthToken>>,
        changes: &mut Changes,
        now: Instant,
    ) {
        let message = question.message();
        let incoming = Incoming { from: key, message, at_once: true, now };
        let finished = match purpose {
            Purpose::Login(method) => match self.finish_login(&incoming, outcome) {
                Ok(()) => {
                    self.handle_admitted(key, now);
                    return self.audit_authenticated(key, *method);
                }
                Err(error) => return self.refuse_login(key, &message, Some(*method), &error),
            },
            Purpose::Refresh { serial } => self.finish_refresh(&incoming, *serial, outcome, changes),
            Purpose::Revoke(_) => {
                let event = self.event(AuditKind::Revoked, key);
                // It may be the session's own: whoever asks is answered before it ends.
                if outcome.is_ok() {
                    self.respond(&incoming, MessagePayload::Empty);
                }
                self.settle(event, Some(key), purpose, outcome, changes)
            }
            Purpose::Reload { .. } => {
                let event = self.event(AuditKind::Revoked, key);
                match self.settle(event, Some(key), purpose, outcome, changes) {
                    // It is answered with what comes of it.
                    Ok(()) => return changes.askers.push(Asker::Peer(key, question)),
                    Err(error) => Err(error),
                }
            }
        };
        if let Err(error) = finished {
            self.send_error(key, &message, &error);
        }
    }

    /// The new token counts for the session at once, if the old one was the session's own.
    fn finish_refresh(
        &mut self,
        incoming: &Incoming<'_>,
        serial: u64,
        outcome: Result<Option<AuthToken>>,
        changes: &mut Changes,
    ) -> Result<()> {
        // Whoever else shows the old token is not the one who has the new one.
        changes.any |= outcome.is_ok();
        let token = outcome?.ok_or_else(no_token)?;
        let bytes = token.value.to_bytes().map_err(|e| Error::Internal(e.to_string()))?;
        let key = incoming.from;
        let is_own = |peer: &Peer| peer.session.grant().map(Grant::serial) == Some(serial);
        if self.peers.get(key).is_some_and(is_own) {
            let grant = self.admit(key, &bytes, incoming.now)?;
            if let Some(peer) = self.peers.get_mut(key) {
                peer.session.accept(grant);
            }
            self.renew_lasting(key, incoming.now);
        }
        self.answer_with(incoming, &token)?;
        let event = self.event(AuditKind::Refreshed, key);
        self.audit_of(key, AuditKind::Refreshed, event);
        Ok(())
    }

    /// What an errand has come to is told, as of whoever `event` is about, and is noted where it has changed something:
    /// of what was refused anybody can bring about as much as they like.
    fn settle(
        &mut self,
        event: AuditEvent,
        of: Option<PeerKey>,
        purpose: &Purpose,
        outcome: Result<Option<AuthToken>>,
        changes: &mut Changes,
    ) -> Result<()> {
        let (kind, reason) = match (&outcome, purpose) {
            (Ok(_), Purpose::Revoke(what)) => (AuditKind::Revoked, what.clone()),
            (Ok(_), Purpose::Reload { auth, policy }) if *auth && *policy => {
                self.audit(&AuditEvent { what: AuditKind::AccountsReloaded.to_string(), ..event.clone() });
                (AuditKind::PolicyReloaded, String::new())
            }
            (Ok(_), Purpose::Reload { auth: true, .. }) => (AuditKind::AccountsReloaded, String::new()),
            (Ok(_), Purpose::Reload { .. }) => (AuditKind::PolicyReloaded, String::new()),
            (Ok(_), Purpose::Refresh { .. } | Purpose::Login(_)) => (AuditKind::Refreshed, String::new()),
            (Err(error), Purpose::Reload { .. }) => (AuditKind::ReloadFailed, error.text().clone()),
            (Err(error), _) => (AuditKind::Refused, format!("{purpose}: {}", error.text())),
        };
        let event = AuditEvent { what: kind.to_string(), ..event }.reason(reason);
        match of {
            Some(key) => self.audit_of(key, kind, event),
            None => self.audit(&event),
        }
        // Of two things that were to be read again one may have been.
        changes.any |= outcome.is_ok() || matches!(purpose, Purpose::Reload { .. });
        outcome.map(|_| ())
    }
}

/// What the errands that ended in one turn of the loop have brought about.
#[derive(Default)]
struct Changes {
    /// There is something that sessions have to be asked about.
    any: bool,
    /// Who is told what that ended.
    askers: Vec<Asker>,
}

/// Who waits for an errand.
pub(crate) enum Asker {
    /// A peer, by a message.
    Peer(PeerKey, Question),
    /// The program that the hub runs in.
    Program(Outcome<Ended>),
    /// The hub itself: something has changed on disk.
    Hub,
}

/// What an errand is for.
pub(crate) enum Purpose {
    /// Somebody logs in.
    Login(AuthMethod),
    /// A session has its token renewed, the one with this serial number.
    Refresh { serial: u64 },
    /// Tokens are taken back, as said for people.
    Revoke(String),
    /// Something is read again.
    Reload { auth: bool, policy: bool },
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Login(_) => f.write_str("a login"),
            Self::Refresh { .. } => f.write_str("a new token"),
            Self::Revoke(what) => write!(f, "taking back {what}"),
            Self::Reload { .. } => f.write_str("reading accounts or policy again"),
        }
    }
}

/// As much of a message as its answer needs.
pub(crate) struct Question {
    id: u64,
    source: Option<AddressBuf>,
    flags: MessageFlags,
    is_request: bool,
    is_json: bool,
}

impl Question {
    pub(crate) fn of(message: &Message<'_>) -> Self {
        Self {
            id: message.id,
            source: message.source.map(AddressBuf::from),
            flags: message.flags,
            is_request: message.message_type == MessageType::Request,
            is_json: matches!(message.payload, MessagePayload::Json(_)),
        }
    }

    fn message(&self) -> Message<'_> {
        let mut message = match self.is_request {
            true => Message::request(self.id, BUS_ADDRESS),
            false => Message::notification(self.id, BUS_ADDRESS),
        };
        message.source = self.source.as_ref().map(AddressBuf::as_address);
        message.flags = self.flags;
        message.payload = if self.is_json { MessagePayload::Json("null") } else { MessagePayload::Empty };
        message
    }
}

/// A token's text, as it is, or as a JSON or postcard string.
fn token_in(payload: &MessagePayload<'_>) -> Result<AuthToken> {
    let text = parse_text(payload)?;
    let token = TokenText::parse(&text).map_err(|e| Error::Authentication(e.to_string()))?;
    AuthToken::new(token)
}
