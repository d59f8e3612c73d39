//! What the tests and benches of Visorbus share: a fake clock, links in memory that lose and damage frames, a simulated
//! line, pairs of ends, and round trips to measure.

pub mod bare;
pub mod certificates;
pub mod clock;
pub mod clock_sim;
pub mod contest;
pub mod cpu;
pub mod dbus;
pub mod dbus_daemon;
pub mod echo;
pub mod faulty_link;
pub mod json_text;
pub mod line_bytes;
pub mod line_sim;
pub mod memory_link;
pub mod pair;
pub mod part;
pub mod patience;
pub mod program;
pub mod pty;
pub mod raw_peer;
pub mod raw_websocket;
pub mod secured;
pub mod signalled;
pub mod spi_bench;
pub mod spi_bus;
pub mod startup;
pub mod stats;
pub mod through_hub;
pub mod websocket;
pub mod websocket_peer;
