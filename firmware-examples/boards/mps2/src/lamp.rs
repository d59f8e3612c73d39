//! The first of the board's two user LEDs.

use crate::hardware::fpga_io;

/// A lamp for the program to switch; out at the start.
#[derive(Debug)]
pub struct Lamp(());

impl Lamp {
    pub(crate) fn start() -> Lamp {
        let mut lamp = Lamp(());
        lamp.set(false);
        lamp
    }

    /// Switches it on or off.
    pub fn set(&mut self, on: bool) {
        fpga_io::LEDS.write(u32::from(on));
    }
}
