//! A hub on a desktop bus from outside: programs that are not ours use it, and others attack it.
//!
//! What is said over the bus is no frame: whoever attacks has the bus between itself and the hub. So the attacks of the test
//! program `security`, which has the links of the bus in it too, are here again as a program of the bus can make them.

mod crowds;
mod fds;
mod floods;
mod forgeries;
mod fuzz;
mod identities;
mod messages;
mod privacy;
mod program;
mod programs;
mod python;
mod raw;
mod restarts;
mod settings;
mod world;

#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/mod.rs"]
mod line;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "../line/node.rs"]
mod sensor;
