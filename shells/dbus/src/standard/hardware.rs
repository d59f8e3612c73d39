//! `org.visorbus.Hardware1`: the devices of a headset and its machine.

use std::time::Duration;

use dbus::arg::messageitem::MessageItem;
use visorbus_core::dispatch::Caller;
use visorbus_hub::{Error, Result, Value};
use visorbus_services::Listening;
use visorbus_services::hardware::{Device, DeviceChange, DeviceSummary, HardwareManager};

use super::value::{array, dict, from_item, to_variant};
use crate::interface::{DBusInterface, DBusMethod, DBusProperty, DBusSignal};
use crate::listener::DBusDoor;

/// The hardware on a bus. Everything needs a permission for its address, such as
/// `request:org.visorbus.hardware1/list-devices`, or `request:org.visorbus.hardware1/**` for all of it.
///
/// | member | arguments | answer |
/// |---|---|---|
/// | `ListDevices` | `s`: a kind such as `board`, or nothing for all | `a(ssss)`: id, kind, name, state |
/// | `GetDevice` | `s`: an id | `sssa{sv}a{ss}as`: kind, name, state, properties, units of those that have one, commands |
/// | `Command` | `ssv`: an id, a command, what it takes (an empty text for nothing) | `v`: what the device says |
///
/// A command needs, beside the permission for `Command`, what its own address needs: `request:imu/set-rate`, or the scope of
/// it, for `set-rate` of `board/imu`.
///
/// The signals `DeviceAdded` (`ssss`: id, kind, name, state), `DeviceRemoved` (`ss`: id, why) and `DeviceChanged`
/// (`ssa{sv}`: id, state, the properties that differ) tell what happens; the properties `Devices` (`as`: all ids) and
/// `Boards` (`u`: how many there are) tell of their changes.
#[derive(Debug)]
pub struct HardwareInterface {
    manager: HardwareManager,
}

impl HardwareInterface {
    /// The interface over `manager`. By itself it tells of nothing; [`HardwareInterface::register`] has it do that too.
    pub const fn new(manager: HardwareManager) -> Self {
        Self { manager }
    }

    /// Shows the interface at `door`, and tells there of devices as long as the answer is kept, which keeps the manager too.
    ///
    /// # Errors
    /// As [`DBusDoor::register_interface`].
    pub fn register(manager: &HardwareManager, door: &DBusDoor) -> Result<Listening> {
        door.register_interface(Box::new(Self::new(manager.clone())))?;
        let (door, devices) = (door.clone(), manager.clone());
        Ok(manager.on_change(move |change| {
            // While there is no bus, nobody is there to be told.
            if let Err(error) = tell(&door, &devices.list(), change) {
                tracing::debug!("nobody on the bus was told of '{}': {error}", change.device().id);
            }
        }))
    }

    fn list(&self, kind: &str) -> Result<MessageItem> {
        let devices = self.manager.list();
        let asked = devices.iter().filter(|device| kind.is_empty() || device.kind == kind);
        array(asked.map(|device| MessageItem::Struct(summary(device).to_vec())).collect(), "a(ssss)")
    }

    fn device(&self, id: &str) -> Result<Vec<MessageItem>> {
        let device = self.manager.find(id)?;
        let units = device.properties.iter().filter(|property| !property.unit.is_empty());
        let units = units.map(|property| (property.name.clone(), MessageItem::Str(property.unit.clone())));
        let commands = device.commands.iter().map(|command| MessageItem::Str(command.name.clone()));
        let [_, kind, name, state] = summary(&device);
        let properties = properties(&device, |_| true)?;
        Ok(vec![kind, name, state, properties, dict(units, "s")?, array(commands.collect(), "as")?])
    }

    fn command(
        &self,
        caller: &Caller<'_>,
        id: &str,
        command: &str,
        argument: &MessageItem,
    ) -> Result<MessageItem> {
        let argument = match from_item(argument)? {
            Value::Text(text) if text.is_empty() => None,
            value => Some(value),
        };
        to_variant(&self.manager.command_for(caller, id, command, argument, Duration::MAX)?)
    }
}

impl DBusInterface for HardwareInterface {
    fn name(&self) -> &str {
        NAME
    }

    fn methods(&self) -> Vec<DBusMethod> {
        METHODS.map(|(name, takes, gives, does)| DBusMethod::authenticated(name, takes, gives, does)).to_vec()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        SIGNALS.map(|(name, has, tells)| DBusSignal::authenticated(name, has, tells)).to_vec()
    }

    fn properties(&self) -> Vec<DBusProperty> {
        PROPERTIES.map(|(name, is, tells)| DBusProperty::read_only(name, is, tells)).to_vec()
    }

    fn handle_method_call(
        &self,
        method_name: &str,
        args: &[MessageItem],
        caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        use MessageItem::Str;
        match (method_name, args) {
            ("ListDevices", [Str(kind)]) => Ok(vec![self.list(kind)?]),
            ("GetDevice", [Str(id)]) => self.device(id),
            ("Command", [Str(id), Str(command), argument]) => {
                Ok(vec![self.command(caller, id, command, argument)?])
            }
            _ => Err(unknown(method_name)),
        }
    }

    fn get_property(&self, property_name: &str, _caller: &Caller<'_>) -> Result<MessageItem> {
        let devices = self.manager.list();
        match property_name {
            "Devices" => ids(&devices),
            "Boards" => Ok(boards(&devices)),
            _ => Err(unknown(property_name)),
        }
    }

    fn set_property(&self, property_name: &str, _value: MessageItem, _caller: &Caller<'_>) -> Result<()> {
        Err(Error::Message(format!("the property '{property_name}' can only be read")))
    }
}

/// Tells of one change.
fn tell(door: &DBusDoor, devices: &[Device], change: &DeviceChange) -> Result<()> {
    let id = |device: &Device| MessageItem::Str(device.id.clone());
    match change {
        DeviceChange::Added(device) => door.emit_signal(NAME, "DeviceAdded", &summary(device))?,
        DeviceChange::Removed { device, why } => {
            door.emit_signal(NAME, "DeviceRemoved", &[id(device), MessageItem::Str(why.clone())])?;
        }
        DeviceChange::Changed { device, changed } => {
            let differing = properties(device, |name| changed.iter().any(|changed| changed == name))?;
            let state = MessageItem::Str(device.state.clone());
            return door.emit_signal(NAME, "DeviceChanged", &[id(device), state, differing]);
        }
    }
    door.property_changed(NAME, "Devices", &ids(devices)?)?;
    if change.device().is_board() { door.property_changed(NAME, "Boards", &boards(devices)) } else { Ok(()) }
}

fn summary(device: &Device) -> [MessageItem; 4] {
    let DeviceSummary { id, kind, name, state } = device.summary();
    [id, kind, name, state].map(MessageItem::Str)
}

fn properties(device: &Device, is_meant: impl Fn(&str) -> bool) -> Result<MessageItem> {
    let meant = device.properties.iter().filter(|property| is_meant(&property.name));
    let entries: Result<Vec<_>> =
        meant.map(|property| Ok((property.name.clone(), to_variant(&property.value)?))).collect();
    dict(entries?.into_iter(), "v")
}

fn ids(devices: &[Device]) -> Result<MessageItem> {
    array(devices.iter().map(|device| MessageItem::Str(device.id.clone())).collect(), "as")
}

fn boards(devices: &[Device]) -> MessageItem {
    let count = devices.iter().filter(|device| device.is_board()).count();
    MessageItem::UInt32(u32::try_from(count).unwrap_or(u32::MAX))
}

fn unknown(member: &str) -> Error {
    Error::Message(format!("'{NAME}' has no '{member}' that takes this"))
}

const NAME: &str = "org.visorbus.Hardware1";

/// Name, arguments, answer, what it does.
const METHODS: [(&str, &str, &str, &str); 3] = [
    ("ListDevices", "s", "a(ssss)", "The devices of a kind such as 'board', or all: id, kind, name, state."),
    (
        "GetDevice",
        "s",
        "sssa{sv}a{ss}as",
        "All that is known of a device: kind, name, state, properties, their units, commands.",
    ),
    ("Command", "ssv", "v", "Has a device do something; an empty text where the command takes nothing."),
];

/// Name, arguments, what it tells.
const SIGNALS: [(&str, &str, &str); 3] = [
    ("DeviceAdded", "ssss", "A device is there: id, kind, name, state."),
    ("DeviceRemoved", "ss", "A device is gone: id, why."),
    ("DeviceChanged", "ssa{sv}", "Something about a device is otherwise now: id, state, what differs."),
];

/// Name, type, what it is.
const PROPERTIES: [(&str, &str, &str); 2] =
    [("Devices", "as", "The ids of all devices."), ("Boards", "u", "How many boards there are.")];
