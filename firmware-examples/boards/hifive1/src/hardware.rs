//! All that needs `unsafe`: the timer that ends a sleep, a register that survives a reset, the reset itself.
#![allow(unsafe_code)]

use e310x::{Backup, CLINT, Wdog};
use riscv::register::{mcycle, mie, mstatus};

/// Ticks of 1/32768 s.
pub(crate) fn ticks() -> u64 {
    CLINT::mtimer().mtime.read()
}

/// Has the timer end a sleep at `at`.
pub(crate) fn set_alarm(at: u64) {
    CLINT::mtimecmp0().write(at);
    // SAFETY: interrupts are off as a whole, so this one ends a sleep and reaches no handler.
    unsafe {
        mstatus::clear_mie();
        mie::set_mtimer();
    }
}

/// See [`Board::boot_id`](crate::Board::boot_id).
pub(crate) fn boot_id(kept: &Backup) -> u64 {
    let starts = kept.backup(0).read().bits().wrapping_add(1);
    // SAFETY: the register is a plain word for the program to use.
    kept.backup(0).write(|word| unsafe { word.bits(starts) });
    let begun = ticks();
    while ticks() < begun + 4 {}
    u64::from(starts) | u64::from(mcycle::read() as u32) << 32
}

/// Resets the chip, by a watchdog that nobody feeds.
pub fn reset() -> ! {
    // SAFETY: whatever else owned it, nothing of the program goes on after this.
    let watchdog = unsafe { Wdog::steal() };
    let unlock = || {
        // SAFETY: the key that lets the next write through (FE310-G002 manual, section 14.4).
        watchdog.wdogkey().write(|word| unsafe { word.bits(KEY) });
    };
    unlock();
    // SAFETY: any value is one that the count can reach.
    watchdog.wdogcmp().write(|word| unsafe { word.bits(1) });
    unlock();
    watchdog.wdogcfg().write(|word| word.rsten().set_bit().enalways().set_bit());
    loop {
        riscv::asm::nop();
    }
}

const KEY: u32 = 0x0051_F15E;
