//! `visorbus hardware`: the devices that the hub knows, and what they can be told to do.

use std::io::{self, IsTerminal};
use std::time::Instant;

use serde::Serialize;
use visorbus_client::Delivery;
use visorbus_core::ErrorKind;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::message::typed::Endpoint;
use visorbus_hub::{Error, OwnedMessage, Result, Value};
use visorbus_services::hardware::messages::{
    COMPONENT, ChangedDevice, CommandDevice, CommandRequest, GetDevice, ListDevices, RemovedDevice,
};
use visorbus_services::hardware::{Device, Property};

use crate::args::{self, HardwareAction};
use crate::client::Client;
use crate::output::{BOLD, GREEN, RED, paint, print};
use crate::progress::Progress;
use crate::table;

/// Does what `visorbus hardware` says.
pub(crate) fn run(args: &args::Hardware, json: bool) -> Result<()> {
    match &args.action {
        None => list(&args.client, None, json),
        Some(HardwareAction::List(args)) => list(&args.client, args.kind.clone(), json),
        Some(HardwareAction::Show(args)) => show(args, json),
        Some(HardwareAction::Command(args)) => command(args),
        Some(HardwareAction::Watch(args)) => watch(args, json),
        Some(HardwareAction::Wait(args)) => wait(args, json),
    }
}

fn list(args: &args::Client, kind: Option<String>, json: bool) -> Result<()> {
    let devices = ask::<ListDevices>(&Client::connect(args)?, &kind)?;
    if json {
        return print_json(&devices);
    }
    let rows: Vec<Vec<String>> =
        devices.into_iter().map(|device| vec![device.id, device.name, device.state]).collect();
    let none = kind.map_or("(no devices)".to_owned(), |kind| format!("(no devices of the kind {kind})"));
    print(&table::draw(&["DEVICE", "NAME", "STATE"], &rows, &none))
}

fn show(args: &args::HardwareShow, json: bool) -> Result<()> {
    let device = ask::<GetDevice>(&Client::connect(&args.client)?, &args.id)?;
    if json { print_json(&device) } else { print(&show_device(&device)) }
}

fn command(args: &args::HardwareCommand) -> Result<()> {
    let argument = args.argument.clone().map(Value::from).unwrap_or_default();
    let request = CommandRequest { device: args.id.clone(), command: args.name.clone(), argument };
    let client = Client::connect(&args.client)?;
    let answer =
        client.inner.call::<CommandDevice>(&request, Some(args.timeout)).map_err(without_hardware)?;
    print(&answer.to_string())
}

/// Prints changes until it has been enough.
fn watch(args: &args::HardwareWatch, json: bool) -> Result<()> {
    let mut client = Client::connect(&args.client)?;
    let subscription = client.watch(&format!("{COMPONENT}/*"))?;
    let mut left = args.count;
    while left != Some(0) {
        match client.next(&subscription)? {
            Delivery::Message(message) => {
                print(&if json { event_json(&message)? } else { show_event(&message)? })?;
                left = left.map(|left| left - 1);
            }
            Delivery::Missed(count) => eprintln!("visorbus: {count} changes were missed: they came too fast"),
        }
    }
    Ok(())
}

/// Waits until a device is there: it is looked for at once, and again whenever the hub tells of a change.
fn wait(args: &args::HardwareWait, json: bool) -> Result<()> {
    Progress::leave_tidy(json)?;
    let deadline = Instant::now() + args.timeout;
    let mut client = Client::connect(&args.client)?;
    let subscription = client.inner.subscribe(&format!("{COMPONENT}/*"), SlowConsumer::default())?;
    let _progress = Progress::of(&format!("waiting for {}", args.id), json);
    loop {
        let devices = ask::<ListDevices>(&client, &None)?;
        if let Some(device) = devices.into_iter().find(|device| device.id == args.id) {
            let text = format!("{} is {}", device.id, device.state);
            return if json { print_json(&device) } else { print(&text) };
        }
        client.keep_fresh()?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || subscription.recv(Some(left))?.is_none() {
            let text = format!("'{}' is not there: `visorbus hardware` lists what is", args.id);
            return Err(Error::Timeout(text));
        }
    }
}

fn ask<E: Endpoint>(client: &Client, request: &E::Request) -> Result<E::Response>
where
    E::Request: Serialize,
    E::Response: serde::de::DeserializeOwned,
{
    client.inner.call::<E>(request, None).map_err(without_hardware)
}

/// A hub without the component is told from a device that is not there.
fn without_hardware(error: Error) -> Error {
    let nobody = error.kind() == ErrorKind::Message && error.text().contains("nobody serves 'hardware'");
    if !nobody {
        return error;
    }
    Error::Message(
        "this hub does not look after hardware: its configuration has hardware.enabled = false".to_owned(),
    )
}

fn show_device(device: &Device) -> String {
    let terminal = io::stdout().is_terminal();
    let Device { id, name, state, .. } = device;
    let rows: Vec<Vec<String>> =
        device.properties.iter().map(|property| vec![property.name.clone(), show_value(property)]).collect();
    let mut parts = vec![
        format!("{}: {name}, {state}", paint(terminal, BOLD, id)),
        table::draw(&["PROPERTY", "VALUE"], &rows, "(nothing is known of it)"),
    ];
    let rows = device
        .commands
        .iter()
        .map(|command| [&command.name, &command.address, &command.access].map(Clone::clone).to_vec());
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        parts.push(table::draw(&["COMMAND", "ADDRESS", "NEEDS"], &rows, ""));
    }
    parts.join("\n\n")
}

/// `3.91 V`; texts without quotation marks.
fn show_value(property: &Property) -> String {
    let value = match &property.value {
        Value::Text(text) => text.clone(),
        Value::Texts(texts) => texts.join(", "),
        other => other.to_string(),
    };
    format!("{value} {}", property.unit).trim_end().to_owned()
}

fn show_event(message: &OwnedMessage) -> Result<String> {
    let terminal = io::stdout().is_terminal();
    Ok(match event(message) {
        "added" => {
            let Device { id, name, state, .. } = message.payload.parse()?;
            format!("{} {id}: {name}, {state}", paint(terminal, GREEN, "added  "))
        }
        "removed" => {
            let RemovedDevice { id, why, .. } = message.payload.parse()?;
            format!("{} {id}: {why}", paint(terminal, RED, "removed"))
        }
        _ => {
            let ChangedDevice { device, changed } = message.payload.parse()?;
            let now: Vec<String> = changed.iter().map(|name| show_now(&device, name)).collect();
            format!("{} {}: {}", paint(terminal, BOLD, "changed"), device.id, now.join(", "))
        }
    })
}

fn show_now(device: &Device, name: &str) -> String {
    match (name, device.property(name)) {
        (_, Some(property)) => format!("{name} = {}", show_value(property)),
        ("state", _) => format!("state = {}", device.state),
        ("name", _) => format!("name = {}", device.name),
        ("commands", _) => "its commands".to_owned(),
        _ => format!("{name} is gone"),
    }
}

fn event_json(message: &OwnedMessage) -> Result<String> {
    let (event, payload) = (event(message), &message.payload);
    let what = match event {
        "added" => serde_json::to_value(payload.parse::<Device>()?),
        "removed" => serde_json::to_value(payload.parse::<RemovedDevice>()?),
        _ => serde_json::to_value(payload.parse::<ChangedDevice>()?),
    };
    let what = what.map_err(|e| Error::Internal(e.to_string()))?;
    Ok(serde_json::json!({ "event": event, "what": what }).to_string())
}

/// `added`, `removed` or `changed`.
fn event(message: &OwnedMessage) -> &str {
    message.destination.rsplit('/').next().unwrap_or_default()
}

fn print_json<T: Serialize>(value: &T) -> Result<()> {
    print(&serde_json::to_string(value).map_err(|e| Error::Internal(e.to_string()))?)
}
