//! The board's microsecond clock and its alarm, as `embassy-time` wants them.
// For the name of the vector.
#![allow(unsafe_code)]

use core::cell::RefCell;
use core::task::Waker;

use board_mps2::{Clock, interrupts};
use critical_section::{CriticalSection, Mutex};
use embassy_time_queue_utils::Queue;

embassy_time_driver::time_driver_impl!(static DRIVER: Driver = Driver(Mutex::new(RefCell::new(Queue::new()))));

/// Who waits until when.
struct Driver(Mutex<RefCell<Queue>>);

impl Driver {
    /// Wakes whose time has come, and sets the alarm for the next.
    fn handle_alarm(&self, cs: CriticalSection<'_>) {
        let mut queue = self.0.borrow(cs).borrow_mut();
        let now = Clock::now();
        let next = queue.next_expiration(now);
        if next != u64::MAX {
            // One that is too far away for the alarm is looked at again on the way.
            interrupts::set_alarm(u32::try_from(next.saturating_sub(now)).unwrap_or(u32::MAX));
        }
    }
}

impl embassy_time_driver::Driver for Driver {
    fn now(&self) -> u64 {
        Clock::now()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let is_sooner = self.0.borrow(cs).borrow_mut().schedule_wake(at, waker);
            if is_sooner {
                self.handle_alarm(cs);
            }
        });
    }
}

#[unsafe(no_mangle)]
extern "C" fn TIMER1() {
    interrupts::alarm();
    critical_section::with(|cs| DRIVER.handle_alarm(cs));
}
