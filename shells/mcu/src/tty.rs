//! A serial device of Linux: opened raw, exclusive and non-blocking, put back as it was on drop. It knows bytes, not
//! frames, and no hub.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, major, open};
use rustix::io::{Errno, retry_on_intr};
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, ioctl_tiocexcl,
    ioctl_tiocnxcl, tcflush, tcgetattr, tcsetattr,
};

/// The tty end of a serial link, 8N1 without flow control.
///
/// # Contract
/// Nothing blocks. [`Read::read`] and [`Write::write`] move at least one byte or fail: with [`TtyError::WouldBlock`]
/// when the device is not ready (ask [`ReadReady`] and [`WriteReady`], or wait for its descriptor, level-triggered),
/// with [`TtyError::Gone`] when it was unplugged or its other end was closed. After `Gone` it stays gone: drop it and
/// open anew. A written byte is with the kernel, not yet on the wire, and [`Write::flush`] does not wait for it.
///
/// # Exclusive
/// A second [`Tty::open`] of the same device fails with [`OpenError::InUse`] by an advisory lock (`flock`), which
/// other well-behaved programs respect; every other program's open is refused by the kernel (`TIOCEXCL`), root's
/// excepted. A pty has only the lock: its exclusive mode would outlive a process that was killed.
///
/// # Drop
/// Discards bytes that have not left the machine (a stuck device would hold the close up for seconds) and puts the
/// device's own settings back, as far as it is still there.
#[derive(Debug)]
pub struct Tty {
    fd: OwnedFd,
    path: PathBuf,
    baud: u32,
    original: Termios,
    exclusive: bool,
}

impl Tty {
    /// Opens the device at `path` with `baud` bits a second; any number that the hardware can do, on a pty any at all.
    ///
    /// Input that arrived before is discarded.
    ///
    /// # Errors
    /// The device is missing, may not be opened, is in use, is no tty, or refuses the speed. Nothing is left changed.
    pub fn open(path: impl AsRef<Path>, baud: u32) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let explain = |errno| OpenError::new(path, errno);
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| open(path, flags, Mode::empty())).map_err(explain)?;
        let original = tcgetattr(&fd).map_err(explain)?;
        flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(explain)?;
        let exclusive = !is_pty(&fd).map_err(explain)?;
        if exclusive {
            ioctl_tiocexcl(&fd).map_err(explain)?;
        }
        // From here on dropping it puts everything back.
        let mut tty = Self { fd, path: path.to_owned(), baud, original, exclusive };
        tty.configure()?;
        Ok(tty)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bits a second as the driver set them, which may be a little off what was asked for.
    pub fn baud(&self) -> u32 {
        self.baud
    }

    fn configure(&mut self) -> Result<(), OpenError> {
        let wanted = self.baud;
        let refused = |actual| OpenError::SpeedRefused { path: self.path.clone(), baud: wanted, actual };
        // A speed of 0 means "hang up" to a tty.
        if wanted == 0 {
            return Err(refused(self.original.output_speed()));
        }
        let settings = raw(&self.original, wanted).map_err(|_| refused(self.original.output_speed()))?;
        let explain = |errno| match errno {
            Errno::INVAL | Errno::RANGE => refused(self.original.output_speed()),
            errno => OpenError::new(&self.path, errno),
        };
        tcsetattr(&self.fd, OptionalActions::Now, &settings).map_err(explain)?;
        // tcsetattr succeeds when it could do any part of what it was asked for: read back what the driver made of it.
        let actual = tcgetattr(&self.fd).map_err(explain)?.output_speed();
        if self.exclusive
            && u64::from(actual.abs_diff(wanted)) * 100 > u64::from(wanted) * SPEED_TOLERANCE_PERCENT
        {
            return Err(refused(actual));
        }
        tcflush(&self.fd, QueueSelector::IFlush).map_err(explain)?;
        self.baud = actual;
        Ok(())
    }

    fn error(&self, errno: Errno) -> TtyError {
        match errno {
            Errno::AGAIN => TtyError::WouldBlock,
            Errno::IO | Errno::NODEV | Errno::NXIO | Errno::PIPE => {
                TtyError::Gone { path: self.path.clone() }
            }
            errno => TtyError::Os { path: self.path.clone(), source: errno.into() },
        }
    }

    /// Whether any of `events` is there, or a hang-up, which the next read or write then reports.
    fn is_ready(&self, events: PollFlags) -> Result<bool, TtyError> {
        let mut fds = [PollFd::new(&self.fd, events)];
        let count = retry_on_intr(|| poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })));
        count.map(|count| count > 0).map_err(|errno| self.error(errno))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // Each of these fails when the device is gone, and then there is nothing to put back.
        let _ = tcflush(&self.fd, QueueSelector::OFlush);
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.original);
        if self.exclusive {
            let _ = ioctl_tiocnxcl(&self.fd);
        }
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl ErrorType for Tty {
    type Error = TtyError;
}

impl Read for Tty {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, TtyError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match retry_on_intr(|| rustix::io::read(&self.fd, &mut *bytes)) {
            // With VMIN = 1 a tty reads nothing only after a hang-up.
            Ok(0) => Err(TtyError::Gone { path: self.path.clone() }),
            Ok(count) => Ok(count),
            Err(errno) => Err(self.error(errno)),
        }
    }
}

impl Write for Tty {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, TtyError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match retry_on_intr(|| rustix::io::write(&self.fd, bytes)) {
            Ok(0) => Err(TtyError::WouldBlock),
            Ok(count) => Ok(count),
            Err(errno) => Err(self.error(errno)),
        }
    }

    fn flush(&mut self) -> Result<(), TtyError> {
        Ok(())
    }
}

impl ReadReady for Tty {
    fn read_ready(&mut self) -> Result<bool, TtyError> {
        self.is_ready(PollFlags::IN)
    }
}

impl WriteReady for Tty {
    fn write_ready(&mut self) -> Result<bool, TtyError> {
        self.is_ready(PollFlags::OUT)
    }
}

/// Why bytes did not move on an open device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TtyError {
    /// Not now: nothing has arrived, or there is no room. `embedded-io` has no kind for it: it is `Other`.
    #[error("the serial device is not ready: wait until it is, then try again")]
    WouldBlock,
    /// The device was unplugged, or the other end of the pty was closed. Its kind is `NotConnected`.
    #[error("{} is gone: it was unplugged or its other end was closed; plug it in and open it again", path.display())]
    Gone {
        /// The path it was opened by.
        path: PathBuf,
    },
    /// Whatever else the system says.
    #[error("{} failed", path.display())]
    Os {
        /// The path it was opened by.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl embedded_io::Error for TtyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::WouldBlock => ErrorKind::Other,
            Self::Gone { .. } => ErrorKind::NotConnected,
            Self::Os { source, .. } => source.kind().into(),
        }
    }
}

/// Why a serial device could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No device is there, or no hardware is behind it.
    #[error(
        "no serial device at {}: check the cable and the name (`ls /dev/serial/by-id` lists what is plugged in)",
        path.display()
    )]
    Missing {
        /// The path that was tried.
        path: PathBuf,
    },
    /// This user may not open it.
    #[error(
        "not allowed to open {0}: it belongs to group {group}; add yourself with `sudo usermod -aG {group} $USER` \
         and log in again",
        path.display()
    )]
    PermissionDenied {
        /// The path that was tried.
        path: PathBuf,
        /// The group that owns the device, by name or number; `unknown` when even that may not be read.
        group: String,
    },
    /// Another program, or another link of this one, has it.
    #[error("{0} is in use: another program has it open; find it with `fuser -v {0}` and close it", path.display())]
    InUse {
        /// The path that was tried.
        path: PathBuf,
    },
    /// Something else than a serial device is there.
    #[error("{} is not a serial device: name a tty, such as /dev/ttyACM0, or a pty", path.display())]
    NotATty {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The hardware cannot do that speed.
    #[error(
        "{} refuses {baud} bits a second and stays at {actual}: choose a speed that both ends can do, such as 115200",
        path.display()
    )]
    SpeedRefused {
        /// The path that was tried.
        path: PathBuf,
        /// The speed that was asked for.
        baud: u32,
        /// The speed that it has.
        actual: u32,
    },
    /// Whatever else the system says.
    #[error("cannot open {}", path.display())]
    Os {
        /// The path that was tried.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl OpenError {
    fn new(path: &Path, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            // EIO: the kernel reserves the name of a UART that is not fitted.
            Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::IO => Self::Missing { path },
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied { group: group_of(&path), path },
            Errno::BUSY | Errno::AGAIN => Self::InUse { path },
            Errno::NOTTY | Errno::ISDIR | Errno::NOTDIR => Self::NotATty { path },
            errno => Self::Os { path, source: errno.into() },
        }
    }
}

/// `original` made raw: 8N1, no flow control, no modem lines, a read takes what is there.
fn raw(original: &Termios, baud: u32) -> rustix::io::Result<Termios> {
    let mut settings = original.clone();
    settings.make_raw();
    settings.input_modes -= InputModes::IXON | InputModes::IXOFF | InputModes::IXANY;
    settings.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS;
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    // VMIN = 0 would make "nothing yet" read as 0 bytes, which is what a hang-up reads as.
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings.set_speed(baud)?;
    Ok(settings)
}

/// Whether it is the slave end of a Unix98 pty (the kernel's `UNIX98_PTY_SLAVE_MAJOR` and the seven after it).
fn is_pty(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok((136..=143).contains(&major(fstat(fd)?.st_rdev)))
}

/// The name of the group that owns `path`, its number when it has no name here.
pub(crate) fn group_of(path: &Path) -> String {
    let Ok(metadata) = fs::metadata(path) else { return "unknown".to_owned() };
    let number = metadata.gid().to_string();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}

/// How far a UART's real speed may be off: beyond it the last bits of a byte are sampled wrongly.
const SPEED_TOLERANCE_PERCENT: u64 = 3;

#[cfg(test)]
mod tests;
