//! Sends back what comes over the UART, and logs the time once a second.
//!
//! Three bytes are commands: `0x01` panics, `0x02` reads where nothing is (a hard fault), `0x03` ends the emulation.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, DEFAULT_BAUD, exit};
use cortex_m_rt::entry;
use embedded_io::{Read as _, ReadReady as _, Write as _};
use panic_defmt_reset as _;

#[entry]
fn main() -> ! {
    let mut board = Board::take(DEFAULT_BAUD).expect("nobody took the board before");
    defmt::info!("echo: boot id {=u64:016x}", board.boot_id());
    let mut next_report = 0;
    loop {
        let now = board.clock.now_us();
        if now >= next_report {
            defmt::info!("up {=u64} us", now);
            next_report += 1_000_000;
        }
        board.idle.wait((next_report - now.min(next_report)) as u32);
        while board.uart.read_ready() == Ok(true) {
            echo(&mut board);
        }
    }
}

fn echo(board: &mut Board) {
    let mut bytes = [0; 64];
    let count = match board.uart.read(&mut bytes) {
        Ok(count) => count,
        Err(error) => return defmt::warn!("read: {}", error),
    };
    for byte in &bytes[..count] {
        match byte {
            0x01 => panic!("asked to, after {} bytes", count),
            0x02 => cortex_m::asm::udf(),
            0x03 => exit(42),
            _ => {}
        }
    }
    if let Err(error) = board.uart.write_all(&bytes[..count]) {
        defmt::warn!("write: {}", error);
    }
}
