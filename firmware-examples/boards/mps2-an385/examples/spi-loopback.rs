//! The controller's end of an SPI link over the board's PL022, which hears itself: every byte that comes in went through
//! both of its queues.
//!
//! It ends the emulation with 42 when all is as it should be, else with the number of what is not; and says on the UART
//! how much went over.
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::fmt::{self, Write as _};

use board_mps2_an385::{Board, DEFAULT_BAUD, Pl022, SpiSelect, Uart, exit};
use cortex_m_rt::entry;
use embedded_hal::digital::{self, InputPin};
use embedded_hal::spi::{self, Operation, SpiBus, SpiDevice};
use embedded_hal_bus::spi::ExclusiveDevice;
use embedded_io::Write as _;
use panic_defmt_reset as _;
use visorbus_core::frame::spi::{MAX_TRANSFER, Side, Status, encode_frame, transfer_len};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::{Instant, Link};
use visorbus_hal::SpiLink;

#[entry]
fn main() -> ! {
    let mut board = Board::take(DEFAULT_BAUD).expect("nobody took the board before");
    let (mut bus, select) = board.spi.start(8_000_000);
    bus.loop_back(true);
    check_bus(&mut bus);
    demand(1, !SpiSelect::is_selected());
    let Ok(device) = ExclusiveDevice::new_no_delay(bus, select);
    let mut wire = Wire { device, far: Far::Itself, last: [0; MAX_TRANSFER], len: 0, transfers: 0, bytes: 0 };
    for len in 1..=MAX_LINE_FRAME {
        wire = check_own_frame(wire, len);
    }
    wire = check_echo(wire);
    demand(2, !SpiSelect::is_selected());
    let _ = writeln!(Text(&mut board.uart), "{} transfers, {} bytes", wire.transfers, wire.bytes);
    let _ = board.uart.flush();
    defmt::info!("{=u32} transfers, {=u32} bytes, as they should be", wire.transfers, wire.bytes);
    exit(42)
}

/// The driver alone: every operation, every length about that of the queues and far beyond.
fn check_bus(bus: &mut Pl022) {
    let mut sent = [0; 300];
    for (at, byte) in sent.iter_mut().enumerate() {
        *byte = (at * 7 + 1) as u8;
    }
    for len in (0..40).chain([255, 256, 300]) {
        let mut heard = [0xEE; 300];
        let Ok(()) = bus.transfer(&mut heard[..len], &sent[..len]);
        demand(10, heard[..len] == sent[..len] && heard[len..].iter().all(|byte| *byte == 0xEE));
        // As long as the longer one of the two; nothing of it is left for the next.
        let Ok(()) = bus.transfer(&mut heard[..len / 2], &sent[..len]);
        let Ok(()) = bus.transfer(&mut heard[..len], &sent[..len / 2]);
        demand(11, heard[..len / 2] == sent[..len / 2] && heard[len / 2..len].iter().all(|byte| *byte == 0));
        let Ok(()) = bus.write(&sent[..len]);
        let Ok(()) = bus.read(&mut heard[..len]);
        demand(12, heard[..len].iter().all(|byte| *byte == 0));
        heard = sent;
        let Ok(()) = bus.transfer_in_place(&mut heard[..len]);
        demand(13, heard == sent);
        let Ok(()) = bus.flush();
    }
}

/// A frame of `len` bytes goes out in one transfer of the length that it needs, byte for byte, and whoever hears it on
/// the same line does not take it for one of the target's.
fn check_own_frame(wire: Wire, len: usize) -> Wire {
    let mut frame = [0; MAX_LINE_FRAME];
    for (at, byte) in frame.iter_mut().enumerate() {
        *byte = (at * 31 + len) as u8;
    }
    let before = (wire.transfers, wire.bytes);
    let mut link = SpiLink::new(wire, Ready(false));
    demand(20, link.send(&frame[..len]) == Ok(true) && link.room() == 0);
    demand(21, link.flush(at_us(0)) == Ok(true));
    demand(22, link.receive() == Ok(None) && link.room() == 0);
    let stats = link.stats();
    demand(23, (stats.transfers, stats.bad_status, stats.frames_sent, stats.errors) == (1, 1, 0, 0));
    let (wire, _) = link.release();
    demand(24, (wire.transfers, wire.bytes) == (before.0 + 1, before.1 + transfer_len(len) as u32));
    let said = &wire.last[..wire.len];
    let status = Status::decode(Side::Controller, said);
    demand(25, status == Some(Status { room: true, sequence: 0, len: len as u8 }));
    demand(
        26,
        status.and_then(|status| status.frame(said).ok()).map(|(found, _)| found) == Some(&frame[..len]),
    );
    wire
}

/// With a far end that sends back what it heard the transfer before, as a target would: what comes out of the link is
/// what went into it, all through the PL022.
fn check_echo(mut wire: Wire) -> Wire {
    wire.far = Far::Echo { bytes: [0; MAX_TRANSFER], sequence: 0, len: 0 };
    let mut link = SpiLink::new(wire, Ready(true));
    let mut now = 0;
    for round in 0..500_usize {
        let mut frame = [round as u8; MAX_LINE_FRAME];
        frame[0] = (round >> 8) as u8;
        let frame = &frame[..1 + round % MAX_LINE_FRAME];
        demand(30, link.send(frame) == Ok(true));
        let mut came = false;
        for _ in 0..40 {
            now += 250;
            demand(31, link.flush(at_us(now)).is_ok());
            match link.receive() {
                Ok(Some(heard)) => {
                    demand(32, heard == frame && !came);
                    came = true;
                }
                Ok(None) => {}
                Err(_) => demand(33, false),
            }
            if came {
                break;
            }
        }
        demand(34, came);
    }
    let stats = link.stats();
    demand(35, (stats.frames_sent, stats.frames_received) == (500, 500));
    demand(36, (stats.bad_status, stats.bad_crc, stats.repeated, stats.errors) == (0, 0, 0, 0));
    link.release().0
}

/// The PL022 behind its chip select, with what went over it last; and what is at the other end of the wire.
struct Wire {
    device: ExclusiveDevice<Pl022, SpiSelect, embedded_hal_bus::spi::NoDelay>,
    far: Far,
    last: [u8; MAX_TRANSFER],
    len: usize,
    transfers: u32,
    bytes: u32,
}

/// Who speaks to the controller.
enum Far {
    /// Itself.
    Itself,
    /// A target that has the frame of the transfer before to say; the controller's own bytes are taken off the wire.
    Echo { bytes: [u8; MAX_TRANSFER], sequence: u8, len: u8 },
}

impl spi::ErrorType for Wire {
    type Error = spi::ErrorKind;
}

impl SpiDevice for Wire {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), spi::ErrorKind> {
        let [Operation::Transfer(into, bytes)] = operations else { exit(40) };
        self.transfers += 1;
        self.bytes += bytes.len() as u32;
        self.len = bytes.len();
        self.last[..bytes.len()].copy_from_slice(bytes);
        match &mut self.far {
            Far::Itself => {
                let done = self.device.transfer(into, bytes);
                demand(41, done.is_ok() && bytes.starts_with(into));
            }
            Far::Echo { bytes: answer, sequence, len } => {
                let status = Status { room: *len == 0, sequence: *sequence, len: *len };
                answer[..4].copy_from_slice(&status.encode(Side::Target));
                let done = self.device.transfer(into, &answer[..bytes.len()]);
                demand(42, done.is_ok() && answer.starts_with(into));
                let Some(heard) = Status::decode(Side::Controller, bytes) else { exit(43) };
                if heard.room && *len != 0 && bytes.len() >= transfer_len((*len).into()) {
                    *len = 0;
                    *sequence = (*sequence + 1) & 0x7F;
                } else if status.room
                    && let Ok((frame, _)) = heard.frame(bytes)
                {
                    demand(44, encode_frame(*sequence, frame, answer).is_some());
                    *len = heard.len;
                }
            }
        }
        Ok(())
    }
}

/// A ready line whose level is what the test wants.
struct Ready(bool);

impl digital::ErrorType for Ready {
    type Error = Infallible;
}

impl InputPin for Ready {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.0)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0)
    }
}

/// The UART for `write!`.
struct Text<'a>(&'a mut Uart);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Ends the emulation with `number` unless `holds`.
fn demand(number: i32, holds: bool) {
    if !holds {
        defmt::error!("demand {=i32} does not hold", number);
        exit(number);
    }
}

const fn at_us(micros: u64) -> Instant {
    Instant::from_micros(micros)
}
