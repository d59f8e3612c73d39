//! The component `config` of a hub: what anybody on a bus asks of the configuration, and the topics of its changes.

use std::sync::{Arc, Weak};

use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::{Caller, MessageHandler, NOBODY, Reply, RowHead};
use visorbus_core::message::typed::{SchemaPair, TypeSchema};
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{Error, HubHandle, OwnedMessage, OwnedPayload, Value};

use super::entry::{ConfigChange, ConfigEntry, ConfigEvent};
use super::exchange::Format;
use super::manager::ConfigManager;
use super::permitted::PermittedConfig;
use super::requests::{CategoryInfo, ConfigKey, ConfigOutcome, ConfigSet};
use crate::answer::{Form, answer, read, refuse};
use crate::listeners::Listening;

/// Serves a configuration as the component `config`. Each takes postcard, JSON, TOML and text, and answers in the same:
///
/// | address | takes | answers | as text |
/// |---|---|---|---|
/// | `config/get` | [`ConfigKey`] | [`ConfigEntry`] | `category.key` |
/// | `config/get/CATEGORY/KEY` | nothing | [`ConfigEntry`], in JSON | |
/// | `config/set` | [`ConfigSet`] | [`ConfigOutcome`] | `category.key = value` |
/// | `config/set/CATEGORY/KEY` | [`Value`] | [`ConfigOutcome`] | `value` |
/// | `config/reset` | [`ConfigKey`] | [`ConfigOutcome`] | `category.key` |
/// | `config/list` | a category or nothing | [`ConfigEntry`]s | `category` |
/// | `config/describe` | a category or nothing | [`CategoryInfo`]s | `category` |
/// | `config/export` | nothing | a document of values | |
/// | `config/import` | a document of values | [`ConfigOutcome`] | TOML |
///
/// A change is published on `config/changed/CATEGORY/KEY`, as a [`ConfigChange`]; who may subscribe to that may know it.
///
/// # Who may what
/// A permission to request an address is asked for, as everywhere; where the key is in the payload, also the one to request
/// the address with the key in it: `request:config/get/display/*` and `request:config/set/display/brightness` name keys.
/// To reset a key takes the permission for the address that is called, as always, and the one to set the key. Lists and
/// exports have what the caller may get.
#[derive(Debug)]
pub struct ConfigMessageHandler {
    config: ConfigManager,
    /// The topics of the changes, one for each key.
    topics: Vec<String>,
    /// The same for all handlers that come one after the other as keys are declared.
    _listening: Arc<Listening>,
}

impl ConfigMessageHandler {
    /// The handler of `config`, whose changes are published on `hub` as long as the handler is there. Where `hub` has it,
    /// and other keys are declared, it has one with their topics in its place.
    pub fn new(config: ConfigManager, hub: HubHandle) -> Self {
        let listening = Arc::new_cyclic(|listening: &Weak<Listening>| {
            let (listening, of) = (listening.clone(), config.clone());
            config.on_event(move |event| match event {
                ConfigEvent::Changed(change) => publish(&hub, change),
                ConfigEvent::Declared(_) => {
                    let Some(listening) = listening.upgrade() else { return };
                    let next = Self::with(of.clone(), listening);
                    if let Err(error) = hub.replace_handler(Box::new(next)) {
                        tracing::debug!("the topics of the configuration stay as they were: {error}");
                    }
                }
            })
        });
        Self::with(config, listening)
    }

    fn with(config: ConfigManager, listening: Arc<Listening>) -> Self {
        let schema = config.schema();
        let topics = schema
            .categories()
            .iter()
            .flat_map(|category| category.keys().iter().map(|key| topic(category.name(), key.name())));
        let topics = topics.collect();
        Self { config, topics, _listening: listening }
    }

    /// Answers at an address with the key in it.
    fn answer_at(
        &self,
        (operation, category, key): (&str, &str, &str),
        permitted: &PermittedConfig<'_>,
        (message, reply): (&Message<'_>, &mut Reply<'_>),
    ) -> Result<(), IpcError> {
        // No type is known for an address with a key in it, so nobody on the way could turn postcard into what the caller
        // speaks: who sends nothing is answered in JSON.
        let in_json = Message { payload: MessagePayload::Json("null"), ..*message };
        let message = if message.payload == MessagePayload::Empty { &in_json } else { message };
        match operation {
            "get" => answer(message, reply, |()| permitted.get(category, key)),
            "reset" => answer(message, reply, |()| permitted.reset(category, key)),
            "set" => answer(message, reply, |value: Value| match (Form::of(&message.payload), &value) {
                (Form::Text, Value::Text(text)) => permitted.set_text(category, key, text),
                _ => permitted.set(category, key, value),
            }),
            _ => Err(NOBODY),
        }
    }
}

impl MessageHandler for ConfigMessageHandler {
    fn id(&self) -> &str {
        "config"
    }

    fn supported_message_types(&self) -> &[MessageType] {
        &[MessageType::Request]
    }

    /// A change is on the disk before it is answered.
    fn may_block(&self) -> bool {
        true
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        if let Some((address, schema)) = ENDPOINTS.get(number) {
            return Some(RowHead::new(RowKind::Endpoint, *address, Access::Permission, *schema));
        }
        let topic = Address::new(self.topics.get(number - ENDPOINTS.len())?).ok()?;
        Some(RowHead::new(RowKind::Publishes, topic, Access::Permission, CHANGED))
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.handle_for(&Caller::new(None, None), message, reply, &|| false)
    }

    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        _cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        let by = message.source.map_or("", Address::component);
        let permitted = PermittedConfig::new(&self.config, caller, by);
        let path = message.destination.map_or("", Address::path);
        match path {
            "get" => answer(message, reply, |of: ConfigKey| permitted.get(&of.category, &of.key)),
            "reset" => answer(message, reply, |of: ConfigKey| permitted.reset(&of.category, &of.key)),
            "set" => answer(message, reply, |of: ConfigSet| match (Form::of(&message.payload), &of.value) {
                (Form::Text, Value::Text(text)) => permitted.set_text(&of.category, &of.key, text),
                _ => permitted.set(&of.category, &of.key, of.value),
            }),
            "list" => answer(message, reply, |of: Option<String>| permitted.list(of.as_deref())),
            "describe" => answer(message, reply, |of: Option<String>| permitted.describe(of.as_deref())),
            "export" => export(&permitted, message, reply),
            "import" => import(&permitted, message, reply),
            _ => match path.split('/').collect::<Vec<_>>()[..] {
                [operation, category, key] => {
                    self.answer_at((operation, category, key), &permitted, (message, reply))
                }
                _ => Err(NOBODY),
            },
        }
    }
}

/// The document in the form of the request; as a text where that says no other.
fn export(
    permitted: &PermittedConfig<'_>,
    message: &Message<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), IpcError> {
    match message.payload {
        MessagePayload::Json(_) => reply.payload(MessagePayload::Json(&permitted.export(Format::Json))),
        MessagePayload::Toml(_) => reply.payload(MessagePayload::Toml(&permitted.export(Format::Toml))),
        MessagePayload::String(_) => reply.payload(MessagePayload::String(&permitted.export(Format::Toml))),
        _ => answer(message, reply, |()| Ok(permitted.export(Format::Toml))),
    }
}

/// The payload is the document; in postcard a text that is one.
fn import(
    permitted: &PermittedConfig<'_>,
    message: &Message<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), IpcError> {
    let document: Result<(Format, String), Error> = match message.payload {
        MessagePayload::Json(text) if text.trim_start().starts_with('{') => {
            Ok((Format::Json, text.to_owned()))
        }
        MessagePayload::Toml(text) | MessagePayload::String(text) => Ok((Format::Toml, text.to_owned())),
        ref other => read(other).map(|text: String| (Format::Toml, text)),
    };
    let outcome = document.and_then(|(format, text)| permitted.import(format, &text));
    match outcome.and_then(|outcome| Form::of(&message.payload).write(&outcome)) {
        Ok(payload) => reply.payload(payload.borrow()),
        Err(error) => refuse(reply, &error),
    }
}

fn publish(hub: &HubHandle, change: &ConfigChange) {
    let Ok(payload) = OwnedPayload::postcard(change) else { return };
    let told = hub.publish(OwnedMessage::notification(topic(&change.category, &change.key), payload));
    if let Err(error) = told {
        tracing::debug!(category = change.category, key = change.key, %error, "a change is not published");
    }
}

/// The topic of a key's changes.
fn topic(category: &str, key: &str) -> String {
    format!("config/changed/{category}/{key}")
}

const fn typed<Q: postcard_schema::Schema, A: postcard_schema::Schema>() -> SchemaPair {
    SchemaPair { request: TypeSchema::of::<Q>(), response: TypeSchema::of::<A>() }
}

const CHANGED: SchemaPair = typed::<ConfigChange, ()>();
const ENDPOINTS: &[(Address<'static>, SchemaPair)] = &[
    (Address::literal("config/get"), typed::<ConfigKey, ConfigEntry>()),
    (Address::literal("config/set"), typed::<ConfigSet, ConfigOutcome>()),
    (Address::literal("config/reset"), typed::<ConfigKey, ConfigOutcome>()),
    (Address::literal("config/list"), typed::<Option<String>, Vec<ConfigEntry>>()),
    (Address::literal("config/describe"), typed::<Option<String>, Vec<CategoryInfo>>()),
    (Address::literal("config/export"), typed::<(), String>()),
    (Address::literal("config/import"), typed::<String, ConfigOutcome>()),
];
