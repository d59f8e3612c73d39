//! The inertial sensor on the MPS2 board under RTIC: the node of `visorbus-imu` has no loop. One turn of it is the
//! task with the lowest priority, and the interrupts of the UART and the alarm pend that. A panic resets the board.
#![no_std]
#![no_main]

// The start-up code.
use cortex_m_rt as _;
use panic_defmt_reset as _;

#[rtic::app(device = board_mps2_an386::interrupts, peripherals = false)]
mod app {
    use board_mps2_an386::interrupts::{self, Interrupt};
    use board_mps2_an386::{Board, Clock, Uart, reset};
    use static_cell::StaticCell;
    use visorbus_core::{Instant, peer::Event, serve::turn};
    use visorbus_imu::{ImuBoard, ImuNode, Leaf, USES_DEVELOPMENT_KEY, device_key, leaf};

    #[shared]
    struct Shared {}

    #[local]
    struct Local {
        peer: &'static mut Leaf<Uart>,
        imu: ImuNode<Mps2>,
    }

    #[init]
    fn init(_: init::Context) -> (Shared, Local) {
        static PEER: StaticCell<Leaf<Uart>> = StaticCell::new();
        let board = Board::take(BAUD).expect("nobody took the board before");
        let boot_id = board.boot_id();
        defmt::info!("imu {=str}, boot id {=u64:016x}", env!("CARGO_PKG_VERSION"), boot_id);
        if USES_DEVELOPMENT_KEY {
            defmt::warn!(
                "this build has the development key, which everyone knows: set VISORBUS_DEVICE_KEY and build again"
            );
        }
        rtic::pend(NODE);
        let peer = PEER.init_with(|| leaf(board.uart, boot_id, device_key()));
        (Shared {}, Local { peer, imu: ImuNode::new(Mps2(board.clock), boot_id) })
    }

    #[idle]
    fn idle(_: idle::Context) -> ! {
        loop {
            cortex_m::asm::wfi();
        }
    }

    #[task(binds = UARTRX0, priority = 3)]
    fn receive(_: receive::Context) {
        interrupts::uart_receive();
        rtic::pend(NODE);
    }

    #[task(binds = UARTTX0, priority = 3)]
    fn transmit(_: transmit::Context) {
        if interrupts::uart_transmit() {
            rtic::pend(NODE);
        }
    }

    #[task(binds = TIMER1, priority = 2)]
    fn alarm(_: alarm::Context) {
        interrupts::alarm();
        rtic::pend(NODE);
    }

    /// One turn. What pends it meanwhile has it run once more.
    #[task(binds = DUALTIMER, priority = 1, local = [peer, imu])]
    fn node(context: node::Context) {
        let now = Instant::from_micros(context.local.imu.board().now_us());
        match turn(context.local.peer, context.local.imu, now) {
            Ok(Some(due)) if due <= now => rtic::pend(NODE),
            Ok(Some(due)) => interrupts::set_alarm(u32::try_from(due.micros_since(now)).unwrap_or(u32::MAX)),
            Ok(None) => {}
            Err(gone) => {
                defmt::error!("the link is gone, resetting: {}", gone);
                reset()
            }
        }
    }

    /// The board as the node sees it.
    pub struct Mps2(Clock);

    impl ImuBoard for Mps2 {
        const NAME: &'static str = board_mps2_an386::NAME;

        fn now_us(&self) -> u64 {
            self.0.now_us()
        }

        fn on_event(&mut self, event: Event) {
            visorbus_device::log_event(event);
        }
    }

    /// The line that the task `node` is bound to; no device drives it.
    const NODE: Interrupt = Interrupt::DUALTIMER;

    /// Enough for 1000 samples a second.
    const BAUD: u32 = 921_600;
}
