//! Certificates: by what each may be known, and whether it is of today. Whether a CA vouches for it, TLS has checked.

use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::store::sha256;
use crate::{CertificateId, Error, Result};

/// By what a certificate may be known, the narrowest first; `None` when it is none, or not of today.
///
/// The URIs in it are what somebody claimed unless a trusted CA has `verified` that.
pub(crate) fn identities(der: &[u8], verified: bool, unix_now: u64) -> Option<Vec<CertificateId>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let (from, until) =
        (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let now = i64::try_from(unix_now).ok()?;
    if !rest.is_empty() || now < from || now > until {
        return None;
    }
    let key = sha256(certificate.public_key().raw);
    let mut ids = vec![CertificateId::Sha256(sha256(der)), CertificateId::Spki(key)];
    if verified {
        // Two extensions of one kind are a certificate that different readers read differently: an error here.
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        ids.extend(names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some(CertificateId::Uri((*uri).to_owned())),
            _ => None,
        }));
    }
    Some(ids)
}

impl CertificateId {
    /// By what the first certificate in a PEM text (RFC 7468) is known: its own SHA-256.
    ///
    /// # Errors
    /// `Message` when there is none in it.
    pub fn of_pem(pem: &str) -> Result<Self> {
        let none = |what: &str| Error::Message(format!("this {what}: name a PEM file with a certificate"));
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| none("is no PEM"))?;
        if block.label != "CERTIFICATE" {
            // It may be a private key: nothing of it is shown.
            return Err(none("is PEM, but of no certificate"));
        }
        match X509Certificate::from_der(&block.contents) {
            Ok(([], _)) => Ok(Self::Sha256(sha256(&block.contents))),
            _ => Err(none("certificate cannot be read")),
        }
    }
}
