//! The core of Visorbus.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

pub mod limits;
pub mod time;
pub mod link;
pub mod frame;
pub mod message;
pub mod auth;
