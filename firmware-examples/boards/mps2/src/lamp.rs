//! The board's two user LEDs, a bit each of one register.

use crate::hardware::fpga_io;

/// A lamp for the program to switch; out at the start.
#[derive(Debug)]
pub struct Lamp {
    bit: u32,
}

impl Lamp {
    pub(crate) fn start_all() -> [Lamp; 2] {
        fpga_io::LEDS.write(0);
        [0, 1].map(|number| Lamp { bit: 1 << number })
    }

    /// Switches it on or off; the other one stays as it is.
    pub fn set(&mut self, on: bool) {
        // The owner of the other lamp may be an interrupt.
        critical_section::with(|_| {
            let others = fpga_io::LEDS.read() & !self.bit;
            fpga_io::LEDS.write(if on { others | self.bit } else { others });
        });
    }

    /// Whether it is lit, as the register says.
    pub fn is_lit(&self) -> bool {
        fpga_io::LEDS.read() & self.bit != 0
    }
}
