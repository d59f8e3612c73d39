//! `visorbus auth certificate …`: whom the owners of certificates are taken for.

use serde_json::json;
use visorbus_auth::CertificateInfo;
use visorbus_hub::Result;

use super::{show_scopes, tell_change};
use crate::args;
use crate::output::{print, table};

/// Does what was asked.
pub(crate) fn run(args: &args::Certificate, json: bool) -> Result<()> {
    match args {
        args::Certificate::Add(args) => {
            args.place.store()?.add_certificate(args.certificate.clone(), &args.subject, &args.scope)?;
            let done = format!("the owner of {} is taken for '{}'", args.certificate, args.subject);
            tell_change(&args.place, &done, json)
        }
        args::Certificate::Remove(args) => {
            args.place.store()?.remove_certificate(&args.certificate)?;
            tell_change(&args.place, &format!("{} is forgotten", args.certificate), json)
        }
        args::Certificate::List(args) => list(args, json),
    }
}

fn list(args: &args::Listed, json: bool) -> Result<()> {
    let known = args.place.store_to_read()?.certificates();
    if json {
        let object = |known: &CertificateInfo| json!({ "certificate": known.id.to_string(), "subject": known.subject, "scopes": known.scopes });
        return print(&json!(known.iter().map(object).collect::<Vec<_>>()).to_string());
    }
    let row = |known: &CertificateInfo| {
        vec![known.subject.clone(), show_scopes(&known.scopes), known.id.to_string()]
    };
    print(&table(&["SUBJECT", "SCOPES", "CERTIFICATE"], &known.iter().map(row).collect::<Vec<_>>()))
}
