//! Accounts, keys and revocations in one file that only its owner can read.
//!
//! Every change is made under a lock that holds between processes, on what is on disk at that moment, and is on disk
//! when the call returns: written beside the file, flushed, renamed over it, and the directory flushed. Whoever is
//! killed in between leaves the old file, whole. A file that is not what was written is not used: nothing is repaired,
//! and nobody is let in.

mod entries;
pub(crate) mod private;
pub(crate) mod records;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use entries::{ApiKeyInfo, CertificateInfo, LinkKeyInfo, UserInfo};
pub(crate) use entries::{check_subject, sha256};

use crate::{Error, Result, unix_seconds};
use private::{FileError, Lock, Stamp};
use records::Records;

/// The accounts of a hub. Both the hub and the command line open it at the same time.
///
/// The file is JSON with a version and a checksum; it is not meant to be edited.
pub struct Store {
    path: PathBuf,
    /// One change at a time; a file lock does not hold between threads.
    changing: Mutex<()>,
    current: RwLock<Current>,
}

struct Current {
    records: Arc<Records>,
    stamp: Option<Stamp>,
}

impl Store {
    /// Opens the store at `path`.
    ///
    /// # Errors
    /// [`StoreError`]; also when there is none.
    pub fn open(path: impl AsRef<Path>) -> std::result::Result<Self, StoreError> {
        let path = path.as_ref();
        let (records, stamp) = load(path)?.ok_or_else(|| StoreError::Missing { path: path.to_owned() })?;
        Ok(Self::with(path, records, Some(stamp)))
    }

    /// Opens the store at `path`; where there is none, makes an empty one, and its directory with mode 0700.
    ///
    /// # Errors
    /// [`StoreError`]. What is there and cannot be used is never replaced by an empty one.
    pub fn open_or_create(path: impl AsRef<Path>) -> std::result::Result<Self, StoreError> {
        Self::open_or(path.as_ref(), Records::default).map(|(store, _)| store)
    }

    /// As [`Store::open_or_create`], for where there are root keys already: no accounts beside them means that they were
    /// lost, and with them which tokens were taken back. So in a store that is made here no token counts that was made
    /// before, and every login makes a new one. Whether it was made.
    ///
    /// What tells the tokens before is the clock, this once: set it first if it may be behind.
    ///
    /// # Errors
    /// As [`Store::open_or_create`].
    pub fn open_or_replace(path: impl AsRef<Path>) -> std::result::Result<(Self, bool), StoreError> {
        Self::open_or(path.as_ref(), || Records::after_loss(unix_seconds()))
    }

    fn open_or(
        path: &Path,
        fresh: impl FnOnce() -> Records,
    ) -> std::result::Result<(Self, bool), StoreError> {
        private::create_directory(path)?;
        let _lock = Lock::take(path)?;
        if let Some((records, stamp)) = load(path)? {
            return Ok((Self::with(path, records, Some(stamp)), false));
        }
        let records = fresh();
        let stamp = save(path, &records)?;
        Ok((Self::with(path, records, Some(stamp)), true))
    }

    /// A store in no file: for a hub that lives as long as one demonstration or one test.
    pub fn in_memory() -> Self {
        Self::with(Path::new(""), Records::default(), None)
    }

    /// Where it is; empty for one in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again if it is another one than was read or written last. Whether it was.
    ///
    /// # Errors
    /// [`StoreError`]; then what was read before holds.
    pub fn reload(&self) -> std::result::Result<bool, StoreError> {
        if !self.is_changed() {
            return Ok(false);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, stamp) =
            load(&self.path)?.ok_or_else(|| StoreError::Missing { path: self.path.clone() })?;
        self.replace(records, Some(stamp));
        Ok(true)
    }

    /// Whether the file is another one than was read or written last. Takes one look at the directory.
    pub fn is_changed(&self) -> bool {
        if self.path.as_os_str().is_empty() {
            return false;
        }
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner).stamp;
        Stamp::at(&self.path) != known
    }

    /// What is in it now.
    pub(crate) fn records(&self) -> Arc<Records> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).records.clone()
    }

    /// Asks something of what is in it now.
    pub(crate) fn with_records<T>(&self, ask: impl FnOnce(&Records) -> T) -> T {
        ask(&self.current.read().unwrap_or_else(PoisonError::into_inner).records)
    }

    /// Changes it: on disk when this returns. When `change` fails, nothing has changed.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Records) -> Result<T>) -> Result<T> {
        self.change(|records| change(records).map(|answer| (answer, true)))
    }

    /// As [`Store::update`], and writes nothing where `is_done` says that it is so already.
    pub(crate) fn update_unless(
        &self,
        is_done: impl FnOnce(&Records) -> bool,
        change: impl FnOnce(&mut Records) -> Result<()>,
    ) -> Result<()> {
        self.change(|records| match is_done(records) {
            true => Ok(((), false)),
            false => change(records).map(|()| ((), true)),
        })
    }

    /// Reads what is there, and writes it if `change` says so.
    fn change<T>(&self, change: impl FnOnce(&mut Records) -> Result<(T, bool)>) -> Result<T> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.path.as_os_str().is_empty() {
            let mut records = Records::clone(&self.records());
            let (answer, is_changed) = change(&mut records)?;
            if is_changed {
                self.replace(records, None);
            }
            return Ok(answer);
        }
        let internal = |e: StoreError| Error::Internal(e.to_string());
        let _lock = Lock::take(&self.path).map_err(|e| internal(e.into()))?;
        let (mut records, stamp) = load(&self.path)
            .and_then(|found| found.ok_or_else(|| StoreError::Missing { path: self.path.clone() }))
            .map_err(internal)?;
        let (answer, is_changed) = change(&mut records)?;
        let stamp = if is_changed { save(&self.path, &records).map_err(internal)? } else { stamp };
        self.replace(records, Some(stamp));
        Ok(answer)
    }

    fn with(path: &Path, records: Records, stamp: Option<Stamp>) -> Self {
        let current = RwLock::new(Current { records: Arc::new(records), stamp });
        Self { path: path.to_owned(), changing: Mutex::new(()), current }
    }

    fn replace(&self, records: Records, stamp: Option<Stamp>) {
        let current = Current { records: Arc::new(records), stamp };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be read or written, or others could have.
    #[error("{0}")]
    File(#[from] FileError),
    /// There is none.
    #[error("there are no accounts at {}: make some with `visorbus auth user add`, or name the right file", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "the accounts in {} are damaged ({problem}): put back a copy; without one, move the file away, make the accounts \
         anew, and rotate the root key, for nothing knows any more which tokens were taken back",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// A newer program has written it.
    #[error("the accounts in {} are of version {version}, and this program knows 1: update it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// The file's outer form. The checksum is over the text of `accounts`, byte by byte.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    version: u32,
    #[serde(with = "crate::hex::serde_32")]
    sha256: [u8; 32],
    #[serde(borrow)]
    accounts: &'a RawValue,
}

fn load(path: &Path) -> std::result::Result<Option<(Records, Stamp)>, StoreError> {
    let Some((bytes, stamp)) = private::read(path)? else { return Ok(None) };
    let damaged = |problem: &str| StoreError::Damaged { path: path.to_owned(), problem: problem.to_owned() };
    // What serde_json says of a text may show pieces of it: only where it stopped is told.
    let place = |e: serde_json::Error| damaged(&format!("line {}, column {}", e.line(), e.column()));
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&bytes).map_err(place)?;
    if version != VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), version });
    }
    let envelope: Envelope<'_> = serde_json::from_slice(&bytes).map_err(place)?;
    if envelope.sha256 != checksum(envelope.accounts.get()) {
        return Err(damaged("the checksum is another one"));
    }
    let records = serde_json::from_str(envelope.accounts.get()).map_err(place)?;
    Ok(Some((records, stamp)))
}

fn save(path: &Path, records: &Records) -> std::result::Result<Stamp, StoreError> {
    let unwritable =
        |e: serde_json::Error| StoreError::Damaged { path: path.to_owned(), problem: e.to_string() };
    let text = Zeroizing::new(serde_json::to_string(records).map_err(unwritable)?);
    let accounts: &RawValue = serde_json::from_str(&text).map_err(unwritable)?;
    let envelope = Envelope { version: VERSION, sha256: checksum(&text), accounts };
    let mut bytes = Zeroizing::new(serde_json::to_vec(&envelope).map_err(unwritable)?);
    bytes.push(b'\n');
    Ok(private::write(path, &bytes)?)
}

fn checksum(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

const VERSION: u32 = 1;
