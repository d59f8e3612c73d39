//! A service with an interface of one's own, on a real private bus, asked by programs that know nothing of Visorbus.

mod access;
mod configuration;
mod faults;
mod members;
mod monitoring;
mod over;
mod peers;
mod program;
mod thermostat;
mod world;
