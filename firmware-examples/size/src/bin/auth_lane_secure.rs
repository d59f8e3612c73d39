//! The whole: tokens both ways, on a serial line with a key of its own, suite `tag64`, on which nothing is lost.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{Holders, Leaf, SecureLane, run, secure, start};
use static_cell::StaticCell;
use visorbus_core::{Peer, auth::Key, peer::DeviceKey, secure::Suite};
use visorbus_hal::{Lane, SerialLink};

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<SecureLane, DeviceKey>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<Holders, _, _>(board, |config, uart| {
            start(&LEAF, || {
                let link = secure(SerialLink::new(uart), Suite::Tag64, config.boot_id);
                Peer::new(config, Lane::new(link), DeviceKey::new(0, Key::new(KEY)))
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
