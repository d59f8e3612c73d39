//! The hardware: boards behind their links, and the devices of this machine.
