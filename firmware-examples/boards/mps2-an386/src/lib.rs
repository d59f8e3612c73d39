//! The Arm MPS2 board with the AN386 image (Cortex-M4F at 25 MHz), as QEMU's `mps2-an386` machine emulates it.
//!
//! Its devices are those of every MPS2 image: see [`Board`].
//!
//! ```no_run
//! use board_mps2_an386::{Board, DEFAULT_BAUD};
//!
//! let board = Board::take(DEFAULT_BAUD).expect("nobody else took it");
//! let started = board.clock.now_us();
//! ```
#![no_std]

pub use board_mps2::*;

/// What the board is called.
pub const NAME: &str = "mps2-an386";
