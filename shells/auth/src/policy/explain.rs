//! Which rule decided, in words.

use serde::{Deserialize, Serialize};
use visorbus_core::auth::{BUS, Claims, Context, Grant, Key, KeyRing, Scopes, Slot};
use visorbus_core::limits::MAX_TOKEN;

use super::Policy;
use super::rule::Rule;
use super::tables::{Allowed, Tables};
use crate::{Asked, Error, Result};

/// A decision and what decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// What decided: `FILE:LINE` of a rule, `token: SCOPE`, `subject: SCOPE`, or nothing when no rule is about it.
    pub rule: Option<String>,
    /// The decision as a sentence.
    pub text: String,
}

impl Policy {
    /// What the hub would decide if `subject` asked this with a token of these scopes, and which rule decides. `asked.grant`
    /// and `asked.counts` are not looked at: the length of the payload counts, and no rate is used up.
    ///
    /// It is the hub's own decision: a token is made of the scopes with a key that is thrown away, checked, and asked for.
    ///
    /// # Errors
    /// `Message` when there can be no such token: the name is none, or a scope is none, or they are too many.
    pub fn explain(&self, subject: &str, scopes: &[&str], asked: &Asked<'_>) -> Result<Explanation> {
        let grant = grant(subject, scopes, asked.unix_now)?;
        let asked = Asked { grant: Some(&grant), counts: true, ..*asked };
        let tables = self.tables();
        let (allowed, rule, text) = match tables.decide(&asked, |_, _| Ok(())) {
            Ok(allowed) => {
                let (rule, text) = explain_allowed(&tables, allowed, scopes, &asked)?;
                (true, rule, text)
            }
            Err((denial, rule)) => {
                let place = rule.map(|rule| rule.place.clone());
                let text = match rule {
                    Some(rule) => format!("refused: {denial} (rule for '{}' at {})", rule.scope, rule.place),
                    None => format!("refused: {denial}"),
                };
                (false, place, text)
            }
        };
        Ok(Explanation { allowed, rule, text })
    }
}

fn explain_allowed(
    tables: &Tables,
    allowed: Allowed<'_>,
    scopes: &[&str],
    asked: &Asked<'_>,
) -> Result<(Option<String>, String)> {
    Ok(match allowed {
        Allowed::Open => (None, "allowed: this address is open to everybody".to_owned()),
        Allowed::Token => {
            let scope = deciding_scope(tables, scopes, asked)?;
            (Some(format!("token: {scope}")), format!("allowed by the token's scope '{scope}'"))
        }
        Allowed::Subject(scope) => (
            Some(format!("subject: {scope}")),
            format!("allowed by the scope '{scope}' that the policy gives this subject"),
        ),
        Allowed::Rule(rule) => (
            Some(rule.place.clone()),
            format!("allowed by the rule for '{}' at {}{}", rule.scope, rule.place, rate(rule)),
        ),
    })
}

/// The first scope that alone would do.
fn deciding_scope<'s>(tables: &Tables, scopes: &[&'s str], asked: &Asked<'_>) -> Result<&'s str> {
    let subject = asked.grant.map_or("", Grant::subject);
    for scope in scopes {
        let grant = grant(subject, &[scope], asked.unix_now)?;
        let alone = Asked { grant: Some(&grant), ..*asked };
        if matches!(tables.decide(&alone, |_, _| Ok(())), Ok(Allowed::Token)) {
            return Ok(scope);
        }
    }
    Err(Error::Internal("no scope of the token decided, yet the token did".to_owned()))
}

fn rate(rule: &Rule) -> String {
    rule.limits.max_rate.map(|rate| format!(", at most {rate} times a second")).unwrap_or_default()
}

/// A grant of a token that nobody else will ever see.
fn grant(subject: &str, scopes: &[&str], now: u64) -> Result<Grant> {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(0, Key::new([0; 32]))).map_err(|e| Error::Internal(e.to_string()))?;
    let claims = Claims {
        issuer: BUS,
        subject,
        audience: BUS,
        serial: 0,
        issued_at: now,
        expiry: now.saturating_add(1),
        epoch: 0,
        scopes: Scopes::new(scopes),
    };
    let mut token = [0; MAX_TOKEN];
    let len = ring.mint(0, &claims, &mut token).map_err(|e| Error::Message(e.to_string()))?;
    ring.check(&token[..len], &Context::new(BUS, Some(now))).map_err(|e| Error::Message(e.to_string()))
}
