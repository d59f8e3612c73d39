//! `visorbus auth login`: credentials become a token, at the running hub.

use clap::CommandFactory;
use clap::error::ErrorKind;
use visorbus_hub::Result;

use crate::args;
use crate::client::{Client, Hub};
use crate::output::print;

/// Logs in and prints the token.
pub(crate) fn run(args: &args::LogIn, json: bool) -> Result<()> {
    if !args.login.is_given() {
        let text = "say how to log in: --user NAME for a password, with --api-key-stdin for an API key, with --certificate \
             for the owner of --cert, or --peer";
        args::Cli::command().error(ErrorKind::MissingRequiredArgument, text).exit();
    }
    let (client, token) = Client::log_in(Hub::new(&args.place, &args.reach), &args.login)?;
    print(&if json {
        let subject = client.inner.client_id().rsplit_once('.').map_or("", |(subject, _)| subject);
        serde_json::json!({
            "token": token.value.as_str(), "subject": subject, "expiry": token.expiration, "scopes": token.scope,
        })
        .to_string()
    } else {
        token.value.as_str().to_owned()
    })
}
