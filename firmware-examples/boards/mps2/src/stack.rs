//! How much stack a piece of work takes, for measuring.
#![allow(unsafe_code)]

use core::ptr;

use cortex_m::register::msp;

/// Bytes of stack that `work` and the interrupts in between take, of at most 16 KiB; what lies below is overwritten.
#[inline(never)]
pub fn stack_depth(work: impl FnOnce()) -> u32 {
    let top = msp::read();
    let bottom = top - DEPTH;
    for address in (bottom..top).step_by(4) {
        // SAFETY: below the stack pointer and within the RAM that is the stack's alone: nobody's memory. An interrupt
        // that comes now writes over the paint, no more.
        unsafe { ptr::write_volatile(address as *mut u32, PAINT) };
    }
    work();
    // SAFETY: as above; any bits are a u32.
    let untouched = |address: &u32| unsafe { ptr::read_volatile(*address as *const u32) == PAINT };
    DEPTH - 4 * (bottom..top).step_by(4).take_while(untouched).count() as u32
}

const DEPTH: u32 = 16 * 1024;

/// A word that seldom occurs.
const PAINT: u32 = 0xA5C3_5A3C;
