//! Every capacity of the core on one page. Changing one changes RAM on every board; none is a Cargo feature.

/// Longest address in bytes: the whole `component/path…`.
pub const MAX_ADDRESS: usize = 64;
/// Longest name of a component or peer in bytes: the first segment of an address.
pub const MAX_NAME: usize = 32;
/// Longest scope in bytes: a name, or an operation and a pattern.
pub const MAX_SCOPE: usize = 48;
/// Longest frame on a line on which both ends acknowledge and send again, in bytes without what the line adds: longer
/// messages go in pieces, so that none holds the line for long.
pub const MAX_LINE_FRAME: usize = 128;
/// Longest encoded token in bytes (body and tag).
pub const MAX_TOKEN: usize = 256;
/// Bytes that a `Grant` keeps of its token's scopes, each with one byte of length before it.
pub const MAX_GRANT_SCOPES: usize = 128;
/// Caveats that one token may carry.
pub const MAX_CAVEATS: usize = 4;
/// Keys that one ring holds.
pub const MAX_KEYS: usize = 4;
/// Subjects whose earlier tokens a board knows to be void; with more than these it takes back everybody's.
pub const MAX_REVOKED: usize = 4;
/// Requests that one session may have sent and not yet seen answered (its own hello and authentication among them).
pub const MAX_PENDING: usize = 4;
