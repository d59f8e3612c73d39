//! The image that the others are compared with: start-up, clock, boot id and UART in use, no bus.
//!
//! What another image has more is what Visorbus costs. So that nothing is counted that is not its own, this image
//! links every part of the board that a node needs.
#![no_std]
#![no_main]

use core::hint::black_box;

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use embedded_io::{Read, ReadReady, Write, WriteReady};

#[entry]
fn main() -> ! {
    let Some(mut board) = Board::take(DEFAULT_BAUD) else { halt() };
    black_box(board.boot_id());
    let mut bytes = [0; 16];
    loop {
        black_box(board.clock.now_us());
        if let (Ok(true), Ok(true)) = (board.uart.read_ready(), board.uart.write_ready())
            && let Ok(count) = board.uart.read(&mut bytes)
        {
            black_box(board.uart.write(&bytes[..count]).is_ok());
        }
        board.idle.wait(1_000);
    }
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
