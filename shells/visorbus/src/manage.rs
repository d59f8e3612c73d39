//! `visorbus status`, `reload` and `shutdown`: the hub's program, asked over its own bus.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use visorbus::{GetStatus, ManagerStatus, PartStatus, Reload, Reloaded, Shutdown};
use visorbus_core::message::typed::Endpoint;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use crate::args;
use crate::client::Client;
use crate::output::{CONFIGURATION, print, report, show_age};
use crate::reload::count;
use crate::table;

/// Shows how the hub's program is.
pub(crate) fn status(args: &args::Status, json: bool) -> Result<()> {
    let client = match args.wait {
        Some(time) => Client::connect_within(&args.client, time, json)?,
        None => Client::connect(&args.client)?,
    };
    let status = ask::<GetStatus>(&client)?;
    if json {
        return print_json(&status);
    }
    print(&show_status(&status))
}

/// Has the hub's program read everything again; what was refused is an error, and a configuration that is wrong has an exit
/// code of its own.
pub(crate) fn reload(args: &args::Manage, json: bool) -> Result<ExitCode> {
    let reloaded = ask::<Reload>(&Client::connect(&args.client)?)?;
    if json {
        print_json(&reloaded)?;
    } else {
        print(&show_reloaded(&reloaded))?;
    }
    let refused: Vec<String> =
        reloaded.refused.iter().map(|refused| format!("{}: {}", refused.what, refused.why)).collect();
    if refused.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let error = Error::Message(format!(
        "not all of it could be taken over, and stays as it was: {}",
        refused.join("; ")
    ));
    if !reloaded.refused.iter().any(|refused| refused.what == "configuration") {
        return Err(error);
    }
    report(&error, json);
    Ok(ExitCode::from(CONFIGURATION))
}

/// Ends the hub's program, and waits until it is gone where it is one of this machine.
pub(crate) fn shutdown(args: &args::Manage, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    let pid = ask::<GetStatus>(&client)?.pid;
    let process = if args.client.reach.url.is_none() { process(pid) } else { None };
    ask::<Shutdown>(&client)?;
    drop(client);
    let is_gone = process.as_ref().map(wait_for_end).transpose()?;
    match (json, is_gone) {
        (true, is_gone) => print(&serde_json::json!({ "pid": pid, "ended": is_gone }).to_string()),
        (false, Some(true)) => print(&format!("the hub has ended (process {pid})")),
        (false, _) => print(&format!("the hub ends (process {pid})")),
    }
}

fn ask<E: Endpoint<Request = ()>>(client: &Client) -> Result<E::Response> {
    let request = OwnedMessage::request(E::ADDRESS.as_str(), OwnedPayload::Empty);
    client.inner.send_request(request, Some(PATIENCE))?.payload.parse()
}

fn show_status(status: &ManagerStatus) -> String {
    let mut lines = vec![
        format!(
            "visorbus {}, process {}, for {}",
            status.version,
            status.pid,
            show_age(status.started_at_us / 1_000_000)
        ),
        show_configuration(status),
    ];
    let row =
        |part: &PartStatus| [&part.name, &part.state, &part.place, &part.trouble].map(Clone::clone).to_vec();
    let rows: Vec<Vec<String>> = status.parts.iter().map(row).collect();
    lines.push(table::draw(&["PART", "STATE", "PLACE", "TROUBLE"], &rows, "(nothing)"));
    if !status.at_restart.is_empty() {
        lines.push(format!("from the next start on: {}", status.at_restart.join(", ")));
    }
    lines.extend(
        status.refused.iter().map(|refused| format!("not taken over: {}: {}", refused.what, refused.why)),
    );
    lines.join("\n")
}

fn show_configuration(status: &ManagerStatus) -> String {
    match status.config_file.as_str() {
        "" => "configuration in memory".to_owned(),
        file if status.config_file_exists => format!("configuration in {file}"),
        file => format!("no configuration: {file} is not there, so the defaults hold"),
    }
}

fn show_reloaded(reloaded: &Reloaded) -> String {
    let list =
        |what: &str, keys: &[String]| (!keys.is_empty()).then(|| format!("{what}: {}", keys.join(", ")));
    let mut lines = vec![format!("read again: {}", count(&reloaded.ended))];
    lines.extend(list("from now on otherwise", &reloaded.applied));
    lines.extend(list("from the next start on", &reloaded.at_restart));
    lines.join("\n")
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&serde_json::to_string(value).map_err(|e| Error::Internal(e.to_string()))?)
}

/// What tells of the end of a process; `None` where this one cannot see it.
fn process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether a process ends in time.
fn wait_for_end(process: &OwnedFd) -> Result<bool> {
    let time = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&time))
        .map_err(|e| Error::Internal(format!("the hub's end cannot be waited for: {e}")))?;
    if ready == 0 {
        return Err(Error::Timeout("the hub was told to end, and is still there".to_owned()));
    }
    Ok(true)
}

/// How long the hub may take.
const PATIENCE: Duration = Duration::from_secs(10);
