//! The logger and the panic handler of firmware that is run in an emulator or under a debugger.
//!
//! Link it with `use panic_defmt_reset as _;`. A panic is logged and resets the microcontroller, so that a crashed
//! node comes back by itself.
#![no_std]

use core::{
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use cortex_m::peripheral::SCB;
#[cfg(feature = "semihosting")]
use defmt_semihosting as _;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    cortex_m::interrupt::disable();
    // The second time the logger itself panicked, for instance because the first panic was within a log statement. No
    // interrupt comes between the two: a Cortex-M0 has no swap.
    let again = PANICKING.load(Ordering::Relaxed);
    PANICKING.store(true, Ordering::Relaxed);
    if !again {
        defmt::error!("{}", defmt::Display2Format(info));
    }
    SCB::sys_reset()
}
