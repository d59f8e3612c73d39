//! The programs of a bus that have called: who they are, as the bus says, and what is kept for each. Bounded in all of it.

use std::collections::VecDeque;
use std::time::Instant;

use dbus::Message;
use dbus::arg::ArgType;
use slotmap::SlotMap;
use visorbus_hub::Error;

use super::HashMap;
use super::session::SessionKey;
use crate::step::Caller;

slotmap::new_key_type! {
    /// Names a sender's slot; never names another sender later.
    pub(super) struct SenderKey;
}

/// All senders that something is kept of.
pub(super) struct Senders {
    slots: SlotMap<SenderKey, Sender>,
    names: HashMap<String, SenderKey>,
    most: usize,
    /// Rises with every call.
    uses: u64,
}

/// One program, by its unique name.
pub(super) struct Sender {
    pub(super) caller: Caller,
    /// Its main group, where the bus tells.
    pub(super) gid: Option<u32>,
    /// The bus has said who it is.
    pub(super) is_known: bool,
    /// Its calls from before that.
    pub(super) early: VecDeque<(Message, usize)>,
    /// Its session, open or about to be.
    pub(super) session: Option<SessionKey>,
    /// The one that is to take its place, once the hub has taken the sender's token.
    pub(super) proving: Option<SessionKey>,
    /// What the hub said to the user that the bus tells of, and until when it is not asked again.
    pub(super) refused: Option<(Error, Instant)>,
    /// Its calls that are not answered yet.
    pub(super) calls: usize,
    /// Bytes of them.
    pub(super) bytes: usize,
    /// Sessions that it has had.
    pub(super) sessions: u32,
    used: u64,
}

impl Senders {
    pub(super) fn new(most: usize) -> Self {
        Self { slots: SlotMap::with_key(), names: HashMap::default(), most, uses: 0 }
    }

    /// The slot of the sender with this unique name, and whether it is new; `None` when nothing can be kept of it.
    pub(super) fn enter(&mut self, unique_name: &str) -> Option<(SenderKey, bool)> {
        self.uses += 1;
        if let Some(key) = self.names.get(unique_name) {
            if let Some(sender) = self.slots.get_mut(*key) {
                sender.used = self.uses;
            }
            return Some((*key, false));
        }
        if self.slots.len() >= self.most && !self.forget_idle() {
            return None;
        }
        let key = self.slots.insert(Sender::new(unique_name, self.uses));
        self.names.insert(unique_name.to_owned(), key);
        Some((key, true))
    }

    pub(super) fn get(&self, key: SenderKey) -> Option<&Sender> {
        self.slots.get(key)
    }

    pub(super) fn get_mut(&mut self, key: SenderKey) -> Option<&mut Sender> {
        self.slots.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: SenderKey) -> Option<Sender> {
        let sender = self.slots.remove(key)?;
        self.names.remove(&sender.caller.unique_name);
        Some(sender)
    }

    pub(super) fn by_name(&self, unique_name: &str) -> Option<SenderKey> {
        self.names.get(unique_name).copied()
    }

    pub(super) fn keys(&self) -> Vec<SenderKey> {
        self.slots.keys().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sender> {
        self.slots.values()
    }

    /// Forgets the sender that has been silent for longest, of those that have neither a session nor a call; `false` when
    /// there is none.
    fn forget_idle(&mut self) -> bool {
        let idle =
            |sender: &Sender| sender.calls == 0 && sender.session.is_none() && sender.proving.is_none();
        let idle = self.slots.iter().filter(|(_, sender)| idle(sender));
        let longest = idle.min_by_key(|(_, sender)| sender.used).map(|(key, _)| key);
        longest.and_then(|key| self.remove(key)).is_some()
    }
}

impl Sender {
    fn new(unique_name: &str, used: u64) -> Self {
        Self {
            caller: Caller { unique_name: unique_name.to_owned(), uid: None, pid: None },
            gid: None,
            is_known: false,
            early: VecDeque::new(),
            session: None,
            proving: None,
            refused: None,
            calls: 0,
            bytes: 0,
            sessions: 0,
            used,
        }
    }

    /// Takes what the bus says of it. What the bus does not say stays unknown.
    pub(super) fn learn(&mut self, credentials: &Credentials) {
        self.is_known = true;
        (self.caller.uid, self.caller.pid, self.gid) = (credentials.uid, credentials.pid, credentials.gid);
    }
}

/// What a bus says of a connection (D-Bus specification, "GetConnectionCredentials").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Credentials {
    uid: Option<u32>,
    pid: Option<u32>,
    /// Where the program is in one group alone: which of several is its main one is not said.
    gid: Option<u32>,
}

impl Credentials {
    /// Reads the bus's answer. Other entries than these are not looked at: some have a file descriptor.
    pub(super) fn read(answer: &Message) -> Self {
        let mut credentials = Self::default();
        let mut arguments = answer.iter_init();
        let Some(mut entries) = arguments.recurse(ArgType::Array) else { return credentials };
        while let Some(mut entry) = entries.recurse(ArgType::DictEntry) {
            let key = entry.get::<&str>().unwrap_or_default();
            entry.next();
            if let Some(mut value) = entry.recurse(ArgType::Variant) {
                match key {
                    "UnixUserID" => credentials.uid = value.get(),
                    "ProcessID" => credentials.pid = value.get(),
                    "UnixGroupIDs" => {
                        credentials.gid = match value.get::<&[u32]>() {
                            Some([only]) => Some(*only),
                            _ => None,
                        }
                    }
                    _ => {}
                }
            }
            if !entries.next() {
                break;
            }
        }
        credentials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(most: usize) -> Senders {
        Senders::new(most)
    }

    #[test]
    fn a_sender_is_the_same_for_all_its_calls_and_another_after_it_was_gone() {
        let mut senders = senders(4);
        let (first, is_new) = senders.enter(":1.1").unwrap();
        assert!(is_new);
        assert_eq!(senders.enter(":1.1"), Some((first, false)));
        assert_eq!(senders.by_name(":1.1"), Some(first));
        assert!(senders.remove(first).is_some());
        assert_eq!(senders.by_name(":1.1"), None);
        let (second, is_new) = senders.enter(":1.1").unwrap();
        assert!(is_new && second != first);
    }

    #[test]
    fn for_a_further_one_goes_who_has_been_silent_for_longest_and_has_nothing_here() {
        let mut senders = senders(3);
        for name in [":1.1", ":1.2", ":1.3"] {
            senders.enter(name).unwrap();
        }
        senders.enter(":1.1").unwrap();
        let second = senders.by_name(":1.2").unwrap();
        senders.get_mut(second).unwrap().calls = 1;
        assert!(senders.enter(":1.4").is_some());
        assert_eq!(senders.by_name(":1.3"), None);
        assert!(senders.by_name(":1.1").is_some() && senders.by_name(":1.2").is_some());
    }

    #[test]
    fn nobody_goes_who_has_a_session_or_a_call() {
        let mut senders = senders(1);
        let (only, _) = senders.enter(":1.1").unwrap();
        senders.get_mut(only).unwrap().calls = 1;
        assert_eq!(senders.enter(":1.2"), None);
    }
}
