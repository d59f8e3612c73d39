//! `visorbus auth policy …`: whether the rules can be read, what they say, and that a hub reads them again.

use visorbus_auth::Policy;
use visorbus_core::bus;
use visorbus_hub::info::Ended;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use super::show_scopes;
use crate::args;
use crate::client::Client;
use crate::output::{print, table};
use crate::reload::count;

/// Does what was asked.
pub(crate) fn run(args: &args::Policy, json: bool) -> Result<()> {
    match args {
        args::Policy::Check(args) => check(args, json),
        args::Policy::Show(args) => {
            let policy = args.place.policy()?;
            print(&if json { as_json(&policy)? } else { show(&policy) })
        }
        args::Policy::Reload(args) => {
            let client = Client::connect(&args.client)?;
            let request = OwnedMessage::request(bus::POLICY_RELOAD, OwnedPayload::Empty);
            let ended: Ended = client.inner.send_request(request, None)?.payload.parse()?;
            print(&if json {
                serde_json::json!({ "reloaded": true, "ended": ended }).to_string()
            } else {
                format!("the hub has read its policy: {}", count(&ended))
            })
        }
    }
}

fn check(args: &args::PolicyCheck, json: bool) -> Result<()> {
    let policy = match &args.file {
        Some(file) => Policy::open(file).map_err(|e| Error::Message(e.to_string()))?,
        None => args.place.policy()?,
    };
    let (file, rules) = (policy.path(), policy.rules().len());
    print(&if json {
        serde_json::json!({ "good": true, "file": file, "rules": rules }).to_string()
    } else if file.exists() {
        format!("{} is good: {rules} {}", file.display(), if rules == 1 { "rule" } else { "rules" })
    } else {
        format!("there is no {}: no rules, and tokens may do what they say", file.display())
    })
}

fn as_json(policy: &Policy) -> Result<String> {
    let object = serde_json::json!({
        "file": policy.path(), "subjects": policy.subjects(), "mappings": policy.mappings(), "rules": policy.rules(),
    });
    Ok(object.to_string())
}

fn show(policy: &Policy) -> String {
    let rules = policy.rules();
    let rows = rules.iter().map(|rule| {
        let constraints = rule.constraints.iter().map(|(name, value)| format!("{name}={value}"));
        let constraints = constraints.collect::<Vec<_>>().join(" ");
        let limits = if constraints.is_empty() { "-".to_owned() } else { constraints };
        vec![rule.scope.clone(), rule.allow.join(" "), limits, rule.place.clone()]
    });
    let mut parts = vec![table(&["SCOPE", "ALLOWS", "LIMITS", "AT"], &rows.collect::<Vec<_>>())];
    let subjects = policy.subjects();
    if !subjects.is_empty() {
        let rows = subjects.iter().map(|(name, scopes)| vec![name.clone(), show_scopes(scopes)]);
        parts.push(table(&["SUBJECT", "SCOPES"], &rows.collect::<Vec<_>>()));
    }
    let mappings = policy.mappings();
    if !mappings.is_empty() {
        let rows = mappings
            .iter()
            .map(|mapping| vec![mapping.who.clone(), mapping.subject.clone(), show_scopes(&mapping.scopes)]);
        parts.push(table(&["WHO", "IS TAKEN FOR", "SCOPES"], &rows.collect::<Vec<_>>()));
    }
    parts.join("\n\n")
}
