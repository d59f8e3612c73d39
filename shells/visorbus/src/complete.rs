//! Names for the word that is being typed in a shell, from the hub that runs. Silent, and quick: where no hub answers in
//! time, there are none.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};
use visorbus_core::bus;
use visorbus_hub::info::ServiceInfo;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use crate::args::{self, Cli, Shell};
use crate::client::Client;
use crate::output::print;

/// Answers the shell, where it is the shell that runs this program, and ends it then.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Prints what has a shell ask this program for its words.
pub(crate) fn print_script(shell: Shell) -> Result<()> {
    let shell: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, NAME, NAME, NAME, &mut script)
        .map_err(|e: io::Error| Error::Internal(format!("no script could be made: {e}")))?;
    print(String::from_utf8_lossy(&script).trim())
}

/// Addresses that can be called.
pub(crate) fn endpoints(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, || services().map(|all| addresses(&all, &["endpoint"])))
}

/// Topics that somebody listens to.
pub(crate) fn heard_topics(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, || services().map(|all| addresses(&all, &["hears"])))
}

/// Topics that are published, and everything that a component says.
pub(crate) fn patterns(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, || {
        let all = services()?;
        let whole = all.iter().map(|service| {
            let text = "all that it publishes".to_owned();
            Name { name: format!("{}/**", service.component), text }
        });
        Some(addresses(&all, &["publishes"]).into_iter().chain(whole).collect())
    })
}

/// The keys of the configuration, as `category.key`.
pub(crate) fn config_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, || {
        let list = ask(|client| client.call("config/list", None, false, PATIENCE))?;
        named(&list, |entry| Some(format!("{}.{}", text(entry, "category")?, text(entry, "key")?)))
    })
}

/// What the hub knows of hardware, by id.
pub(crate) fn devices(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, || {
        let list = ask(|client| client.call("hardware/list", None, false, PATIENCE))?;
        named(&list, |device| text(device, "id"))
    })
}

/// A name, and a word on what it is.
struct Name {
    name: String,
    text: String,
}

/// What begins with what stands there already.
fn matching(current: &OsStr, names: impl FnOnce() -> Option<Vec<Name>>) -> Vec<CompletionCandidate> {
    let (Some(current), Some(mut names)) = (current.to_str(), names()) else { return Vec::new() };
    names.retain(|name| name.name.starts_with(current));
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names.dedup_by(|a, b| a.name == b.name);
    names.truncate(MOST_NAMES);
    let candidate = |name: Name| {
        let help = Some(name.text).filter(|text| !text.is_empty());
        CompletionCandidate::new(name.name).help(help.map(Into::into))
    };
    names.into_iter().map(candidate).collect()
}

fn services() -> Option<Vec<ServiceInfo>> {
    ask(|client| {
        let request = OwnedMessage::request(bus::SERVICES, OwnedPayload::Empty);
        client.inner.send_request(request, Some(PATIENCE))?.payload.parse()
    })
}

/// The addresses of these kinds, and whose they are.
fn addresses(services: &[ServiceInfo], kinds: &[&str]) -> Vec<Name> {
    let of = |service: &ServiceInfo| if service.peer.is_empty() { "the hub" } else { "a peer" }.to_owned();
    let all = services.iter().flat_map(|service| service.addresses.iter().map(move |a| (service, a)));
    all.filter(|(_, address)| kinds.contains(&address.kind.as_str()))
        .map(|(service, address)| Name { name: address.address.clone(), text: of(service) })
        .collect()
}

/// The names in a list that came as JSON, in an object or bare.
fn named(list: &serde_json::Value, name: impl Fn(&serde_json::Value) -> Option<String>) -> Option<Vec<Name>> {
    let entries = match list {
        serde_json::Value::Object(object) => object.values().find_map(serde_json::Value::as_array)?,
        other => other.as_array()?,
    };
    let describe = |entry| text(entry, "description").or_else(|| text(entry, "kind")).unwrap_or_default();
    let names = entries.iter().filter_map(|entry| Some(Name { name: name(entry)?, text: describe(entry) }));
    Some(names.collect())
}

fn text(entry: &serde_json::Value, field: &str) -> Option<String> {
    entry.get(field).and_then(|value| value.as_str()).map(str::to_owned)
}

/// What the hub answers, if it does so at once. Whoever would have to be asked for a password is not.
fn ask<T: Send + 'static>(question: impl FnOnce(&mut Client) -> Result<T> + Send + 'static) -> Option<T> {
    let client = Words::parse().client;
    let (answer, answered) = sync_channel(1);
    // It is not waited for: this process ends as soon as the names are printed.
    thread::spawn(move || {
        let found = Client::connect(&client).and_then(|mut client| question(&mut client));
        let _ = answer.send(found.ok());
    });
    answered.recv_timeout(PATIENCE).ok().flatten()
}

/// Which hub is meant by the words that stand there already.
#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    client: args::Client,
}

impl Words {
    fn parse() -> Self {
        let all: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").collect();
        let mut meant = vec![OsString::from(NAME)];
        for pair in all.windows(2) {
            if WHICH_HUB.iter().any(|flag| pair[0] == *flag) {
                meant.extend_from_slice(pair);
            }
        }
        // A flag that is not whole yet means no hub in particular.
        Self::try_parse_from(meant).unwrap_or_else(|_| Self::parse_from([NAME]))
    }
}

const NAME: &str = "visorbus";
/// By which a shell says that it wants words, and which shell it is.
const VARIABLE: &str = "VISORBUS_COMPLETE";
const WHICH_HUB: [&str; 5] = ["--socket", "--key-file", "--url", "--ca", "--token"];
/// Who types does not wait for longer.
const PATIENCE: Duration = Duration::from_millis(300);
const MOST_NAMES: usize = 500;
