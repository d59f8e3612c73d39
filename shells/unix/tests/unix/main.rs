//! Unix sockets from both ends: framing, the socket's file, the connection by hand, the client, the server.

mod account;
mod client;
mod connection;
mod inherited;
mod odd_wire;
mod opposite;
mod sealed;
mod server;
mod socket_file;
mod stream;
mod types;
