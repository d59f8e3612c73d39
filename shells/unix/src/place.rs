//! Whose hub it is that answers at a path: a client shows its password to nobody who only put a socket there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use visorbus_hub::{Error, Result};

/// Checks that the hub behind `stream` may be the one that belongs at `path`.
///
/// A hub of this user, or of root, may. That of a system's user may where only root or that user could have put it there:
/// in a directory of theirs that nobody else can write to, below one that is root's alone (`/run/visorbus/bus.sock`). A
/// person's never may: `/home` and `/run/user` are root's alone too, and what is below is theirs.
///
/// # Errors
/// `Authorization` says whose it is.
pub(crate) fn check(path: &Path, stream: &UnixStream) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::Connection(format!("cannot see whose hub serves '{}': {error}", path.display()))
    };
    let hub = getsockopt(stream, sockopt::PeerCredentials).map_err(|e| failed(e.into()))?.uid();
    let own = geteuid().as_raw();
    if hub == own || hub == ROOT {
        return Ok(());
    }
    let directory =
        fs::canonicalize(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    let directory = directory.map_err(failed)?;
    let of = |path: &Path| {
        fs::metadata(path).map(|found| Owner { uid: found.uid(), mode: found.mode() }).map_err(failed)
    };
    let above = of(directory.parent().unwrap_or(&directory))?;
    if is_of(hub, of(&directory)?, above) {
        return Ok(());
    }
    Err(Error::Authorization(format!(
        "the hub at '{}' belongs to user {hub}, who could have put it there without being asked: a hub for other users \
         is a system user's (uid below 1000), in a directory of its user's below one that is root's alone, such as \
         /run/visorbus",
        path.display()
    )))
}

/// Owner and mode of a directory.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    mode: u32,
}

/// Whether a hub of the user `hub` belongs into a directory of `directory`'s owner below one of `above`'s.
fn is_of(hub: u32, directory: Owner, above: Owner) -> bool {
    let is_private = |owner: Owner| owner.mode & 0o022 == 0;
    let is_systems = hub <= LAST_SYSTEM_UID;
    is_systems
        && [hub, ROOT].contains(&directory.uid)
        && is_private(directory)
        && above.uid == ROOT
        && is_private(above)
}

const ROOT: u32 = 0;
/// SYSTEM_UID_MAX of systemd and Debian: people's users come after it.
const LAST_SYSTEM_UID: u32 = 999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_hub_is_believed_only_where_root_let_it_be() {
        let dir = |uid, mode| Owner { uid, mode };
        let run = dir(0, 0o40755);
        assert!(is_of(990, dir(990, 0o40750), run), "a service user's directory below /run");
        assert!(is_of(990, dir(0, 0o40755), run), "root's own");
        assert!(!is_of(1001, dir(1001, 0o40700), dir(0, 0o41777)), "anybody's directory below /tmp");
        assert!(!is_of(1001, dir(1001, 0o40700), dir(1001, 0o40755)), "a directory in somebody's home");
        assert!(
            !is_of(1001, dir(1001, 0o40755), dir(0, 0o40755)),
            "somebody's home itself, or /run/user/1001"
        );
        assert!(!is_of(1001, dir(0, 0o40755), run), "a person's hub in root's directory");
        assert!(!is_of(1000, dir(1000, 0o40755), run) && is_of(999, dir(999, 0o40755), run));
        assert!(!is_of(1001, dir(990, 0o40750), run), "another's socket in a service user's directory");
        assert!(!is_of(990, dir(990, 0o40770), run), "its group can write there");
        assert!(!is_of(990, dir(990, 0o40757), run), "everybody can write there");
    }
}
