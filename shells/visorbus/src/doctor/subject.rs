//! Who the hub runs as, and what that user may do with a file.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{User, getegid, geteuid, getgrouplist, getgroups};

use super::finding::Finding;

/// A user with all groups.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) uid: u32,
    gids: Vec<u32>,
}

impl Subject {
    /// Whoever runs the service of the machine, or whoever asks.
    pub(super) fn of(system: bool) -> Result<Self, Finding> {
        if !system {
            return Ok(Self::own());
        }
        let user = User::from_name(SERVICE_USER).ok().flatten().ok_or_else(|| {
            let text = format!("there is no user {SERVICE_USER}, which the service runs as");
            Finding::fail(
                "user",
                text,
                "install the package, or run `systemd-sysusers` with its sysusers.d/visorbus.conf",
            )
        })?;
        let name = std::ffi::CString::new(SERVICE_USER).unwrap_or_default();
        let gids = getgrouplist(&name, user.gid).unwrap_or_else(|_| vec![user.gid]);
        let gids = gids.into_iter().map(nix::unistd::Gid::as_raw).collect();
        Ok(Self { name: SERVICE_USER.to_owned(), uid: user.uid.as_raw(), gids })
    }

    pub(super) fn own() -> Self {
        let uid = geteuid();
        let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        Self { name, uid: uid.as_raw(), gids: groups.map(nix::unistd::Gid::as_raw).collect() }
    }

    /// Whether this user may read and write it, by its mode (path_resolution(7)).
    pub(super) fn may_use(&self, file: &Metadata) -> bool {
        self.may(file, 0o6)
    }

    /// Whether this user may read it.
    pub(super) fn may_read(&self, file: &Metadata) -> bool {
        self.may(file, 0o4)
    }

    fn may(&self, file: &Metadata, bits: u32) -> bool {
        let shift = match () {
            () if self.uid == 0 => return true,
            () if file.uid() == self.uid => 6,
            () if self.gids.contains(&file.gid()) => 3,
            () => 0,
        };
        file.mode() >> shift & bits == bits
    }

    /// The nearest directory above `path` that is there, and what is known of it.
    pub(super) fn nearest(path: &Path) -> Option<(&Path, Metadata)> {
        path.ancestors().skip(1).find_map(|directory| {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            fs::metadata(directory).ok().map(|found| (directory, found))
        })
    }
}

const SERVICE_USER: &str = "visorbus";

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn another_users_file_is_read_by_its_mode_and_not_used_for_being_readable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap();
        let other = Subject { name: "other".to_owned(), uid: owner.uid() + 1, gids: vec![owner.gid() + 1] };
        let member = Subject { name: "member".to_owned(), uid: owner.uid() + 1, gids: vec![owner.gid()] };
        let cases = [(0o600, false, false), (0o640, false, true), (0o644, true, true), (0o604, true, false)];
        for (mode, by_other, by_member) in cases {
            file.as_file().set_permissions(Permissions::from_mode(mode)).unwrap();
            let found = file.as_file().metadata().unwrap();
            assert_eq!((other.may_read(&found), member.may_read(&found)), (by_other, by_member), "{mode:o}");
            assert!(!other.may_use(&found) && !member.may_use(&found), "{mode:o}");
        }
    }
}
