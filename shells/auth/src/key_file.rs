//! The root keys of a hub in a file that only its owner can read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use visorbus_core::auth::{Key, KeyRing, Slot};
use visorbus_core::limits::MAX_KEYS;
use zeroize::Zeroizing;

use crate::store::private::{self, FileError, Lock};
use crate::store::sha256;
use crate::{hex, unix_seconds};

/// Root keys read from a file. The first mints, all check, each until its end.
///
/// The file has one key a line, `ID HEX` or `ID HEX NOT_AFTER`: an id from 0 to 255, 64 hexadecimal digits, and the last
/// Unix second at which the key counts; lines that begin with `#` are for people. It belongs to the user that runs the
/// hub, has the mode 0600, is no symbolic link, and nobody else may write its directory, or it is refused.
pub struct KeyFile {
    path: PathBuf,
    keys: Vec<StoredKey>,
}

#[derive(Clone, PartialEq, Eq)]
struct StoredKey {
    id: u8,
    key: Zeroizing<[u8; 32]>,
    not_after: Option<u64>,
}

impl KeyFile {
    /// Reads the keys at `path`.
    ///
    /// # Errors
    /// [`KeyFileError`] says what is wrong and how to mend it. Nothing is changed on disk.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let (bytes, _) =
            private::read(path)?.ok_or_else(|| KeyFileError::Missing { path: path.to_owned() })?;
        Self::parse(path, &bytes)
    }

    /// Reads the keys at `path`; where there is no file, makes one with a random key, and its directory with mode 0700.
    ///
    /// Of two that do this at the same moment one makes the key and both have it.
    ///
    /// # Errors
    /// As [`KeyFile::open`]; or the file or its directory cannot be made.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        match Self::open(path) {
            Err(KeyFileError::Missing { .. }) => {}
            Err(KeyFileError::File(FileError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound => {}
            other => return other,
        }
        private::create_directory(path)?;
        let _lock = Lock::take(path)?;
        match Self::open(path) {
            Err(KeyFileError::Missing { .. }) => {}
            other => return other,
        }
        let file = Self { path: path.to_owned(), keys: vec![StoredKey::random(0)?] };
        file.write()?;
        Ok(file)
    }

    /// A key that is in no file: for a hub that lives as long as one demonstration or one test.
    pub fn in_memory(id: u8, key: [u8; 32]) -> Self {
        let key = StoredKey { id, key: Zeroizing::new(key), not_after: None };
        Self { path: PathBuf::new(), keys: vec![key] }
    }

    /// Makes a new random key, which mints from now on, and answers its id. The keys so far check for another `overlap`:
    /// so long tokens made with them still count, and boards still prove themselves with what they were given.
    ///
    /// Others that have the file open read it again to know; a board gets its key anew before the overlap is over.
    ///
    /// # Errors
    /// [`KeyFileError::Full`] when there are as many keys as a ring holds, none of which is past its end.
    pub fn rotate(&mut self, overlap: Duration) -> Result<u8, KeyFileError> {
        let now = unix_seconds();
        let end = now.saturating_add(overlap.as_secs());
        self.change(|keys| {
            keys.retain(|key| key.not_after.is_none_or(|last| last >= now));
            if keys.len() >= MAX_KEYS {
                return Err(KeyFileError::Full);
            }
            let used = |id: u8| keys.iter().any(|key| key.id == id);
            // The next after the current one, so that an id comes again as late as can be.
            let current = keys.first().map_or(0, |key| key.id);
            let id = (1..=u8::MAX).map(|step| current.wrapping_add(step)).find(|id| !used(*id));
            let id = id.ok_or(KeyFileError::Full)?;
            for key in keys.iter_mut() {
                key.not_after = Some(key.not_after.map_or(end, |last| last.min(end)));
            }
            keys.insert(0, StoredKey::random(id)?);
            Ok(id)
        })
    }

    /// Removes a key: whatever was made with it counts no more, from when the hub reads the file again.
    ///
    /// # Errors
    /// [`KeyFileError::Current`] for the key that mints, [`KeyFileError::Unknown`] for one that is not there.
    pub fn retire(&mut self, id: u8) -> Result<(), KeyFileError> {
        self.change(|keys| {
            let at = keys.iter().position(|key| key.id == id).ok_or(KeyFileError::Unknown { id })?;
            if at == 0 {
                return Err(KeyFileError::Current { id });
            }
            keys.remove(at);
            Ok(())
        })
    }

    /// A ring for a hub, with all keys as root keys.
    pub fn ring(&self) -> KeyRing {
        let mut ring = KeyRing::new();
        for key in &self.keys {
            let slot = Slot::root(key.id, Key::new(*key.key));
            // Number and ids were checked when the file was read.
            let _ = ring.add(match key.not_after {
                Some(last) => slot.with_not_after(last),
                None => slot,
            });
        }
        ring
    }

    /// The id of the key that mints.
    pub fn current_id(&self) -> u8 {
        self.keys.first().map_or(0, |key| key.id)
    }

    /// The id of each key, the one that mints first, and the last Unix second at which it counts.
    pub fn ids(&self) -> Vec<(u8, Option<u64>)> {
        self.keys.iter().map(|key| (key.id, key.not_after)).collect()
    }

    /// Whether the key `id` is here and counts at `unix_now`.
    pub fn accepts(&self, id: u8, unix_now: u64) -> bool {
        self.keys.iter().any(|key| key.id == id && key.not_after.is_none_or(|last| unix_now <= last))
    }

    /// Each id, and what tells its key from another of the same id: the SHA-256 of its bytes. Not to be shown.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = (u8, [u8; 32])> {
        self.keys.iter().map(|key| (key.id, sha256(&*key.key)))
    }

    /// The key to flash into the device called `name`, derived from the key that mints.
    pub fn device_key(&self, name: &str) -> Option<Key> {
        self.keys.first().map(|key| Key::new(*key.key).derive(name))
    }

    /// Where the keys were read; empty for keys in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the keys: on disk when this returns, and starting from what is there.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Vec<StoredKey>) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        if self.path.as_os_str().is_empty() {
            let mut keys = self.keys.clone();
            let answer = change(&mut keys)?;
            self.keys = keys;
            return Ok(answer);
        }
        let _lock = Lock::take(&self.path)?;
        let mut fresh = Self::open(&self.path)?;
        let answer = change(&mut fresh.keys)?;
        fresh.write()?;
        *self = fresh;
        Ok(answer)
    }

    /// Writes all keys. Only under the lock of the file.
    fn write(&self) -> Result<(), KeyFileError> {
        // Room for all of it at once: a text that grows leaves pieces behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(HEADER);
        for key in &self.keys {
            let end = key.not_after.map(|last| format!(" {last}")).unwrap_or_default();
            text.push_str(&Zeroizing::new(format!("{} {}{end}\n", key.id, *hex::encode(&*key.key))));
        }
        private::write(&self.path, text.as_bytes())?;
        Ok(())
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, KeyFileError> {
        let bad = |line| KeyFileError::BadLine { path: path.to_owned(), line };
        let text = std::str::from_utf8(bytes).map_err(|_| bad(1))?;
        let mut keys: Vec<StoredKey> = Vec::with_capacity(MAX_KEYS);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = StoredKey::parse(line).ok_or_else(|| bad(number + 1))?;
            if keys.iter().any(|known| known.id == key.id) || keys.len() == MAX_KEYS {
                return Err(bad(number + 1));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyFileError::Empty { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), keys })
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|key| key.id).collect();
        f.debug_struct("KeyFile").field("path", &self.path).field("ids", &ids).finish_non_exhaustive()
    }
}

impl StoredKey {
    fn random(id: u8) -> Result<Self, KeyFileError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|_| KeyFileError::NoRandom)?;
        Ok(Self { id, key, not_after: None })
    }

    /// Reads `ID HEX [NOT_AFTER]`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let id = words.next()?.parse().ok()?;
        let key = hex::parse_32(words.next()?)?;
        let not_after = words.next().map(str::parse).transpose().ok()?;
        words.next().is_none().then_some(Self { id, key, not_after })
    }
}

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or written, or others could have.
    #[error("the key file cannot be used: {0}")]
    File(#[from] FileError),
    /// There is none.
    #[error("there is no key file {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A line is not a key.
    #[error(
        "{}, line {line}: a key is an id from 0 to 255, 64 hexadecimal digits and perhaps its last Unix second, each id \
         once, at most 4",
        path.display()
    )]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// There is no key in it.
    #[error("the key file {} holds no key: put one back, or delete it to have a new one made", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There are as many keys as a ring holds.
    #[error("there are 4 keys, which is the most: retire one that nobody uses any more")]
    Full,
    /// The key that mints cannot go.
    #[error("key {id} is the one that mints: rotate first, so that there is another")]
    Current {
        /// Its id.
        id: u8,
    },
    /// There is no such key.
    #[error("there is no key {id}: see which there are")]
    Unknown {
        /// The id.
        id: u8,
    },
    /// The system has no random numbers.
    #[error("the system has no random numbers, so no key was made: try again")]
    NoRandom,
}

const HEADER: &str = "# Root keys of a Visorbus hub. Whoever reads this can do everything on its bus.\n\
                      # One key a line: ID HEX [NOT_AFTER, in Unix seconds]. The first mints, all check.\n";

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};

    use visorbus_core::auth::Context;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_new_file_is_private_and_reads_back_as_the_same_key() {
        let directory = directory();
        let path = directory.path().join("a/b/root.key");
        let made = KeyFile::open_or_create(&path).unwrap();
        let read = KeyFile::open(&path).unwrap();
        assert!(made.keys == read.keys);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let beside = |suffix: &str| path.with_file_name(format!("root.key{suffix}")).exists();
        assert!(!beside(".new") && beside(".lock"), "nothing is left beside it but its lock");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = directory();
        let path = directory.path().join("root.key");
        KeyFile::open_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::open(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::File(FileError::Exposed { mode: 0o640, .. })), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let directory = directory();
        let path = directory.path().join("root.key");
        KeyFile::open_or_create(&path).unwrap();
        let link = directory.path().join("link.key");
        symlink(&path, &link).unwrap();
        assert!(matches!(KeyFile::open(&link), Err(KeyFileError::File(FileError::Link { .. }))));
        assert!(matches!(KeyFile::open_or_create(&link), Err(KeyFileError::File(FileError::Link { .. }))));
    }

    #[test]
    fn a_damaged_file_opens_no_door_and_is_left_as_it_is() {
        let directory = directory();
        let path = directory.path().join("root.key");
        let hex = "00".repeat(32);
        for (text, line) in [
            (format!("0 {hex}\n0 {hex}\n"), Some(2)),
            (format!("256 {hex}\n"), Some(1)),
            (format!("# c\n0 {}\n", &hex[1..]), Some(2)),
            (format!("0 {}g\n", &hex[1..]), Some(1)),
            ("0\n".to_owned(), Some(1)),
            (format!("0 {hex} soon\n"), Some(1)),
            (format!("0 {hex} 1 2\n"), Some(1)),
            ("# nothing\n".to_owned(), None),
            (String::new(), None),
        ] {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            match (KeyFile::open_or_create(&path), line) {
                (Err(KeyFileError::BadLine { line: found, .. }), Some(line)) => {
                    assert_eq!(found, line, "{text}")
                }
                (Err(KeyFileError::Empty { .. }), None) => {}
                (other, _) => panic!("{text:?}: {other:?}"),
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn of_many_that_create_at_once_all_have_the_same_key() {
        let directory = directory();
        let path = directory.path().join("root.key");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || KeyFile::open_or_create(path).unwrap().keys)
            })
            .collect();
        let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_new_key_mints_and_the_old_one_checks_until_its_end_after_a_restart_too() {
        let directory = directory();
        let path = directory.path().join("root.key");
        let mut keys = KeyFile::open_or_create(&path).unwrap();
        let old = keys.mint(&crate::TokenRequest::new("a", &[])).unwrap().to_bytes().unwrap();
        let mut other = KeyFile::open(&path).unwrap();
        assert_eq!(keys.rotate(Duration::from_secs(100)).unwrap(), 1);
        assert_eq!(other.rotate(Duration::from_secs(1000)).unwrap(), 2, "it starts from what is on disk");
        let keys = KeyFile::open(&path).unwrap();
        let (now, ids) = (unix_seconds(), keys.ids());
        assert_eq!((ids[0], ids[1].0, ids[2].0), ((2, None), 1, 0));
        assert!(ids[2].1.unwrap() <= now + 100, "an end is never put off");
        let check = |keys: &KeyFile, token: &[u8], at| {
            keys.ring().check(token, &Context::new("bus", Some(at))).is_ok()
        };
        let new = keys.mint(&crate::TokenRequest::new("a", &[])).unwrap().to_bytes().unwrap();
        assert!(
            check(&keys, &new, now + 300) && check(&keys, &old, now + 50) && !check(&keys, &old, now + 101)
        );
        assert!(keys.accepts(0, now) && !keys.accepts(0, now + 101) && !keys.accepts(9, now));
    }

    #[test]
    fn a_retired_key_counts_no_more_and_the_one_that_mints_stays() {
        let mut keys = KeyFile::in_memory(254, [7; 32]);
        assert!(matches!(keys.retire(254), Err(KeyFileError::Current { id: 254 })));
        assert_eq!(keys.rotate(Duration::from_secs(60)).unwrap(), 255);
        assert_eq!(keys.rotate(Duration::from_secs(60)).unwrap(), 0, "ids go round");
        assert!(matches!(keys.retire(7), Err(KeyFileError::Unknown { id: 7 })));
        keys.retire(254).unwrap();
        assert!(!keys.accepts(254, 0));
        keys.rotate(Duration::from_secs(60)).unwrap();
        keys.rotate(Duration::from_secs(60)).unwrap();
        assert!(matches!(keys.rotate(Duration::from_secs(60)), Err(KeyFileError::Full)));
    }
}
