//! The inertial sensor on the MPS2 board, on a line with a key: every frame is tagged, and no token is needed. A panic
//! resets the board.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, Clock, Uart, reset};
use cortex_m_rt::entry;
use panic_defmt_reset as _;
use static_cell::StaticCell;
use visorbus_core::{Instant, peer::Event, secure::NonceSeed, serve::serve};
use visorbus_imu::{ImuBoard, ImuNode, KeyedLeaf, keyed_leaf, link_key};

#[entry]
fn main() -> ! {
    static PEER: StaticCell<KeyedLeaf<Uart>> = StaticCell::new();
    let mut board = Board::take(BAUD).expect("nobody took the board before");
    let (clock, boot_id) = (board.clock, board.boot_id());
    defmt::info!("imu {=str}, boot id {=u64:016x}", env!("CARGO_PKG_VERSION"), boot_id);
    if option_env!("VISORBUS_LINK_KEY").is_none() {
        defmt::warn!(
            "this build has the development key, which everyone knows: set VISORBUS_LINK_KEY and build again"
        );
    }
    // The boot id differs at every start, as long as the board keeps its memory or has a host. A board that is to be
    // sealed draws random bytes, or counts its starts in flash.
    let seed = NonceSeed::counted(boot_id);
    let peer = PEER.init_with(|| {
        keyed_leaf(board.uart, boot_id, link_key(), seed).expect("the key is of the suite tag64")
    });
    let mut node = ImuNode::new(Mps2(clock), boot_id);
    let gone = serve(peer, &mut node, |due| {
        let wait_us = due.map_or(u64::MAX, |due| due.as_micros().saturating_sub(clock.now_us()));
        board.idle.wait(u32::try_from(wait_us).unwrap_or(u32::MAX));
        Instant::from_micros(clock.now_us())
    });
    defmt::error!("the link is gone, resetting: {}", gone.err());
    reset()
}

/// The board as the node sees it.
struct Mps2(Clock);

impl ImuBoard for Mps2 {
    const NAME: &'static str = board_mps2_an386::NAME;

    fn now_us(&self) -> u64 {
        self.0.now_us()
    }

    fn on_event(&mut self, event: Event) {
        visorbus_device::log_event(event);
    }
}

/// Enough for 1000 samples a second.
const BAUD: u32 = 921_600;
