//! `visorbus auth token …`: making tokens and saying what they allow.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use visorbus_auth::{TokenRequest, TokenText};
use visorbus_core::auth::{Caveat, Claims, Context, Key, KeyRing, Slot, UnverifiedToken};
use visorbus_hub::{Error, Result};

use crate::args;
use crate::output::print;

/// Does what was asked.
pub(crate) fn run(args: &args::Token, json: bool) -> Result<()> {
    print(&match args {
        args::Token::Mint(args) => mint(args, json)?,
        args::Token::Check(args) => check(args, json)?,
    })
}

fn mint(args: &args::Mint, json: bool) -> Result<String> {
    if args.scope.is_empty() && args.audience == "bus" {
        eprintln!(
            "visorbus: the token names its holder and allows nothing: give it a --scope to allow something"
        );
    }
    let request = TokenRequest {
        subject: args.subject.clone(),
        audience: args.audience.clone(),
        scopes: args.scope.clone(),
        lifetime: args.lifetime,
    };
    let token = args.place.keys()?.mint(&request).map_err(|e| Error::Message(e.to_string()))?;
    Ok(if json {
        serde_json::json!({ "token": token.as_str() }).to_string()
    } else {
        token.as_str().to_owned()
    })
}

fn check(args: &args::Check, json: bool) -> Result<String> {
    let mut text = args.token.clone();
    if text == "-" {
        text.clear();
        std::io::stdin()
            .take(4096)
            .read_to_string(&mut text)
            .map_err(|e| Error::Message(format!("cannot read the token from standard input: {e}")))?;
    }
    let token = TokenText::parse(&text).map_err(|e| Error::Message(e.to_string()))?;
    let bytes = token.to_bytes().map_err(|e| Error::Message(e.to_string()))?;
    let keys = args.place.keys()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let unverified = UnverifiedToken::read(&bytes).map_err(|e| Error::Message(e.to_string()))?;
    let ring = if args.audience == "bus" { keys.ring() } else { device_ring(&keys, &args.audience)? };
    // First, for the key of one board says nothing of a token for another.
    let verdict = match unverified.claims().audience {
        audience if audience == args.audience => ring
            .check(&bytes, &Context::new(&args.audience, Some(now)))
            .map(|_| ())
            .map_err(|e| e.to_string()),
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

/// A time in its two largest units.
fn show_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
