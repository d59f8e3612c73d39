//! A folder of sysfs, and its files: read within bounds, and never outside the tree.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

/// An open folder. What is read from it is of the one device whose folder it was when it was opened, whatever has taken
/// its name since.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// What this process had no more of when something of the tree was to be read.
    scarcity: Rc<Cell<Option<Errno>>>,
}

impl Folder {
    /// Opens the root of a tree.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        Ok(Self { fd: rustix::fs::open(path, FOLDER, Mode::empty())?, scarcity: Rc::default() })
    }

    /// Whether something of the tree was left out because this process has no more descriptors or memory, and not because
    /// it is not there; what the system said.
    pub(crate) fn scarcity(&self) -> Option<Errno> {
        self.scarcity.get()
    }

    /// The folder at `path` below this one, also through symbolic links, as the classes are full of. `None` where there is
    /// none, or it lies outside of this one.
    pub(crate) fn folder(&self, path: &str) -> Option<Self> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.fd, path, FOLDER, Mode::empty(), within);
        // Whenever something is renamed anywhere meanwhile, the kernel cannot say that a `..` stayed within (openat2(2)).
        let settled = (0..MOST_TRIES).map(|_| open()).find(|opened| !matches!(opened, Err(Errno::AGAIN)));
        let fd = self.note(settled?)?;
        Some(Self { fd, scarcity: Rc::clone(&self.scarcity) })
    }

    /// The names in it, sorted; without those that are not UTF-8 or hold control characters, which no device of the
    /// kernel's has.
    pub(crate) fn names(&self) -> Vec<String> {
        let Some(entries) = self.note(Dir::read_from(&self.fd)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(MOST_NAMES)
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| !matches!(name.as_str(), "." | "..") && !name.chars().any(char::is_control))
            .collect();
        names.sort_unstable();
        names
    }

    /// The text of a file, without white space around it; what is no UTF-8 or no printable character stands as U+FFFD.
    /// `None` for what is empty, is longer than any file of sysfs, or is no file.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let bytes = self.start_of(name).filter(|bytes| bytes.len() <= LONGEST)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        let printable = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
        (!text.is_empty()).then(|| text.chars().map(printable).collect())
    }

    /// The text of a file that has one line; of more, the first.
    pub(crate) fn line(&self, name: &str) -> Option<String> {
        self.text(name).and_then(|text| text.lines().next().map(str::to_owned))
    }

    /// The number in a file.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.line(name)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The whole number in a file.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.line(name)?.parse().ok()
    }

    /// A file's first bytes: one more than the longest file of sysfs has, at most.
    pub(crate) fn start_of(&self, name: &str) -> Option<Vec<u8>> {
        // To open what is no file can wait, or do something.
        let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok().filter(|stat| is_file(stat.st_mode))?;
        let file = self.note(openat(&self.fd, name, FILE, Mode::empty()))?;
        rustix::fs::fstat(&file).ok().filter(|stat| is_file(stat.st_mode))?;
        let mut bytes = Vec::new();
        File::from(file).take(LONGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn note<T>(&self, read: Result<T, Errno>) -> Option<T> {
        read.inspect_err(|error| self.scarcity.set(Some(*error).filter(is_scarcity).or(self.scarcity.get())))
            .ok()
    }
}

/// Whether this process has too few descriptors, or too little memory, to look: that says nothing of what is there.
pub(crate) const fn is_scarcity(error: &Errno) -> bool {
    matches!(*error, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A file of sysfs has a page at most, where pages are smallest.
const LONGEST: usize = 4096;

const MOST_TRIES: usize = 100;

/// Of one folder; a class of a machine has some dozens.
const MOST_NAMES: usize = 65_536;
