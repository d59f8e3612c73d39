//! `visorbus auth explain`: the hub's own decision, made here, with the rule that it comes of.

use std::process::ExitCode;

use serde_json::json;
use visorbus_auth::{Asked, Explanation};
use visorbus_core::auth::Access;
use visorbus_core::bus;
use visorbus_core::message::Pattern;
use visorbus_hub::info::ServiceInfo;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use crate::args;
use crate::client::Client;
use crate::output::{NOT_ALLOWED, print, unix_seconds};

/// Prints the decision; the exit code says it too.
pub(crate) fn run(args: &args::Explain, json: bool) -> Result<ExitCode> {
    let policy = args.place.policy()?;
    let store = args.place.place.store_to_read()?;
    let needs = match &args.needs {
        Some(needs) => needs.clone(),
        None => ask_needs(args)?,
    };
    let mut scopes = args.scope.clone();
    if scopes.is_empty() {
        let account = store.users().into_iter().find(|user| user.name == args.subject);
        scopes = account.map(|user| user.scopes).unwrap_or_default();
    }
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let asked = Asked {
        grant: None,
        operation: args.operation,
        resource: Pattern::new(&args.resource).map_err(|e| Error::Message(e.to_string()))?,
        access: match needs.as_str() {
            "open" => Access::Open,
            PERMISSION => Access::Permission,
            scope => Access::Scope(scope.strip_prefix("scope ").unwrap_or(scope)),
        },
        transport: args.transport,
        payload_len: args.payload,
        unix_now: moment(args.at),
        counts: false,
    };
    let explanation = if store.disabled().contains(&args.subject) {
        Explanation {
            allowed: false,
            rule: Some("accounts: shut out".to_owned()),
            text: format!(
                "refused: '{0}' is shut out, whatever it shows: `visorbus auth user enable {0}` lets it in again",
                args.subject
            ),
        }
    } else {
        policy.explain(&args.subject, &scopes, &asked)?
    };
    print(&if json {
        json!({
            "allowed": explanation.allowed, "rule": explanation.rule, "text": explanation.text, "needs": needs,
            "scopes": scopes,
        })
        .to_string()
    } else {
        explanation.text
    })?;
    Ok(if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALLOWED) })
}

/// What the running hub knows that the address asks for; a permission where none runs or nobody has told.
fn ask_needs(args: &args::Explain) -> Result<String> {
    let Some(client) = Client::connect_if_served(&args.place.place)? else {
        return Ok(PERMISSION.to_owned());
    };
    let request = OwnedMessage::request(bus::SERVICES, OwnedPayload::Empty);
    let services: Vec<ServiceInfo> = client.inner.send_request(request, None)?.payload.parse()?;
    let mut addresses = services.into_iter().flat_map(|service| service.addresses);
    let known = addresses.find(|known| known.address == args.resource);
    Ok(known.map_or_else(|| PERMISSION.to_owned(), |known| known.access))
}

fn moment(at: Option<args::Moment>) -> u64 {
    let now = unix_seconds();
    match at {
        None => now,
        Some(args::Moment::Unix(seconds)) => seconds,
        Some(args::Moment::Minute(minute)) => now - now % 86_400 + minute * 60,
    }
}

const PERMISSION: &str = "permission";
