//! The keys that a client shares with other components, and what becomes of payloads with them: compressed and sealed on
//! their way out, opened and expanded on their way in. Knows messages; no connection, no lock, no queue.
//!
//! One rule both ways: a message between this client and a component that it shares a key with is sealed, or it is
//! refused. Nobody on the way can take the seal off and pass the message on as one that never had any.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use visorbus_core::message::{Address, AddressBuf, MessagePayload, MessageType, PayloadKind};
use visorbus_core::seal::{
    BootNonce, Header, Nonce, OVERHEAD, OpenError, Opener, PayloadKey, Sealer, nonce_of,
};
use visorbus_core::{IpcError, Message, MessageFlags, bus};
use visorbus_hub::compress::{compress, expand};
use visorbus_hub::{Error, OwnedPayload, Result, unix_micros};

use super::state::HashMap;
use crate::inbox::MAX_FRAME;

/// A client's payload keys.
#[derive(Default)]
pub(crate) struct Vault {
    /// By the component that each belongs to.
    keys: HashMap<String, Shared>,
    /// The sealed requests that wait for their answers, by id.
    calls: HashMap<u64, Sealed>,
    compresses_secrets: bool,
    refused: u64,
}

/// Who this client is and what its hub can do.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) name: &'a str,
    /// Whether it serves a component.
    pub(crate) serves: &'a dyn Fn(&str) -> bool,
    /// Both the hub and this end expand compressed payloads.
    pub(crate) compresses: bool,
}

/// What is to be changed of a message before it goes out.
pub(crate) struct Wrapped {
    pub(crate) flags: MessageFlags,
    /// The source that it must have, where it has none.
    pub(crate) source: Option<AddressBuf>,
    /// Its payload, of kind Binary; `None`: as it is.
    pub(crate) payload: Option<Vec<u8>>,
    /// Of a sealed request: what its answer is opened by.
    pub(crate) sealed: Option<Sealed>,
}

/// A payload as it came in, opened and expanded.
pub(crate) struct Unwrapped {
    pub(crate) payload: OwnedPayload,
    /// Of a sealed request: what its answer is sealed by.
    pub(crate) sealed: Option<Sealed>,
}

/// As much of a sealed request as its answer is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    id: u64,
    source: AddressBuf,
    destination: AddressBuf,
    nonce: Nonce,
    /// Whose key it is sealed with.
    component: String,
}

impl Vault {
    /// Has everything to and from `component` sealed with `key` from now on.
    pub(crate) fn share(&mut self, component: &str, key: PayloadKey) {
        self.keys.insert(component.to_owned(), Shared::new(key));
    }

    /// `false` when there was no key.
    pub(crate) fn unshare(&mut self, component: &str) -> bool {
        self.keys.remove(component).is_some()
    }

    pub(crate) const fn compress_secrets(&mut self) {
        self.compresses_secrets = true;
    }

    /// Messages that were refused because they were not sealed, or did not open or expand.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    pub(crate) const fn count_refused(&mut self) {
        self.refused += 1;
    }

    /// Waits for the answer to a request.
    pub(crate) fn await_answer(&mut self, sealed: Sealed) {
        self.calls.insert(sealed.id, sealed);
    }

    /// Whether the answer to the request `id` has to be opened.
    pub(crate) fn awaits(&self, id: u64) -> bool {
        self.calls.contains_key(&id)
    }

    /// Nobody waits for the answer to the request `id` any more.
    pub(crate) fn forget_call(&mut self, id: u64) {
        self.calls.remove(&id);
    }

    /// Nobody waits for any answer any more.
    pub(crate) fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// Compresses and seals the payload of a message, as its flags ask and its destination demands; `None` when it goes
    /// as it is.
    ///
    /// # Errors
    /// `Message` when it asks for what cannot be.
    pub(crate) fn wrap(&mut self, message: &Message<'_>, own: Own<'_>) -> Result<Option<Wrapped>> {
        let MessageFlags { encrypted, compressed, .. } = message.flags;
        if !encrypted && !compressed && self.keys.is_empty() {
            return Ok(None);
        }
        let component = message.destination.map_or(bus::NAME, Address::component);
        let seals = self.keys.contains_key(component);
        if encrypted && !seals {
            return Err(no_key(component));
        }
        if seals && compressed && !self.compresses_secrets {
            return Err(tells_by_length(component));
        }
        if !seals && !compressed {
            return Ok(None);
        }
        let short = if compressed && own.compresses { compress(message.payload) } else { None };
        let flags = MessageFlags { compressed: short.is_some(), ..message.flags };
        if seals {
            return self.seal(component, &Message { flags, ..*message }, short, own).map(Some);
        }
        Ok(Some(Wrapped { flags, source: None, payload: short, sealed: None }))
    }

    /// Seals the answer to a sealed request: its payload. `None` when the key is not shared any more.
    pub(crate) fn seal_answer(&mut self, answer: &Message<'_>, to: &Sealed) -> Option<Vec<u8>> {
        let (from, asker) = (to.destination.as_address(), to.source.as_address());
        let sealer = self.keys.get_mut(&to.component)?.sealer(from, asker).ok()?;
        seal(sealer, &to.header_of(answer), answer.payload.kind(), answer.payload.as_bytes()).ok()
    }

    /// Opens and expands the payload of a message, and sees to it that one is sealed where it has to be; `None` when it
    /// is as it came.
    ///
    /// # Errors
    /// Why it must not reach anybody.
    pub(crate) fn unwrap(&mut self, message: &Message<'_>) -> Result<Option<Unwrapped>> {
        let MessageFlags { encrypted, compressed, .. } = message.flags;
        if !encrypted && !compressed && self.keys.is_empty() {
            return Ok(None);
        }
        if message.is_reply() { self.unwrap_answer(message) } else { self.unwrap_other(message) }
    }

    /// Whether subscribers are to hear that something from the sender of `message` was refused: once, until something
    /// opens again.
    pub(crate) fn is_news(&mut self, message: &Message<'_>) -> bool {
        let component = self.component_of(message);
        let shared = component.and_then(|component| self.keys.get_mut(&component));
        shared.is_none_or(|shared| !std::mem::replace(&mut shared.told, true))
    }

    fn seal(
        &mut self,
        component: &str,
        message: &Message<'_>,
        short: Option<Vec<u8>>,
        own: Own<'_>,
    ) -> Result<Wrapped> {
        if message.is_reply() {
            return Err(Error::Message(format!(
                "what '{component}' is answered must be sealed, which only the answer of a handler can be"
            )));
        }
        // What is published on a topic of its own this client says as that component.
        let speaks_as = if (own.serves)(component) { component } else { own.name };
        let name = Address::new(speaks_as).map_err(|e| Error::Internal(e.to_string()))?;
        let source = message.source.unwrap_or(name);
        let header = Header::of(message, source);
        let (header, to) = header.zip(message.destination).ok_or_else(|| no_key(component))?;
        let shared = self.keys.get_mut(component).ok_or_else(|| no_key(component))?;
        let sealer = shared.sealer(source, to)?;
        let payload = match &short {
            Some(short) => seal(sealer, &header, PayloadKind::Binary, short),
            None => seal(sealer, &header, message.payload.kind(), message.payload.as_bytes()),
        }?;
        let nonce = nonce_of(&payload).filter(|_| message.wants_answer());
        let (source, flags) = (AddressBuf::from(source), MessageFlags { encrypted: true, ..message.flags });
        let sealed = nonce.map(|nonce| Sealed {
            id: message.id,
            source: source.clone(),
            destination: to.into(),
            nonce,
            component: component.to_owned(),
        });
        let sealed = sealed.filter(|_| message.message_type == MessageType::Request);
        Ok(Wrapped { flags, source: Some(source), payload: Some(payload), sealed })
    }

    fn unwrap_answer(&mut self, answer: &Message<'_>) -> Result<Option<Unwrapped>> {
        let Some(call) = self.calls.remove(&answer.id) else {
            return match answer.flags.encrypted {
                true => Err(unasked()),
                false => expanded(answer),
            };
        };
        let is_error = answer.message_type == MessageType::Error;
        if !answer.flags.encrypted {
            // What the hub says of a request it says itself, and can only say that nothing came of it.
            let is_hubs = answer.source.is_none_or(|source| source.component() == bus::NAME);
            return if is_error && is_hubs { Ok(None) } else { Err(unsealed_answer(answer, &call)) };
        }
        let (from, to) = (call.destination.as_address(), call.source.as_address());
        let shared = self.keys.get_mut(&call.component).ok_or_else(|| no_key(&call.component))?;
        let payload = shared.open(&call.header_of(answer), from, to, answer.payload.as_bytes())?;
        Ok(Some(Unwrapped { payload: opened(answer, payload)?, sealed: None }))
    }

    fn unwrap_other(&mut self, message: &Message<'_>) -> Result<Option<Unwrapped>> {
        let Some(component) = self.component_of(message) else {
            return match message.flags.encrypted {
                true => Err(no_key(message.source.map_or(bus::NAME, Address::component))),
                false => expanded(message),
            };
        };
        let (Some(source), Some(to), true) = (message.source, message.destination, message.flags.encrypted)
        else {
            return Err(unsealed(message, &component));
        };
        let header = Header::of(message, source).ok_or_else(|| unsealed(message, &component))?;
        let shared = self.keys.get_mut(&component).ok_or_else(|| no_key(&component))?;
        let sealed_bytes = message.payload.as_bytes();
        let payload = shared.open(&header, source, to, sealed_bytes)?;
        let answers = message.message_type == MessageType::Request && message.wants_answer();
        let sealed = nonce_of(sealed_bytes).filter(|_| answers).map(|nonce| Sealed {
            id: message.id,
            source: source.into(),
            destination: to.into(),
            nonce,
            component,
        });
        Ok(Some(Unwrapped { payload: opened(message, payload)?, sealed }))
    }

    /// Whose key a message that came has to be sealed with: its sender's, else that of the component that it is for. What
    /// the hub says to this client itself has none.
    fn component_of(&self, message: &Message<'_>) -> Option<String> {
        let to = message.destination.map_or(bus::NAME, Address::component);
        if to == bus::NAME {
            return None;
        }
        let from = message.source.map(Address::component);
        let component = from.filter(|from| self.keys.contains_key(*from)).unwrap_or(to);
        self.keys.contains_key(component).then(|| component.to_owned())
    }
}

impl Wrapped {
    /// The message as it goes out.
    pub(crate) fn of<'m>(&'m self, message: &Message<'m>) -> Message<'m> {
        let source = self.source.as_ref().map(AddressBuf::as_address).or(message.source);
        let payload = self.payload.as_deref().map_or(message.payload, MessagePayload::Binary);
        Message { flags: self.flags, source, payload, ..*message }
    }
}

impl Sealed {
    fn header_of<'s>(&'s self, answer: &Message<'_>) -> Header<'s> {
        Header::of_answer(answer, self.destination.as_address(), self.source.as_address(), self.nonce)
    }
}

/// One shared key, and what has gone both ways with it.
struct Shared {
    key: PayloadKey,
    /// By sender and receiver.
    sealers: HashMap<Direction, Sealer>,
    openers: HashMap<Direction, Opener>,
    /// Of a sender that is not in `openers`, starts up to this one are refused: it may have been forgotten.
    forgotten: u64,
    /// Subscribers were told that something did not open, and nothing has since.
    told: bool,
}

type Direction = (String, String);

impl Shared {
    fn new(key: PayloadKey) -> Self {
        Self { key, sealers: HashMap::default(), openers: HashMap::default(), forgotten: 0, told: false }
    }

    fn sealer(&mut self, from: Address<'_>, to: Address<'_>) -> Result<&mut Sealer> {
        let (from, to) = (from.component(), to.component());
        if self.sealers.len() >= MAX_SENDERS {
            // Each begins anew then, with a start of its own.
            self.sealers.clear();
        }
        match self.sealers.entry((from.to_owned(), to.to_owned())) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(Sealer::new(&self.key, from, to, boot_nonce()?))),
        }
    }

    /// Opens what `from` has sealed for `to`. A sender that has never sealed anything leaves no trace.
    fn open(
        &mut self,
        header: &Header<'_>,
        from: Address<'_>,
        to: Address<'_>,
        sealed: &[u8],
    ) -> Result<(PayloadKind, Vec<u8>)> {
        let (name, to) = (from.component(), to.component());
        let direction = (name.to_owned(), to.to_owned());
        let mut out = vec![0; sealed.len()];
        let refused = |error: OpenError| Error::Authentication(format!("from '{name}': {error}"));
        let mut stranger = None;
        let opener = match self.openers.get_mut(&direction) {
            Some(known) => known,
            None => {
                let opener = stranger.insert(Opener::new(&self.key, name, to));
                opener.refuse_boots_before(self.forgotten.saturating_add(1));
                opener
            }
        };
        let (kind, content) = opener.open(header, sealed, &mut out).map_err(refused)?;
        let content = content.to_vec();
        if let Some(proven) = stranger {
            self.forget_one_of_many();
            self.openers.insert(direction, proven);
        }
        self.told = false;
        Ok((kind, content))
    }

    /// Makes room for one more sender: the one that started first goes, and all that started no later stay out.
    fn forget_one_of_many(&mut self) {
        if self.openers.len() < MAX_SENDERS {
            return;
        }
        let oldest = self.openers.iter().min_by_key(|(_, opener)| opener.boot_number());
        let oldest = oldest.map(|(direction, opener)| (direction.clone(), opener.boot_number()));
        if let Some((direction, number)) = oldest {
            self.openers.remove(&direction);
            self.forgotten = self.forgotten.max(number.unwrap_or(0));
        }
    }
}

fn seal(sealer: &mut Sealer, header: &Header<'_>, kind: PayloadKind, content: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0; content.len() + OVERHEAD];
    sealer.seal(header, kind, content, &mut out).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(out)
}

/// What was in a seal, expanded where it was compressed before.
fn opened(message: &Message<'_>, (kind, content): (PayloadKind, Vec<u8>)) -> Result<OwnedPayload> {
    let payload = MessagePayload::from_parts(kind, &content)
        .ok_or_else(|| Error::Protocol("what was sealed is not of the kind that it says".to_owned()))?;
    match message.flags.compressed {
        true => expand(payload, MAX_FRAME as usize).map_err(|e| Error::Message(e.to_string())),
        false => Ok(payload.into()),
    }
}

fn expanded(message: &Message<'_>) -> Result<Option<Unwrapped>> {
    if !message.flags.compressed {
        return Ok(None);
    }
    let payload = expand(message.payload, MAX_FRAME as usize).map_err(|e| Error::Message(e.to_string()))?;
    Ok(Some(Unwrapped { payload, sealed: None }))
}

/// Another for each sealer of this process, and a higher one: where two ask in one microsecond, or the clock goes back.
fn boot_nonce() -> Result<BootNonce> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let mut number = 0;
    // It never says no, so neither does this.
    let _ = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        number = unix_micros().max(last.saturating_add(1));
        Some(number)
    });
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    Ok(BootNonce::new(number, random))
}

fn no_key(component: &str) -> Error {
    Error::Message(format!(
        "no payload key is shared with '{component}' here, so nothing sealed comes or goes"
    ))
}

fn tells_by_length(component: &str) -> Error {
    Error::Message(format!(
        "what goes to '{component}' is sealed, and compressing it first would show by its length what is in it: send it \
         uncompressed"
    ))
}

fn unsealed(message: &Message<'_>, component: &str) -> Error {
    let address = message.destination.map_or("", |address| address.as_str());
    Error::Authentication(format!(
        "'{address}' was not sent sealed with the key that is shared with '{component}': it is refused"
    ))
}

/// What an unsealed answer says is not to be believed, but may help a person.
fn unsealed_answer(answer: &Message<'_>, call: &Sealed) -> Error {
    let asked = call.destination.as_str();
    let says = match answer.message_type {
        MessageType::Error => IpcError::from_payload(answer.payload.as_bytes()).to_string(),
        _ => "something".to_owned(),
    };
    Error::Authentication(format!(
        "the answer of '{asked}' was not sealed with the shared key; whoever sent it says: {says}"
    ))
}

fn unasked() -> Error {
    Error::Authentication("a sealed answer came to what was not asked sealed".to_owned())
}

/// Senders and receivers that are remembered of one key.
const MAX_SENDERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed_by(name: &str, start: u64) -> (String, Vec<u8>) {
        let source = format!("{name}/x");
        let mut sealer = Sealer::new(&PayloadKey::new([5; 32]), name, "vault", BootNonce::new(start, [0; 8]));
        let header = header_of(&source);
        let sealed = seal(&mut sealer, &header, PayloadKind::Binary, b"secret").unwrap();
        (source, sealed)
    }

    fn header_of(source: &str) -> Header<'_> {
        let request = Message::request(1, Address::literal("vault/put"));
        Header::of(&request, Address::new(source).unwrap()).unwrap()
    }

    fn open(shared: &mut Shared, (source, sealed): &(String, Vec<u8>)) -> Result<(PayloadKind, Vec<u8>)> {
        let (from, to) = (Address::new(source).unwrap(), Address::literal("vault/put"));
        shared.open(&header_of(source), from, to, sealed)
    }

    #[test]
    fn a_sender_that_is_forgotten_among_many_cannot_be_replayed() {
        let mut shared = Shared::new(PayloadKey::new([5; 32]));
        let first = sealed_by("first", 1);
        open(&mut shared, &first).unwrap();
        for number in 0..MAX_SENDERS {
            open(&mut shared, &sealed_by(&format!("c{number}"), 2 + number as u64)).unwrap();
        }
        assert_eq!(shared.openers.len(), MAX_SENDERS);
        assert!(!shared.openers.contains_key(&("first".to_owned(), "vault".to_owned())));
        let refused = open(&mut shared, &first).unwrap_err();
        assert!(refused.text().contains("before its sender last started"), "{refused}");
        open(&mut shared, &sealed_by("first", 5_000)).unwrap();
    }

    #[test]
    fn a_stranger_leaves_no_trace() {
        let mut shared = Shared::new(PayloadKey::new([6; 32]));
        assert!(open(&mut shared, &sealed_by("stranger", 1)).is_err());
        assert!(shared.openers.is_empty());
    }

    #[test]
    fn no_two_starts_of_this_process_are_alike() {
        let nonce = |_| {
            let mut sealer = Sealer::new(&PayloadKey::new([5; 32]), "a", "b", boot_nonce().unwrap());
            let sealed = seal(&mut sealer, &header_of("a"), PayloadKind::Binary, b"").unwrap();
            u64::from_be_bytes(*sealed.first_chunk().unwrap())
        };
        let numbers: Vec<u64> = (0..1000).map(nonce).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}
