//! What is wrong with a text, and where in it. Values are never shown: they may be secrets.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What is wrong, and where. Boxed, for there is hardly ever one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault(Box<Parts>);

impl Fault {
    /// What comes at byte `at` is not JSON.
    #[cold]
    pub(crate) fn not_json(at: usize, expected: &str) -> Self {
        let text = format!("this is not JSON (RFC 8259): at byte {at}: {expected}");
        Self::new(Class::NotJson, text.into())
    }

    /// It is JSON, and not an envelope.
    #[cold]
    pub(crate) fn not_envelope(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::NotEnvelope, text.into())
    }

    /// Something in the envelope is not as it has to be.
    #[cold]
    pub(crate) fn content(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Content, text.into())
    }

    /// The same, the place being below the field `key` of what is read.
    #[cold]
    pub(crate) fn within(mut self, key: &str) -> Self {
        let mut step = String::new();
        // A long or strange key would make the path unreadable.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match !key.is_empty() && key.len() <= SHOWN && key.bytes().all(plain) {
            true => step.push_str(key),
            false => _ = write!(step, "[{:?}]", shown(key)),
        }
        self.prepend(&step);
        self
    }

    /// The same, the place being below an item of the list that is read.
    #[cold]
    pub(crate) fn at_item(mut self, index: usize) -> Self {
        self.prepend(&format!("[{index}]"));
        self
    }

    pub(crate) fn class(&self) -> Class {
        self.0.class
    }

    fn new(class: Class, text: Cow<'static, str>) -> Self {
        Self(Box::new(Parts { class, path: String::new(), text }))
    }

    fn prepend(&mut self, step: &str) {
        let path = &mut self.0.path;
        if !path.is_empty() && !path.starts_with('[') {
            path.insert(0, '.');
        }
        path.insert_str(0, step);
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Parts { class, path, text } = &*self.0;
        // Of what is not JSON the byte says where.
        if *class == Class::Content && !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(text)
    }
}

/// What a fault means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    NotJson,
    NotEnvelope,
    Content,
}

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    class: Class,
    path: String,
    text: Cow<'static, str>,
}

/// The beginning of a key that somebody wrote, to say it back; not one that begins like a secret and got there by mistake.
pub(crate) fn shown(key: &str) -> &str {
    if ["vb1.", "vbk1.", "vbl1.", "vbp1."].iter().any(|start| key.trim_start().starts_with(start)) {
        return "(a secret)";
    }
    let cut = key.char_indices().nth(SHOWN).map_or(key.len(), |(at, _)| at);
    &key[..cut]
}

/// Characters of a key that are shown.
const SHOWN: usize = 48;
