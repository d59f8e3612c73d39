//! What came of a change of settings: what is in force, what waits for the next start, what was refused and why.

use std::collections::BTreeMap;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_hub::info::Ended;
use visorbus_services::config::{Applies, ConfigEntry, ConfigSchema, ConfigValues};

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

/// Which values are in force, by categories: what of one can be taken over at all is so whole or not at all.
#[derive(Default)]
pub(super) struct InForce {
    /// As at the start, for what is taken up then alone.
    started: BTreeMap<String, ConfigValues>,
    values: BTreeMap<String, ConfigValues>,
    /// What could not be taken over when it was last tried, with what it was.
    refused: BTreeMap<String, (ConfigValues, Refused)>,
}

impl InForce {
    /// All of `values`.
    pub(super) fn all(values: &ConfigValues) -> Self {
        let categories = values.schema().categories().iter();
        let values: BTreeMap<_, _> =
            categories.map(|category| (category.name().to_owned(), values.clone())).collect();
        Self { started: values.clone(), values, refused: BTreeMap::new() }
    }

    /// The keys of `category`, as `category.key`, that `values` have otherwise; of one that was not there, those that
    /// somebody has set.
    pub(super) fn changed(&self, category: &str, values: &ConfigValues) -> Changed {
        let since = |before: &BTreeMap<String, ConfigValues>, applies| {
            let before = before.get(category);
            before.map(|before| differences(category, before, values, |of| of == applies)).unwrap_or_default()
        };
        if !self.values.contains_key(category) {
            let set = entries(category, values).filter(|entry| entry.value != entry.default);
            return Changed { now: set.map(name).collect(), at_restart: Vec::new() };
        }
        Changed {
            now: since(&self.values, Applies::AtOnce),
            at_restart: since(&self.started, Applies::AtRestart),
        }
    }

    /// Forgets categories that are declared no more.
    pub(super) fn forget_others(&mut self, schema: &ConfigSchema) {
        let is_there = |category: &String| schema.category(category).is_ok();
        self.values.retain(|category, _| is_there(category));
        self.started.retain(|category, _| is_there(category));
        self.refused.retain(|category, _| is_there(category));
    }

    /// `category` is as `values` say from now on.
    pub(super) fn take(&mut self, category: &str, values: &ConfigValues) {
        self.refused.remove(category);
        self.started.entry(category.to_owned()).or_insert_with(|| values.clone());
        self.values.insert(category.to_owned(), values.clone());
    }

    /// `category` could not be had as `values` say.
    pub(super) fn refuse(&mut self, category: &str, values: &ConfigValues, why: impl ToString) -> Refused {
        let refused = Refused::new(category, why);
        self.refused.insert(category.to_owned(), (values.clone(), refused.clone()));
        refused
    }

    /// Nothing else is asked for of `category` than what is so, as `values` say too.
    pub(super) fn settle(&mut self, category: &str, values: &ConfigValues) {
        self.take(category, values);
    }

    /// What came of `category` when it was tried as `values` say, if that was refused.
    pub(super) fn refused(&self, category: &str, values: &ConfigValues) -> Option<&Refused> {
        let (tried, refused) = self.refused.get(category)?;
        differences(category, tried, values, |_| true).is_empty().then_some(refused)
    }
}

/// Keys that were changed, as `category.key`.
pub(super) struct Changed {
    /// Those that may hold otherwise at once.
    pub(super) now: Vec<String>,
    /// Those that wait for the next start.
    pub(super) at_restart: Vec<String>,
}

/// The keys of `category`, as `category.key`, whose values are not the same in both; of those that apply when `which` says so.
fn differences(
    category: &str,
    before: &ConfigValues,
    after: &ConfigValues,
    which: impl Fn(Applies) -> bool,
) -> Vec<String> {
    // A key that was not there has had its default.
    let old = |entry: &ConfigEntry| {
        before.get(category, &entry.key).map_or_else(|_| entry.default.clone(), |before| before.value)
    };
    let changed = entries(category, after).filter(|entry| which(entry.applies) && entry.value != old(entry));
    changed.map(name).collect()
}

fn entries(category: &str, values: &ConfigValues) -> impl Iterator<Item = ConfigEntry> {
    values.list(Some(category)).unwrap_or_default().into_iter()
}

fn name(entry: ConfigEntry) -> String {
    format!("{}.{}", entry.category, entry.key)
}
