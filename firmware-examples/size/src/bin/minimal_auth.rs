//! The smallest node that believes nobody without a token and proves itself with one.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{Holders, Leaf, Serial, run};
use static_cell::StaticCell;
use visorbus_core::{Peer, auth::Key, peer::DeviceKey};
use visorbus_hal::SerialLink;

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<Serial, DeviceKey>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<Holders, _, _>(board, |config, uart| {
            LEAF.init_with(|| Peer::new(config, SerialLink::new(uart), DeviceKey::new(0, Key::new(KEY))))
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
