//! As `empty`, with the SPI peripheral in use in place of the UART: what the images on an SPI bus are compared with.
#![no_std]
#![no_main]

use core::hint::black_box;

use board_mps2_an386::{Board, DEFAULT_BAUD};
use cortex_m_rt::entry;
use firmware_size::dma::DmaTarget;
use static_cell::StaticCell;
use visorbus_core::frame::spi::MAX_TRANSFER;
use visorbus_hal::SpiTarget;

#[entry]
fn main() -> ! {
    static TARGET: StaticCell<DmaTarget> = StaticCell::new();
    let Some(mut board) = Board::take(DEFAULT_BAUD) else { halt() };
    let target = TARGET.init_with(DmaTarget::new);
    black_box(board.boot_id());
    loop {
        black_box(board.clock.now_us());
        black_box(target.finished().is_ok_and(|bytes| black_box(bytes).is_some()));
        black_box(target.arm(black_box(&[0; MAX_TRANSFER]), black_box(true)).is_ok());
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
