//! The inertial sensor on the Raspberry Pi Pico under Embassy: the node of `visorbus-imu` behind UART0 (pins 1 and 2 of
//! the board). The lamp is lit while a hub has it in service. A panic resets the board.
#![no_std]
#![no_main]

use cortex_m::peripheral::SCB;
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_rp::clocks::RoscRng;
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::UART0;
use embassy_rp::uart::{BufferedInterruptHandler, BufferedUart, Config};
use panic_defmt_reset as _;
use static_cell::StaticCell;
use visorbus_core::{Instant, peer::Event};
use visorbus_hal::{Timer, serve_serial};
use visorbus_imu::{AsyncLeaf, ImuBoard, ImuNode, USES_DEVELOPMENT_KEY, async_leaf, device_key};

embassy_rp::bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    static BUFFERS: StaticCell<[[u8; 256]; 2]> = StaticCell::new();
    static PEER: StaticCell<AsyncLeaf> = StaticCell::new();
    let board = embassy_rp::init(embassy_rp::config::Config::default());
    let boot_id = RoscRng.next_u64();
    defmt::info!("imu {=str}, boot id {=u64:016x}", env!("CARGO_PKG_VERSION"), boot_id);
    if USES_DEVELOPMENT_KEY {
        defmt::warn!(
            "this build has the development key, which everyone knows: set VISORBUS_DEVICE_KEY and build again"
        );
    }
    let [tx_buffer, rx_buffer] = BUFFERS.init([[0; 256]; 2]);
    let mut config = Config::default();
    config.baudrate = BAUD;
    let uart =
        BufferedUart::new(board.UART0, board.PIN_0, board.PIN_1, Interrupts, tx_buffer, rx_buffer, config);
    let (tx, rx) = uart.split();
    let peer = PEER.init_with(|| async_leaf(boot_id, device_key()));
    let mut node = ImuNode::new(Pico { lamp: Output::new(board.PIN_25, Level::Low) }, boot_id);
    let gone = serve_serial(peer, &mut node, (rx, tx), &mut EmbassyTimer).await;
    defmt::error!("the UART is gone, resetting: {}", gone.err());
    SCB::sys_reset()
}

/// Embassy's clock as the node sees it.
struct EmbassyTimer;

impl Timer for EmbassyTimer {
    fn now(&self) -> Instant {
        Instant::from_micros(embassy_time::Instant::now().as_micros())
    }

    async fn wait_until(&mut self, due: Instant) {
        embassy_time::Timer::at(embassy_time::Instant::from_micros(due.as_micros())).await;
    }
}

/// The board as the node sees it.
struct Pico {
    lamp: Output<'static>,
}

impl ImuBoard for Pico {
    const NAME: &'static str = "rp-pico";

    fn now_us(&self) -> u64 {
        embassy_time::Instant::now().as_micros()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Ready => self.lamp.set_high(),
            Event::Closed => self.lamp.set_low(),
            _ => {}
        }
        visorbus_device::log_event(event);
    }
}

/// What the UART's interrupt keeps up with while a token is checked.
const BAUD: u32 = 460_800;
