//! The smallest node on an SPI bus.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{Anyone, Leaf, Spi, dma::DmaTarget, run};
use static_cell::StaticCell;
use visorbus_core::{Peer, peer::NoKeys};
use visorbus_hal::SpiTargetLink;

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<Spi, NoKeys>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<Anyone, _, _>(board, |config, _uart| {
            LEAF.init_with(|| Peer::new(config, SpiTargetLink::new(DmaTarget::new()), NoKeys))
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
