//! The inertial sensor on the MPS2 board under Embassy: the node of `visorbus-imu` is one task among others. A panic
//! resets the board.
#![no_std]
#![no_main]

use board_mps2_an386::{Board, Clock, Lamp, reset};
use board_mps2_embassy::AsyncUart;
use embassy_executor::Spawner;
use panic_defmt_reset as _;
use static_cell::StaticCell;
use visorbus_core::{Instant, peer::Event};
use visorbus_hal::{Timer, serve_serial};
use visorbus_imu::{AsyncLeaf, ImuBoard, ImuNode, USES_DEVELOPMENT_KEY, async_leaf, device_key};

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let board = Board::take(BAUD).expect("nobody took the board before");
    let boot_id = board.boot_id();
    defmt::info!("imu {=str}, boot id {=u64:016x}", env!("CARGO_PKG_VERSION"), boot_id);
    if USES_DEVELOPMENT_KEY {
        defmt::warn!(
            "this build has the development key, which everyone knows: set VISORBUS_DEVICE_KEY and build again"
        );
    }
    let [lamp, _] = board.lamps;
    spawner.spawn(blink(lamp).expect("it is spawned once"));
    sense(AsyncUart::new(board.uart), board.clock, boot_id).await
}

/// The node.
async fn sense(mut uart: AsyncUart, clock: Clock, boot_id: u64) -> ! {
    static PEER: StaticCell<AsyncLeaf> = StaticCell::new();
    let peer = PEER.init_with(|| async_leaf(boot_id, device_key()));
    let mut node = ImuNode::new(Mps2(clock), boot_id);
    let gone = serve_serial(peer, &mut node, uart.split(), &mut EmbassyTimer).await;
    defmt::error!("the UART is gone, resetting: {}", gone.err());
    reset()
}

/// Something else to do: the lamp shows that the executor runs.
#[embassy_executor::task]
async fn blink(mut lamp: Lamp) {
    for on in [true, false].into_iter().cycle() {
        lamp.set(on);
        embassy_time::Timer::after_millis(500).await;
    }
}

/// Embassy's clock as the node sees it.
struct EmbassyTimer;

impl Timer for EmbassyTimer {
    fn now(&self) -> Instant {
        Instant::from_micros(embassy_time::Instant::now().as_micros())
    }

    async fn wait_until(&mut self, due: Instant) {
        embassy_time::Timer::at(embassy_time::Instant::from_micros(due.as_micros())).await;
    }
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
