//! The root keys of a hub in a file that only its owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use visorbus_core::auth::{Key, KeyRing, Slot};
use zeroize::Zeroizing;

/// Root keys read from a file. The first mints, all check.
///
/// The file has one key a line, `ID HEX`: an id from 0 to 255 and 64 hexadecimal digits; lines that begin with `#` are
/// for people. It belongs to the user that runs the hub, has the mode 0600 and is no symbolic link, or it is refused.
pub struct KeyFile {
    path: PathBuf,
    keys: Vec<(u8, Zeroizing<[u8; 32]>)>,
}

impl KeyFile {
    /// Reads the keys at `path`.
    ///
    /// # Errors
    /// [`KeyFileError`] says what is wrong and how to mend it. Nothing is changed on disk.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let error = |source| KeyFileError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file).take(MAX_FILE).read_to_string(&mut text).map_err(error)?;
        Self::parse(path, &text)
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
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        create(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
        Self::open(path)
    }

    /// A key that is in no file: for a hub that lives as long as one demonstration or one test.
    pub fn in_memory(id: u8, key: [u8; 32]) -> Self {
        Self { path: PathBuf::new(), keys: vec![(id, Zeroizing::new(key))] }
    }

    /// A ring for a hub, with all keys as root keys.
    pub fn ring(&self) -> KeyRing {
        let mut ring = KeyRing::new();
        for (id, key) in &self.keys {
            // Number and ids were checked when the file was read.
            let _ = ring.add(Slot::root(*id, Key::new(**key)));
        }
        ring
    }

    /// The id of the key that mints.
    pub fn current_id(&self) -> u8 {
        self.keys.first().map_or(0, |(id, _)| *id)
    }

    /// The key to flash into the device called `name`, derived from the key that mints.
    pub fn device_key(&self, name: &str) -> Option<Key> {
        self.keys.first().map(|(_, key)| Key::new(**key).derive(name))
    }

    /// Where the keys were read; empty for keys in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KeyFileError> {
        let mut keys: Vec<(u8, Zeroizing<[u8; 32]>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || KeyFileError::BadLine { path: path.to_owned(), line: number + 1 };
            let (id, hex) = line.split_once(' ').ok_or_else(bad)?;
            let id = id.parse().map_err(|_| bad())?;
            let key = parse_hex(hex.trim()).ok_or_else(bad)?;
            if keys.iter().any(|(known, _)| *known == id) || keys.len() == visorbus_core::limits::MAX_KEYS {
                return Err(bad());
            }
            keys.push((id, key));
        }
        if keys.is_empty() {
            return Err(KeyFileError::Empty { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), keys })
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|(id, _)| *id).collect();
        f.debug_struct("KeyFile").field("path", &self.path).field("ids", &ids).finish_non_exhaustive()
    }
}

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or made.
    #[error("cannot use the key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the key file {0} has mode {mode:04o}: others may have read it. If nobody did, run `chmod 600 {0}`; else delete \
         it, and every board and token needs a new key",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A line is not a key.
    #[error("{}, line {line}: a key is an id from 0 to 255 and 64 hexadecimal digits, each id once, at most 4", path.display())]
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
}

/// Makes a file with a random key, whole or not at all: it is written under another name and then linked to its own.
fn create(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|e| io::Error::other(format!("no random numbers: {e}")))?;
    let temporary = directory.join(format!(".key-{}-{}", std::process::id(), nonce()));
    let written = write_key(&temporary, &key).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&temporary)?;
    written?;
    File::open(directory)?.sync_all()
}

fn write_key(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut text = Zeroizing::new(String::from(
        "# Root key of a Visorbus hub. Whoever reads this can do everything on its bus. One key a line: ID HEX.\n0 ",
    ));
    for byte in key {
        let digits = b"0123456789abcdef";
        text.push(digits[usize::from(byte >> 4)].into());
        text.push(digits[usize::from(byte & 15)].into());
    }
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Tells two attempts of one process apart.
fn nonce() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn parse_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(key)
}

/// `O_NOFOLLOW` of Linux: the file itself, not what a link names.
const NO_FOLLOW: i32 = 0o400_000;
const MAX_FILE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

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
        assert_eq!(made.keys, read.keys);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = directory();
        let path = directory.path().join("root.key");
        KeyFile::open_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::open(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let directory = directory();
        let path = directory.path().join("root.key");
        KeyFile::open_or_create(&path).unwrap();
        let link = directory.path().join("link.key");
        symlink(&path, &link).unwrap();
        assert!(matches!(KeyFile::open(&link), Err(KeyFileError::Io { .. })));
        assert!(matches!(KeyFile::open_or_create(&link), Err(KeyFileError::Io { .. })));
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
}
