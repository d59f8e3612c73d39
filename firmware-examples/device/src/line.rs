//! The line of an example device: frames on a UART, above them the lane on which nothing is lost, and what it says first.

use embedded_io::{Read, ReadReady, Write, WriteReady};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::secure::{Connecting, LinkKey, NonceSeed, SecureEnd, Tag64, WrongSuite};
use visorbus_core::session::{Name, Role, SessionConfig};
use visorbus_hal::{Lane, SecureLink, SerialFrames, SerialLink, lane_len, serial_buffer_len};

/// Longest message either way, in bytes.
pub const MAX_FRAME: usize = 256;

/// The UART `U` as a link. Of the longest messages two may wait each way, so that an answer that is not acknowledged yet
/// does not hold up the next question.
pub type Line<U> = Lane<SerialLink<U, { serial_buffer_len(MAX_LINE_FRAME) }>, { 2 * lane_len(MAX_FRAME) }>;

/// As [`Line`], on a line with a key of the suite `tag64`.
pub type KeyedLine<U> = Lane<
    SecureLink<SerialLink<U, { serial_buffer_len(KEYED_FRAME) }>, Connecting<Tag64>, KEYED_FRAME>,
    { 2 * lane_len(MAX_FRAME) },
>;

/// As [`Line`], without the UART: for `visorbus_hal::serve_serial`, which has it. Frames of one turn wait here until the
/// UART takes them, so there is room for some.
pub type AsyncLine =
    Lane<SerialFrames<{ serial_buffer_len(3 * MAX_LINE_FRAME) }>, { 2 * lane_len(MAX_FRAME) }>;

/// What a device called `name`, whose table has `rows` rows, says of itself in its hello.
pub fn session_config(name: &str, rows: usize, boot_id: u64, requires_authentication: bool) -> SessionConfig {
    SessionConfig {
        role: Role::Connecting,
        // The names of devices are short constants: they fit.
        name: Name::try_from(name).unwrap_or_default(),
        boot_id,
        max_frame: MAX_FRAME as u32,
        heartbeat_ms: HEARTBEAT_MS,
        rows: rows as u16,
        requires_authentication,
        lossy: true,
    }
}

/// A link over `uart`. At 921 600 baud its longest piece takes 1.5 ms.
pub fn line<U: Read + Write + ReadReady + WriteReady>(uart: U) -> Line<U> {
    Lane::new(SerialLink::new(uart))
}

/// As [`line()`], with the key of the line. What `seed` is made from was never used for one before.
///
/// # Errors
/// The key is of another suite than `tag64`.
pub fn keyed_line<U: Read + Write + ReadReady + WriteReady>(
    uart: U,
    key: LinkKey,
    boot_id: u64,
    seed: NonceSeed,
) -> Result<KeyedLine<U>, WrongSuite> {
    Ok(Lane::new(SecureLink::new(SerialLink::new(uart), Connecting::new(key, boot_id, seed)?)))
}

/// A link whose bytes somebody else moves.
pub fn async_line() -> AsyncLine {
    Lane::new(SerialFrames::new())
}

/// Bytes of the longest frame on a line with a key.
const KEYED_FRAME: usize = MAX_LINE_FRAME + Connecting::<Tag64>::OVERHEAD;

/// Milliseconds between heartbeats; three without one, and an end counts as gone.
const HEARTBEAT_MS: u32 = 1_000;
