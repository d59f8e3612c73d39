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
use folder::Folder;

/// What a look at the whole tree has found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The devices, in the order of their classes and names.
    pub(crate) devices: Vec<Device>,
    /// Devices that there was no room for.
    pub(crate) left_out: usize,
}

/// Reads all devices below `root`, `most` at most.
///
/// # Errors
/// What the system says of `root` itself. A machine without a class has no devices of it.
pub(crate) fn scan(root: &Path, most: usize) -> std::io::Result<Scan> {
    let root = Folder::open(root)?;
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
    Ok(scan)
}
