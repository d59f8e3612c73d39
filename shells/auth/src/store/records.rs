//! What a store holds, as it stands in the file, and how entries come and go. Knows no file and no clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use visorbus_core::auth::CLOCK_LEEWAY;

use crate::{CertificateId, Error, Result, Secret};

/// All of a store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Records {
    /// By name, which is the subject.
    pub(crate) users: BTreeMap<String, User>,
    /// By the prefix of the key.
    pub(crate) api_keys: BTreeMap<String, ApiKey>,
    pub(crate) certificates: Vec<Certificate>,
    /// Subjects that nothing of theirs lets in.
    pub(crate) disabled: BTreeSet<String>,
    /// By subject: from which epoch on its tokens count; for boards, since when.
    pub(crate) void: BTreeMap<String, Epoch>,
    /// By the upper 48 bits of the serial number: families of tokens that were renewed or taken back.
    pub(crate) families: BTreeMap<u64, Family>,
    /// The epoch of new tokens: one more with everything that is taken back, so none of them needs a clock.
    pub(crate) issuing: u32,
    /// What is no longer kept of families.
    pub(crate) forgotten: Forgotten,
    /// The latest moment at which a token for a board was issued, whatever the clock said then.
    pub(crate) latest_for_boards: u64,
    /// The least epoch that counts, of every key.
    pub(crate) epoch: Epoch,
    /// By key id, where it is higher.
    pub(crate) epochs: BTreeMap<u8, Epoch>,
    pub(crate) link_keys: Vec<StoredLinkKey>,
}

/// A person with a password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// The PHC string of its hash.
    #[serde(with = "stored_secret")]
    pub(crate) password: Secret,
    pub(crate) scopes: Vec<String>,
}

/// A program with a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKey {
    pub(crate) subject: String,
    /// Of the key's secret part.
    #[serde(with = "crate::hex::serde_32")]
    pub(crate) sha256: [u8; 32],
    pub(crate) scopes: Vec<String>,
    pub(crate) created: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) disabled: bool,
}

/// A certificate that is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) id: CertificateId,
    pub(crate) subject: String,
    pub(crate) scopes: Vec<String>,
}

/// Tokens that were made from one another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    pub(crate) subject: String,
    /// The only one that counts.
    pub(crate) generation: u16,
    /// When the first of them was issued.
    pub(crate) since: u64,
    /// When the last of them expires: then the entry may leave.
    pub(crate) until: u64,
    pub(crate) revoked: bool,
}

/// Tokens of this epoch and of those before it may be of a family that was let go, if they expire by then.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forgotten {
    pub(crate) epoch: u32,
    pub(crate) until: u64,
}

/// From which epoch on the tokens of a key or a subject count. Boards know no epochs: for them those count that were
/// issued after a moment.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Epoch {
    pub(crate) least: u32,
    pub(crate) since: u64,
}

/// A key of a link, as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredLinkKey {
    pub(crate) name: String,
    pub(crate) id: u8,
    pub(crate) created: u64,
    #[serde(with = "stored_secret")]
    pub(crate) key: Secret,
}

impl Records {
    /// Whether what a token says of itself was not taken back: its subject, its family, its key's epoch.
    pub(crate) fn is_live(&self, token: &Issued<'_>) -> bool {
        if self.disabled.contains(token.subject) {
            return false;
        }
        if token.own_proof {
            // Made by its subject for this one session: there is nothing to take back but the subject itself.
            return true;
        }
        if self.void.get(token.subject).is_some_and(|void| token.epoch < void.least) {
            return false;
        }
        if token.epoch < self.least_epoch(token.key_id) {
            return false;
        }
        if token.epoch <= self.forgotten.epoch && token.expires <= self.forgotten.until {
            return false;
        }
        let (family, generation) = split(token.serial);
        self.families.get(&family).is_none_or(|entry| !entry.revoked && entry.generation == generation)
    }

    /// The generation that counts, when a token is of an older one whose family still does: it was renewed, and is
    /// used again nevertheless.
    pub(crate) fn is_reused(&self, token: &Issued<'_>) -> bool {
        let (family, generation) = split(token.serial);
        let entry = self.families.get(&family).filter(|_| !token.own_proof);
        entry.is_some_and(|entry| !entry.revoked && generation < entry.generation)
    }

    /// Takes a family back. When its subject has more of them than are kept, all of the subject's tokens are.
    pub(crate) fn revoke_family(&mut self, token: &Issued<'_>, now: u64) {
        self.prune(now);
        let (family, generation) = split(token.serial);
        let room = self.has_room_for_family(token.subject);
        match self.families.get_mut(&family) {
            Some(entry) => {
                entry.revoked = true;
                entry.until = entry.until.max(token.expires);
            }
            None if room => {
                let family_of = Family { generation, revoked: true, ..Family::of(token) };
                self.families.insert(family, family_of);
            }
            None => self.revoke_subject(token.subject, now),
        }
    }

    /// Makes `token`'s next generation the only one that counts; it will expire at `expires`. `None` when there is no
    /// room, or no further generation.
    pub(crate) fn advance(&mut self, token: &Issued<'_>, expires: u64, now: u64) -> Option<u64> {
        self.prune(now);
        let (family, generation) = split(token.serial);
        let next = generation.checked_add(1)?;
        if !self.families.contains_key(&family) && !self.has_room_for_family(token.subject) {
            return None;
        }
        let entry = self.families.entry(family).or_insert_with(|| Family::of(token));
        entry.generation = next;
        entry.until = entry.until.max(expires);
        Some(join(family, next))
    }

    /// When the first token of `token`'s family was issued.
    pub(crate) fn family_since(&self, token: &Issued<'_>) -> u64 {
        self.families.get(&split(token.serial).0).map_or(token.issued_at, |family| family.since)
    }

    /// Takes back a token for a board: a board keeps subjects only, so all tokens of its subject. Does nothing where
    /// those are void already, so that nobody shuts a subject out by showing an old token again and again.
    pub(crate) fn revoke_for_board(&mut self, token: &Issued<'_>, now: u64) {
        if token.issued_at <= self.void_for_boards(token.subject) {
            return;
        }
        // A token that this store did not make may be from later than all that it made.
        self.revoke_subject(token.subject, now.max(token.issued_at));
    }

    /// Takes back all tokens of a subject that were issued until now. When that is too many subjects, those of
    /// everybody.
    pub(crate) fn revoke_subject(&mut self, subject: &str, now: u64) {
        if !self.void.contains_key(subject) && self.void.len() >= MAX_SUBJECTS {
            return self.revoke_all(now);
        }
        let fresh = self.next_epoch(now);
        let void = self.void.entry(subject.to_owned()).or_default();
        *void = Epoch { since: void.since.max(fresh.since), ..fresh };
        self.families.retain(|_, family| family.subject != subject);
    }

    /// Takes back all tokens of all keys. What is kept of single ones can then go.
    pub(crate) fn revoke_all(&mut self, now: u64) {
        let since =
            self.void.values().chain(self.epochs.values()).chain([&self.epoch]).map(|void| void.since);
        self.epoch = self.next_epoch(since.fold(now, u64::max));
        self.epochs.clear();
        self.families.clear();
        self.void.clear();
    }

    /// Takes back all tokens of one key.
    pub(crate) fn revoke_key(&mut self, key_id: u8, now: u64) {
        let fresh = self.next_epoch(now);
        self.epochs.insert(key_id, fresh);
    }

    /// For a store that was lost: nothing made before `now` counts.
    pub(crate) fn after_loss(now: u64) -> Self {
        // Epochs begin at 0 and rise by one with a change, so a lost store had come less far than the seconds.
        let issuing = u32::try_from(now).unwrap_or(u32::MAX);
        Self { issuing, epoch: Epoch { least: issuing, since: now }, ..Self::default() }
    }

    /// The least epoch of a key's tokens that counts.
    pub(crate) fn least_epoch(&self, key_id: u8) -> u32 {
        self.epochs.get(&key_id).map_or(0, |epoch| epoch.least).max(self.epoch.least)
    }

    /// When a token for a board has to be issued to count there: after all that was taken back of its subject.
    ///
    /// # Errors
    /// `Message` when that is so far ahead that no board would take the token yet.
    pub(crate) fn issue_for_board(&mut self, subject: &str, now: u64) -> Result<u64> {
        let void = self.void_for_boards(subject);
        let issued_at = if void < now { now } else { void.saturating_add(1) };
        if issued_at > now.saturating_add(CLOCK_LEEWAY) {
            return Err(Error::Message(format!(
                "for boards the tokens of '{subject}' are void up to {void} (Unix seconds), and it is {now} now: set the \
                 clock if it is behind; if it was ahead, rotate the root key and give the boards their new keys"
            )));
        }
        self.latest_for_boards = self.latest_for_boards.max(issued_at);
        Ok(issued_at)
    }

    /// Up to which moment boards take no tokens of a subject.
    pub(crate) fn void_for_boards(&self, subject: &str) -> u64 {
        self.void.get(subject).map_or(0, |void| void.since).max(self.void_for_all_boards())
    }

    /// Up to which moment boards take no tokens of anybody.
    pub(crate) fn void_for_all_boards(&self) -> u64 {
        self.epochs.values().chain([&self.epoch]).map(|epoch| epoch.since).max().unwrap_or(0)
    }

    /// The epoch that none of the tokens so far has, and the moment after all of those for boards.
    fn next_epoch(&mut self, now: u64) -> Epoch {
        self.issuing = self.issuing.saturating_add(1);
        Epoch { least: self.issuing, since: now.max(self.latest_for_boards) }
    }

    /// Lets families go that have expired, and remembers up to when, in case the clock is ahead.
    fn prune(&mut self, now: u64) {
        if self.forgotten.until > now {
            // It was. Whatever was issued before could be of a family that is forgotten; what is issued now is not.
            self.epoch.least = self.epoch.least.max(self.forgotten.epoch.saturating_add(1));
            self.forgotten = Forgotten::default();
        }
        let gone = self.families.values().map(|family| family.until).filter(|until| *until <= now).max();
        let Some(until) = gone else { return };
        self.families.retain(|_, family| family.until > now);
        self.forgotten = Forgotten { epoch: self.issuing, until: until.max(self.forgotten.until) };
        self.issuing = self.issuing.saturating_add(1);
    }

    fn has_room_for_family(&self, subject: &str) -> bool {
        let own = self.families.values().filter(|family| family.subject == subject).count();
        own < MAX_FAMILIES_OF_SUBJECT && self.families.len() < MAX_FAMILIES
    }
}

impl Family {
    fn of(token: &Issued<'_>) -> Self {
        Self {
            subject: token.subject.to_owned(),
            generation: split(token.serial).1,
            since: token.issued_at,
            until: token.expires,
            revoked: false,
        }
    }
}

/// A secret in the file. [`Secret`] itself has no such form, so that it gets into no other.
mod stored_secret {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Ok(Secret::new(<Cow<'de, str>>::deserialize(deserializer)?))
    }
}

/// What a checked token says that revocation goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issued<'a> {
    pub(crate) subject: &'a str,
    /// A device made it for itself.
    pub(crate) own_proof: bool,
    pub(crate) key_id: u8,
    pub(crate) epoch: u32,
    pub(crate) serial: u64,
    pub(crate) issued_at: u64,
    pub(crate) expires: u64,
}

impl<'a> From<&'a visorbus_core::auth::Grant> for Issued<'a> {
    fn from(grant: &'a visorbus_core::auth::Grant) -> Self {
        Self {
            subject: grant.subject(),
            own_proof: grant.issuer() != visorbus_core::auth::BUS,
            key_id: grant.key_id(),
            epoch: grant.epoch(),
            serial: grant.serial(),
            issued_at: grant.issued_at(),
            expires: grant.expires(),
        }
    }
}

/// The serial number of a generation of a family.
pub(crate) const fn join(family: u64, generation: u16) -> u64 {
    family << 16 | generation as u64
}

/// Family and generation of a serial number.
pub(crate) const fn split(serial: u64) -> (u64, u16) {
    (serial >> 16, serial as u16)
}

/// Seconds from issue to expiry that no token passes: ten years, what a link lasts that is trusted by configuration.
pub(crate) const MAX_LIFETIME_S: u64 = 10 * 366 * 24 * 3600;
pub(crate) const MAX_USERS: usize = 4096;
pub(crate) const MAX_API_KEYS: usize = 4096;
pub(crate) const MAX_CERTIFICATES: usize = 1024;
pub(crate) const MAX_LINK_KEYS: usize = 256;
pub(crate) const MAX_SUBJECTS: usize = 1024;
const MAX_FAMILIES: usize = 4096;
const MAX_FAMILIES_OF_SUBJECT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn token(subject: &str, family: u64, generation: u16) -> Issued<'_> {
        Issued {
            subject,
            own_proof: false,
            key_id: 1,
            epoch: 0,
            serial: join(family, generation),
            issued_at: 1000,
            expires: 1000 + DAY,
        }
    }

    fn records() -> Records {
        Records::default()
    }

    #[test]
    fn of_a_renewed_token_only_the_last_generation_counts() {
        let mut records = records();
        let next = records.advance(&token("a", 7, 0), 2000 + DAY, 1500).unwrap();
        assert_eq!(split(next), (7, 1));
        assert!(!records.is_live(&token("a", 7, 0)) && records.is_live(&token("a", 7, 1)));
        assert!(!records.is_live(&token("a", 7, 2)), "one of the future is none that was made");
        assert!(records.is_reused(&token("a", 7, 0)) && !records.is_reused(&token("a", 7, 1)));
        records.revoke_family(&token("a", 7, 0), 1600);
        assert!(!records.is_live(&token("a", 7, 1)));
        assert!(records.is_live(&token("a", 8, 0)), "another family");
    }

    #[test]
    fn an_entry_leaves_when_the_last_token_it_concerns_has_expired() {
        let mut records = records();
        records.advance(&token("a", 7, 0), 5000 + DAY, 1500).unwrap();
        records.revoke_family(&token("a", 7, 0), 1500);
        records.revoke_family(&token("a", 8, 0), 4999 + DAY);
        assert!(records.families.contains_key(&7), "the renewed one still lives");
        records.revoke_family(&token("a", 9, 0), 5000 + DAY);
        assert!(!records.families.contains_key(&7));
    }

    #[test]
    fn too_many_families_of_one_subject_take_back_all_of_that_subject_and_no_other() {
        let mut records = records();
        for family in 0..=MAX_FAMILIES_OF_SUBJECT as u64 {
            records.revoke_family(&token("a", family, 0), 2000);
        }
        assert!(records.families.is_empty());
        assert!(!records.is_live(&token("a", 0, 0)) && !records.is_live(&token("a", 999, 0)));
        assert!(records.is_live(&token("b", 999, 0)));
        let later = Issued { epoch: records.issuing, ..token("a", 5, 0) };
        assert!(records.is_live(&later), "a token of the same second, issued after the revocation, counts");
    }

    #[test]
    fn a_full_table_of_subjects_takes_back_everything_and_forgets_nothing() {
        let mut records = records();
        for n in 0..MAX_SUBJECTS {
            records.revoke_subject(&format!("s{n}"), 2000);
        }
        assert!(records.is_live(&token("other", 1, 0)));
        records.revoke_subject("one-more", 2000);
        for subject in ["s0", "one-more", "other"] {
            assert!(!records.is_live(&token(subject, 1, 0)), "{subject}");
            assert!(records.is_live(&Issued { epoch: records.issuing, ..token(subject, 1, 0) }), "{subject}");
        }
    }

    #[test]
    fn a_family_that_a_wrong_clock_let_go_stays_void_and_new_tokens_count() {
        let mut records = records();
        records.revoke_family(&token("a", 7, 0), 1500);
        records.revoke_family(&token("b", 8, 0), 1000 + 9 * DAY);
        assert!(!records.families.contains_key(&7), "the clock is nine days ahead");
        assert!(!records.is_live(&token("a", 7, 0)));
        let fresh = Issued { epoch: records.issuing, ..token("a", 9, 0) };
        assert!(records.is_live(&fresh));
        for now in [1600, 1600 + DAY, 1600 + 2 * DAY] {
            records.revoke_family(&Issued { epoch: records.issuing, ..token("c", now, 0) }, now);
            assert!(!records.is_live(&token("a", 7, 0)));
        }
        let fresh = Issued { epoch: records.issuing, ..token("a", 9, 0) };
        assert!(records.is_live(&fresh));
    }

    #[test]
    fn for_boards_a_subject_is_void_past_every_token_that_was_issued_whatever_the_clock_says() {
        let mut records = records();
        assert_eq!(records.issue_for_board("a", 5000).unwrap(), 5000);
        records.revoke_subject("a", 100);
        assert_eq!((records.void_for_boards("a"), records.void_for_boards("b")), (5000, 0));
        assert_eq!(records.issue_for_board("a", 5000).unwrap(), 5001, "in the same second");
        let refused = records.issue_for_board("a", 100).unwrap_err();
        assert!(refused.to_string().contains("clock"), "{refused}");
        assert_eq!(records.issue_for_board("b", 100).unwrap(), 100, "the others get theirs");
    }

    #[test]
    fn after_a_loss_no_token_of_before_counts() {
        let records = Records::after_loss(1_800_000_000);
        assert!(!records.is_live(&Issued { epoch: 70_000, ..token("a", 1, 0) }));
        assert!(records.is_live(&Issued { epoch: records.issuing, ..token("a", 1, 0) }));
        assert_eq!(records.void_for_boards("a"), 1_800_000_000);
    }

    #[test]
    fn a_generation_after_the_last_is_not_made() {
        assert_eq!(records().advance(&token("a", 7, u16::MAX), 2000, 1500), None);
    }
}
