//! The smallest node on a serial line with a key, suite `sealed`: it needs no other, for the key proves the hub.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{HubsHolders, Leaf, SecureSerial, run, secure, start};
use static_cell::StaticCell;
use visorbus_core::{
    Peer,
    peer::HubByLink,
    secure::{Sealed, Suite},
};
use visorbus_hal::SerialLink;

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<SecureSerial<Sealed>, HubByLink>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<HubsHolders, _, _>(board, |config, uart| {
            start(&LEAF, || {
                let link = secure(SerialLink::new(uart), Suite::Sealed, config.boot_id);
                Peer::new(config, link, HubByLink)
            })
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
