//! What came of a change of settings: what is in force, what waits for the next start, what was refused and why.

use std::collections::BTreeMap;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_hub::info::Ended;
use visorbus_services::config::ConfigValues;

/// What came of reading everything again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[non_exhaustive]
pub struct Reloaded {
    /// The settings, as `category.key`, that hold otherwise from now on.
    pub applied: Vec<String>,
    /// The settings that a hub takes up when it starts, and that are not what it has started with.
    pub at_restart: Vec<String>,
    /// What could not be taken over, and stays as it was.
    pub refused: Vec<Refused>,
    /// What came to its end because accounts or the policy say otherwise.
    pub ended: Ended,
}

/// Something that stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[non_exhaustive]
pub struct Refused {
    /// What: `configuration`, `accounts`, `certificates`, or a category of settings.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Refused {
    pub(super) fn new(what: &str, why: impl ToString) -> Self {
        Self { what: what.to_owned(), why: why.to_string() }
    }
}

/// Which values are in force, by categories: a category is taken over whole or not at all.
#[derive(Default)]
pub(super) struct InForce(BTreeMap<String, ConfigValues>);

impl InForce {
    /// All of `values`.
    pub(super) fn all(values: &ConfigValues) -> Self {
        let categories = values.schema().categories().iter();
        Self(categories.map(|category| (category.name().to_owned(), values.clone())).collect())
    }

    /// The keys of `category`, as `category.key`, that `values` have otherwise.
    pub(super) fn changed(&self, category: &str, values: &ConfigValues) -> Vec<String> {
        let Some(before) = self.0.get(category) else { return Vec::new() };
        let (Ok(before), Ok(after)) = (before.list(Some(category)), values.list(Some(category))) else {
            return Vec::new();
        };
        let pairs = before.iter().zip(&after).filter(|(before, after)| before.value != after.value);
        pairs.map(|(_, after)| format!("{category}.{}", after.key)).collect()
    }

    /// `category` is as `values` say from now on.
    pub(super) fn take(&mut self, category: &str, values: &ConfigValues) {
        self.0.insert(category.to_owned(), values.clone());
    }
}
