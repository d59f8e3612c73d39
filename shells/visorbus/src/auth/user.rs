//! `visorbus auth user …`: people with passwords.

use visorbus_auth::UserInfo;
use visorbus_hub::{Error, Result};

use super::{show_scopes, tell_change};
use crate::args;
use crate::output::{print, table};
use crate::prompt::new_password;

/// Does what was asked.
pub(crate) fn run(args: &args::User, json: bool) -> Result<()> {
    match args {
        args::User::Add(args) => {
            let store = args.place.store()?;
            if store.users().iter().any(|user| user.name == args.name) {
                // Before anybody types a password for nothing.
                return Err(Error::Message(format!(
                    "there is a user '{0}': `visorbus auth user password {0}` sets another password, `… scopes {0}` other scopes",
                    args.name
                )));
            }
            let password = new_password(&args.name, args.password_stdin)?;
            store.add_user(&args.name, &password, &args.scope)?;
            tell_change(&args.place, &format!("user '{}' is added", args.name), json)
        }
        args::User::Password(args) => {
            let store = args.place.store()?;
            let password = new_password(&args.name, args.password_stdin)?;
            store.set_password(&args.name, &password)?;
            tell_change(&args.place, &format!("user '{}' has the new password", args.name), json)
        }
        args::User::Scopes(args) => {
            args.place.store()?.set_scopes(&args.name, &args.scopes)?;
            let done = format!("user '{}' has these scopes: {}", args.name, show_scopes(&args.scopes));
            tell_change(&args.place, &done, json)
        }
        args::User::Disable(args) => {
            args.place.store()?.disable(&args.name)?;
            tell_change(&args.place, &format!("'{}' is shut out", args.name), json)
        }
        args::User::Enable(args) => {
            args.place.store()?.enable(&args.name)?;
            tell_change(&args.place, &format!("'{}' may come in again", args.name), json)
        }
        args::User::Remove(args) => {
            args.place.store()?.remove_user(&args.name)?;
            tell_change(&args.place, &format!("user '{}' is removed", args.name), json)
        }
        args::User::List(args) => list(args, json),
    }
}

fn list(args: &args::Listed, json: bool) -> Result<()> {
    let store = args.place.store_to_read()?;
    let (users, disabled) = (store.users(), store.disabled());
    // Whoever is shut out without being a user: a board, a program.
    let others: Vec<&String> =
        disabled.iter().filter(|name| users.iter().all(|user| user.name != **name)).collect();
    if json {
        return print(&serde_json::json!({ "users": users, "disabled_others": others }).to_string());
    }
    let state = |disabled| if disabled { "shut out" } else { "" }.to_owned();
    let row = |user: &UserInfo| vec![user.name.clone(), state(user.disabled), show_scopes(&user.scopes)];
    let mut rows: Vec<_> = users.iter().map(row).collect();
    rows.extend(others.iter().map(|name| vec![(*name).clone(), state(true), "(no user)".to_owned()]));
    print(&table(&["USER", "STATE", "SCOPES"], &rows))
}
