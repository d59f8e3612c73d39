//! What can be wrong with a configuration, said so that whoever edits the file knows where and what to write.

use std::path::PathBuf;

use super::key::Misvalue;

/// Why a configuration cannot be read, or a value not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such category.
    #[error("there is no category '{category}'{}", did_you_mean(.nearest))]
    UnknownCategory {
        /// What was asked for.
        category: String,
        /// The name that was most likely meant.
        nearest: Option<String>,
    },
    /// There is no such key in the category.
    #[error("there is no key '{category}.{key}'{}", did_you_mean(.nearest))]
    UnknownKey {
        /// The category, which there is.
        category: String,
        /// What was asked for in it.
        key: String,
        /// The name that was most likely meant.
        nearest: Option<String>,
    },
    /// A value of another type than the key's, or outside of its range.
    #[error("'{category}.{key}' is {expected}, not {found}")]
    Unfit {
        /// The category.
        category: String,
        /// The key in it.
        key: String,
        /// What its value may be.
        expected: String,
        /// What was there; of a secret its type alone.
        found: String,
    },
    /// A value that the key's own check refuses.
    #[error("'{category}.{key}' cannot be {found}: {why}")]
    Refused {
        /// The category.
        category: String,
        /// The key in it.
        key: String,
        /// What was there; of a secret its type alone.
        found: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody changes this key over a bus.
    #[error("'{category}.{key}' is changed in the file alone: edit it, and have it read again")]
    OnlyInFile {
        /// The category.
        category: String,
        /// The key in it.
        key: String,
    },
    /// A value that is right alone, and not beside the others.
    #[error("'{category}.{key}': {why}")]
    Conflict {
        /// The category.
        category: String,
        /// The key to change.
        key: String,
        /// What does not go together, and what to do.
        why: String,
    },
    /// A text that is not of the form that it must be of: not TOML, no `category.key = value`.
    #[error("{what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
    /// A file, a variable or an argument that cannot be read or written.
    #[error("cannot {doing} {path}: {why}")]
    Unusable {
        /// What was tried: `read`, `write`.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// Any of these at a place in a file.
    #[error("{}:{line}:{column}: {error}", .path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
        /// What is wrong there.
        error: Box<ConfigError>,
    },
    /// Any of these in a variable of the environment, or in an argument.
    #[error("{source_name}: {error}")]
    From {
        /// Which: `VISORBUS_LOG_LEVEL`, `--set log.level`.
        source_name: String,
        /// What is wrong with it.
        error: Box<ConfigError>,
    },
    /// Several of these, in the order in which they stand in the file.
    #[error("{}", lines(.0))]
    Many(Vec<ConfigError>),
}

impl ConfigError {
    /// What does not go together: the key to change, and why.
    pub fn conflict(category: &str, key: &str, why: impl Into<String>) -> Self {
        Self::Conflict { category: category.to_owned(), key: key.to_owned(), why: why.into() }
    }

    /// What is wrong with a value of a key.
    pub(crate) fn value(category: &str, key: &str, misvalue: Misvalue) -> Self {
        let (category, key) = (category.to_owned(), key.to_owned());
        match misvalue {
            Misvalue::Unfit { expected, found } => Self::Unfit { category, key, expected, found },
            Misvalue::Refused { found, why } => Self::Refused { category, key, found, why },
        }
    }

    /// One error of several: itself where it is alone.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }

    /// Each of them.
    pub fn each(&self) -> &[Self] {
        match self {
            Self::Many(errors) => errors,
            one => std::slice::from_ref(one),
        }
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(": did you mean '{name}'?"))
}

fn lines(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
