//! The real firmware on emulated boards, the hub at the other end of their UARTs, clients on the hub's socket.

mod board;
mod controller;
mod imu;
mod keyed;
#[path = "../line/mod.rs"]
mod line;
mod styles;
