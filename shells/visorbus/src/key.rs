//! `visorbus key …`: the keys of links, of boards and of the hub.

use serde_json::json;
use visorbus_auth::LinkKeyInfo;
use visorbus_core::seal::{KEY_TEXT_LEN, PayloadKey};
use visorbus_hub::{Error, Result};
use zeroize::Zeroizing;

use crate::args;
use crate::auth::{Secret, print_change, print_secret, tell_change};
use crate::client::Client;
use crate::output::{print, show_age, show_until, table};
use crate::reload::Reached;

/// Does what was asked.
pub(crate) fn run(args: &args::Key, json: bool) -> Result<()> {
    match args {
        args::Key::Provision(args) => provision(args, json),
        args::Key::List(args) => list(args, json),
        args::Key::Remove(args) => {
            args.place.store()?.remove_link_key(&args.name, args.id)?;
            tell_change(&args.place, &format!("the link key {} of '{}' is removed", args.id, args.name), json)
        }
        args::Key::Payload => payload_key(json),
        args::Key::Device(args) => device_key(args, json),
        args::Key::Rotate(args) => rotate(args, json),
        args::Key::Retire(args) => {
            let mut keys = args.place.keys()?;
            keys.retire(args.id).map_err(|e| Error::Message(e.to_string()))?;
            tell_change(&args.place, &format!("the root key {} is removed", args.id), json)
        }
    }
}

fn provision(args: &args::Provision, json: bool) -> Result<()> {
    let suite = args.suite.into();
    let (id, key) = args.place.store()?.provision_link_key(&args.name, suite, args.id)?;
    let done = format!(
        "this is the board's half of the link key {id} of '{0}', shown this once: build it into the firmware of '{0}'; the \
         hub has its half",
        args.name
    );
    let suite = clap::ValueEnum::to_possible_value(&args.suite);
    let facts = json!({ "name": args.name, "id": id, "suite": suite.as_ref().map(|value| value.get_name()) });
    print_secret(&args.place, key.expose(), Secret { word: "link_key", done, facts }, json)
}

/// The hub has no part in it: nothing is kept.
fn payload_key(json: bool) -> Result<()> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    let mut text = Zeroizing::new([0; KEY_TEXT_LEN]);
    let text = Zeroizing::new(PayloadKey::new(*bytes).encode_text(&mut text).to_owned());
    print(&if json { json!({ "payload_key": text.as_str() }).to_string() } else { text.as_str().to_owned() })
}

fn rotate(args: &args::Rotate, json: bool) -> Result<()> {
    let mut keys = args.place.keys()?;
    let client = Client::connect_if_served(&args.place)?;
    let id = keys.rotate(args.keep).map_err(|e| Error::Message(e.to_string()))?;
    let done = format!(
        "the root key {id} makes all tokens from now on; those before go on checking for {} d at most, within which boards \
         need the key that `visorbus key device NAME` prints now",
        args.keep.as_secs().div_ceil(86_400)
    );
    print_change(&Reached::tell_over(client.as_ref(), &args.place)?, &done, json)
}

fn list(args: &args::Listed, json: bool) -> Result<()> {
    let keys = args.place.keys()?;
    let links = args.place.store_to_read()?.link_key_list();
    let current = keys.current_id();
    if json {
        let root = keys
            .ids()
            .into_iter()
            .map(|(id, not_after)| json!({ "id": id, "current": id == current, "not_after": not_after }));
        return print(&json!({ "root": root.collect::<Vec<_>>(), "link": links }).to_string());
    }
    let root = keys.ids().into_iter().map(|(id, not_after)| {
        let state = if id == current { "makes and checks tokens" } else { "checks tokens" };
        vec![id.to_string(), state.to_owned(), show_until(not_after)]
    });
    let root = table(&["ROOT KEY", "STATE", "UNTIL"], &root.collect::<Vec<_>>());
    let row = |link: &LinkKeyInfo| {
        vec![link.name.clone(), link.id.to_string(), link.suite.clone(), show_age(link.created)]
    };
    let links = table(&["LINK TO", "ID", "SUITE", "AGE"], &links.iter().map(row).collect::<Vec<_>>());
    print(&format!("{root}\n\n{links}"))
}

fn device_key(args: &args::Named, json: bool) -> Result<()> {
    if !visorbus_core::message::address::is_name(&args.name) {
        return Err(Error::Message(format!(
            "'{}' is not a name: use at most 32 of a-z, 0-9, '.', '_', '-'",
            args.name
        )));
    }
    let keys = args.place.keys()?;
    let key =
        keys.device_key(&args.name).ok_or_else(|| Error::Internal("the key file holds no key".to_owned()))?;
    let hex: String = key.expose_secret().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = keys.current_id();
    print(&if json { json!({ "name": args.name, "key_id": id, "key": hex }).to_string() } else { hex })
}
