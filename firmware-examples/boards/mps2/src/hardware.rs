//! All that needs `unsafe`: registers, interrupt vectors, the hard-fault entry, memory that survives a reset.
//!
//! What it offers the rest of the crate is safe. It must never know what the registers are used for.
#![allow(unsafe_code)]

use core::{arch::naked_asm, mem::MaybeUninit, ptr};

use cortex_m::peripheral::NVIC;

/// One 32-bit peripheral register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register(usize);

impl Register {
    /// The register at an address; private, so that only the list below makes one.
    const fn at(address: usize) -> Register {
        Register(address)
    }

    pub(crate) fn read(self) -> u32 {
        // SAFETY: the addresses below are aligned device registers of this board; reading one has no effect on memory.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    pub(crate) fn write(self, value: u32) {
        // SAFETY: as for `read`; none of them starts a transfer to or from memory.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }
}

/// CMSDK APB UART0 (Cortex-M System Design Kit TRM, section 4.3).
pub(crate) mod uart0 {
    use super::Register;

    pub(crate) const DATA: Register = Register::at(0x4000_4000);
    pub(crate) const STATE: Register = Register::at(0x4000_4004);
    pub(crate) const CTRL: Register = Register::at(0x4000_4008);
    pub(crate) const INTSTATUS: Register = Register::at(0x4000_400C);
    pub(crate) const BAUDDIV: Register = Register::at(0x4000_4010);
}

/// CMSDK APB timers (TRM, section 4.1): the first counts for the stopwatch, the second ends a sleep.
pub(crate) mod timer {
    use super::Register;

    pub(crate) const STOPWATCH_CTRL: Register = Register::at(0x4000_0000);
    pub(crate) const STOPWATCH_VALUE: Register = Register::at(0x4000_0004);
    pub(crate) const STOPWATCH_RELOAD: Register = Register::at(0x4000_0008);
    pub(crate) const ALARM_CTRL: Register = Register::at(0x4000_1000);
    pub(crate) const ALARM_VALUE: Register = Register::at(0x4000_1004);
    pub(crate) const ALARM_RELOAD: Register = Register::at(0x4000_1008);
    pub(crate) const ALARM_INTSTATUS: Register = Register::at(0x4000_100C);
}

/// The lamps and the counters of the FPGA's system block (application notes AN385 and AN386, section 4.3).
pub(crate) mod fpga_io {
    use super::Register;

    pub(crate) const LEDS: Register = Register::at(0x4002_8000);
    pub(crate) const SECONDS: Register = Register::at(0x4002_8010);
    pub(crate) const COUNTER: Register = Register::at(0x4002_8018);
    pub(crate) const PRESCALE: Register = Register::at(0x4002_801C);
    pub(crate) const PRESCALE_COUNTER: Register = Register::at(0x4002_8020);
    pub(crate) const MISC: Register = Register::at(0x4002_804C);
}

/// PrimeCell PL022, the first SPI controller (its TRM, section 3.2).
pub(crate) mod spi0 {
    use super::Register;

    pub(crate) const CR0: Register = Register::at(0x4002_0000);
    pub(crate) const CR1: Register = Register::at(0x4002_0004);
    pub(crate) const DR: Register = Register::at(0x4002_0008);
    pub(crate) const SR: Register = Register::at(0x4002_000C);
    pub(crate) const CPSR: Register = Register::at(0x4002_0010);
}

/// The interrupt lines in use, by the names of their vectors (application notes AN385 and AN386, section 3.5).
///
/// A program may have a handler of its own for each: a function that is exported under the vector's name. It calls what
/// stands for the vector in [`interrupts`](crate::interrupts).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub enum Interrupt {
    /// UART0 has received a byte.
    UARTRX0 = 0,
    /// UART0 has room for a byte to send.
    UARTTX0 = 1,
    /// The alarm: [`Idle`](crate::Idle) sleeps by it.
    TIMER1 = 9,
    /// The dual timer, which nothing here uses: a program may pend it for itself.
    DUALTIMER = 10,
}

// SAFETY: every value is below the 32 lines that the board has, and each names one line.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// Lets an interrupt reach its handler.
pub(crate) fn unmask(interrupt: Interrupt) {
    // SAFETY: the handlers share only atomics with the program, so no critical section relies on a masked line.
    unsafe { NVIC::unmask(interrupt) }
}

/// Adds one to a counter that no reset clears, and returns it. After power-on it starts anywhere.
pub(crate) fn next_start() -> u32 {
    #[unsafe(link_section = ".uninit.starts")]
    static mut STARTS: MaybeUninit<u32> = MaybeUninit::uninit();

    critical_section::with(|_| {
        let starts = &raw mut STARTS;
        // SAFETY: the only reference to the counter, within a critical section; any bits are a valid u32, and the
        // volatile read takes them from the memory as it is.
        unsafe {
            let next = ptr::read_volatile(starts.cast::<u32>()).wrapping_add(1);
            ptr::write_volatile(starts.cast::<u32>(), next);
            next
        }
    })
}

/// An entry of the vector table.
type Vector = unsafe extern "C" fn();

// The board's own handlers unless the program has others; `device.x` says so to the linker.
unsafe extern "C" {
    fn DefaultHandler();
    fn UARTRX0();
    fn UARTTX0();
    fn TIMER1();
    fn DUALTIMER();
}

#[unsafe(no_mangle)]
extern "C" fn board_uart_receive() {
    crate::uart::on_receive();
}

#[unsafe(no_mangle)]
extern "C" fn board_uart_transmit() {
    crate::uart::on_transmit();
}

#[unsafe(no_mangle)]
extern "C" fn board_alarm() {
    crate::idle::on_alarm();
}

/// The vectors of the 32 lines, which cortex-m-rt places behind the processor's own.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Vector; 32] = {
    let mut vectors = [DefaultHandler as Vector; 32];
    vectors[Interrupt::UARTRX0 as usize] = UARTRX0;
    vectors[Interrupt::UARTTX0 as usize] = UARTTX0;
    vectors[Interrupt::TIMER1 as usize] = TIMER1;
    vectors[Interrupt::DUALTIMER as usize] = DUALTIMER;
    vectors
};

/// Makes a semihosting call fail where nobody answers it, and resets the board on any other hard fault.
///
/// A semihosting call is `bkpt 0xab`. Without a debugger that is a hard fault: the call then returns -1, so the same
/// image runs with and without one. On another fault the program continues, in the mode it was in, in [`on_fault`].
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn HardFault() {
    naked_asm!(
        "tst lr, #4",              // which stack holds the frame: r0-r3, r12, lr, pc, xpsr
        "ite eq",
        "mrseq r0, msp",
        "mrsne r0, psp",
        "ldr r1, [r0, #24]",       // pc
        "cmp r1, #0x400000",       // only look where there is code
        "bhs 1f",
        "ldrh r2, [r1]",
        "movw r3, #0xbeab",        // bkpt 0xab
        "cmp r2, r3",
        "bne 1f",
        "adds r1, #2",
        "str r1, [r0, #24]",
        "mvn r1, #0",
        "str r1, [r0]",
        "bx lr",
        "1:",
        "str r1, [r0]",            // the argument of on_fault
        "ldr r1, ={on_fault}",
        "bic r1, #1",
        "str r1, [r0, #24]",
        "ldr r2, [r0, #28]",       // xpsr: no if-then block, thumb
        "bic r2, #0x06000000",
        "bic r2, #0x0000fc00",
        "orr r2, #0x01000000",
        "str r2, [r0, #28]",
        "bx lr",
        ".ltorg",
        on_fault = sym on_fault,
    )
}

/// Where the program goes on after a hard fault at `address`.
extern "C" fn on_fault(address: u32) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("hard fault at {=u32:#x}, resetting", address);
    #[cfg(not(feature = "defmt"))]
    let _ = address;
    crate::reset()
}
