//! The smallest node on a serial line where nothing is lost.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{Anyone, Leaf, SerialLane, run, start};
use static_cell::StaticCell;
use visorbus_core::{Peer, peer::NoKeys};
use visorbus_hal::{Lane, SerialLink};

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<SerialLane, NoKeys>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<Anyone, _, _>(board, |config, uart| {
            start(&LEAF, || Peer::new(config, Lane::new(SerialLink::new(uart)), NoKeys))
        });
    }
    halt()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    halt()
}

fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
