//! `visorbus auth …`: who may come in, and what they may do.

mod certificate;
mod explain;
mod login;
mod policy;
mod program;
mod token;
mod user;

use visorbus_hub::Result;

pub(crate) use explain::run as explain;

use crate::args;
use crate::output::print;
use crate::reload::Reached;

/// Does what was asked; but [`explain()`], which answers with an exit code.
pub(crate) fn run(args: &args::Auth, json: bool) -> Result<()> {
    match args {
        args::Auth::User(args) => user::run(args, json),
        args::Auth::Key(args) => program::run(args, json),
        args::Auth::Certificate(args) => certificate::run(args, json),
        args::Auth::Token(args) => token::run(args, json),
        args::Auth::Login(args) => login::run(args, json),
        args::Auth::Policy(args) => policy::run(args, json),
        args::Auth::Explain(args) => explain(args, json).map(|_| ()),
    }
}

/// Tells a running hub of a change that is on disk, and says so: to people as a sentence that `done` begins, to machines
/// as an object.
pub(crate) fn tell_change(place: &args::Place, done: &str, json: bool) -> Result<()> {
    print_change(&Reached::tell(place)?, done, json)
}

/// Says what was done, and whom it has reached.
pub(crate) fn print_change(reached: &Reached, done: &str, json: bool) -> Result<()> {
    print(&if json {
        serde_json::json!({ "done": done, "hub": reached.json() }).to_string()
    } else {
        format!("{done}; {}", reached.text())
    })
}

/// As [`tell_change`] where standard output is for a secret: people are told beside it.
pub(crate) fn print_secret(place: &args::Place, secret: &str, about: Secret<'_>, json: bool) -> Result<()> {
    // First: what follows may fail, and it is shown this once.
    if !json {
        print(secret)?;
    }
    let reached = Reached::tell(place);
    if json {
        let hub = reached.as_ref().map_or_else(|_| serde_json::json!({ "reached": false }), Reached::json);
        let mut object = about.facts;
        if let Some(object) = object.as_object_mut() {
            object.insert(about.word.to_owned(), secret.into());
            object.insert("hub".to_owned(), hub);
        }
        print(&object.to_string())?;
        return reached.map(|_| ());
    }
    eprintln!("visorbus: {}; {}", about.done, reached?.text());
    Ok(())
}

/// What is said beside a secret.
pub(crate) struct Secret<'a> {
    /// What it is, for machines.
    pub(crate) word: &'a str,
    /// What was done, and what to do next.
    pub(crate) done: String,
    /// What else machines are told.
    pub(crate) facts: serde_json::Value,
}

/// A list of scopes in a table.
fn show_scopes(scopes: &[String]) -> String {
    if scopes.is_empty() { "-".to_owned() } else { scopes.join(" ") }
}
