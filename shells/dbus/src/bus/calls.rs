//! The way of a call: from its sender to the router, and from step to step to its reply.

use std::convert::Infallible;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use dbus::strings::{BusName, ErrorName};
use dbus::{Message, MessageType};
use visorbus_hub::Error;

use super::Bus;
use super::chain::{Call, Chain};
use super::connection::Query;
use super::senders::{Credentials, SenderKey};
use super::session::{Asked, Waiting};
use crate::fault::{AUTH_FAILED, INVALID_ARGS, LIMITS_EXCEEDED};
use crate::step::{Outcome, Request, Step, Then};

impl Bus {
    pub(super) fn take_call(&mut self, call: Message, now: Instant) {
        self.counts.calls += 1;
        // The bus says who sends; only a server that is no bus does not.
        let Some(unique_name) = call.sender().map(|sender| sender.to_string()) else { return };
        let (bytes, refusal) = look_at(&call);
        if let Some(why) = refusal {
            return self.refuse_call(&call, INVALID_ARGS, why);
        }
        let entered = self.senders.enter(&unique_name);
        self.forget_gone();
        let Some((key, _)) = entered else {
            let text = "too many programs of this bus are busy here: try again later";
            return self.refuse_call(&call, LIMITS_EXCEEDED, text);
        };
        let most = self.config.calls_per_sender;
        let Some(sender) = self.senders.get_mut(key) else { return };
        if sender.calls >= most || (sender.calls > 0 && sender.bytes + bytes > CALL_BYTES) {
            let text = format!(
                "{} calls with {} bytes of yours wait for their answers, the limit: take these first",
                sender.calls, sender.bytes
            );
            return self.refuse_call(&call, LIMITS_EXCEEDED, &text);
        }
        if let Err(text) = self.senders.begin(key, bytes) {
            return self.refuse_call(&call, LIMITS_EXCEEDED, text);
        }
        let Some(sender) = self.senders.get_mut(key) else { return };
        // What came before stays before.
        if sender.is_known && sender.early.is_empty() {
            return self.begin_call(key, call, bytes, now);
        }
        let is_unasked = !sender.is_known && sender.early.is_empty();
        sender.early.push_back((call, bytes));
        if is_unasked && let Some(line) = self.connection() {
            line.ask("GetConnectionCredentials", (unique_name,), Query::Credentials(key));
        }
    }

    /// The bus has said who a sender is: its calls are taken from now on.
    pub(super) fn take_credentials(&mut self, key: SenderKey, credentials: &Credentials) {
        self.blind = None;
        let outcome = self.senders.learn(key, credentials);
        self.forget_gone();
        let Some(sender) = self.senders.get_mut(key) else { return };
        if let Err(text) = outcome {
            let early = std::mem::take(&mut sender.early);
            self.forget_sender(key);
            return early.iter().for_each(|(call, _)| self.refuse_call(call, LIMITS_EXCEEDED, text));
        }
        if !sender.early.is_empty() {
            self.told.push_back(key);
        }
    }

    /// Takes one of the calls that came before the bus said who their sender is: one of each such sender after the other.
    pub(super) fn take_early(&mut self, now: Instant) {
        let Some(key) = self.told.pop_front() else { return };
        let Some(sender) = self.senders.get_mut(key) else { return };
        let call = sender.early.pop_front();
        if !sender.early.is_empty() {
            self.told.push_back(key);
        }
        if let Some((call, bytes)) = call {
            self.begin_call(key, call, bytes, now);
        }
    }

    /// The bus does not say who a sender is, though it may be there: nothing is done for it, and it is told so.
    pub(super) fn refuse_early(&mut self, key: SenderKey, why: &str) {
        let blind = format!("the bus does not tell who calls: {why}; its policy has to allow it");
        let Some(sender) = self.senders.get_mut(key) else { return };
        for (call, _) in std::mem::take(&mut sender.early) {
            self.refuse_call(&call, AUTH_FAILED, &blind);
        }
        self.forget_sender(key);
        if self.blind.as_ref() != Some(&blind) {
            tracing::warn!("{blind}; calls are refused until then");
        }
        self.blind = Some(blind);
    }

    fn begin_call(&mut self, key: SenderKey, call: Message, bytes: usize, now: Instant) {
        let serial = call.get_serial().unwrap_or_default();
        let chain = Chain { sender: key, call: Some(Call { serial, no_reply: call.get_no_reply(), bytes }) };
        let Some(sender) = self.senders.get(key) else { return };
        let router = &mut self.router;
        match catch_unwind(AssertUnwindSafe(|| router.call(call, &sender.caller))) {
            Ok(step) => self.run(step, chain, now),
            Err(_) => self.fail(chain),
        }
    }

    /// Takes steps until one has to wait for the hub.
    pub(super) fn run(&mut self, mut step: Step, chain: Chain, now: Instant) {
        loop {
            let (then, outcome) = match step {
                Step::Done => return self.finish(chain),
                Step::Send(messages) => {
                    self.send_for(chain, messages);
                    return self.finish(chain);
                }
                Step::Ask(request, then) => match self.ask(chain, request, then, now) {
                    None => return,
                    Some(answered) => answered,
                },
                Step::Authenticate(token, then) => match self.authenticate(chain, &token, then, now) {
                    None => return,
                    Some((then, error)) => (then, Err(error)),
                },
            };
            match self.follow(then, outcome) {
                Some(next) => step = next,
                None => return self.fail(chain),
            }
        }
    }

    /// Goes on with a chain once the hub has answered; that of a sender that has left ends here.
    pub(super) fn go_on(&mut self, then: Then, outcome: Outcome, chain: Chain, now: Instant) {
        if self.senders.get(chain.sender).is_none() {
            return;
        }
        match self.follow(then, outcome) {
            Some(step) => self.run(step, chain, now),
            None => self.fail(chain),
        }
    }

    /// Asks the hub for a sender; gives back who waits when the answer is known already.
    fn ask(&mut self, chain: Chain, request: Request, then: Then, now: Instant) -> Option<(Then, Outcome)> {
        // Nobody is left who could have the answer.
        self.senders.get(chain.sender)?;
        let key = match self.session_for(chain.sender, request.as_guest, now) {
            Ok(key) => key,
            Err(error) => return Some((then, Err(error))),
        };
        let most = self.config.calls_per_sender;
        let session = self.sessions.get_mut(key)?;
        // What notifications set going is bounded here; calls are before they begin.
        if chain.call.is_none() && !session.has_room(most) {
            return Some((then, Err(Error::Message(format!("{most} answers are waited for, the limit")))));
        }
        let (waiting, outcome) = match session.ask(request, Waiting::Call(then, chain)) {
            Ok(Asked::Waits) => return None,
            Ok(Asked::Sent(waiting)) => (waiting, Ok(visorbus_hub::OwnedPayload::Empty)),
            Err((waiting, error)) => (waiting, Err(error)),
        };
        if let Waiting::Call(then, _) = waiting { Some((then, outcome)) } else { None }
    }

    /// What the router says is next; `None` when something broke over it.
    fn follow(&mut self, then: Then, outcome: Outcome) -> Option<Step> {
        let router = &mut self.router;
        catch_unwind(AssertUnwindSafe(|| then(router, outcome))).ok()
    }

    /// Something broke over a call: its sender is told, and all others go on.
    fn fail(&mut self, chain: Chain) {
        self.note_fault();
        let unique_name = self.senders.get(chain.sender).map(|sender| sender.caller.unique_name.clone());
        if let (Some(call), Some(unique_name)) = (chain.call, unique_name)
            && let Some(call) = stand_in(&unique_name, call)
        {
            self.refuse_call(&call, FAILED, BROKE);
        }
        self.finish(chain);
    }

    fn send_for(&mut self, chain: Chain, messages: Vec<Message>) {
        let no_reply = chain.call.is_some_and(|call| call.no_reply);
        let Some(line) = self.connection() else { return };
        for message in messages {
            let is_reply = matches!(message.msg_type(), MessageType::MethodReturn | MessageType::Error);
            if !(is_reply && no_reply) {
                line.send(message);
            }
        }
    }

    fn finish(&mut self, chain: Chain) {
        if let Some(call) = chain.call {
            self.senders.end(chain.sender, call.bytes);
        }
    }

    fn refuse_call(&mut self, call: &Message, error: &'static str, text: &str) {
        self.counts.refused += 1;
        if call.get_no_reply() {
            return;
        }
        let (Ok(name), Ok(text)) = (ErrorName::new(error), CString::new(text)) else { return };
        let reply = call.error(&name, &text);
        if let Some(line) = self.connection() {
            line.send(reply);
        }
    }

    pub(super) fn note_fault(&mut self) {
        self.counts.faults += 1;
        tracing::error!("{BROKE}");
    }
}

/// The length of a call in bytes, and why it is not kept until it is answered.
fn look_at(call: &Message) -> (usize, Option<&'static str>) {
    let (mut len, mut descriptors) = (0, false);
    let Ok(()) = call.marshal(|bytes| {
        (len, descriptors) = (bytes.len(), carries_descriptors(bytes));
        Ok::<(), Infallible>(())
    });
    let refusal = match (descriptors, len > LONGEST_CALL) {
        (true, _) => Some("file descriptors are not taken here: send what is in the file"),
        (_, true) => Some("this call is longer than 16 MiB"),
        _ => None,
    };
    (len, refusal)
}

/// A call that is answered like one that is no longer here.
fn stand_in(unique_name: &str, call: Call) -> Option<Message> {
    let mut stand_in = Message::new_method_call("a.b", "/", "a.b", "c").ok()?;
    stand_in.set_sender(Some(BusName::new(unique_name).ok()?));
    stand_in.set_serial(call.serial);
    stand_in.set_no_reply(call.no_reply);
    Some(stand_in)
}

/// Whether a message brings file descriptors, whatever its arguments are: a header with something unknown in it may.
fn carries_descriptors(message: &[u8]) -> bool {
    const UNIX_FDS: u8 = 9;
    let is_big = message.first() == Some(&b'B');
    let number = |at: usize| {
        let bytes: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
        Some(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) } as usize)
    };
    let field = |at: usize| -> Option<(u8, usize)> {
        let [code, 1, kind, 0] = *message.get(at..at + 4)? else { return None };
        let after = match kind {
            b'u' => at + 8,
            b's' | b'o' => at + 8 + number(at + 4)? + 1,
            b'g' => at + 4 + 1 + usize::from(*message.get(at + 4)?) + 1,
            _ => return None,
        };
        Some((code, after.next_multiple_of(8)))
    };
    let Some(end) = number(12).map(|len| 16 + len) else { return true };
    let mut at = 16;
    while at < end {
        match field(at) {
            Some((code, after)) if code != UNIX_FDS => at = after,
            _ => return true,
        }
    }
    false
}

const FAILED: &str = "org.freedesktop.DBus.Error.Failed";
const BROKE: &str = "something broke over a call; nothing else was harmed";

/// Bytes of one call.
const LONGEST_CALL: usize = 16 << 20;
/// Bytes of one sender's calls that wait for their answers, unless it is one alone.
const CALL_BYTES: usize = 4 << 20;
