//! The Raspberry Pi Pico (RP2040, Cortex-M0+ at 125 MHz), by its usual HAL.
//!
//! [`Board::take`] starts everything: UART0 on GP0 (out) and GP1 (in), a microsecond clock, the boot id. The crate knows
//! nothing of what is sent over the UART.
//!
//! No interrupt is ever taken: those that are let through only end a sleep, and the program looks for itself. The
//! UART's FIFO of 32 bytes has to last for one turn of its loop: 0.7 ms at 460 800 baud.
#![no_std]

mod hardware;
mod idle;

use cortex_m::peripheral::SCB;
use embedded_hal::digital::OutputPin as _;
use rp2040_hal::clocks::{Clock as _, init_clocks_and_plls};
use rp2040_hal::fugit::RateExtU32;
use rp2040_hal::gpio::bank0::{Gpio0, Gpio1, Gpio25};
use rp2040_hal::gpio::{FunctionSio, FunctionUart, Pin, Pins, PullDown, PullNone, SioOutput};
use rp2040_hal::pac::{self, UART0};
use rp2040_hal::rosc::RingOscillator;
use rp2040_hal::timer::Timer;
use rp2040_hal::uart::{DataBits, Enabled, FifoWatermark, StopBits, UartConfig, UartPeripheral};
use rp2040_hal::{Sio, Watchdog};

pub use crate::idle::Idle;

/// What the board is called.
pub const NAME: &str = "rp-pico";

/// UART0 as an `embedded-io` stream.
pub type Uart =
    UartPeripheral<Enabled, UART0, (Pin<Gpio0, FunctionUart, PullNone>, Pin<Gpio1, FunctionUart, PullNone>)>;

/// Everything on the board that a program may own, once.
#[allow(missing_debug_implementations, reason = "the HAL's parts have none")]
pub struct Board {
    /// UART0: out on GP0, in on GP1.
    pub uart: Uart,
    /// Microseconds since this start.
    pub clock: Clock,
    /// Sleeps until a byte comes or time is up.
    pub idle: Idle,
    /// The green one.
    pub lamp: Lamp,
    /// Differs at every start; see [`boot_id`](Board::boot_id).
    boot_id: u64,
}

impl Board {
    /// Starts the board with UART0 at `baud` (8N1). The second call returns `None`, and so does one on a board whose
    /// crystal does not start.
    pub fn take(baud: u32) -> Option<Board> {
        cortex_m::interrupt::disable();
        let mut device = pac::Peripherals::take()?;
        let mut watchdog = Watchdog::new(device.WATCHDOG);
        let clocks = init_clocks_and_plls(
            CRYSTAL_HZ,
            device.XOSC,
            device.CLOCKS,
            device.PLL_SYS,
            device.PLL_USB,
            &mut device.RESETS,
            &mut watchdog,
        )
        .ok()?;
        let mut timer = Timer::new(device.TIMER, &mut device.RESETS, &clocks);
        let sio = Sio::new(device.SIO);
        let pins = Pins::new(device.IO_BANK0, device.PADS_BANK0, sio.gpio_bank0, &mut device.RESETS);
        let line = (pins.gpio0.reconfigure(), pins.gpio1.reconfigure());
        let config = UartConfig::new(baud.Hz(), DataBits::Eight, None, StopBits::One);
        let uart = UartPeripheral::new(device.UART0, line, &mut device.RESETS);
        let mut uart = uart.enable(config, clocks.peripheral_clock.freq()).ok()?;
        uart.set_rx_watermark(FifoWatermark::Bytes4);
        uart.enable_rx_interrupt();
        Some(Board {
            uart,
            idle: Idle::start(timer.alarm_0()?),
            clock: Clock(timer),
            lamp: Lamp(pins.gpio25.into_push_pull_output()),
            boot_id: random(&RingOscillator::new(device.ROSC).initialize()),
        })
    }

    /// A random number: another one at every start, be it power-on or a reset of any kind.
    pub fn boot_id(&self) -> u64 {
        self.boot_id
    }
}

/// Microseconds since the board was taken.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "the HAL's timer has none")]
pub struct Clock(Timer);

impl Clock {
    /// Microseconds since the board was taken.
    pub fn now_us(&self) -> u64 {
        self.0.get_counter().ticks()
    }
}

/// A lamp for the program to switch; out at the start.
#[allow(missing_debug_implementations, reason = "the HAL's pins have none")]
pub struct Lamp(Pin<Gpio25, FunctionSio<SioOutput>, PullDown>);

impl Lamp {
    /// Switches it on or off.
    pub fn set(&mut self, on: bool) {
        // A pin of the chip itself cannot fail.
        let _ = self.0.set_state(on.into());
    }
}

/// Resets the chip.
pub fn reset() -> ! {
    SCB::sys_reset()
}

/// 64 bits of the ring oscillator, read so far apart that they have little to do with each other.
fn random(oscillator: &RingOscillator<rp2040_hal::rosc::Enabled>) -> u64 {
    (0..64).fold(0, |bits, _| {
        cortex_m::asm::delay(1_000);
        bits << 1 | u64::from(oscillator.get_random_bit())
    })
}

/// The crystal on the Pico.
const CRYSTAL_HZ: u32 = 12_000_000;
