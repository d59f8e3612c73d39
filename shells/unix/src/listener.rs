//! The listening end of a Unix socket: who may connect, and whose file it is. Knows nothing of what is said there.
//!
//! # Permissions
//! The mode 0600 is set on the descriptor before it is bound: Linux gives the file the mode of its socket, so there is
//! no moment at which it is wider, and the process-wide umask, which other threads depend on, is left alone. A socket
//! for a group is given to it after that. The mode of the file is looked at once more before `listen`, and before that
//! nobody can connect at all.
//!
//! # Whose file it is
//! `<path>.lock` is locked with flock(2) for as long as the listener lives, and only the holder of that lock looks at
//! the socket's file, removes a stale one and makes its own: of two hubs that start at the same moment one gets the
//! lock and the other an error. The kernel lets the lock go when its holder dies, whatever it dies of, so neither the
//! lock's file nor the socket's needs to be removed by hand.
//!
//! A socket that was inherited, from systemd for example, is somebody else's: its file is neither made nor removed here,
//! and no lock is taken, for whoever made the socket hands it to one hub alone.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag};
use nix::sys::socket::{Backlog, SockType, bind, connect, getsockopt, listen, sockopt};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::{Gid, fchownat, geteuid};

use visorbus_hub::{Error, HubLink, Listener, Result};

use crate::address::{address, new_socket};
use crate::stream::FramedStream;

/// Accepts connections on a Unix socket that only its user can reach, or that user and one group.
#[derive(Debug)]
pub struct UnixSocketListener {
    listener: UnixListener,
    path: PathBuf,
    /// What is removed with it; nothing where the socket was inherited.
    _own: Option<Own>,
}

impl UnixSocketListener {
    /// Listens at `path`. Its directory is made with mode 0700 if it is not there; the socket has mode 0600; a socket
    /// that nobody serves any more is replaced.
    ///
    /// # Errors
    /// `Message` when the path cannot be a socket's, `Authorization` when others could replace the socket, `Connection`
    /// when somebody serves there already, or something that is no socket is in the way.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self> {
        Self::bind_for(path.as_ref(), None)
    }

    /// As [`UnixSocketListener::bind`], for the members of the group `gid` too: the socket has mode 0660, a directory
    /// that is made for it 0750, and both belong to that group. What a member may do is for the hub to decide by its
    /// user id.
    ///
    /// # Errors
    /// As [`UnixSocketListener::bind`]; `Authorization` also when this user may not give a file to that group.
    pub fn bind_for_group(path: impl AsRef<Path>, gid: u32) -> Result<Self> {
        Self::bind_for(path.as_ref(), Some(Gid::from_raw(gid)))
    }

    /// Accepts connections on a socket that another process has made and listens on, systemd for example (sd_listen_fds(3)).
    /// Its file stays where it is when the listener is dropped.
    ///
    /// # Errors
    /// `Message` when it is no listening stream socket with a file, `Authorization` when everybody may connect to that
    /// file, `Connection` when the file is gone.
    pub fn from_inherited(socket: UnixListener) -> Result<Self> {
        let refused = |why: &str| Error::Message(format!("the inherited socket {why}: {INHERITED_HINT}"));
        let unusable = |error: io::Error| refused(&format!("cannot be used ({error})"));
        let has = |is: nix::Result<bool>| is.map_err(|e| unusable(e.into()));
        if !has(getsockopt(&socket, sockopt::SockType).map(|kind| kind == SockType::Stream))? {
            return Err(refused("is no stream socket"));
        }
        if !has(getsockopt(&socket, sockopt::AcceptConn))? {
            return Err(refused("does not listen"));
        }
        let address = socket.local_addr().map_err(unusable)?;
        let path = address.as_pathname().ok_or_else(|| refused("has no file, and with it no permissions"))?;
        let found =
            fs::symlink_metadata(path).map_err(|e| broken(path, "look at the inherited socket", &e))?;
        if found.mode() & OTHERS_MAY_CONNECT != 0 {
            let mode = found.mode() & 0o777;
            return Err(Error::Authorization(format!(
                "the inherited socket '{}' has mode {mode:o}, which lets everybody connect: write SocketMode=0660 into \
                 its unit",
                path.display()
            )));
        }
        socket.set_nonblocking(true).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), listener: socket, _own: None })
    }

    fn bind_for(path: &Path, group: Option<Gid>) -> Result<Self> {
        let address = address(path)?;
        prepare_directory(path, group)?;
        // From here on a failure removes what was made.
        let mut own = Own { path: path.to_owned(), file: None, lock: lock(path)? };
        remove_stale(path)?;
        let failed = |error: io::Error| broken(path, "make the socket", &error);
        let socket = new_socket().map_err(failed)?;
        fchmod(&socket, PRIVATE).map_err(|e| failed(e.into()))?;
        bind(socket.as_raw_fd(), &address).map_err(|e| failed(e.into()))?;
        own.file = Some(FileId::of(&fs::symlink_metadata(path).map_err(failed)?));
        if let Some(group) = group {
            share(path, group, SHARED)?;
        }
        let made = fs::symlink_metadata(path).map_err(failed)?;
        let listener = Self { listener: listener(socket), path: path.to_owned(), _own: Some(own) };
        let others = if group.is_some() { 0o007 } else { 0o077 };
        if made.mode() & others != 0 {
            let mode = made.mode() & 0o777;
            return Err(Error::Authorization(format!(
                "the socket '{}' came out with mode {mode:o}, which lets others connect; use another file system",
                path.display()
            )));
        }
        listen(&listener.listener, Backlog::MAXALLOWABLE).map_err(|e| failed(e.into()))?;
        listener.listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }

    /// The next connection as a bare socket, if one waits; never waits itself.
    ///
    /// # Errors
    /// Accepting failed, for want of descriptors for example; the next call may succeed.
    pub fn accept_stream(&mut self) -> io::Result<Option<UnixStream>> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    // Nobody's connection: the caller hung up before it was accepted, or a signal came.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Listener for UnixSocketListener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&mut self) -> io::Result<Option<Box<dyn HubLink>>> {
        let Some(stream) = self.accept_stream()? else { return Ok(None) };
        Ok(Some(Box::new(FramedStream::new(stream)?)))
    }

    fn describe(&self) -> String {
        format!("unix {}", self.path.display())
    }
}

/// The files that a listener has made.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    /// The socket, once it is made.
    file: Option<FileId>,
    lock: Flock<File>,
}

impl Drop for Own {
    fn drop(&mut self) {
        // What is not there any more, or is another's by now, is left alone; nobody could be told of an error.
        if let Some(file) = &self.file {
            remove_own(&self.path, file);
        }
        if let Ok(lock) = self.lock.metadata() {
            remove_own(&lock_path(&self.path), &FileId::of(&lock));
        }
    }
}

/// Which file it is, whatever it is called.
#[derive(Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// Makes the directory of `path` if it is missing, and sees that nobody else could put a socket of his own there.
fn prepare_directory(path: &Path, group: Option<Gid>) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |error: io::Error| broken(directory, "use the directory", &error);
    let is_new = !directory.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    if let Some(group) = group.filter(|_| is_new) {
        share(directory, group, Mode::S_IRWXU | Mode::S_IRGRP | Mode::S_IXGRP)?;
    }
    let found = fs::metadata(directory).map_err(failed)?;
    let refused = |why: &str| {
        Err(Error::Authorization(format!(
            "the directory '{}' {why}, who could put a socket of his own in the place of this one; use a directory of \
             mode 0700 that is yours",
            directory.display()
        )))
    };
    if ![geteuid().as_raw(), 0].contains(&found.uid()) {
        return refused("belongs to another user");
    }
    if found.mode() & 0o022 != 0 && found.mode() & STICKY == 0 {
        return refused("can be written by others");
    }
    Ok(())
}

/// Gives a file of ours to a group, with `mode`; a symbolic link in its place is not followed.
fn share(path: &Path, group: Gid, mode: Mode) -> Result<()> {
    fchownat(AT_FDCWD, path, None, Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)
        .and_then(|()| fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink))
        .map_err(|error| {
            Error::Authorization(format!(
                "cannot give '{}' to the group {group}: {error}; run as a member of that group, or as root",
                path.display()
            ))
        })
}

/// Locks the file beside the socket.
fn lock(path: &Path) -> Result<Flock<File>> {
    let beside = lock_path(path);
    let failed = |error: io::Error| broken(&beside, "lock", &error);
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&beside)
            .map_err(failed)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EAGAIN)) => return Err(taken(path)),
            Err((_, error)) => return Err(failed(error.into())),
        };
        // The holder before may have removed the file between our opening it and our locking it.
        let ours = FileId::of(&lock.metadata().map_err(failed)?);
        if fs::symlink_metadata(&beside).is_ok_and(|found| FileId::of(&found) == ours) {
            return Ok(lock);
        }
    }
}

/// Removes the socket of a hub that is gone; leaves everything else where it is and says what it is.
fn remove_stale(path: &Path) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(broken(path, "look at", &error)),
    };
    let in_the_way = |what: &str| {
        let path = path.display();
        Err(Error::Connection(format!("'{path}' is {what}, not a socket: remove it or choose another path")))
    };
    if found.file_type().is_symlink() {
        return in_the_way("a symbolic link");
    }
    if !found.file_type().is_socket() {
        return in_the_way("there already and is a file or a directory");
    }
    match try_connect(path)? {
        Ok(()) | Err(Errno::EAGAIN) => Err(taken(path)),
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(|e| broken(path, "remove the stale socket", &e))
        }
        Err(error) => Err(broken(path, "find out who serves", &error.into())),
    }
}

/// Connects without waiting: a hub that is too busy to accept is a live one.
fn try_connect(path: &Path) -> Result<nix::Result<()>> {
    let failed = |error: io::Error| broken(path, "find out who serves", &error);
    let caller = new_socket().map_err(failed)?;
    caller.set_nonblocking(true).map_err(failed)?;
    Ok(connect(caller.as_raw_fd(), &address(path)?))
}

fn remove_own(path: &Path, own: &FileId) {
    if fs::symlink_metadata(path).is_ok_and(|found| FileId::of(&found) == *own) {
        let _ = fs::remove_file(path);
    }
}

fn listener(socket: UnixStream) -> UnixListener {
    std::os::fd::OwnedFd::from(socket).into()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn taken(path: &Path) -> Error {
    let path = path.display();
    Error::Connection(format!("another hub serves '{path}' already: stop it, or choose another path"))
}

fn broken(path: &Path, what: &str, error: &io::Error) -> Error {
    Error::Connection(format!("cannot {what} '{}': {error}", path.display()))
}

const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
const SHARED: Mode = PRIVATE.union(Mode::S_IRGRP).union(Mode::S_IWGRP);
const STICKY: u32 = 0o1000;
/// Linux asks for the right to write to connect.
const OTHERS_MAY_CONNECT: u32 = 0o002;
const INHERITED_HINT: &str =
    "hand over a listening stream socket with a file, such as ListenStream=/run/visorbus/bus.sock";
