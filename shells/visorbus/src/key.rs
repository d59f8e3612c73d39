//! `visorbus key …`: the keys of boards and of the hub.

use visorbus_hub::{Error, Result};

use crate::args;
use crate::output::print;

/// Does what was asked.
pub(crate) fn run(args: &args::Key, json: bool) -> Result<()> {
    print(&match args {
        args::Key::Device(args) => device_key(args, json)?,
    })
}

fn device_key(args: &args::DeviceKey, json: bool) -> Result<String> {
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
    Ok(if json {
        serde_json::json!({ "name": args.name, "key_id": id, "key": hex }).to_string()
    } else {
        hex
    })
}
