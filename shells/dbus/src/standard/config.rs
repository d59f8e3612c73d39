//! `org.visorbus.Config1`: the configuration, key by key.

use dbus::arg::messageitem::MessageItem;
use visorbus_core::auth::Operation;
use visorbus_core::dispatch::Caller;
use visorbus_hub::{Error, Result};
use visorbus_services::Listening;
use visorbus_services::config::{
    Applies, ConfigChange, ConfigEntry, ConfigEvent, ConfigManager, ConfigSchema, PermittedConfig,
};

use super::value::{array, dict, from_item, to_variant};
use crate::interface::{DBusInterface, DBusMethod, DBusProperty, DBusSignal};
use crate::listener::DBusDoor;

/// The configuration on a bus. Everything needs a permission for its address, such as
/// `request:org.visorbus.config1/get-value`, and besides for each key what
/// [`ConfigMessageHandler`](visorbus_services::config::ConfigMessageHandler) asks for: `request:config/get/display/*`.
///
/// | member | arguments | answer |
/// |---|---|---|
/// | `GetValue` | `ss`: category, key | `v`: the value that holds |
/// | `SetValue` | `ssv`: category, key, value | `b`: whether another value holds now |
/// | `Reset` | `ss`: category, key | `b`: whether another value holds now |
/// | `ListKeys` | `s`: a category, or nothing for all | `a(ssv)`: category, key and value of what the caller may get |
/// | `Describe` | `ss`: category, key | `a{sv}`: `description`, `expected`, `unit`, `default`, `origin`, `applies`, `only_in_file`, `secret` |
///
/// The signal `ConfigChanged` (`ssv`: category, key, value) tells whoever may subscribe to
/// `org.visorbus.config1/config-changed` and has used the interface of the changes of those keys that it may get at that
/// moment, as `GetValue` asks for each. The property `Categories` has the names of the categories, and tells when others
/// are declared. A secret's value is an empty text.
#[derive(Debug)]
pub struct ConfigInterface {
    config: ConfigManager,
}

impl ConfigInterface {
    /// The interface over `config`. By itself it tells of nothing; [`ConfigInterface::register`] has it do that too.
    pub const fn new(config: ConfigManager) -> Self {
        Self { config }
    }

    /// Shows the interface at `door`, and tells there of changes, until what is given back is dropped.
    ///
    /// # Errors
    /// As [`DBusDoor::register_interface`].
    pub fn register(config: &ConfigManager, door: &DBusDoor) -> Result<Listening> {
        door.register_interface(Box::new(Self::new(config.clone())))?;
        let door = door.clone();
        Ok(config.on_event(move |event| match event {
            ConfigEvent::Changed(change) => tell(&door, change),
            ConfigEvent::Declared(schema) => tell_categories(&door, schema),
        }))
    }

    fn describe(&self, permitted: &PermittedConfig<'_>, category: &str, key: &str) -> Result<MessageItem> {
        let entry = permitted.get(category, key)?;
        let text = |text: &str| MessageItem::Variant(Box::new(MessageItem::Str(text.to_owned())));
        let truth = |truth: bool| MessageItem::Variant(Box::new(MessageItem::Bool(truth)));
        let applies = match entry.applies {
            Applies::AtOnce => "at_once",
            Applies::AtRestart => "at_restart",
        };
        let facts = [
            ("description", text(&entry.description)),
            ("expected", text(&entry.expected)),
            ("unit", text(&entry.unit)),
            ("default", to_variant(&entry.default)?),
            ("origin", text(&entry.origin.to_string())),
            ("applies", text(applies)),
            ("only_in_file", truth(entry.only_in_file)),
            ("secret", truth(entry.secret)),
        ];
        dict(facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)), "v")
    }
}

impl DBusInterface for ConfigInterface {
    fn name(&self) -> &str {
        NAME
    }

    fn methods(&self) -> Vec<DBusMethod> {
        METHODS.map(|(name, takes, gives, does)| DBusMethod::authenticated(name, takes, gives, does)).to_vec()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        vec![DBusSignal::authenticated(CHANGED, "ssv", "Another value holds: category, key, value.")]
    }

    fn properties(&self) -> Vec<DBusProperty> {
        vec![DBusProperty::read_only(CATEGORIES, "as", "The names of the categories.")]
    }

    fn handle_method_call(
        &self,
        method_name: &str,
        args: &[MessageItem],
        caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        let by = caller.grant.map_or("", |grant| grant.subject());
        let permitted = PermittedConfig::new(&self.config, caller, by);
        let answer = match (method_name, args) {
            ("GetValue", [MessageItem::Str(category), MessageItem::Str(key)]) => {
                to_variant(&permitted.get(category, key)?.value)?
            }
            (
                "SetValue",
                [MessageItem::Str(category), MessageItem::Str(key), MessageItem::Variant(given)],
            ) => {
                let outcome = permitted.set(category, key, from_item(given)?)?;
                MessageItem::Bool(outcome.changed)
            }
            ("Reset", [MessageItem::Str(category), MessageItem::Str(key)]) => {
                MessageItem::Bool(permitted.reset(category, key)?.changed)
            }
            ("ListKeys", [MessageItem::Str(category)]) => {
                let category = Some(category.as_str()).filter(|name| !name.is_empty());
                let entries = permitted.list(category)?.iter().map(listed).collect::<Result<_>>()?;
                array(entries, "a(ssv)")?
            }
            ("Describe", [MessageItem::Str(category), MessageItem::Str(key)]) => {
                self.describe(&permitted, category, key)?
            }
            _ => return Err(unknown(method_name)),
        };
        Ok(vec![answer])
    }

    fn get_property(&self, property_name: &str, _caller: &Caller<'_>) -> Result<MessageItem> {
        if property_name != CATEGORIES {
            return Err(unknown(property_name));
        }
        categories(&self.config.schema())
    }

    fn set_property(&self, property_name: &str, _value: MessageItem, _caller: &Caller<'_>) -> Result<()> {
        Err(unknown(property_name))
    }
}

fn tell(door: &DBusDoor, change: &ConfigChange) {
    let text = |text: &str| MessageItem::Str(text.to_owned());
    let told = to_variant(&change.value).and_then(|value| {
        let args = [text(&change.category), text(&change.key), value];
        // Whoever may get a key may know that it has changed.
        let needed = format!("config/get/{}/{}", change.category, change.key);
        door.emit_signal_to_permitted(NAME, CHANGED, &args, (Operation::Request, &needed))
    });
    if let Err(error) = told {
        tracing::debug!(category = change.category, key = change.key, %error, "no bus is told of a change");
    }
}

fn tell_categories(door: &DBusDoor, schema: &ConfigSchema) {
    let told = categories(schema).and_then(|names| door.property_changed(NAME, CATEGORIES, &names));
    if let Err(error) = told {
        tracing::debug!(%error, "no bus is told of other categories");
    }
}

fn categories(schema: &ConfigSchema) -> Result<MessageItem> {
    let names = schema.categories().iter().map(|category| MessageItem::Str(category.name().to_owned()));
    array(names.collect(), "as")
}

fn listed(entry: &ConfigEntry) -> Result<MessageItem> {
    let text = |text: &str| MessageItem::Str(text.to_owned());
    Ok(MessageItem::Struct(vec![text(&entry.category), text(&entry.key), to_variant(&entry.value)?]))
}

fn unknown(member: &str) -> Error {
    Error::Message(format!("'{NAME}' has no '{member}' that takes this"))
}

const NAME: &str = "org.visorbus.Config1";
const CHANGED: &str = "ConfigChanged";
const CATEGORIES: &str = "Categories";

/// Name, arguments, answer, what it does.
const METHODS: [(&str, &str, &str, &str); 5] = [
    ("GetValue", "ss", "v", "The value that holds of a category's key."),
    (
        "SetValue",
        "ssv",
        "b",
        "Has a category's key be a value, and keeps it; whether another value holds now.",
    ),
    (
        "Reset",
        "ss",
        "b",
        "Takes the value of a category's key back, so that its default holds; whether that is another.",
    ),
    ("ListKeys", "s", "a(ssv)", "Category, key and value of all that you may get, or of one category's."),
    ("Describe", "ss", "a{sv}", "What a category's key is for, and what it may be."),
];
