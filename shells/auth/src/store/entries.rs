//! What an operator does with a store: users, keys of programs, certificates, keys of links, and who is shut out.

use serde::Serialize;
use sha2::{Digest, Sha256};
use visorbus_core::auth::{BUS, Key, Scope, Scopes};
use visorbus_core::limits::MAX_GRANT_SCOPES;
use visorbus_core::message::address::is_name;
use visorbus_core::secure::{LinkKey, MAX_LINK_KEY_TEXT, Suite};
use zeroize::Zeroizing;

use super::Store;
use super::records::{
    ApiKey, Certificate, MAX_API_KEYS, MAX_CERTIFICATES, MAX_LINK_KEYS, MAX_USERS, StoredLinkKey, User,
};
use crate::accounts::{api_key, password};
use crate::{CertificateId, Error, Result, Secret, unix_seconds};

/// Users.
impl Store {
    /// Adds a user, who is a subject of the same name.
    ///
    /// # Errors
    /// `Message` when there is one of that name, or name, password or a scope is not one.
    pub fn add_user(&self, name: &str, new_password: &Secret, scopes: &[String]) -> Result<()> {
        check_subject(name)?;
        check_scopes(scopes)?;
        let password = password::hash(new_password)?;
        self.update(|records| {
            check_room(records.users.len(), MAX_USERS, "users")?;
            if records.users.contains_key(name) {
                return Err(Error::Message(format!(
                    "there is a user '{name}': set the password or scopes of that one"
                )));
            }
            records.users.insert(name.to_owned(), User { password, scopes: scopes.to_vec() });
            Ok(())
        })
    }

    /// Gives a user another password, and takes back the tokens made so far.
    ///
    /// # Errors
    /// `Message` when there is no such user, or it is no password.
    pub fn set_password(&self, name: &str, new_password: &Secret) -> Result<()> {
        let password = password::hash(new_password)?;
        self.update(|records| {
            records.users.get_mut(name).ok_or_else(|| unknown("user", name))?.password = password;
            records.revoke_subject(name, unix_seconds());
            Ok(())
        })
    }

    /// Gives a user other scopes, and takes back the tokens made so far.
    ///
    /// # Errors
    /// `Message` when there is no such user, or a scope is not one.
    pub fn set_scopes(&self, name: &str, scopes: &[String]) -> Result<()> {
        check_scopes(scopes)?;
        self.update(|records| {
            records.users.get_mut(name).ok_or_else(|| unknown("user", name))?.scopes = scopes.to_vec();
            records.revoke_subject(name, unix_seconds());
            Ok(())
        })
    }

    /// Removes a user, and takes back the tokens of that subject.
    ///
    /// # Errors
    /// `Message` when there is no such user.
    pub fn remove_user(&self, name: &str) -> Result<()> {
        self.update(|records| {
            records.users.remove(name).ok_or_else(|| unknown("user", name))?;
            records.revoke_subject(name, unix_seconds());
            Ok(())
        })
    }

    /// All users.
    pub fn users(&self) -> Vec<UserInfo> {
        let records = self.records();
        let info = |(name, user): (&String, &User)| UserInfo {
            name: name.clone(),
            scopes: user.scopes.clone(),
            disabled: records.disabled.contains(name),
        };
        records.users.iter().map(info).collect()
    }

    /// Shuts a subject out, whatever it shows, and takes back its tokens.
    ///
    /// # Errors
    /// `Message` when it is no subject.
    pub fn disable(&self, subject: &str) -> Result<()> {
        check_subject(subject)?;
        self.update(|records| {
            check_room(records.disabled.len(), MAX_USERS, "disabled subjects")?;
            records.disabled.insert(subject.to_owned());
            records.revoke_subject(subject, unix_seconds());
            Ok(())
        })
    }

    /// Lets a subject in again. Its old tokens stay void.
    ///
    /// # Errors
    /// `Message` when it was not shut out.
    pub fn enable(&self, subject: &str) -> Result<()> {
        self.update(|records| {
            records.disabled.remove(subject).then_some(()).ok_or_else(|| unknown("disabled subject", subject))
        })
    }

    /// The subjects that are shut out.
    pub fn disabled(&self) -> Vec<String> {
        self.with_records(|records| records.disabled.iter().cloned().collect())
    }
}

/// Keys of programs.
impl Store {
    /// Makes a key for a program that acts as `subject`, until `expires` in Unix seconds. It is shown this once: only
    /// its hash is kept.
    ///
    /// # Errors
    /// `Message` when it is no subject, or a scope is not one.
    pub fn add_api_key(&self, subject: &str, scopes: &[String], expires: Option<u64>) -> Result<Secret> {
        check_subject(subject)?;
        check_scopes(scopes)?;
        let (prefix, text, sha256) = api_key::make()?;
        let created = unix_seconds();
        let entry = ApiKey {
            subject: subject.to_owned(),
            sha256,
            scopes: scopes.to_vec(),
            created,
            expires,
            disabled: false,
        };
        self.update(|records| {
            check_room(records.api_keys.len(), MAX_API_KEYS, "API keys")?;
            if records.api_keys.contains_key(&prefix) {
                return Err(Error::Internal("the random prefix of the key is taken: try again".to_owned()));
            }
            records.api_keys.insert(prefix.clone(), entry);
            Ok(())
        })?;
        Ok(text)
    }

    /// Stops a key, or lets it work again. Stopping takes back the tokens of its subject.
    ///
    /// # Errors
    /// `Message` when there is no key of that prefix.
    pub fn set_api_key_disabled(&self, prefix: &str, disabled: bool) -> Result<()> {
        self.update(|records| {
            let key = records.api_keys.get_mut(prefix).ok_or_else(|| unknown("API key", prefix))?;
            key.disabled = disabled;
            let subject = key.subject.clone();
            if disabled {
                records.revoke_subject(&subject, unix_seconds());
            }
            Ok(())
        })
    }

    /// Removes a key, and takes back the tokens of its subject.
    ///
    /// # Errors
    /// `Message` when there is no key of that prefix.
    pub fn remove_api_key(&self, prefix: &str) -> Result<()> {
        self.update(|records| {
            let key = records.api_keys.remove(prefix).ok_or_else(|| unknown("API key", prefix))?;
            records.revoke_subject(&key.subject, unix_seconds());
            Ok(())
        })
    }

    /// All keys of programs, without their secrets.
    pub fn api_keys(&self) -> Vec<ApiKeyInfo> {
        let info = |(prefix, key): (&String, &ApiKey)| ApiKeyInfo {
            prefix: prefix.clone(),
            subject: key.subject.clone(),
            scopes: key.scopes.clone(),
            created: key.created,
            expires: key.expires,
            disabled: key.disabled,
        };
        self.with_records(|records| records.api_keys.iter().map(info).collect())
    }
}

/// Certificates.
impl Store {
    /// Takes whoever owns the certificate for `subject`.
    ///
    /// # Errors
    /// `Message` when it is known already, it is no subject, or a scope is not one.
    pub fn add_certificate(&self, id: CertificateId, subject: &str, scopes: &[String]) -> Result<()> {
        check_subject(subject)?;
        check_scopes(scopes)?;
        self.update(|records| {
            check_room(records.certificates.len(), MAX_CERTIFICATES, "certificates")?;
            if records.certificates.iter().any(|known| known.id == id) {
                return Err(Error::Message("this certificate is known: remove that entry first".to_owned()));
            }
            records.certificates.push(Certificate {
                id,
                subject: subject.to_owned(),
                scopes: scopes.to_vec(),
            });
            Ok(())
        })
    }

    /// Forgets a certificate, and takes back the tokens of its subject.
    ///
    /// # Errors
    /// `Message` when it is not known.
    pub fn remove_certificate(&self, id: &CertificateId) -> Result<()> {
        self.update(|records| {
            let at = records.certificates.iter().position(|known| known.id == *id);
            let at =
                at.ok_or_else(|| Error::Message("this certificate is not known: see the list".to_owned()))?;
            let known = records.certificates.remove(at);
            records.revoke_subject(&known.subject, unix_seconds());
            Ok(())
        })
    }

    /// All certificates that are known.
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        let info = |known: &Certificate| CertificateInfo {
            id: known.id.clone(),
            subject: known.subject.clone(),
            scopes: known.scopes.clone(),
        };
        self.with_records(|records| records.certificates.iter().map(info).collect())
    }
}

/// Keys of links. The hub holds each beside the board that it names.
impl Store {
    /// Adds the key of a link.
    ///
    /// # Errors
    /// `Message` when there is a key of that name and id.
    pub fn add_link_key(&self, key: &LinkKey) -> Result<()> {
        let mut text = Zeroizing::new([0; MAX_LINK_KEY_TEXT]);
        let text = Secret::new(key.encode(&mut text));
        self.update(|records| {
            check_room(records.link_keys.len(), MAX_LINK_KEYS, "link keys")?;
            if records.link_keys.iter().any(|known| known.name == key.name() && known.id == key.id()) {
                let (name, id) = (key.name(), key.id());
                return Err(Error::Message(format!("'{name}' has a link key {id}: take the next id")));
            }
            let name = key.name().to_owned();
            records.link_keys.push(StoredLinkKey { name, id: key.id(), created: unix_seconds(), key: text });
            Ok(())
        })
    }

    /// Makes a random key of the link to the board `name` and adds it, under `id` or the next one that is free. Its id,
    /// and its text for the board.
    ///
    /// # Errors
    /// `Message` when it is no name, or has a key of that id, or of every id.
    pub fn provision_link_key(&self, name: &str, suite: Suite, id: Option<u8>) -> Result<(u8, Secret)> {
        check_subject(name)?;
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
        self.update(|records| {
            check_room(records.link_keys.len(), MAX_LINK_KEYS, "link keys")?;
            let of_board = || records.link_keys.iter().filter(|key| key.name == name).map(|key| key.id);
            // After the newest, so that an id comes again as late as can be.
            let first = of_board().next_back().map_or(0, |newest| newest.wrapping_add(1));
            let mut free = (0..=u8::MAX)
                .map(|step| first.wrapping_add(step))
                .filter(|id| !of_board().any(|used| used == *id));
            let next = match id {
                None => free.next(),
                Some(id) => free.find(|free| *free == id),
            };
            let id = next.ok_or_else(|| match id {
                Some(id) => {
                    Error::Message(format!("'{name}' has a link key {id}: take another id, or leave it out"))
                }
                None => Error::Message(format!("'{name}' has a link key of every id: remove old ones")),
            })?;
            let key =
                LinkKey::new(id, suite, name, Key::new(*random)).ok_or_else(|| unknown("board", name))?;
            let mut text = Zeroizing::new([0; MAX_LINK_KEY_TEXT]);
            let text = Secret::new(key.encode(&mut text));
            let (name, created) = (name.to_owned(), unix_seconds());
            records.link_keys.push(StoredLinkKey { name, id, created, key: text.clone() });
            Ok((id, text))
        })
    }

    /// Removes the key of a link: the next time its board says hello with it, it is a stranger.
    ///
    /// # Errors
    /// `Message` when there is no such key.
    pub fn remove_link_key(&self, name: &str, id: u8) -> Result<()> {
        self.update(|records| {
            let before = records.link_keys.len();
            records.link_keys.retain(|key| key.name != name || key.id != id);
            let gone = records.link_keys.len() < before;
            gone.then_some(()).ok_or_else(|| unknown("link key", &format!("{name} {id}")))
        })
    }

    /// The keys of the link to `name`, newest first.
    ///
    /// # Errors
    /// `Internal` when one of them is not what was written.
    pub fn link_keys_of(&self, name: &str) -> Result<Vec<LinkKey>> {
        let records = self.records();
        let own = records.link_keys.iter().rev().filter(|key| key.name == name);
        own.map(read_link_key).collect()
    }

    /// The keys of all links.
    ///
    /// # Errors
    /// `Internal` when one of them is not what was written.
    pub fn link_keys(&self) -> Result<Vec<LinkKey>> {
        self.records().link_keys.iter().rev().map(read_link_key).collect()
    }

    /// All keys of links, without their secrets.
    pub fn link_key_list(&self) -> Vec<LinkKeyInfo> {
        let info = |key: &StoredLinkKey| LinkKeyInfo {
            name: key.name.clone(),
            id: key.id,
            suite: read_link_key(key)
                .map(|key| format!("{:?}", key.suite()).to_lowercase())
                .unwrap_or_default(),
            created: key.created,
        };
        self.with_records(|records| records.link_keys.iter().map(info).collect())
    }
}

/// A user, for showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// Name and subject.
    pub name: String,
    /// What the user's tokens say.
    pub scopes: Vec<String>,
    /// Whether the subject is shut out.
    pub disabled: bool,
}

/// A key of a program, for showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKeyInfo {
    /// What it begins with, after `vbk1.`.
    pub prefix: String,
    /// As whom the program acts.
    pub subject: String,
    /// What its tokens say.
    pub scopes: Vec<String>,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// From when on it is refused.
    pub expires: Option<u64>,
    /// Whether it is stopped.
    pub disabled: bool,
}

/// A certificate, for showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// By what it is known.
    pub id: CertificateId,
    /// Whom its owner is taken for.
    pub subject: String,
    /// What the owner's tokens say.
    pub scopes: Vec<String>,
}

/// A key of a link, for showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkKeyInfo {
    /// The board at the other end.
    pub name: String,
    /// Tells the keys of one board apart.
    pub id: u8,
    /// `tag64` or `sealed`.
    pub suite: String,
    /// When it was added, in Unix seconds.
    pub created: u64,
}

/// Checks that it names somebody, and not the hub.
pub(crate) fn check_subject(name: &str) -> Result<()> {
    if is_name(name) && name != BUS {
        return Ok(());
    }
    // What was typed may be a secret in the wrong place.
    Err(Error::Message(
        "a name is at most 32 of a-z, 0-9, '.', '_', '-', and not 'bus', which is the hub".to_owned(),
    ))
}

/// Checks that they are scopes, and that a token can hold them.
pub(crate) fn check_scopes(scopes: &[String]) -> Result<()> {
    if let Some(scope) = scopes.iter().find(|scope| Scope::parse(scope).is_none()) {
        return Err(Error::Message(format!(
            "'{scope}' is no scope: a name of a-z, 0-9, '.', '_', '-', or 'operation:pattern', or '*', in at most 48 bytes"
        )));
    }
    let texts: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let len: usize = Scopes::new(&texts).iter().map(|scope| scope.len() + 1).sum();
    if len > MAX_GRANT_SCOPES {
        return Err(Error::Message(format!(
            "these scopes take {len} bytes, and a token holds {MAX_GRANT_SCOPES}: give fewer, and let the policy say what \
             they allow"
        )));
    }
    Ok(())
}

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn read_link_key(key: &StoredLinkKey) -> Result<LinkKey> {
    LinkKey::parse(key.key.expose()).map_err(|e| {
        Error::Internal(format!("the link key {} of '{}' cannot be read: {e}", key.id, key.name))
    })
}

fn check_room(len: usize, max: usize, what: &str) -> Result<()> {
    if len < max {
        return Ok(());
    }
    Err(Error::Message(format!("there are {max} {what}, which is the most: remove some that are not needed")))
}

fn unknown(what: &str, name: &str) -> Error {
    Error::Message(format!("there is no {what} '{name}': see the list"))
}
