//! The programs of a bus that have called: who they are, as the bus says, and what is kept for each. Bounded in all of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    /// What each user has here, by all its programs; `None`: those of whom the bus does not say it, or has yet to.
    parties: HashMap<Option<u32>, Party>,
    /// Bytes of all calls that are not answered yet.
    bytes: usize,
    /// Rises with every call.
    uses: u64,
    /// Those who went for others, until that is known elsewhere too.
    gone: Vec<Caller>,
}

/// What the programs of one user have together.
#[derive(Debug, Default)]
struct Party {
    senders: usize,
    bytes: usize,
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
    /// A token of its has ended, and it is not to have what its user may instead.
    pub(super) is_held: bool,
    /// Why the hub had no place for its token's session, and until when none is asked for again.
    pub(super) turned_away: Option<(Error, Instant)>,
    /// Its calls that are not answered yet.
    pub(super) calls: usize,
    /// Bytes of them.
    pub(super) bytes: usize,
    used: u64,
}

impl Senders {
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: SlotMap::with_key(),
            names: HashMap::default(),
            most,
            parties: HashMap::default(),
            bytes: 0,
            uses: 0,
            gone: Vec::new(),
        }
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
        // Half of all at most, so that whoever comes in crowds leaves room for others before it is known whose they are.
        let is_crowd = self.party(None).senders >= (self.most / 2).max(1);
        if is_crowd && !self.forget_idle(|other| other.caller.uid.is_none()) {
            return None;
        }
        if self.slots.len() >= self.most && !self.forget_idle(|_| true) {
            return None;
        }
        let key = self.slots.insert(Sender::new(unique_name, self.uses));
        self.names.insert(unique_name.to_owned(), key);
        self.parties.entry(None).or_default().senders += 1;
        Some((key, true))
    }

    /// Counts a call of a sender's.
    ///
    /// # Errors
    /// Why it is not kept: too many bytes wait, of all programs or of those of its user.
    pub(super) fn begin(&mut self, key: SenderKey, bytes: usize) -> Result<(), &'static str> {
        let Some(sender) = self.slots.get_mut(key) else { return Ok(()) };
        let party = self.parties.entry(sender.caller.uid).or_default();
        if party.bytes > 0 && party.bytes + bytes > USER_BYTES {
            return Err("too many bytes of your user's programs wait for their answers: try again later");
        }
        if self.bytes + bytes > ALL_BYTES {
            return Err("too many bytes of all programs wait for their answers: try again later");
        }
        self.bytes += bytes;
        party.bytes += bytes;
        sender.bytes += bytes;
        sender.calls += 1;
        Ok(())
    }

    /// A call of a sender's waits no longer.
    pub(super) fn end(&mut self, key: SenderKey, bytes: usize) {
        let Some(sender) = self.slots.get_mut(key) else { return };
        sender.calls = sender.calls.saturating_sub(1);
        sender.bytes = sender.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(party) = self.parties.get_mut(&sender.caller.uid) {
            party.bytes = party.bytes.saturating_sub(bytes);
        }
    }

    /// Takes what the bus says of a sender. What the bus does not say stays unknown.
    ///
    /// # Errors
    /// Why it is not kept: its user has its share already, a quarter of all.
    pub(super) fn learn(&mut self, key: SenderKey, credentials: &Credentials) -> Result<(), &'static str> {
        let Some(sender) = self.slots.get(key) else { return Ok(()) };
        let (uid, bytes) = (credentials.uid, sender.bytes);
        if uid.is_some() {
            let (senders, waiting) = (self.party(uid).senders, self.party(uid).bytes);
            let is_full = senders >= (self.most / 4).max(1)
                && !self.forget_idle(|other| other.is_known && other.caller.uid == uid);
            if is_full || (waiting > 0 && waiting + bytes > USER_BYTES) {
                return Err("too many programs of your user are busy here: try again later");
            }
            self.leave(None, bytes);
            let party = self.parties.entry(uid).or_default();
            party.senders += 1;
            party.bytes += bytes;
        }
        if let Some(sender) = self.slots.get_mut(key) {
            sender.is_known = true;
            (sender.caller.uid, sender.caller.pid, sender.gid) = (uid, credentials.pid, credentials.gid);
        }
        Ok(())
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
        self.leave(sender.caller.uid, sender.bytes);
        self.bytes = self.bytes.saturating_sub(sender.bytes);
        Some(sender)
    }

    pub(super) fn by_name(&self, unique_name: &str) -> Option<SenderKey> {
        self.names.get(unique_name).copied()
    }

    pub(super) fn keys(&self) -> Vec<SenderKey> {
        self.slots.keys().collect()
    }

    /// Those who went for others since the last time.
    pub(super) fn take_gone(&mut self) -> Vec<Caller> {
        std::mem::take(&mut self.gone)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sender> {
        self.slots.values()
    }

    /// Forgets the sender that has been silent for longest, of those that `may_go` and have neither a session nor a call;
    /// `false` when there is none.
    fn forget_idle(&mut self, may_go: impl Fn(&Sender) -> bool) -> bool {
        let idle = |sender: &Sender| {
            let has_session = sender.session.is_some() || sender.proving.is_some() || sender.is_held;
            sender.calls == 0 && !has_session && may_go(sender)
        };
        let idle = self.slots.iter().filter(|(_, sender)| idle(sender));
        let longest = idle.min_by_key(|(_, sender)| sender.used).map(|(key, _)| key);
        let gone = longest.and_then(|key| self.remove(key)).map(|sender| sender.caller);
        let is_one = gone.is_some();
        self.gone.extend(gone);
        is_one
    }

    fn party(&self, uid: Option<u32>) -> &Party {
        self.parties.get(&uid).unwrap_or(&NOBODY)
    }

    /// Somebody with so many bytes is no longer one of a user's.
    fn leave(&mut self, uid: Option<u32>, bytes: usize) {
        let Some(party) = self.parties.get_mut(&uid) else { return };
        party.senders = party.senders.saturating_sub(1);
        party.bytes = party.bytes.saturating_sub(bytes);
        if party.senders == 0 {
            self.parties.remove(&uid);
        }
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
            is_held: false,
            turned_away: None,
            calls: 0,
            bytes: 0,
            used,
        }
    }

    /// It is nobody from now on, until it shows a token or leaves: who has shown one that allows less than its user may
    /// is not to have that back because the token has ended.
    pub(super) fn hold(&mut self, why: &str, now: Instant) {
        let text = format!("the session by your token has ended ({why}): show another, or leave the bus");
        self.is_held = true;
        self.refused = Some((Error::Authentication(text), now + FOREVER));
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

/// Longer than any program runs.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const NOBODY: Party = Party { senders: 0, bytes: 0 };
/// Bytes of calls that wait for their answers, of all programs.
const ALL_BYTES: usize = 64 << 20;
/// Those of one user's programs, unless it is one call alone.
const USER_BYTES: usize = 24 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(most: usize) -> Senders {
        Senders::new(most)
    }

    /// Somebody of this user, whom the bus has told of.
    fn known(senders: &mut Senders, name: &str, uid: u32) -> Option<SenderKey> {
        let (key, is_new) = senders.enter(name)?;
        let credentials = Credentials { uid: Some(uid), ..Credentials::default() };
        if is_new && senders.learn(key, &credentials).is_err() {
            senders.remove(key);
            return None;
        }
        Some(key)
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
        for (name, uid) in [(":1.1", 1), (":1.2", 2), (":1.3", 3)] {
            known(&mut senders, name, uid).unwrap();
        }
        senders.enter(":1.1").unwrap();
        let second = senders.by_name(":1.2").unwrap();
        senders.get_mut(second).unwrap().calls = 1;
        assert!(senders.enter(":1.4").is_some());
        assert_eq!(senders.by_name(":1.3"), None);
        assert_eq!(senders.take_gone().iter().map(|gone| &*gone.unique_name).collect::<Vec<_>>(), [":1.3"]);
        assert!(senders.by_name(":1.1").is_some() && senders.by_name(":1.2").is_some());
    }

    #[test]
    fn nobody_goes_who_has_a_session_or_a_call() {
        let mut senders = senders(1);
        let (only, _) = senders.enter(":1.1").unwrap();
        senders.get_mut(only).unwrap().calls = 1;
        assert_eq!(senders.enter(":1.2"), None);
    }

    #[test]
    fn one_user_has_a_quarter_and_those_who_are_not_known_yet_half() {
        let mut senders = senders(16);
        let busy = |senders: &mut Senders, key| senders.begin(key, 100).unwrap();
        for name in [":1.1", ":1.2", ":1.3", ":1.4"] {
            let key = known(&mut senders, name, 1000).unwrap();
            busy(&mut senders, key);
        }
        assert_eq!(known(&mut senders, ":1.5", 1000), None);
        for number in 0..8 {
            let (key, _) = senders.enter(&format!(":2.{number}")).unwrap();
            busy(&mut senders, key);
        }
        assert_eq!(senders.enter(":2.8"), None);
        let (first, _) = senders.enter(":2.0").unwrap();
        senders.remove(first).unwrap();
        assert!(known(&mut senders, ":1.6", 1001).is_some(), "another user has a place");
        // Whoever has nothing here goes for the next of the same user, and for nobody else's.
        let second = senders.by_name(":1.2").unwrap();
        senders.end(second, 100);
        assert!(known(&mut senders, ":1.7", 1000).is_some());
        assert_eq!(senders.by_name(":1.2"), None);
        assert!(senders.by_name(":1.6").is_some());
    }

    #[test]
    fn bytes_that_wait_are_shared_out_by_user_and_given_back() {
        let mut senders = senders(64);
        let mut programs = Vec::new();
        for number in 0..16 {
            programs.push(known(&mut senders, &format!(":1.{number}"), 1000 + number / 8).unwrap());
        }
        let taken = programs.iter().filter(|key| senders.begin(**key, 4 << 20).is_ok()).count();
        assert_eq!(taken, 12, "six of each user");
        let other = known(&mut senders, ":2.1", 7).unwrap();
        senders.begin(other, 16 << 20).unwrap();
        assert!(senders.begin(other, 1 << 20).is_err(), "64 MiB of all");
        senders.end(programs[0], 4 << 20);
        senders.remove(programs[1]).unwrap();
        senders.begin(other, 1 << 20).unwrap();
        senders.begin(programs[6], 4 << 20).unwrap();
        senders.keys().into_iter().for_each(|key| drop(senders.remove(key)));
        assert!((senders.bytes, senders.parties.len()) == (0, 0));
    }
}
