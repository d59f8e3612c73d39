//! What the controller publishes and answers. Whoever talks to it from Rust uses these types; others read their schemas.

use heapless::String;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::Access;
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, Topic};

pub use crate::battery::Battery;

/// The controller's name on the bus.
pub const NAME: &str = "controller";

/// The scope that it takes to make the controller do something.
pub const CONTROL: &str = "controller.control";

/// How often the controller publishes its input when no button changes, in Hz.
pub const INPUT_RATE_HZ: u16 = 50;

/// `controller/input`: published at [`INPUT_RATE_HZ`], and at once when a button changes.
#[derive(Debug, Clone, Copy)]
pub struct Inputs;

impl Topic for Inputs {
    type Message = Input;
    const ADDRESS: Address<'static> = Address::literal("controller/input");
    const ACCESS: Access<'static> = Access::Permission;
}

/// What a hand does with the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Input {
    /// When it was so: microseconds on the board's clock, which starts with the board.
    pub timestamp_us: u64,
    /// The buttons that are down.
    pub buttons: Buttons,
    /// The stick's deflection to the right and away from the hand, of ±32767.
    pub stick: [i16; 2],
}

/// A set of buttons, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Schema)]
pub struct Buttons(pub u8);

impl Buttons {
    /// Under the index finger.
    pub const TRIGGER: Self = Self(1 << 0);
    /// Under the middle finger.
    pub const GRIP: Self = Self(1 << 1);
    /// The lower one under the thumb.
    pub const A: Self = Self(1 << 2);
    /// The upper one under the thumb.
    pub const B: Self = Self(1 << 3);
    /// The stick itself, pressed down.
    pub const STICK: Self = Self(1 << 4);
    /// The small one that opens the menu.
    pub const MENU: Self = Self(1 << 5);

    /// Whether all of `others` are in this set.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// `controller/haptic`: shakes the hand, instead of the pulse that runs, if one does.
#[derive(Debug, Clone, Copy)]
pub struct Shake;

impl Endpoint for Shake {
    type Request = Haptic;
    type Response = Pulse;
    const ADDRESS: Address<'static> = Address::literal("controller/haptic");
    const ACCESS: Access<'static> = Access::Scope(CONTROL);
}

/// How to shake the hand. Values out of range are refused, and what runs goes on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub struct Haptic {
    /// Strength from 0 to 1; 0 ends what runs.
    pub amplitude: f32,
    /// In Hz, from 20 to 500.
    pub frequency_hz: u16,
    /// In ms, from 1 to 5000.
    pub duration_ms: u16,
}

/// The shaking that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub struct Pulse {
    /// Strength from 0 to 1.
    pub amplitude: f32,
    /// In Hz.
    pub frequency_hz: u16,
    /// When it ends: microseconds on the board's clock.
    pub ends_us: u64,
}

/// `controller/led`: switches the lamp on (`true`) or off (`false`); answers how it then is, as the lamp itself says. It
/// stays so until the next order or a reset, session or not.
#[derive(Debug, Clone, Copy)]
pub struct SwitchLed;

impl Endpoint for SwitchLed {
    type Request = bool;
    type Response = bool;
    const ADDRESS: Address<'static> = Address::literal("controller/led");
    const ACCESS: Access<'static> = Access::Scope(CONTROL);
}

/// `controller/battery`: how full it is.
#[derive(Debug, Clone, Copy)]
pub struct GetBattery;

impl Endpoint for GetBattery {
    type Request = ();
    type Response = Battery;
    const ADDRESS: Address<'static> = Address::literal("controller/battery");
    const ACCESS: Access<'static> = Access::Permission;
}

/// `controller/info`: who the controller is and how it does.
#[derive(Debug, Clone, Copy)]
pub struct GetInfo;

impl Endpoint for GetInfo {
    type Request = ();
    type Response = Info;
    const ADDRESS: Address<'static> = Address::literal("controller/info");
    const ACCESS: Access<'static> = Access::Permission;
}

/// Who the controller is and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct Info {
    /// Version of the firmware.
    pub firmware: String<16>,
    /// What the controller runs on.
    pub board: String<32>,
    /// Differs at each start.
    pub boot_id: u64,
    /// Inputs published since the start.
    pub inputs_sent: u32,
    /// Inputs that the link had no room for.
    pub inputs_dropped: u32,
    /// Pulses begun since the start. The counters wrap.
    pub pulses: u32,
    /// The pulse that runs.
    pub pulse: Option<Pulse>,
    /// Whether the lamp is lit.
    pub led: bool,
    /// Microseconds since the start.
    pub uptime_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_what_is_in_it() {
        let held = Buttons(Buttons::TRIGGER.0 | Buttons::MENU.0);
        assert!(held.contains(Buttons::TRIGGER) && held.contains(held) && held.contains(Buttons::default()));
        assert!(!held.contains(Buttons::GRIP) && !Buttons::TRIGGER.contains(held));
    }

    #[test]
    fn an_input_takes_few_bytes() {
        let longest = Input { timestamp_us: 86_400_000_000, buttons: Buttons(63), stick: [i16::MIN; 2] };
        let mut payload = [0; 32];
        assert_eq!(postcard::to_slice(&longest, &mut payload).unwrap().len(), 6 + 1 + 2 * 3);
    }
}
