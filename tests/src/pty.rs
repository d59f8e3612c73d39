//! A serial line of this machine: a pseudo-terminal, one end of it a UART, the other a device for a hub.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// A pseudo-terminal whose near end is a UART and whose far end is a device for the hub. Both close with it.
#[derive(Debug)]
pub struct Pty {
    /// The near end; it does not block.
    pub master: OwnedFd,
    /// Held open so that a line that nobody has opened yet is silent, and not gone.
    slave: Option<OwnedFd>,
    path: PathBuf,
    /// What names its far end.
    lines: Mutex<Vec<PathBuf>>,
}

impl Pty {
    /// One of the system's, which passes bytes as they are.
    ///
    /// # Errors
    /// The system gives none.
    pub fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?);
        let slave = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut settings = tcgetattr(&slave)?;
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master, slave: Some(slave), path, lines: Mutex::default() })
    }

    /// Lets `line` name its far end, in the place of what it named before.
    ///
    /// # Errors
    /// There can be no such link.
    pub fn plug(&self, line: &Path) -> io::Result<()> {
        let new = line.with_extension("new");
        symlink(&self.path, &new)?;
        fs::rename(&new, line)?;
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        Ok(())
    }

    /// From now on the line is gone as soon as whoever has the far end closes it.
    pub fn leave_far_end(&mut self) {
        self.slave = None;
    }

    /// The device of its far end.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pty {
    /// The next pseudo-terminal, of whatever test, may get the same path.
    fn drop(&mut self) {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter().filter(|line| fs::read_link(line).is_ok_and(|path| path == self.path)) {
            let _ = fs::remove_file(line);
        }
    }
}
