//! `visorbus call`, `publish`, `subscribe`, `services` and `peers`.

use std::io::{self, IsTerminal};

use visorbus_client::Delivery;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_hub::info::{AddressInfo, ClockInfo, PeerInfo, ServiceChange, ServiceInfo};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use crate::args;
use crate::client::Client;
use crate::output::{GREEN, RED, paint, print};
use crate::progress::Progress;
use crate::table::{self, draw};

/// Calls an address and prints the answer.
pub(crate) fn call(args: &args::Call, json: bool) -> Result<()> {
    Progress::leave_tidy(json)?;
    let mut client = Client::connect(&args.client)?;
    client.share_key(&args.sealing, &args.address)?;
    let compressed = args.compression.compressed;
    let progress = Progress::of(&format!("waiting for {}", args.address), json);
    let answer = client.call(&args.address, args.request.as_ref(), compressed, args.timeout)?;
    drop(progress);
    let pretty = !json && io::stdout().is_terminal();
    print(&if pretty { format!("{answer:#}") } else { answer.to_string() })
}

/// Publishes one notification and waits until the hub has taken it.
pub(crate) fn publish(args: &args::Publish, json: bool) -> Result<()> {
    let mut client = Client::connect(&args.client)?;
    client.share_key(&args.sealing, &args.topic)?;
    let payload = client.payload(&args.topic, args.message.as_ref())?;
    let mut notification = OwnedMessage::notification(args.topic.as_str(), payload);
    notification.flags.requires_response = true;
    notification.flags.compressed = args.compression.compressed;
    client.inner.send_request(notification, None)?;
    if json { print(r#"{"published":true}"#) } else { Ok(()) }
}

/// Prints what is published, a JSON line a message.
pub(crate) fn subscribe(args: &args::Subscribe) -> Result<()> {
    let mut client = Client::connect(&args.client)?;
    client.tell_changes()?;
    client.share_key(&args.sealing, &args.pattern)?;
    let subscription = client.inner.subscribe(&args.pattern, SlowConsumer::default())?;
    let mut left = args.count;
    while left != Some(0) {
        match client.next(&subscription)? {
            Delivery::Message(message) => {
                let payload = client.notification_json(&message)?;
                let line = serde_json::json!({
                    "topic": message.destination, "source": message.source, "id": message.id.to_string(),
                    "timestamp": message.timestamp, "uncertainty_us": message.uncertainty_us,
                    "payload": payload,
                });
                print(&line.to_string())?;
                left = left.map(|left| left - 1);
            }
            Delivery::Missed(count) => {
                eprintln!("visorbus: {count} messages were missed: they came too fast")
            }
        }
    }
    Ok(())
}

/// Lists who can be called; with `--watch` goes on with who comes and goes.
pub(crate) fn services(args: &args::Services, json: bool) -> Result<()> {
    let mut client = Client::connect(&args.client)?;
    if args.watch {
        client.tell_changes()?;
    }
    let watch = args.watch.then(|| client.inner.subscribe(bus::SERVICES_CHANGED, SlowConsumer::default()));
    let watch = watch.transpose()?;
    let answer =
        client.inner.send_request(OwnedMessage::request(bus::SERVICES, OwnedPayload::Empty), None)?;
    let mut services: Vec<ServiceInfo> = answer.payload.parse()?;
    // Whoever asks is there too, and offers nothing.
    services.retain(|service| service.component != client.inner.client_id());
    if json {
        print(&serde_json::to_string(&services).map_err(|e| Error::Internal(e.to_string()))?)?;
    } else {
        print(&show_services(&services))?;
    }
    let Some(watch) = watch else { return Ok(()) };
    loop {
        if let Delivery::Message(message) = client.next(&watch)? {
            let change: ServiceChange = message.payload.parse()?;
            print(&if json {
                serde_json::to_string(&change).map_err(|e| Error::Internal(e.to_string()))?
            } else {
                show_change(&change)
            })?;
        }
    }
}

/// Lists the hub's connections.
pub(crate) fn peers(args: &args::Peers, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    let answer = client.inner.send_request(OwnedMessage::request(bus::PEERS, OwnedPayload::Empty), None)?;
    let mut peers: Vec<PeerInfo> = answer.payload.parse()?;
    // As in `services`.
    peers.retain(|peer| peer.name != client.inner.client_id());
    if json {
        return print(&serde_json::to_string(&peers).map_err(|e| Error::Internal(e.to_string()))?);
    }
    print(&show_peers(&peers))
}

/// The connections, and below them the clocks of those that have one.
fn show_peers(peers: &[PeerInfo]) -> String {
    let mut text = draw(&PEERS_HEADER, &peers.iter().map(show_peer).collect::<Vec<_>>(), NOBODY);
    let clocks = peers.iter().filter_map(|peer| Some(show_clock(&peer.name, peer.clock.as_ref()?)));
    let clocks: Vec<_> = clocks.collect();
    if !clocks.is_empty() {
        text.push_str("\n\n");
        text.push_str(&draw(&CLOCKS_HEADER, &clocks, ""));
    }
    text
}

fn show_peer(peer: &PeerInfo) -> Vec<String> {
    vec![
        peer.name.clone(),
        peer.frames_in.to_string(),
        peer.frames_out.to_string(),
        peer.queued_bytes.to_string(),
        (peer.refused + peer.undecodable).to_string(),
        peer.missed.to_string(),
        peer.origin.clone(),
    ]
}

/// When a board's clock was 0 in seconds since 1970, its drift in millionths, by how many microseconds it may be off,
/// how often it was asked and how many answers were refused.
fn show_clock(name: &str, clock: &ClockInfo) -> Vec<String> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    vec![
        name.to_owned(),
        or_unknown(clock.offset_us.map(|us| format!("{:.6}", us as f64 / 1e6))),
        or_unknown(clock.drift_ppb.map(|ppb| format!("{:+.1}", f64::from(ppb) / 1e3))),
        or_unknown(clock.bound_us.map(|us| us.to_string())),
        clock.exchanges.to_string(),
        clock.refused.to_string(),
    ]
}

const PEERS_HEADER: [&str; 7] = ["PEER", "IN", "OUT", "WAITING", "REFUSED", "MISSED", "ORIGIN"];
const CLOCKS_HEADER: [&str; 6] = ["CLOCK-OF", "ZERO-S", "DRIFT-PPM", "BOUND-US", "ECHOES", "LATE"];

fn show_services(services: &[ServiceInfo]) -> String {
    let mut rows = Vec::new();
    for service in services {
        let who = if service.peer.is_empty() { "(hub)" } else { &service.peer };
        let row = |address: &str, kind: &str, access: &str, types: &str| {
            [address, kind, access, who, &service.transport, types].map(str::to_owned).to_vec()
        };
        rows.push(row(&service.component, "component", "", ""));
        for alike in fold(&service.addresses) {
            let first = &alike[0];
            let (address, types) = match alike.len() {
                1 => (first.address.clone(), show_types(first)),
                many => (format!("{}/**", branch(first)), format!("{}, {many} addresses", show_types(first))),
            };
            rows.push(row(&address, &first.kind, &first.access, &types));
        }
    }
    // The hashes of types are for comparing: in a narrow table they would be in pieces.
    let columns = if table::terminal_width().is_some_and(|width| width < ROOM_FOR_HASHES) { 5 } else { 6 };
    rows.iter_mut().for_each(|row: &mut Vec<String>| row.truncate(columns));
    draw(&["ADDRESS", "KIND", "NEEDS", "PEER", "TRANSPORT", "TYPES"][..columns], &rows, NOBODY)
}

/// The addresses in runs: of those below one branch that differ in nothing but their last segments, many are one line.
fn fold(addresses: &[AddressInfo]) -> impl Iterator<Item = &[AddressInfo]> {
    let alike = |a: &AddressInfo, b: &AddressInfo| {
        let of = |row: &AddressInfo| {
            let AddressInfo { kind, access, request_hash, response_hash, .. } = row.clone();
            (branch(row).to_owned(), kind, access, request_hash, response_hash)
        };
        of(a) == of(b)
    };
    addresses.chunk_by(alike).flat_map(|run| run.chunks(if run.len() < MANY { 1 } else { run.len() }))
}

/// The first two segments of an address.
fn branch(row: &AddressInfo) -> &str {
    let end = row.address.match_indices('/').nth(1).map_or(row.address.len(), |(at, _)| at);
    &row.address[..end]
}

/// Addresses alike from which on they are one line.
const MANY: usize = 6;

/// Columns of a terminal from which on there is room for the hashes of types.
const ROOM_FOR_HASHES: u16 = 120;

const NOBODY: &str = "(nobody but the hub)";

/// The hashes of an address's types, as a refusal for other types names them.
fn show_types(address: &AddressInfo) -> String {
    match address.kind.as_str() {
        "endpoint" => format!("0x{} -> 0x{}", address.request_hash, address.response_hash),
        _ => format!("0x{}", address.request_hash),
    }
}

fn show_change(change: &ServiceChange) -> String {
    let terminal = io::stdout().is_terminal();
    let who = if change.peer.is_empty() { "the hub" } else { &change.peer };
    match change.up {
        true => format!("{} {} by {who}", paint(terminal, GREEN, "up  "), change.component),
        false => format!("{} {} by {who}", paint(terminal, RED, "down"), change.component),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(address: &str, hash: &str) -> AddressInfo {
        AddressInfo {
            address: address.to_owned(),
            kind: "publishes".to_owned(),
            access: "permission".to_owned(),
            request_hash: hash.to_owned(),
            response_hash: String::new(),
        }
    }

    #[test]
    fn many_addresses_alike_are_one_line_and_few_or_unlike_ones_are_not() {
        let mut addresses: Vec<_> =
            (0..7).map(|n| address(&format!("config/changed/log/k{n}"), "1")).collect();
        addresses.push(address("config/changed/log/other", "2"));
        addresses.extend((0..5).map(|n| address(&format!("imu/a{n}"), "1")));
        let runs: Vec<_> = fold(&addresses).map(<[AddressInfo]>::len).collect();
        assert_eq!(runs, [7, 1, 1, 1, 1, 1, 1]);
        assert_eq!(branch(&addresses[0]), "config/changed");
        assert_eq!(branch(&addresses[9]), "imu/a1");
    }
}
