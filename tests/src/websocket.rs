//! WebSockets to measure: bare tungstenite on rustls, and the hub that is held against it.
//!
//! Every part is a process of its own ([`crate::part`]); the measuring process is the client of all of them.

mod bare;
mod fan_out;
mod hub;
mod idle;
mod reader;
mod stream;

use std::env;
use std::process::ExitCode;

use crate::part::curtain;

pub use bare::{OneHop, TwoHops};
pub use fan_out::{BareFanOut, Cores, MESSAGE_LEN, SUBSCRIBERS, deliveries};
pub use hub::{HubFanOut, HubHolder, Member, ToHandler, ToService};
pub use idle::{BareHolder, Holder, allow_descriptors, load, memory_of_one};
pub use reader::Readers;
pub use stream::{Certificate, Security, Socket, Stream};

/// Plays the part that this process was started for, if it was; the first thing that `main` does.
pub fn play_part() -> Option<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (part, arguments) = arguments.split_first()?;
    let played = bare::play(part, arguments)
        .or_else(|| hub::play(part, arguments))
        .or_else(|| fan_out::play(part, arguments))
        .or_else(|| idle::play(part, arguments))?;
    Some(curtain(part, played))
}
