//! The `visorbus` command as its users meet it: real processes, a directory of its own for each test.

mod accounts;
mod configuration;
mod dbus;
mod demo;
mod doctor;
mod documented;
mod guide;
mod hardware;
mod keys;
mod manage;
mod messages;
mod monitor;
mod over_hub;
mod payloads;
mod place;
mod policy;
mod progress;
mod serve;
mod services;
mod shell;
mod startup;
mod tls;
mod tokens;
mod websocket;
