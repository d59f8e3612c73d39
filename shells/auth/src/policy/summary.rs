//! What a policy says, for showing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{CertificateId, Policy};

/// A rule, for showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleInfo {
    /// `FILE:LINE` of where it stands.
    pub place: String,
    /// The scope whose holders it is for.
    pub scope: String,
    /// What they may do.
    pub allow: Vec<String>,
    /// Under which constraints, by name.
    pub constraints: BTreeMap<String, String>,
}

/// Whom the owner of something that a channel tells of is taken for, for showing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MappingInfo {
    /// `uid 1000`, `gid 1000`, or a certificate.
    pub who: String,
    /// Whom they are taken for.
    pub subject: String,
    /// What their tokens say.
    pub scopes: Vec<String>,
}

impl Policy {
    /// Its rules, in the order of the file.
    pub fn rules(&self) -> Vec<RuleInfo> {
        let tables = self.tables();
        let info = |rule: &super::Rule| {
            let mut constraints = rule.constraints();
            constraints.remove("rule");
            RuleInfo {
                place: rule.place.clone(),
                scope: rule.scope.to_string(),
                allow: rule.allow.iter().map(ToString::to_string).collect(),
                constraints,
            }
        };
        tables.rules().iter().map(info).collect()
    }

    /// The scopes that it gives to subjects, by name.
    pub fn subjects(&self) -> BTreeMap<String, Vec<String>> {
        let tables = self.tables();
        let texts = |scopes: &[super::OwnedScope]| scopes.iter().map(ToString::to_string).collect();
        tables.subjects().map(|(name, scopes)| (name.to_owned(), texts(scopes))).collect()
    }

    /// Whom users, groups and owners of certificates are taken for, sorted.
    pub fn mappings(&self) -> Vec<MappingInfo> {
        let tables = self.tables();
        let info = |(who, mapping): (String, &super::Mapping)| MappingInfo {
            who,
            subject: mapping.subject.clone(),
            scopes: mapping.scopes.clone(),
        };
        let mut all: Vec<_> = tables.mappings().map(info).collect();
        all.sort();
        all
    }
}

impl CertificateId {
    /// Reads `sha256:HEX`, `spki:HEX` or `uri:URI`, as [`Display`](std::fmt::Display) writes it; the digits with or without
    /// colons between pairs.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("sha256", hex) => crate::hex::parse_fingerprint(hex).map(Self::Sha256),
            ("spki", hex) => crate::hex::parse_fingerprint(hex).map(Self::Spki),
            ("uri", uri) => is_uri(uri).then(|| Self::Uri(uri.to_owned())),
            _ => None,
        }
    }
}

impl std::fmt::Display for CertificateId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(hash) => write!(f, "sha256:{}", *crate::hex::encode(hash)),
            Self::Spki(hash) => write!(f, "spki:{}", *crate::hex::encode(hash)),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
        }
    }
}

/// Whether it can be a URI of a certificate: whole, in visible ASCII, without wildcards.
pub(super) fn is_uri(text: &str) -> bool {
    text.contains(':') && text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_shows_all_that_it_says() {
        let text = r#"
[subjects.imu]
scopes = ["sensor"]
[[unix]]
uid = 1000
subject = "panel"
[[certificate]]
uri = "visorbus:panel"
subject = "panel"
scopes = ["panel"]
[[rule]]
scope = "panel"
allow = ["request:imu/*", "imu.control"]
max_rate = 50
"#;
        let policy = Policy::parse(text).unwrap();
        let rule = RuleInfo {
            place: "policy:11".to_owned(),
            scope: "panel".to_owned(),
            allow: vec!["request:imu/*".to_owned(), "imu.control".to_owned()],
            constraints: [("max_rate".to_owned(), "50".to_owned())].into(),
        };
        assert_eq!(policy.rules(), [rule]);
        assert_eq!(policy.subjects(), [("imu".to_owned(), vec!["sensor".to_owned()])].into());
        let mappings = policy.mappings();
        let who: Vec<&str> = mappings.iter().map(|mapping| mapping.who.as_str()).collect();
        assert_eq!(who, ["uid 1000", "uri:visorbus:panel"]);
        assert_eq!((mappings[1].subject.as_str(), mappings[1].scopes.len()), ("panel", 1));
    }

    #[test]
    fn a_certificate_is_named_in_one_way() {
        let hash = "ab".repeat(32);
        for text in [format!("sha256:{hash}"), format!("spki:{hash}"), "uri:visorbus:panel".to_owned()] {
            assert_eq!(CertificateId::parse(&text).unwrap().to_string(), text);
        }
        let colons = format!("sha256:{}", vec!["AB"; 32].join(":"));
        assert_eq!(CertificateId::parse(&colons).unwrap().to_string(), format!("sha256:{hash}"));
        for wrong in ["", "sha256:", "sha256:abcd", "md5:00", "uri:panel", "uri:a:*", "uri:a: b", "panel.pem"]
        {
            assert_eq!(CertificateId::parse(wrong), None, "{wrong}");
        }
    }
}
