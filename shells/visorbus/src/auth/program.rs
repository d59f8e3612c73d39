//! `visorbus auth key …`: API keys of programs.

use serde_json::json;
use visorbus_auth::ApiKeyInfo;
use visorbus_hub::Result;

use super::{Secret, print_secret, show_scopes, tell_change};
use crate::args;
use crate::output::{print, show_until, table, unix_seconds};

/// Does what was asked.
pub(crate) fn run(args: &args::ProgramKey, json: bool) -> Result<()> {
    match args {
        args::ProgramKey::Add(args) => add(args, json),
        args::ProgramKey::List(args) => list(args, json),
        args::ProgramKey::Disable(args) => {
            args.place.store()?.set_api_key_disabled(&args.prefix, true)?;
            tell_change(&args.place, &format!("the API key {} is stopped", args.prefix), json)
        }
        args::ProgramKey::Enable(args) => {
            args.place.store()?.set_api_key_disabled(&args.prefix, false)?;
            tell_change(&args.place, &format!("the API key {} works again", args.prefix), json)
        }
        args::ProgramKey::Remove(args) => {
            args.place.store()?.remove_api_key(&args.prefix)?;
            tell_change(&args.place, &format!("the API key {} is removed", args.prefix), json)
        }
    }
}

fn add(args: &args::ProgramKeyAdd, json: bool) -> Result<()> {
    let now = unix_seconds();
    let expires = args.lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs()));
    let key = args.place.store()?.add_api_key(&args.subject, &args.scope, expires)?;
    let done = format!(
        "this key of '{0}' is shown this once; a program logs in with it: visorbus auth login --user {0} --api-key-stdin",
        args.subject
    );
    let facts = json!({ "subject": args.subject, "scopes": args.scope, "expires": expires });
    print_secret(&args.place, key.expose(), Secret { word: "api_key", done, facts }, json)
}

fn list(args: &args::Listed, json: bool) -> Result<()> {
    let keys = args.place.store_to_read()?.api_keys();
    if json {
        return print(&json!(keys).to_string());
    }
    let row = |key: &ApiKeyInfo| {
        let state = if key.disabled { "stopped" } else { "" };
        let until = show_until(key.expires);
        vec![key.prefix.clone(), key.subject.clone(), state.to_owned(), until, show_scopes(&key.scopes)]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    print(&table(&["PREFIX", "SUBJECT", "STATE", "EXPIRES", "SCOPES"], &rows))
}
