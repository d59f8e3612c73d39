//! The inertial sensor on the Raspberry Pi Pico: the node of `visorbus-imu` behind UART0. A panic resets the board.
#![no_std]
#![no_main]

use board_rp_pico::{Board, Clock, Lamp, Uart, reset};
use cortex_m_rt::entry;
use defmt_rtt as _;
use panic_defmt_reset as _;
use static_cell::StaticCell;
use visorbus_core::{Instant, peer::Event, serve::serve};
use visorbus_imu::{ImuBoard, ImuNode, Leaf, USES_DEVELOPMENT_KEY, device_key, leaf};

#[entry]
fn main() -> ! {
    static PEER: StaticCell<Leaf<Uart>> = StaticCell::new();
    let mut board = Board::take(BAUD).expect("nobody took the board before, and its crystal starts");
    let (clock, boot_id) = (board.clock, board.boot_id());
    defmt::info!("imu {=str}, boot id {=u64:016x}", env!("CARGO_PKG_VERSION"), boot_id);
    if USES_DEVELOPMENT_KEY {
        defmt::warn!(
            "this build has the development key, which everyone knows: set VISORBUS_DEVICE_KEY and build again"
        );
    }
    let peer = PEER.init_with(|| leaf(board.uart, boot_id, device_key()));
    let mut node = ImuNode::new(Pico { clock, lamp: board.lamp }, boot_id);
    let gone = serve(peer, &mut node, |due| {
        let wait_us = due.map_or(u64::MAX, |due| due.as_micros().saturating_sub(clock.now_us()));
        board.idle.wait(u32::try_from(wait_us).unwrap_or(u32::MAX));
        Instant::from_micros(clock.now_us())
    });
    defmt::error!("the link is gone, resetting: {}", gone.err());
    reset()
}

/// The board as the node sees it: its lamp is lit while a hub has it in service.
struct Pico {
    clock: Clock,
    lamp: Lamp,
}

impl ImuBoard for Pico {
    const NAME: &'static str = board_rp_pico::NAME;

    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Ready => self.lamp.set(true),
            Event::Closed => self.lamp.set(false),
            _ => {}
        }
        visorbus_device::log_event(event);
    }
}

/// What the UART's FIFO can hold while a token is checked.
const BAUD: u32 = 460_800;
