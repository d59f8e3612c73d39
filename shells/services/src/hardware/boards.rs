//! The boards of a hub: the peers on its serial and SPI lines, as the hub knows them and as they tell of themselves.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use visorbus_hub::info::{AddressInfo, PeerInfo, ServiceInfo};
use visorbus_hub::{HubEvent, HubHandle, HubWatch, Value};

use super::device::{BOARD, Command, Device, Property};
use super::inventory::Inventory;
use super::manager::HardwareConfig;

/// Keeps the boards of the inventory as the hub has them. It asks no board anything itself: one that does not answer holds
/// up what is told of the others by nothing.
pub(crate) struct Boards {
    pub(crate) hub: HubHandle,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) watch: Arc<HubWatch>,
    /// May be otherwise at each look.
    pub(crate) config: Arc<Mutex<HardwareConfig>>,
    /// Whom to ask what it tells of itself.
    pub(crate) inquiries: SyncSender<Inquiry>,
}

impl Boards {
    /// Until the watch ends.
    pub(crate) fn run(self) {
        let mut looked = Instant::now();
        self.look_and_ask(|_| true);
        loop {
            let event = self.watch.recv_timeout(self.interval().saturating_sub(looked.elapsed()));
            if self.watch.has_ended() {
                break self.inventory.replace(Vec::new(), is_board, |_, _| {}, "the hub has ended");
            }
            match Step::after(event, |name| self.inventory.device(&id(name)).is_some()) {
                Step::LookAndAskAll => {
                    looked = Instant::now();
                    self.look_and_ask(|_| true);
                }
                Step::Look => self.look_and_ask(|_| false),
                Step::LookAndAsk(board) => self.look_and_ask(|name| name == board),
                Step::Remove { board, why } => self.inventory.remove(&id(&board), &why),
                Step::Nothing => {}
            }
        }
    }

    fn interval(&self) -> Duration {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config.scan_interval.max(LEAST_INTERVAL)
    }

    /// Takes over what the hub has now, and has some boards asked what they tell of themselves.
    fn look_and_ask(&self, is_asked: impl Fn(&str) -> bool) {
        // A hub that says nothing has ended, and that is noticed next.
        let (Ok(peers), Ok(services)) = (self.hub.peers(), self.hub.services()) else { return };
        let boards: Vec<&PeerInfo> =
            peers.iter().filter(|peer| peer.authenticated && is_line(&peer.transport)).collect();
        let devices = boards.iter().map(|peer| device(peer, &services)).collect();
        self.inventory.replace(devices, is_board, keep_told, "the hub has it no more");
        for peer in boards.into_iter().filter(|peer| is_asked(&peer.name)) {
            // Where many wait to be asked, the next look asks again.
            let _ = self.inquiries.try_send(Inquiry(id(&peer.name)));
        }
    }
}

/// What is to be done after something has happened in the hub. A look has the hub list all its peers: it takes none for
/// those that are no boards.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The time has come, or nobody knows what has happened.
    LookAndAskAll,
    /// A board is there; what it offers is known later, and then it is asked.
    Look,
    LookAndAsk(String),
    Remove {
        board: String,
        why: String,
    },
    Nothing,
}

impl Step {
    /// `is_known`: whether a board of this name is in the inventory.
    fn after(event: Option<HubEvent>, is_known: impl Fn(&str) -> bool) -> Self {
        match event {
            None | Some(HubEvent::Missed { .. }) => Self::LookAndAskAll,
            Some(HubEvent::PeerUp { transport, .. }) if is_line(&transport) => Self::Look,
            Some(HubEvent::ComponentUp { component, peer }) if component == peer && is_known(&peer) => {
                Self::LookAndAsk(component)
            }
            Some(HubEvent::PeerDown { name, transport, why }) if is_line(&transport) => {
                Self::Remove { board: name, why }
            }
            Some(_) => Self::Nothing,
        }
    }
}

/// A board as the hub knows it.
fn device(peer: &PeerInfo, services: &[ServiceInfo]) -> Device {
    let service = services.iter().find(|service| service.component == peer.name);
    let addresses = service.map_or(&[][..], |service| &service.addresses);
    let commands = addresses.iter().filter_map(|address| command(&peer.name, address)).collect();
    Device {
        id: id(&peer.name),
        kind: BOARD.to_owned(),
        name: peer.name.clone(),
        state: "ready".to_owned(),
        properties: properties(peer),
        commands,
    }
}

fn command(board: &str, address: &AddressInfo) -> Option<Command> {
    let name = address.address.strip_prefix(board)?.strip_prefix('/')?;
    (address.kind == "endpoint").then(|| Command {
        name: name.to_owned(),
        address: address.address.clone(),
        access: address.access.clone(),
    })
}

fn properties(peer: &PeerInfo) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let fact = |name: &str, value: Value| Property { name: name.to_owned(), value, ..blank() };
    let reading = |name: &str, value: i64, unit: &str| Property {
        name: name.to_owned(),
        value: Value::Integer(value),
        unit: unit.to_owned(),
        reading: true,
    };
    let count = |name: &str, count: u64| reading(name, i64::try_from(count).unwrap_or(i64::MAX), "");
    let mut properties = vec![
        fact("transport", text(&peer.transport)),
        fact("line", text(&peer.origin)),
        fact("capabilities", Value::Texts(peer.capabilities.clone())),
    ];
    properties.extend(peer.boot_id.as_deref().map(|boot_id| fact(BOOT_ID, text(boot_id))));
    properties.extend(peer.wire_version.map(|version| fact("wire-version", Value::Integer(version.into()))));
    properties.extend(peer.round_trip_us.map(|time| reading("round-trip", time.into(), "µs")));
    if let Some(clock) = &peer.clock {
        properties.extend(clock.bound_us.map(|bound| reading("clock-bound", bound.into(), "µs")));
        properties.extend(clock.drift_ppb.map(|drift| reading("clock-drift", drift.into(), "ppb")));
    }
    properties.extend([
        count("frames-in", peer.frames_in),
        count("frames-out", peer.frames_out),
        count("undecodable", peer.undecodable),
        count("refused", peer.refused),
        count("missed", peer.missed),
        count("late", peer.late),
    ]);
    let faults = peer.faults.iter().filter(|fault| fault.count > 0);
    properties.extend(faults.map(|fault| count(&format!("{FAULT}{}", fault.name), fault.count)));
    properties
}

/// What a board has told of itself holds until it starts again.
fn keep_told(new: &mut Device, old: &Device) {
    let boot = |device: &Device| device.property(BOOT_ID).map(|property| property.value.clone());
    if boot(new) == boot(old) {
        new.properties.extend(old.properties.iter().filter(|old| !is_the_hub_s(&old.name)).cloned());
    }
}

/// Takes over what a board has told of itself, but nothing that the hub knows itself. What it told before and not now stays
/// as far as there is room.
pub(crate) fn merge_told(device: &mut Device, mut told: Vec<Property>) {
    told.truncate(MOST_TOLD);
    let is_told = |name: &str| told.iter().any(|told| told.name == name);
    let mut room = MOST_TOLD - told.len();
    device
        .properties
        .retain(|property| is_the_hub_s(&property.name) || (!is_told(&property.name) && take_one(&mut room)));
    device.properties.extend(told.into_iter().filter(|told| !is_the_hub_s(&told.name)));
}

fn take_one(room: &mut usize) -> bool {
    let has_room = *room > 0;
    *room = room.saturating_sub(1);
    has_room
}

/// Whether a property is one that the hub tells of a board.
fn is_the_hub_s(name: &str) -> bool {
    HUB_S.contains(&name) || name.starts_with(FAULT)
}

/// That the board whose device has this id is to be asked what it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inquiry(pub(crate) String);

/// Who is on a line that leads to a board.
fn is_line(transport: &str) -> bool {
    matches!(transport, "serial" | "spi")
}

fn is_board(device: &Device) -> bool {
    device.kind == BOARD
}

fn id(name: &str) -> String {
    format!("{BOARD}/{name}")
}

fn blank() -> Property {
    Property { name: String::new(), value: Value::Empty, unit: String::new(), reading: false }
}

/// Between two looks at all boards.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

const BOOT_ID: &str = "boot-id";

/// Properties that a board has told of itself.
const MOST_TOLD: usize = 64;

/// What the counters of a line's faults begin with.
const FAULT: &str = "fault.";

/// The names of all that [`properties`] may give, but for the faults.
const HUB_S: [&str; 14] = [
    "transport",
    "line",
    "capabilities",
    BOOT_ID,
    "wire-version",
    "round-trip",
    "clock-bound",
    "clock-drift",
    "frames-in",
    "frames-out",
    "undecodable",
    "refused",
    "missed",
    "late",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_is_no_board_costs_the_hub_no_look() {
        let up = |name: &str, transport: &str| {
            let (component, peer) = (name.to_owned(), name.to_owned());
            let there = HubEvent::PeerUp { name: name.to_owned(), transport: transport.to_owned() };
            [there, HubEvent::ComponentUp { component, peer }]
        };
        let step = |event| Step::after(Some(event), |name| name == "imu");
        for transport in ["unix", "websocket", "dbus"] {
            assert_eq!(up("panel", transport).map(step), [Step::Nothing, Step::Nothing]);
        }
        assert_eq!(up("imu", "serial").map(step), [Step::Look, Step::LookAndAsk("imu".to_owned())]);
        // A component that a board has beside itself is not the board.
        let other = HubEvent::ComponentUp { component: "lamp".to_owned(), peer: "imu".to_owned() };
        assert_eq!(step(other), Step::Nothing);
        let down = |transport: &str| HubEvent::PeerDown {
            name: "imu".to_owned(),
            transport: transport.to_owned(),
            why: "unplugged".to_owned(),
        };
        assert_eq!(step(down("unix")), Step::Nothing);
        let (board, why) = ("imu".to_owned(), "unplugged".to_owned());
        assert_eq!(step(down("spi")), Step::Remove { board, why });
        assert_eq!(Step::after(None, |_| false), Step::LookAndAskAll);
    }

    #[test]
    fn a_board_that_tells_other_names_each_time_has_no_more_properties_for_that() {
        let fact = |name: String| Property { name, ..blank() };
        let mut device = Device {
            id: id("imu"),
            kind: BOARD.to_owned(),
            name: "imu".to_owned(),
            state: "ready".to_owned(),
            properties: vec![fact(BOOT_ID.to_owned())],
            commands: Vec::new(),
        };
        for round in 0..100 {
            let told = (0..40).map(|number| fact(format!("r{round}.{number}"))).collect();
            merge_told(&mut device, told);
            assert!(device.properties.len() <= 1 + MOST_TOLD);
            assert!(device.property(BOOT_ID).is_some(), "what the hub knows stays");
            assert!(device.property(&format!("r{round}.39")).is_some(), "the newest is there");
        }
    }
}
