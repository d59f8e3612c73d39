//! The file of a configuration: read whole, and replaced whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::document::position;
use super::error::ConfigError;

/// A file that may be there. Once it was, it has to be: one that is gone is not taken for an empty one.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    /// Whether it was there when it was last read or written.
    was_there: AtomicBool,
}

impl ConfigFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), was_there: AtomicBool::new(false) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it; `None` when it is not there and never was.
    ///
    /// # Errors
    /// [`ConfigError::Unusable`] when it is gone, is no file, longer than 1 MiB, may not be read, may be written by everybody,
    /// or belongs to somebody who is neither root nor this process' user (for root: nor whose directory it is in); at its
    /// place what is not UTF-8.
    pub(crate) fn read(&self) -> Result<Option<String>, ConfigError> {
        let unusable = |why: String| ConfigError::Unusable { doing: "read", path: self.path.clone(), why };
        let bytes = match read_bounded(&self.path) {
            Ok(bytes) => bytes,
            Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return if self.was_there.load(Ordering::Relaxed) { Err(self.gone()) } else { Ok(None) };
            }
            Err(Unread::Io(error)) => return Err(unusable(error.to_string())),
            Err(Unread::NoFile(what)) => return Err(unusable(format!("it is {what}, not a file"))),
            Err(Unread::Everybodys) => {
                let mend = format!("chmod o-w {}", self.path.display());
                return Err(unusable(format!(
                    "everybody may write it, and with it say what happens: {mend}"
                )));
            }
            Err(Unread::Anothers { owner }) => {
                let (own, path) = (rustix::process::geteuid().as_raw(), self.path.display());
                return Err(unusable(format!(
                    "it belongs to user {owner}, who could say with it what happens: chown {own} {path}"
                )));
            }
            Err(Unread::TooLong) => {
                return Err(unusable(format!("it has more than {MAX_FILE} bytes, the limit")));
            }
        };
        self.was_there.store(true, Ordering::Relaxed);
        String::from_utf8(bytes).map(Some).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
            let (line, column) = position(&before, before.len());
            let what = "this is not UTF-8: write the file as UTF-8 text".to_owned();
            let error = Box::new(ConfigError::Malformed { what });
            ConfigError::At { path: self.path.clone(), line, column, error }
        })
    }

    /// Replaces what stands in it by what `change` makes of that, while no other program does; gives what it made. Where
    /// that is the same nothing is written.
    ///
    /// # Errors
    /// As [`ConfigFile::read`] and as `change`; [`ConfigError::Unusable`] when it cannot be written: then it is as it was.
    pub(crate) fn replace(
        &self,
        change: impl FnOnce(&str) -> Result<String, ConfigError>,
    ) -> Result<String, ConfigError> {
        let unusable = |path: &Path, error: &io::Error| {
            let why = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    format!("{error}: nothing was changed, make room and try again")
                }
                io::ErrorKind::TimedOut => "another program is writing it: try again".to_owned(),
                _ => format!("{error}: nothing was changed"),
            };
            ConfigError::Unusable { doing: "write", path: path.to_owned(), why }
        };
        // Before anything is made beside it.
        if self.was_there.load(Ordering::Relaxed) && self.path.try_exists().is_ok_and(|is_there| !is_there) {
            return Err(self.gone());
        }
        let target = Target::of(&self.path).map_err(|error| unusable(&self.path, &error))?;
        let _lock = target.lock().map_err(|error| unusable(&target.path, &error))?;
        let before = self.read()?;
        let after = change(before.as_deref().unwrap_or_default())?;
        if after.len() > MAX_FILE {
            let error = io::Error::other(format!("it would have more than {MAX_FILE} bytes, the limit"));
            return Err(unusable(&target.path, &error));
        }
        if before.as_deref() != Some(&after) {
            target.write(after.as_bytes()).map_err(|error| unusable(&target.path, &error))?;
            self.was_there.store(true, Ordering::Relaxed);
        }
        Ok(after)
    }

    fn gone(&self) -> ConfigError {
        let why = "it was there and is gone: put it back; with an empty one all defaults hold".to_owned();
        ConfigError::Unusable { doing: "read", path: self.path.clone(), why }
    }
}

/// Writes a new file whole or not at all, as a [`ConfigManager`](super::ConfigManager) writes its own: with the owner and the
/// group of its directory where root makes it.
///
/// # Errors
/// `AlreadyExists` when there is one; what the system says when it cannot be written: then there is none.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let target = Target::of(path)?;
    let _lock = target.lock()?;
    match fs::symlink_metadata(&target.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => target.write(text.as_bytes()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

/// The file that is really written, behind a link too.
struct Target {
    directory: PathBuf,
    name: OsString,
    path: PathBuf,
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        // A link stays a link: what it leads to is replaced, also where that is not there yet.
        let path = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
                Ok(to) => directory_of(path).join(to),
                Err(_) => path.to_owned(),
            },
            Err(error) => return Err(error),
        };
        let directory = directory_of(&path).to_owned();
        if !directory.is_dir() {
            let mut builder = fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(&directory)?;
        }
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        Ok(Self { directory, name, path })
    }

    /// Waits until no other program writes. The lock's file stays, so that all lock the same.
    fn lock(&self) -> io::Result<File> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(NO_LINK.union(NO_WAITING).bits() as i32)
            .open(self.beside("lock"))?;
        let found = lock.metadata()?;
        if !found.is_file() || found.nlink() > 1 {
            let path = self.beside("lock");
            return Err(io::Error::other(format!("{} is no lock's file: take it away", path.display())));
        }
        // Whoever may write the file may lock it, also when root made the lock.
        let _ = self.as_the_file(&lock);
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts a new file in the place of the old one; both are on the disk whole before and after.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let path = self.beside("new");
        // What somebody left who was killed while writing: nobody else writes now.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = self.fill(file, bytes).and_then(|()| fs::rename(&path, &self.path));
        if written.is_err() {
            // What is left of it harms nobody.
            let _ = fs::remove_file(&path);
        }
        written?;
        // It is there for all who read it; whether a crash right now would undo that the system does not say.
        if let Err(error) = File::open(&self.directory).and_then(|directory| directory.sync_all()) {
            let path = self.path.display();
            tracing::warn!("{path} is changed, but may be as before after a power failure now: {error}");
        }
        Ok(())
    }

    fn fill(&self, mut file: File, bytes: &[u8]) -> io::Result<()> {
        self.as_the_file(&file)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Gives a new file the owner and the mode of the one that it is for; where there is none, and root makes it, those that
    /// go with the directory, so that the program whose directory that is can read it.
    fn as_the_file(&self, new: &File) -> io::Result<()> {
        let Ok(old) = fs::metadata(&self.path) else {
            let directory = fs::metadata(&self.directory)?;
            let (made, whose) = (new.metadata()?, (directory.uid(), directory.gid()));
            if rustix::process::geteuid().is_root() && (made.uid(), made.gid()) != whose {
                fchown(new, Some(whose.0), Some(whose.1))?;
                new.set_permissions(fs::Permissions::from_mode(0o640))?;
            }
            return Ok(());
        };
        let made = new.metadata()?;
        if (made.uid(), made.gid()) == (old.uid(), old.gid())
            || fchown(new, Some(old.uid()), Some(old.gid())).is_ok()
        {
            return new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777));
        }
        // It belongs to whoever writes it, and to nobody else.
        Ok(())
    }

    /// A file of ours beside it: `.visorbus.toml.lock`.
    fn beside(&self, what: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".");
        name.push(what);
        self.directory.join(name)
    }
}

enum Unread {
    Io(io::Error),
    NoFile(&'static str),
    Everybodys,
    Anothers { owner: u32 },
    TooLong,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file that is one; what is none is not waited for.
fn read_bounded(path: &Path) -> Result<Vec<u8>, Unread> {
    let file = OpenOptions::new().read(true).custom_flags(NO_WAITING.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        return Err(Unread::NoFile(if kind.is_dir() { "a directory" } else { "a device, pipe or socket" }));
    }
    if metadata.mode() & EVERYBODY_WRITES != 0 {
        return Err(Unread::Everybodys);
    }
    let (owner, reader) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if !is_trusted(owner, reader, path) {
        return Err(Unread::Anothers { owner });
    }
    let mut bytes = Vec::new();
    let len = file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if len > MAX_FILE { Err(Unread::TooLong) } else { Ok(bytes) }
}

/// Whether `reader` does what a file of `owner` says, that `path` names: what is its own, and what is root's. Root makes a
/// configuration for the user of a directory too, and so does what one says that belongs to whom the directory does that it
/// is named in; not what somebody has put among the files of others.
fn is_trusted(owner: u32, reader: u32, path: &Path) -> bool {
    let is_of_directory = || fs::metadata(directory_of(path)).is_ok_and(|directory| directory.uid() == owner);
    owner == reader || owner == ROOT || (reader == ROOT && is_of_directory())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

const ROOT: u32 = 0;
/// Bytes of a configuration.
const MAX_FILE: usize = 1 << 20;
/// How long somebody else may write.
const MAX_WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const EVERYBODY_WRITES: u32 = 0o002;
const NO_LINK: OFlags = OFlags::NOFOLLOW;
const NO_WAITING: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);
