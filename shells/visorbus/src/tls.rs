//! `visorbus tls …`: a certificate authority of one's own, for the hub and for those who prove themselves by certificates.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::OffsetDateTime;
use visorbus_hub::{Error, Result};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use zeroize::Zeroizing;

use crate::args;
use crate::output::{print, show_until, table};

/// Does what was asked.
pub(crate) fn run(args: &args::Tls, json: bool) -> Result<()> {
    match args {
        args::Tls::Init(args) => init(args, json),
        args::Tls::Renew(args) => renew(args, json),
        args::Tls::Client(args) => client(args, json),
        args::Tls::Show(place) => show(place, json),
    }
}

impl args::TlsPlace {
    fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| self.place.tls_directory())
    }
}

fn init(args: &args::TlsInit, json: bool) -> Result<()> {
    let directory = args.tls.directory();
    let files = Files(&directory);
    if files.path(CA, CERTIFICATE).symlink_metadata().is_ok() {
        return Err(Error::Message(format!(
            "there is an authority in {} already: `visorbus tls renew` makes a new certificate by it, `visorbus tls show` \
             lists what there is",
            directory.display()
        )));
    }
    let names = names(&[], &args.name)?;
    files.make_directory()?;
    let key = new_key()?;
    let mut ca = params(AUTHORITY_NAME, AUTHORITY_LIFETIME)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = ca.self_signed(&key).map_err(failed)?;
    files.write(CA, KEY, &Zeroizing::new(key.serialize_pem()))?;
    files.write(CA, CERTIFICATE, &certificate.pem())?;
    let issuer = Issuer::new(ca, key);
    files.write_signed(HUB, &hub_params(&names, args.lifetime)?, &issuer)?;
    tell_hub(&files, &names, "an authority and a certificate for the hub are made", json)
}

fn renew(args: &args::TlsInit, json: bool) -> Result<()> {
    let directory = args.tls.directory();
    let files = Files(&directory);
    let issuer = files.issuer()?;
    let before = files.path(HUB, CERTIFICATE);
    let before = if before.symlink_metadata().is_ok() { Shown::read(&before)?.names } else { Vec::new() };
    let names = names(&before, &args.name)?;
    files.write_signed(HUB, &hub_params(&names, args.lifetime)?, &issuer)?;
    tell_hub(&files, &names, "a new certificate for the hub is made; SIGHUP has a running hub take it", json)
}

fn tell_hub(files: &Files<'_>, names: &[String], done: &str, json: bool) -> Result<()> {
    let (ca, certificate) = (files.path(CA, CERTIFICATE), files.path(HUB, CERTIFICATE));
    if json {
        return print(
            &json!({ "ca": ca, "certificate": certificate, "key": files.path(HUB, KEY), "names": names })
                .to_string(),
        );
    }
    eprintln!("visorbus: {done}, for {}", names.join(", "));
    eprintln!(
        "visorbus: `visorbus serve --websocket 127.0.0.1:7443 --tls` uses it; clients trust it by this file:"
    );
    print(&ca.display().to_string())
}

fn client(args: &args::TlsClient, json: bool) -> Result<()> {
    let name = &args.name;
    if !visorbus_core::message::address::is_name(name) || [CA, HUB].contains(&name.as_str()) {
        return Err(Error::Message(format!(
            "'{name}' cannot name a client's certificate: use at most 32 of a-z, 0-9, '.', '_', '-', neither '{CA}' nor \
             '{HUB}'"
        )));
    }
    let directory = args.tls.directory();
    let files = Files(&directory);
    let issuer = files.issuer()?;
    let uri = format!("visorbus:{name}");
    let mut own = params(name, args.lifetime)?;
    own.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().map_err(failed)?)];
    own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    files.write_signed(name, &own, &issuer)?;
    let (certificate, key) = (files.path(name, CERTIFICATE), files.path(name, KEY));
    if json {
        return print(&json!({ "certificate": certificate, "key": key, "uri": uri }).to_string());
    }
    eprintln!(
        "visorbus: the certificate and the key of '{name}' are made; whom the hub takes their owner for and what they may \
         do is said with `visorbus auth certificate add uri:{uri} --subject {name} --scope …`"
    );
    print(&format!("{}\n{}", certificate.display(), key.display()))
}

fn show(place: &args::TlsPlace, json: bool) -> Result<()> {
    let directory = place.directory();
    let mut found = Vec::new();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_authority(&directory)),
        Err(error) => return Err(broken(&directory, "read", &error)),
    };
    for entry in entries {
        let path = entry.map_err(|e| broken(&directory, "read", &e))?.path();
        if path.extension().is_some_and(|extension| extension == CERTIFICATE) {
            found.push(Shown::read(&path)?);
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    if json {
        let object =
            |shown: &Shown| json!({ "file": shown.file, "names": shown.names, "not_after": shown.not_after });
        return print(&json!(found.iter().map(object).collect::<Vec<_>>()).to_string());
    }
    let row = |shown: &Shown| {
        let file = shown.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        vec![file, shown.names.join(", "), show_until(Some(shown.not_after))]
    };
    eprintln!("visorbus: in {}:", directory.display());
    print(&table(&["FILE", "FOR", "UNTIL"], &found.iter().map(row).collect::<Vec<_>>()))
}

/// What a certificate says of itself.
struct Shown {
    file: PathBuf,
    names: Vec<String>,
    not_after: u64,
}

impl Shown {
    fn read(path: &Path) -> Result<Self> {
        let unreadable =
            |what: &str| Error::Message(format!("{} is no certificate: {what}; remove it", path.display()));
        let bytes = fs::read(path).map_err(|e| broken(path, "read", &e))?;
        let (pem, _) = Pem::read(io::Cursor::new(&bytes)).map_err(|e| unreadable(&e.to_string()))?;
        let certificate = pem.parse_x509().map_err(|e| unreadable(&e.to_string()))?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let mut names: Vec<String> = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => show_ip(bytes),
                _ => None,
            })
            .collect();
        if names.is_empty() {
            names.extend(
                certificate
                    .subject()
                    .iter_common_name()
                    .filter_map(|name| name.as_str().ok())
                    .map(str::to_owned),
            );
        }
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
        Ok(Self { file: path.to_owned(), names, not_after })
    }
}

fn show_ip(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| std::net::Ipv4Addr::from(octets).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| std::net::Ipv6Addr::from(octets).to_string()))
        .ok()
}

/// The certificate of the authority in `directory`, where there is one.
pub(crate) fn authority(directory: &Path) -> PathBuf {
    Files(directory).path(CA, CERTIFICATE)
}

/// The files of an authority, in their directory.
struct Files<'d>(&'d Path);

impl Files<'_> {
    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.0.join(format!("{name}.{kind}"))
    }

    fn make_directory(&self) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(self.0);
        made.map_err(|e| broken(self.0, "make the directory", &e))
    }

    /// The authority, to sign with.
    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let (certificate, key) = (self.path(CA, CERTIFICATE), self.path(CA, KEY));
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_authority(self.0)),
            Err(error) => Err(broken(path, "read", &error)),
        };
        let unusable = |path: &Path, error: rcgen::Error| {
            Error::Message(format!(
                "{} cannot be used: {error}; `visorbus tls init --dir` makes another",
                path.display()
            ))
        };
        let pair = KeyPair::from_pem(&read(&key)?).map_err(|e| unusable(&key, e))?;
        Issuer::from_ca_cert_pem(&read(&certificate)?, pair).map_err(|e| unusable(&certificate, e))
    }

    /// A new key and its certificate, in the place of those before.
    fn write_signed(
        &self,
        name: &str,
        params: &CertificateParams,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<()> {
        let key = new_key()?;
        let certificate = params.signed_by(&key, issuer).map_err(failed)?;
        self.write(name, KEY, &Zeroizing::new(key.serialize_pem()))?;
        self.write(name, CERTIFICATE, &certificate.pem())
    }

    /// Writes a file so that the old or the new one is there, whole. What is secret of it only this user reads.
    fn write(&self, name: &str, kind: &str, text: &str) -> Result<()> {
        let path = self.path(name, kind);
        let beside = self.path(name, &format!("{kind}.new"));
        let mode = if kind == KEY { 0o600 } else { 0o644 };
        let write = || {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|e| broken(&path, "write", &e))
    }
}

/// By what clients reach the hub: itself, this machine's name, what its certificate before says, and what was said now.
fn names(before: &[String], given: &[String]) -> Result<Vec<String>> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // What a machine is called without being asked may be no name that a certificate can hold.
    names.extend(Some(own).filter(|own| is_host(own)));
    names.extend(before.iter().filter(|name| is_host(name)).cloned());
    for name in given {
        if !is_host(name) {
            return Err(Error::Message(format!("'{name}' is neither a host's name nor an IP address")));
        }
        names.push(name.clone());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// Whether it is an IP address or a name after RFC 1123, of labels of letters, digits and hyphens.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label))
}

fn hub_params(names: &[String], lifetime: Duration) -> Result<CertificateParams> {
    let mut hub = params("visorbus hub", lifetime)?;
    hub.subject_alt_names = CertificateParams::new(names.to_vec()).map_err(failed)?.subject_alt_names;
    hub.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    hub.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(hub)
}

/// What all certificates have in common. They are good from an hour ago, for clocks that are a little behind.
fn params(common_name: &str, lifetime: Duration) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    let too_long =
        || Error::Message("a certificate cannot be good for so long: name a shorter --lifetime".to_owned());
    params.not_before = OffsetDateTime::from(now - Duration::from_secs(3600));
    let until = now.checked_add(lifetime).filter(|_| lifetime <= AUTHORITY_LIFETIME).ok_or_else(too_long)?;
    params.not_after = OffsetDateTime::from(until);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate().map_err(failed)
}

fn failed(error: rcgen::Error) -> Error {
    Error::Internal(format!("the certificate cannot be made: {error}"))
}

fn no_authority(directory: &Path) -> Error {
    Error::Message(format!("there is no authority in {}: `visorbus tls init` makes one", directory.display()))
}

fn broken(path: &Path, what: &str, error: &io::Error) -> Error {
    Error::Message(format!("cannot {what} {}: {error}", path.display()))
}

/// The authority's files begin with this, the hub's with [`HUB`].
const CA: &str = "ca";
const HUB: &str = "hub";
const CERTIFICATE: &str = "crt";
const KEY: &str = "key";
const AUTHORITY_NAME: &str = "visorbus local authority";
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
