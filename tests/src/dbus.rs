//! D-Bus to measure: the smallest service that can be written with the dbus crate, and the hub that is held against it, on one
//! private bus.
//!
//! Every part is a process of its own ([`crate::part`]); the measuring process is the caller and the subscriber of all of
//! them.

mod bare;
mod bytes;
mod caller;
mod flood;
mod hub;
mod signals;

use std::env;
use std::process::ExitCode;

use crate::part::curtain;

pub use bare::{BareMethod, BareSignals};
pub use flood::{Beside, FLOOD_HEAD, FloodPlan, Outcome, measure};
pub use hub::{BridgeCall, ComponentMethod, HubSignals};
pub use signals::{MESSAGE_LEN, SUBSCRIBERS, deliveries};

/// Plays the part that this process was started for, if it was; the first thing that `main` does.
pub fn play_part() -> Option<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (part, arguments) = arguments.split_first()?;
    let played = bare::play(part, arguments)
        .or_else(|| hub::play(part, arguments))
        .or_else(|| flood::play(part, arguments))?;
    Some(curtain(part, played))
}
