//! WebSockets from both ends: the client against the server, and what a server says to those who break the rules.

mod client;
mod home;
mod rules;
mod tls;
