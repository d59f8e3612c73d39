//! The machine's devices, from the classes of the kernel's `sysfs` (Documentation/ABI in the kernel's source).
//!
//! Nothing here trusts the tree: it may be one that somebody prepared, and files of the kernel's come and go while they
//! are read. What cannot be read is left out.

mod classes;
mod folder;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::device::Device;
pub(crate) use classes::KINDS;

use classes::CLASSES;
use folder::{Folder, is_scarcity};

/// What a look at the whole tree has found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The devices, in the order of their classes and names.
    pub(crate) devices: Vec<Device>,
    /// Devices that there was no room for.
    pub(crate) left_out: usize,
}

/// Why a look has found nothing.
#[derive(Debug)]
pub(crate) enum Unread {
    /// What the system says of the root: there are no devices.
    NoRoot(std::io::Error),
    /// What this process has too little of to look: that says nothing of what is there.
    Scarce(std::io::Error),
}

/// Reads all devices below `root`, `most` at most. A machine without a class has no devices of it.
///
/// # Errors
/// As [`Unread`] says.
pub(crate) fn scan(root: &Path, most: usize) -> Result<Scan, Unread> {
    let root = Folder::open(root).map_err(|error| match is_scarcity(&error) {
        true => Unread::Scarce(error.into()),
        false => Unread::NoRoot(error.into()),
    })?;
    let mut scan = Scan::default();
    for class in &CLASSES {
        let Some(folder) = root.folder(class.folder) else { continue };
        for name in folder.names().iter().filter(|name| (class.holds)(name)) {
            if scan.devices.len() == most {
                scan.left_out += 1;
                continue;
            }
            scan.devices.extend(class.read(&root, name));
        }
    }
    root.scarcity().map_or(Ok(scan), |error| Err(Unread::Scarce(error.into())))
}
