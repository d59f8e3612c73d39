//! What Embassy needs of Arm's MPS2 board: its UART as two asynchronous streams, and its clock and alarm as the time
//! driver of `embassy-time`.
//!
//! A program that links this crate has these handlers of the board's interrupts instead of the board's own. It must not
//! sleep with [`board_mps2::Idle`]: the alarm is the time driver's.
#![no_std]

mod time;
mod uart;

pub use uart::{AsyncUart, UartRx, UartTx};
