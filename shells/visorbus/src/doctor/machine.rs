//! The machine: devices, what a process may open, the clock.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::unistd::{Gid, Group};
use visorbus::Settings;

use super::finding::Finding;
use super::subject::Subject;
use crate::output::unix_seconds;

/// Whether every line to a board is there, and is the hub's to use.
pub(super) fn devices(settings: &Settings, subject: &Subject, all: &mut Vec<Finding>) {
    let serial = settings.links.serial.iter().map(|spec| ("serial", spec.path.as_path()));
    let spi = settings
        .links
        .spi
        .iter()
        .flat_map(|spec| [("spi", spec.path.as_path()), ("gpio", spec.ready_chip.as_path())]);
    all.extend(serial.chain(spi).map(|(check, path)| device(check, path, subject)));
}

fn device(check: &'static str, path: &Path, subject: &Subject) -> Finding {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let mend = "plug the board in, or correct links; names under /dev/serial/by-id stay the same";
            return Finding::warn(check, format!("{shown} is not there: {error}"), mend);
        }
    };
    if !found.file_type().is_char_device() {
        return Finding::fail(check, format!("{shown} is no device"), "correct links");
    }
    if subject.may_use(&found) {
        return Finding::ok(check, format!("{shown} is there, and {} may use it", subject.name));
    }
    let group = Group::from_gid(Gid::from_raw(found.gid())).ok().flatten();
    let group = group.map_or_else(|| found.gid().to_string(), |group| group.name);
    let mend = format!("usermod --append --groups {group} {}, then start the hub again", subject.name);
    Finding::fail(
        check,
        format!("{} may not use {shown}, which is for the group {group}", subject.name),
        mend,
    )
}

/// Whether as many connections can be open as the configuration allows, where it is known how many files may be: `limit`.
pub(super) fn descriptors(settings: &Settings, limit: Option<u64>, all: &mut Vec<Finding>) {
    let Some(limit) = limit else { return };
    let wanted = settings.limits.max_peers as u64 + FILES_BESIDE;
    all.push(if limit >= wanted {
        Finding::ok("files", format!("{limit} may be open, {wanted} are enough"))
    } else {
        Finding::warn(
            "files",
            format!("{limit} may be open, {wanted} are needed for limits.max_peers"),
            format!("ulimit -n {wanted} before the hub starts, or a smaller limits.max_peers; the units set LimitNOFILE="),
        )
    });
}

/// Whether this machine knows what time it is: tokens and certificates hold for a time.
pub(super) fn clock(all: &mut Vec<Finding>) {
    all.push(if unix_seconds() < BUILT_AFTER {
        Finding::fail(
            "clock",
            "it is before 2026 here: tokens and certificates do not count",
            "set the clock: `timedatectl set-ntp true`",
        )
    } else {
        Finding::ok("clock", "it is after 2026 here")
    });
}

/// Files, timers and boards' lines beside the connections.
const FILES_BESIDE: u64 = 128;
/// 2026-01-01, in seconds since 1970: nothing of this is older.
const BUILT_AFTER: u64 = 1_767_225_600;
