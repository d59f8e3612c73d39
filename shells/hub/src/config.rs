//! What a hub is started with.

use visorbus_core::auth::KeyRing;

/// A hub's keys and limits. All limits have safe defaults; keys have none.
#[derive(Debug)]
pub struct HubConfig {
    /// The root keys: what tokens are checked with, and what the hub proves itself to boards with.
    pub keys: KeyRing,
    /// The id of the key that the hub itself mints with.
    pub key_id: u8,
    /// Differs at each start of the hub.
    pub boot_id: u64,
    /// What one peer may cost.
    pub limits: Limits,
}

impl HubConfig {
    /// A configuration with `keys`, of which `key_id` mints, and the default limits.
    pub fn new(keys: KeyRing, key_id: u8) -> Self {
        Self { keys, key_id, boot_id: unix_micros(), limits: Limits::default() }
    }
}

/// What one peer may cost the hub. Whoever passes a limit is told which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, in bytes. Default 1 MiB.
    pub max_frame: u32,
    /// Connections at once. Default 1024; further ones are closed at once.
    pub max_peers: usize,
    /// Bytes that wait for one peer that does not read, each frame with what it costs to keep it; as many of its
    /// messages may wait for handlers that may block. Default 4 MiB.
    pub queue_bytes: usize,
    /// Requests of one peer that wait for their answers. Default 4096.
    pub pending_calls: usize,
    /// Subscriptions of one peer. Default 256.
    pub subscriptions: usize,
    /// Components of one peer beside its own name. Default 64.
    pub components: usize,
    /// Milliseconds from connect to the end of authentication. Default 5 000.
    pub handshake_ms: u32,
    /// Milliseconds for a request that names no time. Default 5 000.
    pub request_ms: u32,
    /// Longest time that a request may name, in milliseconds. Default 1 h.
    pub max_request_ms: u32,
    /// Milliseconds between heartbeats on sockets, where the kernel tells of a closed end anyway. Default 30 000.
    pub socket_heartbeat_ms: u32,
    /// Milliseconds between heartbeats on lines that do not tell when the other end is gone. Default 500.
    pub line_heartbeat_ms: u32,
    /// Threads for handlers that may block. Default 2.
    pub pool_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 1 << 20,
            max_peers: 1024,
            queue_bytes: 4 << 20,
            pending_calls: 4096,
            subscriptions: 256,
            components: 64,
            handshake_ms: 5_000,
            request_ms: 5_000,
            max_request_ms: 3_600_000,
            socket_heartbeat_ms: 30_000,
            line_heartbeat_ms: 500,
            pool_threads: 2,
        }
    }
}

/// Microseconds since 1970; 0 on a machine whose clock is before that.
pub fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
