//! Certificates: whether the hub can read them, whether they hold, and which command makes new ones.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use time::OffsetDateTime;
use visorbus::{Settings, places};
use visorbus_websocket::TlsConfig;
use x509_parser::pem::Pem;

use super::finding::Finding;
use super::subject::Subject;
use crate::tls::authority;

/// Whether certificates can be read and hold. `usual` is the directory that `visorbus tls` uses when nobody names one.
pub(super) fn certificates(settings: &Settings, usual: &Path, subject: &Subject, all: &mut Vec<Finding>) {
    let websocket = &settings.websocket;
    if !websocket.enabled || !websocket.tls_enabled {
        return;
    }
    let own = places::tls_directory(&settings.auth.key_file);
    let certificate = websocket.tls_cert_path.clone().unwrap_or_else(|| own.join(places::CERTIFICATE));
    let key = websocket.tls_key_path.clone().unwrap_or_else(|| own.join(places::CERTIFICATE_KEY));
    let mend = if certificate == own.join(places::CERTIFICATE) {
        command(&own, usual, subject)
    } else {
        format!(
            "put a certificate and its key in the place of {} and {}",
            certificate.display(),
            key.display()
        )
    };
    all.push(match unusable(&certificate, &key, subject) {
        Some(finding) => finding,
        None => match TlsConfig::new(&certificate, &key).load() {
            Ok(_) => validity(&certificate, mend),
            Err(error) => Finding::fail(TLS, error.text(), mend),
        },
    });
    if let Some(authorities) = &websocket.tls_client_ca_path {
        let mut config = TlsConfig::new(&certificate, &key);
        let is_well = config.load().is_ok();
        config.ca_cert_path = Some(authorities.clone());
        if let Some(error) = config.load().err().filter(|_| is_well) {
            all.push(Finding::fail(TLS, error.text(), "correct websocket.tls_client_ca_path, or the file"));
        }
    }
}

/// What keeps the hub from reading certificate and key, or whoever asks from telling.
fn unusable(certificate: &Path, key: &Path, subject: &Subject) -> Option<Finding> {
    [certificate, key].into_iter().find_map(|path| {
        let shown = path.display();
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let text = format!("{shown} cannot be looked at: {error}");
                return Some(Finding::warn(TLS, text, format!("run this as root or as {}", subject.name)));
            }
            // Loading it says so.
            Err(_) => return None,
        };
        let text = format!("{} may not read {shown}", subject.name);
        (!subject.may_read(&found))
            .then(|| Finding::fail(TLS, text, format!("chown {} {shown}", subject.name)))
    })
}

/// For how long a certificate holds.
fn validity(certificate: &Path, renew: String) -> Finding {
    let shown = certificate.display();
    match days_left(certificate) {
        None => Finding::warn(
            TLS,
            format!("until when {shown} holds cannot be read"),
            "look with `openssl x509 -text`",
        ),
        Some(days @ ..0) => Finding::fail(TLS, format!("{shown} is over for {} days", -days), renew),
        Some(days @ 0..SOON_DAYS) => Finding::warn(TLS, format!("{shown} holds for {days} more days"), renew),
        Some(days) => Finding::ok(TLS, format!("{shown} holds for {days} days")),
    }
}

/// How many days the first certificate in a PEM file still holds, rounded down.
fn days_left(path: &Path) -> Option<i64> {
    let (pem, _) = Pem::read(BufReader::new(File::open(path).ok()?)).ok()?;
    let ends = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Some((ends - OffsetDateTime::now_utc().unix_timestamp()).div_euclid(DAY_S))
}

/// What makes another certificate in `directory`, as the user who is to read it. An authority is made once.
fn command(directory: &Path, usual: &Path, subject: &Subject) -> String {
    let verb = if authority(directory).exists() { "renew" } else { "init" };
    // One that is no certificate does not say whom the next is for.
    let certificate = directory.join(places::CERTIFICATE);
    let removed = match certificate.exists() && days_left(&certificate).is_none() {
        true => format!("rm {} && ", certificate.display()),
        false => String::new(),
    };
    let place = if directory == usual { String::new() } else { format!(" --dir {}", directory.display()) };
    let who = if Subject::own().uid == subject.uid {
        String::new()
    } else {
        format!("runuser --user {} -- ", subject.name)
    };
    format!("`{removed}{who}visorbus tls {verb}{place}` makes another; the hub reads it when it is reloaded")
}

const TLS: &str = "tls";
const SOON_DAYS: i64 = 21;
const DAY_S: i64 = 86_400;
