//! The smallest node with keys both ways, on a serial line where nothing is lost.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{Holders, Leaf, SerialLane, run, start};
use static_cell::StaticCell;
use visorbus_core::{Peer, auth::Key, peer::DeviceKey};
use visorbus_hal::{Lane, SerialLink};

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<SerialLane, DeviceKey>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<Holders, _, _>(board, |config, uart| {
            start(&LEAF, || {
                Peer::new(config, Lane::new(SerialLink::new(uart)), DeviceKey::new(0, Key::new(KEY)))
            })
        });
    }
    halt()
}

/// A device's own key; a real one comes from its provisioning.
const KEY: [u8; 32] = [0x5A; 32];

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    halt()
}

fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
