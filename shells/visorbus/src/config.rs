//! `visorbus config`: the options of the running hub, or of the file that the next one reads.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::json;
use visorbus::{GetStatus, ManagerStatus, Severity, places, say, settings};
use visorbus_client::Delivery;
use visorbus_core::ErrorKind;
use visorbus_core::message::typed::Endpoint;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result, Value};
use visorbus_services::config::{
    ConfigChange, ConfigEntry, ConfigError, ConfigManager, ConfigOutcome, Origin, Overrides, init_text,
    write_new,
};

use crate::args;
use crate::client::Client;
use crate::environment;
use crate::output::{self, CONFIGURATION, print};
use crate::table;

/// Does what was asked.
pub(crate) fn run(args: &args::Config, json: bool) -> Result<ExitCode> {
    let done = match args {
        args::Config::Check(file) => return check(file, json),
        args::Config::Init(args) => init(args, json).map_err(Failure::from),
        args::Config::Show(args) => show(args, json),
        args::Config::Get(args) => get(args, json),
        args::Config::Set(args) => set(args, json),
        args::Config::Reset(args) => reset(args, json),
        args::Config::List(args) => list(args, json),
        args::Config::Watch(args) => watch(args, json).map_err(Failure::from),
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Configuration(error)) => Ok(report(&error, json)),
        Err(Failure::Other(error)) => Err(error),
    }
}

/// Says what is wrong with the configuration, a line for each error; the exit code for it.
pub(crate) fn report(error: &ConfigError, json: bool) -> ExitCode {
    if json {
        output::report(&wrong(error.clone()), json);
    } else {
        error.each().iter().for_each(|error| say(Severity::Error, &error.to_string()));
    }
    ExitCode::from(CONFIGURATION)
}

/// Why an option cannot be shown or changed.
enum Failure {
    /// The whole file, or a variable above it, is wrong.
    Configuration(ConfigError),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Writes the file to begin with, where none is.
fn init(args: &args::ConfigInit, json: bool) -> Result<()> {
    let text = init_text(&settings::schema());
    if args.print {
        return print(text.trim_end());
    }
    let path = file(&args.file.config);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Message(format!(
            "{} is there already: move it away, or see what it would be with --print",
            path.display()
        )),
        _ => Error::Internal(format!("cannot write {}: {error}", path.display())),
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    }
    write_new(&path, &text).map_err(failed)?;
    match json {
        true => print(&json!({ "file": path }).to_string()),
        false => print(&path.display().to_string()),
    }
}

/// Says what is wrong with the file, and in environment.
fn check(args: &args::ConfigFile, json: bool) -> Result<ExitCode> {
    let path = file(&args.config);
    let errors = match ConfigManager::open(settings::schema(), &path, Overrides::from_environment()) {
        Ok(config) if json => {
            let warnings: Vec<String> = environment::unknown(&config).into_iter().collect();
            let set = set_keys(&config)?;
            print(&json!({ "file": path, "set": set, "errors": [], "warnings": warnings }).to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(config) => {
            warn(&config);
            let there = if path.exists() { "" } else { ", which is not there" };
            let set = match set_keys(&config)? {
                1 => "1 option is set".to_owned(),
                number => format!("{number} options are set"),
            };
            print(&format!("nothing is wrong with {}{there}: {set}", path.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(errors) => errors,
    };
    if json {
        let lines: Vec<String> = errors.each().iter().map(ToString::to_string).collect();
        print(&json!({ "file": path, "errors": lines }).to_string())?;
        return Ok(ExitCode::from(CONFIGURATION));
    }
    Ok(report(&errors, json))
}

/// Says which variables of the environment change nothing.
fn warn(config: &ConfigManager) {
    if let Some(unknown) = environment::unknown(config) {
        eprintln!("visorbus: {unknown}");
    }
}

fn set_keys(config: &ConfigManager) -> Result<usize> {
    Ok(config.list(None).map_err(wrong)?.iter().filter(|entry| entry.origin != Origin::Default).count())
}

fn show(args: &args::ConfigShow, json: bool) -> Done {
    let source = Source::of(&args.whose)?;
    // What a hub that runs has read is not this environment.
    if let (Source::File(config), true) = (&source, args.effective) {
        warn(config);
    }
    let mut entries = source.list(None)?;
    entries.retain(|entry| args.effective || entry.origin != Origin::Default);
    if json {
        return Ok(print(&in_json(&entries)?)?);
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| vec![name(entry), shown(&entry.value, entry.secret), entry.origin.to_string()])
        .collect();
    Ok(print(&table::draw(
        &["OPTION", "VALUE", "FROM"],
        &rows,
        "(nothing is set: --effective shows what holds)",
    ))?)
}

fn get(args: &args::ConfigOf, json: bool) -> Done {
    let entry = Source::of(&args.whose)?.get(&args.key)?;
    Ok(match (&entry.value, json) {
        (_, true) => print(&in_json(&entry)?),
        (Value::Text(text), false) => print(text),
        (Value::Texts(texts), false) => print(&texts.join("\n")),
        (value, false) => print(&shown(value, entry.secret)),
    }?)
}

fn set(args: &args::ConfigSet, json: bool) -> Done {
    let outcome = Source::of(&args.whose)?.set(&args.key, &args.value)?;
    Ok(tell(&args.key, &outcome, json)?)
}

fn reset(args: &args::ConfigOf, json: bool) -> Done {
    let outcome = Source::of(&args.whose)?.reset(&args.key)?;
    Ok(tell(&args.key, &outcome, json)?)
}

fn list(args: &args::ConfigList, json: bool) -> Done {
    let entries = Source::of(&args.whose)?.list(args.category.as_deref())?;
    if json {
        return Ok(print(&in_json(&entries)?)?);
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                name(entry),
                shown(&entry.value, entry.secret),
                entry.expected.clone(),
                entry.description.clone(),
            ]
        })
        .collect();
    Ok(print(&table::draw(&["OPTION", "VALUE", "MAY BE", "WHAT IT IS FOR"], &rows, "(no options)"))?)
}

/// Prints the hub's changes as they come.
fn watch(args: &args::ConfigWatch, json: bool) -> Result<()> {
    let mut client = Client::connect(&args.client)?;
    let which = args.which.as_deref().map_or("**".to_owned(), |which| match which.split_once('.') {
        Some((category, key)) => format!("{category}/{key}"),
        None => format!("{which}/*"),
    });
    let subscription = client.watch(&format!("config/changed/{which}"))?;
    let mut left = args.count;
    while left != Some(0) {
        match client.next(&subscription)? {
            Delivery::Message(message) => {
                let change: ConfigChange = message.payload.parse()?;
                let value = shown(&change.value, false);
                let line = format!("{}.{} = {value}  (by {})", change.category, change.key, change.by);
                print(&if json { in_json(&change)? } else { line })?;
                left = left.map(|left| left - 1);
            }
            Delivery::Missed(count) => eprintln!("visorbus: {count} changes were missed: they came too fast"),
        }
    }
    Ok(())
}

/// Where the options are read and changed.
enum Source {
    Hub(Box<Client>),
    File(ConfigManager),
}

impl Source {
    /// The running hub; where none runs, or a file is named, that file.
    fn of(args: &args::ConfigOfWhom) -> std::result::Result<Self, Failure> {
        if args.config.is_some() {
            return Self::file(&file(&args.config));
        }
        let client = &args.client;
        let is_owner = client.reach.url.is_none() && !client.login.is_given() && client.token.is_none();
        let hub = match is_owner {
            true => Client::connect_if_served(&client.place)?,
            false => Some(Client::connect(client)?),
        };
        let Some(hub) = hub else {
            let path = file(&None);
            eprintln!("visorbus: no hub runs: this is {}", path.display());
            return Self::file(&path);
        };
        Ok(Self::Hub(Box::new(hub)))
    }

    fn file(path: &Path) -> std::result::Result<Self, Failure> {
        ConfigManager::open(settings::schema(), path, Overrides::from_environment())
            .map(Self::File)
            .map_err(Failure::Configuration)
    }

    fn get(&self, of: &str) -> Result<ConfigEntry> {
        let (category, key) = split(of)?;
        match self {
            Self::Hub(hub) => ask(hub, &format!("config/get/{category}/{key}"), json!(null)),
            Self::File(config) => config.get(category, key).map_err(wrong),
        }
    }

    fn list(&self, category: Option<&str>) -> Result<Vec<ConfigEntry>> {
        match self {
            Self::Hub(hub) => ask(hub, "config/list", json!(category)),
            Self::File(config) => config.list(category).map_err(wrong),
        }
    }

    fn set(&self, of: &str, text: &str) -> Result<ConfigOutcome> {
        let (category, key) = split(of)?;
        match self {
            // The hub knows what the text means for this option, and answers with one.
            Self::Hub(hub) => {
                let request = OwnedMessage::request(
                    format!("config/set/{category}/{key}"),
                    OwnedPayload::String(text.to_owned()),
                );
                match hub.inner.send_request(request, None).map_err(|e| in_file(hub, e))?.payload {
                    OwnedPayload::String(said) => Ok(ConfigOutcome::from_text(&said)),
                    other => other.parse(),
                }
            }
            Self::File(config) => {
                let value = config.parse(category, key, text).map_err(wrong)?;
                let changed = config.set(category, key, value, BY).map_err(wrong)?;
                Ok(ConfigOutcome::of(&config.get(category, key).map_err(wrong)?, changed))
            }
        }
    }

    fn reset(&self, of: &str) -> Result<ConfigOutcome> {
        let (category, key) = split(of)?;
        match self {
            Self::Hub(hub) => {
                ask(hub, &format!("config/reset/{category}/{key}"), json!(null)).map_err(|e| in_file(hub, e))
            }
            Self::File(config) => {
                let changed = config.reset(category, key, BY).map_err(wrong)?;
                Ok(ConfigOutcome::of(&config.get(category, key).map_err(wrong)?, changed))
            }
        }
    }
}

/// Asks the hub in JSON, which every component's own handler understands.
fn ask<T: DeserializeOwned>(hub: &Client, address: &str, request: serde_json::Value) -> Result<T> {
    let request = OwnedMessage::request(address, OwnedPayload::json(&request)?);
    hub.inner.send_request(request, None)?.payload.parse()
}

/// How what no hub changes is changed all the same by whoever may write its file.
fn in_file(hub: &Client, error: Error) -> Error {
    if error.kind() != ErrorKind::Authorization || !error.text().contains("in the file alone") {
        return error;
    }
    let status: Result<ManagerStatus> = ask(hub, GetStatus::ADDRESS.as_str(), json!(null));
    let file = status.map_or_else(|_| "FILE".to_owned(), |status| status.config_file);
    let text = error.text();
    Error::Authorization(format!("{text}: this command with --config {file} does, then `visorbus reload`"))
}

fn tell(key: &str, outcome: &ConfigOutcome, json: bool) -> Result<()> {
    if json {
        return print(&in_json(outcome)?);
    }
    let changed = if outcome.changed { "is changed" } else { "is not changed" };
    let note = if outcome.note.is_empty() { String::new() } else { format!(": {}", outcome.note) };
    print(&format!("{key} {changed}{note}"))
}

fn split(name: &str) -> Result<(&str, &str)> {
    name.split_once('.').filter(|(category, key)| !category.is_empty() && !key.is_empty()).ok_or_else(|| {
        Error::Message(format!("'{name}' names no option: expected category.key, as in log.level"))
    })
}

fn name(entry: &ConfigEntry) -> String {
    format!("{}.{}", entry.category, entry.key)
}

fn shown(value: &Value, secret: bool) -> String {
    if secret { "(secret)".to_owned() } else { value.to_string() }
}

fn in_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))
}

fn file(named: &Option<PathBuf>) -> PathBuf {
    named.clone().unwrap_or_else(places::config_file)
}

fn wrong(error: ConfigError) -> Error {
    Error::Message(error.to_string())
}

/// What came of an option.
type Done = std::result::Result<(), Failure>;

/// Who changed what was changed without a hub.
const BY: &str = "command line";
