//! The Arm MPS2 board with the AN385 image (Cortex-M3 at 25 MHz), as QEMU's `mps2-an385` machine emulates it.
//!
//! Its devices are those of every MPS2 image: see [`Board`].
//!
//! ```no_run
//! use board_mps2_an385::{Board, DEFAULT_BAUD};
//!
//! let board = Board::take(DEFAULT_BAUD).expect("nobody else took it");
//! let started = board.clock.now_us();
//! ```
#![no_std]

pub use board_mps2::*;

/// What the board is called.
pub const NAME: &str = "mps2-an385";
