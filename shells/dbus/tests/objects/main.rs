//! The objects of a service on a private bus, as programs of others see them: busctl and gdbus, and a program with libdbus
//! and nothing else.

mod busctl;
mod gdbus;
mod signals;
mod world;
