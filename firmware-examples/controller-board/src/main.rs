//! The hand controller on the MPS2 board: the node of `visorbus-controller` behind UART0. A panic resets the board.
#![no_std]
#![no_main]

use board_mps2_an385::{Clock, Lamp, Uart, reset};
use cortex_m_rt::entry;
use panic_defmt_reset as _;
use static_cell::StaticCell;
use visorbus_controller::messages::Pulse;
use visorbus_controller::{
    Board, ControllerBoard, ControllerNode, Leaf, USES_DEVELOPMENT_KEY, device_key, leaf,
};
use visorbus_core::{Instant, peer::Event, serve::serve};

#[entry]
fn main() -> ! {
    static PEER: StaticCell<Leaf<Uart>> = StaticCell::new();
    let mut board = board_mps2_an385::Board::take(BAUD).expect("nobody took the board before");
    let (clock, boot_id) = (board.clock, board.boot_id());
    defmt::info!("controller {=str}, boot id {=u64:016x}", env!("CARGO_PKG_VERSION"), boot_id);
    if USES_DEVELOPMENT_KEY {
        defmt::warn!(
            "this build has the development key, which everyone knows: set VISORBUS_DEVICE_KEY and build again"
        );
    }
    let [motor, led] = board.lamps;
    let peer = PEER.init_with(|| leaf(board.uart, boot_id, device_key()));
    let mut node = ControllerNode::new(Mps2 { clock, motor, led }, boot_id);
    let gone = serve(peer, &mut node, |due| {
        let wait_us = due.map_or(u64::MAX, |due| due.as_micros().saturating_sub(clock.now_us()));
        board.idle.wait(u32::try_from(wait_us).unwrap_or(u32::MAX));
        Instant::from_micros(clock.now_us())
    });
    defmt::error!("the link is gone, resetting: {}", gone.err());
    reset()
}

/// The board as the node sees it. It has no motor: the first of its two lamps is lit while one would run; the second
/// is the controller's own.
struct Mps2 {
    clock: Clock,
    motor: Lamp,
    led: Lamp,
}

impl Board for Mps2 {
    const NAME: &'static str = board_mps2_an385::NAME;

    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn on_event(&mut self, event: Event) {
        visorbus_device::log_event(event);
    }
}

impl ControllerBoard for Mps2 {
    fn drive(&mut self, pulse: Option<Pulse>) {
        self.motor.set(pulse.is_some());
    }

    fn set_led(&mut self, on: bool) {
        self.led.set(on);
    }

    fn is_led_lit(&self) -> bool {
        self.led.is_lit()
    }
}

const BAUD: u32 = 921_600;
