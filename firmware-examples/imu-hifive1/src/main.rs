//! The inertial sensor on the SiFive HiFive1 Rev B: the node of `visorbus-imu` behind UART0. A panic resets the board.
#![no_std]
#![no_main]

use board_hifive1::{Board, Clock, Uart, reset};
use riscv_rt::entry;
use static_cell::StaticCell;
use visorbus_core::{Instant, serve::serve};
use visorbus_imu::{ImuBoard, ImuNode, Leaf, device_key, leaf};

/// Serves the node for as long as the board runs.
#[entry]
fn main() -> ! {
    static PEER: StaticCell<Leaf<Uart>> = StaticCell::new();
    let mut board = Board::take(BAUD).expect("nobody took the board before");
    let (clock, boot_id) = (board.clock, board.boot_id());
    let peer = PEER.init_with(|| leaf(board.uart, boot_id, device_key()));
    let mut node = ImuNode::new(HiFive1(clock), boot_id);
    let _gone = serve(peer, &mut node, |due| {
        let wait_us = due.map_or(u64::MAX, |due| due.as_micros().saturating_sub(clock.now_us()));
        board.idle.wait(u32::try_from(wait_us).unwrap_or(u32::MAX));
        Instant::from_micros(clock.now_us())
    });
    reset()
}

/// The board as the node sees it.
struct HiFive1(Clock);

impl ImuBoard for HiFive1 {
    const NAME: &'static str = board_hifive1::NAME;

    fn now_us(&self) -> u64 {
        self.0.now_us()
    }
}

/// What the UART's FIFO can hold while a token is checked.
const BAUD: u32 = 115_200;
