//! What a hub is started with.

use std::sync::Arc;

use visorbus_auth::{AuthenticationProvider, AuthorizationProvider, TokenProvider, TokenScopes};
use visorbus_core::auth::KeyRing;

/// Who says who somebody is and what they may do, and a hub's limits. All limits have safe defaults; the two providers
/// have none.
pub struct HubConfig {
    /// Checks who somebody is, and makes and takes back tokens, the hub's own among them.
    pub auth: Arc<dyn AuthenticationProvider>,
    /// Decides who may do what.
    pub policy: Arc<dyn AuthorizationProvider>,
    /// Differs at each start of the hub. Boards prove themselves to the hub that says it, so nobody must be able to tell
    /// it beforehand.
    pub boot_id: u64,
    /// What one peer may cost.
    pub limits: Limits,
}

impl HubConfig {
    /// A hub that takes tokens made with `keys`, allows what they say, and mints with the key called `key_id`.
    ///
    /// # Panics
    /// As [`HubConfig::with_providers`].
    pub fn new(keys: KeyRing, key_id: u8) -> Self {
        Self::with_providers(Arc::new(TokenProvider::new(keys, key_id)), Arc::new(TokenScopes))
    }

    /// A hub with accounts and a policy of its own, a random boot id, and the default limits.
    ///
    /// # Panics
    /// When the system gives no random numbers. Linux gives them from early in its own start on.
    pub fn with_providers(
        auth: Arc<dyn AuthenticationProvider>,
        policy: Arc<dyn AuthorizationProvider>,
    ) -> Self {
        // A hub whose boot id could be foretold must not start.
        let boot_id = getrandom::u64().expect("the system gives random numbers");
        Self { auth, policy, boot_id, limits: Limits::default() }
    }
}

impl std::fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubConfig").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What one peer may cost the hub. Whoever passes a limit is told which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, in bytes. Default 1 MiB.
    pub max_frame: u32,
    /// Connections at once. Default 1024; for a further one, the oldest from the network that has not authenticated goes,
    /// and where there is none it is closed at once.
    pub max_peers: usize,
    /// Connections at once of one user of this machine. Default 256; further ones are closed at once.
    pub peers_per_user: usize,
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
    /// Seconds for which a session whose token has expired may go on without a new one: what it was asked it may answer,
    /// and its name stays its own. Default 60.
    pub expired_s: u32,
    /// Milliseconds for a request that names no time. Default 5 000.
    pub request_ms: u32,
    /// Longest time that a request may name, in milliseconds. Default 1 h.
    pub max_request_ms: u32,
    /// Milliseconds between heartbeats on sockets, where the kernel tells of a closed end anyway. Default 30 000.
    pub socket_heartbeat_ms: u32,
    /// Milliseconds between heartbeats on lines that do not tell when the other end is gone. Default 500.
    pub line_heartbeat_ms: u32,
    /// Threads for handlers that may block; each runs on one of them at a time. Default 8: the standard services and their
    /// interfaces on a D-Bus are seven, so that none of them waits for another.
    pub pool_threads: usize,
    /// Bytes a second that are turned from postcard into JSON, or back, for one peer: for what it publishes and notifies,
    /// and for what it asks with its answer. An eighth of it may come at once. Default 16 MiB.
    pub translated_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 1 << 20,
            max_peers: 1024,
            peers_per_user: 256,
            queue_bytes: 4 << 20,
            pending_calls: 4096,
            subscriptions: 256,
            components: 64,
            handshake_ms: 5_000,
            expired_s: 60,
            request_ms: 5_000,
            max_request_ms: 3_600_000,
            socket_heartbeat_ms: 30_000,
            line_heartbeat_ms: 500,
            pool_threads: 8,
            translated_bytes: 16 << 20,
        }
    }
}

/// Microseconds since 1970; 0 on a machine whose clock is before that.
pub fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
