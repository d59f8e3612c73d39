//! Files that belong to one user: read only when nobody else could have written or read them, written whole or not at all.
//! Knows nothing of what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use zeroize::Zeroizing;

/// Reads a file with secrets: a plain file of this user with mode 0600 (or less), in a directory that nobody else may write,
/// by its own name and not through a symbolic link. `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Contents>, FileError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, error)),
    };
    let metadata = file.metadata().map_err(|source| io_error(path, "read", source))?;
    check_private(path, &metadata)?;
    check_directory(path)?;
    Ok(Some((read_all(path, file)?, Stamp::of(&metadata))))
}

/// What is in a file, and which state of it that is.
pub(crate) type Contents = (Zeroizing<Vec<u8>>, Stamp);

/// Reads a file that decides but holds no secret: of this user or of root, in a directory of one of them; nobody else may
/// write either. By its own name and not through a symbolic link.
pub(crate) fn read_trusted(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| refused(path, error))?;
    let metadata = file.metadata().map_err(|source| io_error(path, "read", source))?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    check_owner(path, &metadata, true)?;
    if metadata.mode() & 0o022 != 0 {
        return Err(FileError::Writable { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    check_directory(path)?;
    read_all(path, file)
}

/// Writes a file with secrets so that at every moment the old or the new one is there, whole. Only under its [`Lock`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<Stamp, FileError> {
    check_directory(path)?;
    let temporary = beside(path, ".new");
    // What a writer that was killed has left behind; under the lock there is no other writer.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&temporary, "write", error));
        }
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let stamp = Stamp::of(&file.metadata()?);
        fs::rename(&temporary, path)?;
        File::open(directory(path))?.sync_all()?;
        Ok(stamp)
    };
    write().map_err(|source| io_error(path, "write", source))
}

/// Makes the directory of `path`, with mode 0700, unless it is there.
pub(crate) fn create_directory(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory(path));
    made.map_err(|source| io_error(path, "write", source))
}

/// The right to change a file, until dropped; between processes too.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Lock {
    /// Waits for it, for a few seconds.
    pub(crate) fn take(path: &Path) -> Result<Self, FileError> {
        check_directory(path)?;
        let lock = beside(path, ".lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32).open(&lock);
        let file = file.map_err(|error| refused(&lock, error))?;
        check_private(&lock, &file.metadata().map_err(|source| io_error(&lock, "lock", source))?)?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(FileError::Locked { path: path.to_owned() });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io_error(&lock, "lock", error.into())),
            }
        }
    }
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// That of the file at `path`; `None` when there is none.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &fs::Metadata) -> Self {
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), len: metadata.len(), changed }
    }
}

/// Why a file was not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `write` or `lock`.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It is a symbolic link.
    #[error("{} is a symbolic link, which is not followed: name the file itself", path.display())]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory or a device.
    #[error("{} is no plain file: name another one", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error(
        "{0} has mode {mode:04o}: others may have read the secrets in it. If nobody did, run `chmod 600 {0}`; else all \
         keys and passwords in it need to be made anew",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others may write it.
    #[error("{0} has mode {mode:04o}: others may change it. Look through it, then run `chmod go-w {0}`", path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, and this is user {user}: run this as its owner, or `chown` it", path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who reads it.
        user: u32,
    },
    /// Longer than any such file.
    #[error("{} is longer than {max} bytes, so it is something else: put the right file there", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max: u64,
    },
    /// Another process is changing it, and does not end.
    #[error("{} is being changed by another process: try again; if none runs, see `fuser {}.lock`", path.display(), path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

fn check_private(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    if !metadata.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    check_owner(path, metadata, false)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

/// Whoever may write the directory may put another file in its place.
fn check_directory(path: &Path) -> Result<(), FileError> {
    let directory = directory(path);
    let metadata = fs::metadata(directory).map_err(|source| io_error(directory, "read", source))?;
    check_owner(directory, &metadata, true)?;
    if metadata.mode() & 0o022 != 0 {
        return Err(FileError::Writable { path: directory.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

fn check_owner(path: &Path, metadata: &fs::Metadata, or_root: bool) -> Result<(), FileError> {
    let user = rustix::process::geteuid().as_raw();
    let owner = metadata.uid();
    if owner == user || (or_root && owner == 0) {
        return Ok(());
    }
    Err(FileError::Foreign { path: path.to_owned(), owner, user })
}

fn read_all(path: &Path, file: File) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    if len > MAX_FILE {
        return Err(FileError::TooLong { path: path.to_owned(), max: MAX_FILE });
    }
    // Room for all of it at once: a buffer that grows leaves pieces behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len as usize + 1));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|source| io_error(path, "read", source))?;
    Ok(bytes)
}

fn refused(path: &Path, error: io::Error) -> FileError {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return FileError::Link { path: path.to_owned() };
    }
    io_error(path, "read", error)
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), action, source }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

const MAX_FILE: u64 = 16 * 1024 * 1024;
const LOCK_WAIT: Duration = Duration::from_secs(5);
