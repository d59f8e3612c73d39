//! Files of the hub's: its configuration, keys, accounts and policy, and the room that there is for them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use visorbus::Settings;
use visorbus_auth::{KeyFile, Policy};

use super::CONFIG;
use super::finding::Finding;
use super::subject::Subject;

/// Whether there is a configuration that the hub can read, and who may change it. One that `is_named` has to be there.
pub(super) fn config_file(path: &Path, is_named: bool, subject: &Subject, all: &mut Vec<Finding>) {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.mode() & 0o002 != 0 => all.push(Finding::fail(
            CONFIG,
            format!("everybody may write {shown}, and with it say what the hub does"),
            format!("chmod o-w {shown}"),
        )),
        Ok(found) if ![subject.uid, 0].contains(&found.uid()) => all.push(Finding::fail(
            CONFIG,
            format!("{shown} belongs to user {}, who could say with it what the hub does", found.uid()),
            format!("chown {} {shown}", subject.name),
        )),
        Ok(found) if !subject.may_read(&found) => all.push(Finding::fail(
            CONFIG,
            format!("{} may not read {shown} (mode {:o})", subject.name, found.mode() & 0o777),
            format!("chgrp {} {shown} && chmod g+r {shown}", subject.name),
        )),
        Ok(_) => all.push(Finding::ok(CONFIG, format!("{shown} is read"))),
        Err(_) if is_named => all.push(Finding::fail(
            CONFIG,
            format!("there is no {shown}, and a hub that is told to read it does not start"),
            "`visorbus config init` writes one",
        )),
        Err(_) => all.push(Finding::ok(CONFIG, format!("there is no {shown}: the defaults hold"))),
    }
}

/// Whether keys, accounts and policy can be read, and by nobody else.
pub(super) fn keys(settings: &Settings, subject: &Subject, all: &mut Vec<Finding>) {
    let auth = &settings.auth;
    let secrets = [("keys", &auth.key_file), ("accounts", &auth.accounts_file)];
    for (check, path) in secrets {
        let shown = path.display();
        all.push(match fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Finding::ok(check, format!("{shown} is not there yet: the hub makes it when it first runs"))
            }
            Err(error) => Finding::warn(
                check,
                format!("{shown} cannot be looked at: {error}"),
                format!("run this as root or as {}", subject.name),
            ),
            Ok(found) if found.mode() & 0o077 != 0 => Finding::fail(
                check,
                format!("others may read or change {shown} (mode {:o})", found.mode() & 0o777),
                format!("chmod 0600 {shown}, and take it that the keys are known: `visorbus key rotate`"),
            ),
            Ok(found) if found.uid() != subject.uid => Finding::fail(
                check,
                format!("{shown} belongs to user {}, the hub runs as {}", found.uid(), subject.name),
                format!("chown {} {shown}", subject.name),
            ),
            Ok(_) => Finding::ok(check, format!("{shown} is {}'s alone", subject.name)),
        });
    }
    // Whose they are is known by now; whether they are whole can only their owner see.
    if auth.key_file.exists()
        && Subject::own().uid == subject.uid
        && let Err(error) = KeyFile::open(&auth.key_file)
    {
        all.push(Finding::fail("keys", error.to_string(), "put the file of a backup in its place"));
    }
    let policy = auth.policy_file.clone().unwrap_or_else(|| auth.key_file.with_file_name("policy.toml"));
    match Policy::open_if_there(&policy) {
        Ok(policy) => {
            let rules = policy.rules().len();
            all.push(Finding::ok("policy", format!("{rules} rules in {}", policy.path().display())));
        }
        Err(error) => all.push(Finding::fail(
            "policy",
            error.to_string(),
            "correct it; `visorbus auth policy check` looks again",
        )),
    }
}

/// Whether the hub can write what it must not lose.
pub(super) fn state(settings: &Settings, subject: &Subject, all: &mut Vec<Finding>) {
    let Some((directory, found)) = Subject::nearest(&settings.auth.key_file) else { return };
    let shown = directory.display();
    if !subject.may_use(&found) {
        all.push(Finding::fail(
            "state",
            format!("{} may not write to {shown}, where keys and accounts are kept", subject.name),
            format!("make {shown} that user's, or name another place with auth.key_file"),
        ));
        return;
    }
    let Ok(room) = rustix::fs::statvfs(directory) else { return };
    let mebibytes = room.f_bavail.saturating_mul(room.f_frsize) >> 20;
    let text = format!("{mebibytes} MiB are free for {shown}");
    let is_read_only = room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    all.push(match mebibytes {
        _ if is_read_only => Finding::fail(
            "state",
            format!("{shown} is on a file system that is read only"),
            "mount it writable",
        ),
        0 => Finding::fail(
            "state",
            text,
            "make room: what is set, and who was shut out, can no longer be kept",
        ),
        1..LITTLE_MIB => Finding::warn("state", text, "make room"),
        _ => Finding::ok("state", text),
    });
}

const LITTLE_MIB: u64 = 32;
