//! The smallest node that believes nobody without a token. It proves itself to nobody: its link is trusted by name.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::{Holders, Leaf, run};
use static_cell::StaticCell;
use visorbus_core::{
    Instant, IpcError, Session,
    auth::{Grant, Key},
    peer::{DeviceKey, Keys},
};

/// A device's key that is used for what the other end sends, and for nothing else.
#[derive(Debug)]
struct CheckingKey(DeviceKey);

impl Keys for CheckingKey {
    const PROVES: bool = false;

    fn check(&self, token: &[u8], audience: &str, unix_now: Option<u64>) -> Result<Grant, IpcError> {
        self.0.check(token, audience, unix_now)
    }

    fn prove(&self, _session: &mut Session, _now: Instant, _out: &mut [u8]) -> usize {
        0
    }
}

#[entry]
fn main() -> ! {
    static LEAF: StaticCell<Leaf<CheckingKey>> = StaticCell::new();
    if let Some(board) = Board::take(DEFAULT_BAUD) {
        run::<Holders, _>(board, &LEAF, CheckingKey(DeviceKey::new(0, Key::new(KEY))));
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
