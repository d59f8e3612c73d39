//! What is asked of the component `hardware`, and what it tells. Whoever talks to it from Rust uses these types.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::Access;
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::RowHead;
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_hub::Value;

use super::device::{Device, DeviceSummary};
use crate::answer::{Asked, Told};

/// The component.
pub const COMPONENT: &str = "hardware";

/// `hardware/list`: the devices of one kind, or with nothing all of them, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub struct ListDevices;

impl Endpoint for ListDevices {
    type Request = Option<String>;
    type Response = Vec<DeviceSummary>;
    const ADDRESS: Address<'static> = Address::literal("hardware/list");
    const ACCESS: Access<'static> = Access::Permission;
}

/// `hardware/device`: all that is known of the device with this id. `Message` when there is none.
#[derive(Debug, Clone, Copy)]
pub struct GetDevice;

impl Endpoint for GetDevice {
    type Request = String;
    type Response = Device;
    const ADDRESS: Address<'static> = Address::literal("hardware/device");
    const ACCESS: Access<'static> = Access::Permission;
}

/// `hardware/command`: has a device do something, and answers what the device says.
///
/// A board's command goes to the board as a request; whoever gives it must be allowed to send that request too:
/// `imu/set-rate` for the command `set-rate` of `board/imu`. Errors: `Message` when there is no such device or command, or
/// the board refuses; `Authorization` when the caller may not; `Serialization` when the argument is not of the command's
/// type; `Timeout` and `Connection` when the board does not answer, or went.
#[derive(Debug, Clone, Copy)]
pub struct CommandDevice;

impl Endpoint for CommandDevice {
    type Request = CommandRequest;
    type Response = Value;
    const ADDRESS: Address<'static> = Address::literal("hardware/command");
    const ACCESS: Access<'static> = Access::Permission;
}

/// What a device is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct CommandRequest {
    /// Its id.
    pub device: String,
    /// The name of the command.
    pub command: String,
    /// What the command takes, if it takes something.
    #[serde(default)]
    pub argument: Value,
}

/// `hardware/added`: a device is there.
#[derive(Debug, Clone, Copy)]
pub struct DeviceAdded;

impl Topic for DeviceAdded {
    type Message = Device;
    const ADDRESS: Address<'static> = Address::literal("hardware/added");
    const ACCESS: Access<'static> = Access::Permission;
}

/// `hardware/removed`: a device is gone.
#[derive(Debug, Clone, Copy)]
pub struct DeviceRemoved;

impl Topic for DeviceRemoved {
    type Message = RemovedDevice;
    const ADDRESS: Address<'static> = Address::literal("hardware/removed");
    const ACCESS: Access<'static> = Access::Permission;
}

/// A device that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct RemovedDevice {
    /// As [`Device::id`].
    pub id: String,
    /// As [`Device::kind`].
    pub kind: String,
    /// As [`Device::name`].
    pub name: String,
    /// Why it went, for people.
    pub why: String,
}

/// `hardware/changed`: something about a device is otherwise now. That readings alone have moved is not told, but after a
/// command.
#[derive(Debug, Clone, Copy)]
pub struct DeviceChanged;

impl Topic for DeviceChanged {
    type Message = ChangedDevice;
    const ADDRESS: Address<'static> = Address::literal("hardware/changed");
    const ACCESS: Access<'static> = Access::Permission;
}

/// A device that is otherwise now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct ChangedDevice {
    /// All that is known of it now.
    pub device: Device,
    /// What differs: names of properties, and `name`, `state`, `commands` for those.
    pub changed: Vec<String>,
}

/// The rows of the component, as the bus is told of them.
pub(super) const ROWS: [RowHead<'static>; 6] = [
    endpoint::<ListDevices>(),
    endpoint::<GetDevice>(),
    endpoint::<CommandDevice>(),
    topic::<DeviceAdded>(),
    topic::<DeviceRemoved>(),
    topic::<DeviceChanged>(),
];

const fn endpoint<E: Endpoint>() -> RowHead<'static> {
    RowHead::new(RowKind::Endpoint, E::ADDRESS, E::ACCESS, E::SCHEMA)
}

const fn topic<T: Topic>() -> RowHead<'static> {
    RowHead::new(RowKind::Publishes, T::ADDRESS, T::ACCESS, T::SCHEMA)
}

/// `DEVICE COMMAND`, or `DEVICE COMMAND ARGUMENT` with the argument in JSON.
impl Asked for CommandRequest {
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || "DEVICE COMMAND ARGUMENT is expected, with the argument in JSON".to_owned();
        // An id of the machine's may have blanks in it, but only boards have commands.
        let (device, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let rest = rest.trim_start();
        let (command, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, "null"));
        let argument = serde_json::from_str(argument).map_err(|_| wrong())?;
        Ok(Self { device: device.to_owned(), command: command.to_owned(), argument })
    }
}

impl Told for DeviceSummary {
    fn to_text(&self) -> String {
        let Self { id, name, state, .. } = self;
        format!("{id}: {name}, {state}")
    }
}

impl Told for Device {
    fn to_text(&self) -> String {
        let mut lines = vec![self.summary().to_text()];
        let property = |name: &str, value: &Value, unit: &str| format!("{name} = {value} {unit}");
        lines.extend(
            self.properties.iter().map(|p| property(&p.name, &p.value, &p.unit).trim_end().to_owned()),
        );
        lines.extend(self.commands.iter().map(|command| format!("command {}", command.name)));
        lines.join("\n")
    }
}

impl Told for Value {
    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_from_a_text_and_nothing_else_is() {
        let read = |text: &str| CommandRequest::from_text(text);
        let command = |argument: Value| CommandRequest {
            device: "board/imu".to_owned(),
            command: "set-rate".to_owned(),
            argument,
        };
        assert_eq!(read("board/imu set-rate 200\n"), Ok(command(Value::Integer(200))));
        assert_eq!(read(" board/imu  set-rate"), Ok(command(Value::Empty)));
        let json = Value::Json("{\"a\":[1,\"b\"]}".to_owned());
        assert_eq!(read("board/imu set-rate {\"a\": [1, \"b\"]}"), Ok(command(json)));
        for wrong in ["", "board/imu", "board/imu set-rate {", "board/imu set-rate 1 2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_without_an_argument_can_be_said_in_json() {
        let command: CommandRequest =
            serde_json::from_str(r#"{"device": "board/imu", "command": "self-test"}"#).unwrap();
        assert_eq!(command.argument, Value::Empty);
    }
}
