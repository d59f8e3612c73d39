//! `visorbus auth token …`: making tokens and saying what they allow.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use visorbus_auth::{
    Accounts, AuthToken, AuthenticationProvider, Channel, RevokeAll, TokenRequest, TokenText, Transport,
};
use visorbus_core::auth::{BUS, Caveat, Claims, Context, Grant, Key, KeyRing, Slot, UnverifiedToken};
use visorbus_core::bus;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use super::{Secret, print_secret, tell_change};
use crate::client::Client;
use crate::output::{print, show_time, unix_seconds};
use crate::{args, prompt};

/// Does what was asked.
pub(crate) fn run(args: &args::Token, json: bool) -> Result<()> {
    match args {
        args::Token::Mint(args) => print(&mint(args, json)?),
        args::Token::Check(args) => print(&check(args, json)?),
        args::Token::Refresh(args) => refresh(args, json),
        args::Token::Revoke(args) => revoke(args, json),
    }
}

fn mint(args: &args::Mint, json: bool) -> Result<String> {
    let place = &args.place.place;
    let keys = place.keys()?;
    let accounts = Accounts::new(Arc::new(place.store()?), keys, Arc::new(args.place.policy()?));
    let request = TokenRequest {
        subject: args.subject.clone(),
        audience: args.audience.clone(),
        scopes: args.scope.clone(),
        lifetime: args.lifetime,
    };
    let token = accounts.mint(&request)?;
    if token.scope.is_empty() && args.audience == "bus" {
        eprintln!(
            "visorbus: the token names its holder and says nothing of what that one may do: give it a --scope, or let the policy"
        );
    }
    let text = token.value.as_str();
    Ok(if json { json!({ "token": text }).to_string() } else { text.to_owned() })
}

/// Makes a new token in the place of one: with the hub's keys where they can be read, else at the hub.
fn refresh(args: &args::Refresh, json: bool) -> Result<()> {
    let old = AuthToken::new(read_token(&args.token)?)?;
    let accounts = match args.place.accounts_to_change() {
        Ok(accounts) => accounts,
        Err(no_keys) => return print(&show_refreshed(&refresh_at_hub(args, &old, no_keys)?, json)),
    };
    let uid = Some(nix::unistd::geteuid().as_raw());
    let channel = Channel { transport: Transport::Unix, uid, ..Channel::default() };
    let fresh = accounts.refresh_token(&old, &channel)?;
    let done = "the token before is void".to_owned();
    let facts = json!({ "expiry": fresh.expiration, "scopes": fresh.scope });
    print_secret(&args.place, fresh.value.as_str(), Secret { word: "token", done, facts }, json)
}

fn refresh_at_hub(args: &args::Refresh, old: &AuthToken, no_keys: Error) -> Result<AuthToken> {
    let client =
        Client::with_token((&args.place).into(), old.value.as_str()).map_err(|error| match error {
            // Neither way is open: the keys are what is missing first.
            Error::Connection(_) => no_keys,
            other => other,
        })?;
    let text = OwnedPayload::String(old.value.as_str().to_owned());
    client.inner.send_request(OwnedMessage::request(bus::REFRESH, text), None)?.payload.parse()
}

fn show_refreshed(token: &AuthToken, json: bool) -> String {
    match json {
        true => json!({ "token": token.value.as_str(), "expiry": token.expiration, "scopes": token.scope })
            .to_string(),
        false => token.value.as_str().to_owned(),
    }
}

/// Takes tokens back: on disk first, then at the hub. Whoever has a token but not the hub's files asks the hub.
fn revoke(args: &args::Revoke, json: bool) -> Result<()> {
    let token = args.token.as_deref().map(read_token).transpose()?.map(AuthToken::new).transpose()?;
    let accounts = match (args.place.accounts_to_change(), &token) {
        (Ok(accounts), _) => accounts,
        (Err(no_keys), Some(token)) => return revoke_at_hub(args, token, no_keys, json),
        (Err(no_keys), None) => return Err(no_keys),
    };
    let done = match (&token, &args.subject, args.key_id) {
        (Some(token), _, _) => {
            accounts.revoke_token(token)?;
            "the token is void, and all that were made from it".to_owned()
        }
        (None, Some(subject), _) => {
            accounts.revoke_all(&RevokeAll::Subject(subject.clone()))?;
            format!("all tokens of '{subject}' until now are void")
        }
        (None, None, Some(id)) => {
            accounts.revoke_all(&RevokeAll::KeyEpoch(id))?;
            format!("all tokens that were made with the root key {id} until now are void")
        }
        (None, None, None) => return Err(Error::Message("say what to take back".to_owned())),
    };
    tell_change(&args.place, &done, json)
}

fn revoke_at_hub(args: &args::Revoke, token: &AuthToken, no_keys: Error, json: bool) -> Result<()> {
    let client =
        Client::with_token((&args.place).into(), token.value.as_str()).map_err(|error| match error {
            Error::Connection(_) => no_keys,
            other => other,
        })?;
    let text = OwnedPayload::String(token.value.as_str().to_owned());
    client.inner.send_request(OwnedMessage::request(bus::REVOKE, text), None)?;
    let done = "the token is void, and all that were made from it";
    print(&if json { json!({ "done": done }).to_string() } else { done.to_owned() })
}

/// The token of an argument, or of standard input.
fn read_token(text: &str) -> Result<TokenText> {
    let token = match text {
        "-" => TokenText::parse(prompt::line_of_stdin("token")?.expose()),
        text => TokenText::parse(text),
    };
    token.map_err(|e| Error::Message(e.to_string()))
}

fn check(args: &args::Check, json: bool) -> Result<String> {
    let token = read_token(&args.token)?;
    let bytes = token.to_bytes().map_err(|e| Error::Message(e.to_string()))?;
    let keys = args.place.keys()?;
    let now = unix_seconds();
    let unverified = UnverifiedToken::read(&bytes).map_err(|e| Error::Message(e.to_string()))?;
    let ring = if args.audience == "bus" { keys.ring() } else { device_ring(&keys, &args.audience)? };
    // First, for the key of one board says nothing of a token for another.
    let verdict = match unverified.claims().audience {
        audience if audience == args.audience => ring
            .check(&bytes, &Context::new(&args.audience, Some(now)).with_channel(channel_of(&unverified)))
            .map_err(|e| e.to_string())
            .and_then(|grant| match is_revoked(args, &grant, now)? {
                true => Err("it was revoked: get a new one".to_owned()),
                false => Ok(()),
            }),
        other => Err(format!("it is for '{other}', not for '{}'", args.audience)),
    };
    let shown = show(&unverified, now, verdict.is_ok(), json);
    match verdict {
        Ok(()) => Ok(shown),
        Err(error) => {
            eprintln!("{shown}");
            Err(Error::Authentication(format!("the token is not good: {error}")))
        }
    }
}

/// The channel that a token is bound to: whether it is shown there is not asked here.
fn channel_of<'a>(token: &UnverifiedToken<'a>) -> visorbus_core::auth::Channel<'a> {
    let mut channel = visorbus_core::auth::Channel::default();
    for caveat in token.caveats() {
        match caveat {
            Caveat::Uid(uid) => channel.uid = Some(uid),
            Caveat::Certificate(hash) => channel.certificate = Some(hash),
            _ => {}
        }
    }
    channel
}

/// Whether the accounts say that the token was taken back; of one for a board, what the hub tells boards.
fn is_revoked(args: &args::Check, grant: &Grant, now: u64) -> std::result::Result<bool, String> {
    let accounts = args.place.accounts().map_err(|e| e.text().to_owned())?;
    if args.audience == BUS {
        return Ok(!accounts.is_live(grant, now));
    }
    let is_of = |subject: &str| subject.is_empty() || subject == grant.subject();
    Ok(accounts.revocations().iter().any(|(subject, until)| is_of(subject) && grant.issued_at() <= *until))
}

/// The ring of the board called `name`: what it would say of a token for it.
fn device_ring(keys: &visorbus_auth::KeyFile, name: &str) -> Result<KeyRing> {
    let mut ring = KeyRing::new();
    let key: Key =
        keys.device_key(name).ok_or_else(|| Error::Internal("the key file holds no key".to_owned()))?;
    ring.add(Slot::device(keys.current_id(), key)).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(ring)
}

/// What a token says, whoever made it.
fn show(token: &UnverifiedToken<'_>, now: u64, good: bool, json: bool) -> String {
    let Claims { issuer, subject, audience, serial, issued_at, expiry, epoch, scopes } = token.claims();
    let scopes: Vec<&str> = scopes.iter().collect();
    let caveats: Vec<String> = token
        .caveats()
        .map(|caveat| match caveat {
            Caveat::Expiry(at) => format!("expires at {at}"),
            Caveat::Scopes(scopes) => format!("only {}", scopes.iter().collect::<Vec<_>>().join(" ")),
            Caveat::Uid(uid) => format!("only from processes of user {uid}"),
            Caveat::Certificate(hash) => {
                let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("only over a connection with the certificate of SHA-256 {hex}")
            }
            _ => "unknown".to_owned(),
        })
        .collect();
    if json {
        return serde_json::json!({
            "good": good, "subject": subject, "issuer": issuer, "audience": audience, "key_id": token.key_id(),
            "serial": serial.to_string(), "issued_at": issued_at, "expiry": expiry, "epoch": epoch,
            "scopes": scopes, "caveats": caveats,
        })
        .to_string();
    }
    let left = match expiry.checked_sub(now) {
        Some(left) => format!("{} left", show_time(Duration::from_secs(left))),
        None => "expired".to_owned(),
    };
    let mut lines = vec![
        format!("subject   {subject}"),
        format!("issuer    {issuer}"),
        format!("audience  {audience}"),
        format!("scopes    {}", if scopes.is_empty() { "none".to_owned() } else { scopes.join(" ") }),
        format!("expires   {expiry} ({left})"),
        format!("key id    {}", token.key_id()),
        format!("serial    {serial}"),
    ];
    lines.extend(caveats.iter().map(|caveat| format!("caveat    {caveat}")));
    if good {
        lines.push(format!("good for  {audience}"));
    }
    lines.join("\n")
}
