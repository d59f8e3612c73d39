//! A serial line as a link of the hub: the framing of `visorbus-hal` over a [`Tty`] that may come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use visorbus_core::frame::length::prefix;
use visorbus_core::secure::SecureStats;
use visorbus_core::time::earlier;
use visorbus_core::{Instant, Link};
use visorbus_hal::{Lane, LaneStats, SerialLink, SerialStats, lane_len, piece_len, serial_buffer_len};
use visorbus_hub::{HubLink, LinkOptions, Origin, Proven, ReceiveBuffer, Reopen};

use crate::guarded::{Guarded, Notes, OVERHEAD, secure_faults};
use crate::lookout::{Fault, Lookout, lane_faults};
use crate::{BoardKeys, OpenError, SerialSpec, Trust, Tty, TtyError};

/// The hub's end of a serial line. It outlives the device: pulled out, it waits for it to come back.
///
/// ```no_run
/// use visorbus_mcu::SerialPort;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub: visorbus_hub::HubHandle = todo();
/// # let keys: std::sync::Arc<dyn visorbus_mcu::BoardKeys> = std::sync::Arc::new(visorbus_mcu::NoBoardKeys);
/// hub.attach(Box::new(SerialPort::new("/dev/ttyACM0@115200".parse()?, keys)))?;
/// # Ok(()) }
/// # fn todo() -> visorbus_hub::HubHandle { std::process::exit(0) }
/// ```
pub struct SerialPort {
    spec: SerialSpec,
    keys: Arc<dyn BoardKeys>,
    lookout: Lookout,
    link: Option<Box<Line>>,
    notes: Notes,
    /// Two parts of a frame put together.
    frame: Vec<u8>,
}

/// Bytes of the longest frame that goes over the line.
const RAW_FRAME: usize = SerialPort::MAX_FRAME + OVERHEAD;

type Raw = SerialLink<Buffered, { serial_buffer_len(RAW_FRAME) }>;

/// With room for two of the longest messages each way.
type Line = Lane<Guarded<Raw, RAW_FRAME>, { 2 * lane_len(SerialPort::MAX_FRAME) }>;

impl SerialPort {
    /// Bytes of the longest frame on a serial line. At 115 200 baud it takes 90 ms; most boards take less.
    pub const MAX_FRAME: usize = 1024;

    /// The line that `spec` names, for a board that one of `keys` proves unless `spec` says otherwise; the device is
    /// opened when the hub first asks for it.
    pub fn new(spec: SerialSpec, keys: Arc<dyn BoardKeys>) -> Self {
        Self { spec, keys, lookout: Lookout::new(), link: None, notes: Notes::default(), frame: Vec::new() }
    }

    fn name(&self) -> String {
        self.spec.path.display().to_string()
    }

    fn gone(&self) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, format!("{} is gone", self.name()))
    }
}

impl HubLink for SerialPort {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(|line| line.link().raw().uart().tty.as_fd())
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        let line = self.link.as_deref_mut().ok_or_else(away)?;
        line.link_mut().raw_mut().uart_mut().allow_reads();
        loop {
            match line.receive() {
                Ok(Some(frame)) => {
                    into.extend(&prefix(frame.len()));
                    into.extend(frame);
                    continue;
                }
                Ok(None) => {}
                Err(_) => return Err(self.gone()),
            }
            let is_new = self.notes.follow(line.link_mut(), self.spec.path.display(), into);
            if !is_new && line.link().raw().uart().is_drained() {
                return Ok(());
            }
        }
    }

    fn has_room(&mut self, head: u8, len: usize) -> bool {
        self.link.as_mut().is_some_and(|line| line.room_for(head) >= len)
    }

    fn send(&mut self, head: &[u8], payload: &[u8], _at_once: bool) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.extend_from_slice(head);
        frame.extend_from_slice(payload);
        // A line is slow: the end of the hub's turn is soon enough to begin.
        let sent = self.link.as_deref_mut().ok_or_else(away)?.send(&frame);
        self.frame = frame;
        sent.map(|_| ()).map_err(|_| self.gone())
    }

    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        let Some(line) = &mut self.link else { return Ok(true) };
        line.link_mut().raw_mut().uart_mut().pace.now = now;
        match line.flush(now) {
            // The device would take more, but it is to wait: `poll_timeout` says when.
            Ok(done) => Ok(done || line.link().raw().uart().pace.waits_until().is_some()),
            Err(_) => Err(self.gone()),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let line = self.link.as_ref()?;
        earlier(line.link().raw().uart().pace.waits_until(), line.poll_timeout())
    }

    fn reset(&mut self, epoch: Option<u16>) {
        if let Some(line) = &mut self.link {
            line.reset(epoch);
        }
    }

    fn reopen(&mut self, now: Instant) -> Reopen {
        let name = self.name();
        if let Some(line) = self.link.take() {
            self.lookout.handle_gone(&name, faults(&line), now);
        }
        if let Some(later) = self.lookout.poll_wait(now) {
            return later;
        }
        match Tty::open(&self.spec.path, self.spec.baud) {
            Ok(tty) => {
                let baud = tty.baud();
                // On a USB port the speed says nothing.
                let pace = if is_usb(&self.spec.path) { u32::MAX } else { baud };
                let raw = Raw::new(Buffered::new(tty, Pace::new(pace, now)));
                let guarded = Guarded::new(raw, &self.spec.trust, &self.keys);
                self.link = Some(Box::new(Line::new(guarded).with_piece(piece_len(pace))));
                self.notes = Notes::default();
                self.lookout.handle_opened(&name, &format!(" at {baud} baud"), now)
            }
            Err(error) => {
                let missing = matches!(error, OpenError::Missing { .. });
                self.lookout.handle_failure(error, missing, now)
            }
        }
    }

    fn trouble(&self) -> Option<&str> {
        self.lookout.trouble()
    }

    fn origin(&self) -> Origin {
        Origin::Serial { path: self.name() }
    }

    fn options(&self) -> LinkOptions {
        LinkOptions {
            lossy: true,
            lane: true,
            max_frame: Self::MAX_FRAME as u32,
            unauthenticated: self.spec.trust.unauthenticated(),
            only: self.spec.trust.only(),
            keyed: self.spec.trust == Trust::LinkKey,
            ..LinkOptions::default()
        }
    }

    fn proven(&self) -> Option<Proven> {
        self.link.as_ref()?.link().proven()
    }

    fn recheck(&mut self) {
        if let Some(line) = &mut self.link {
            line.link_mut().recheck();
        }
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        let now = match &self.link {
            Some(line) => faults(line),
            None => count(SerialStats::default(), LaneStats::default(), SecureStats::default()),
        };
        self.lookout.with_earlier(now)
    }
}

/// What a line has counted.
fn faults(line: &Line) -> Vec<Fault> {
    count(line.link().raw().stats(), line.stats(), line.link().stats())
}

fn count(line: SerialStats, lane: LaneStats, secure: SecureStats) -> Vec<Fault> {
    let mut faults = lane_faults(lane).to_vec();
    faults.extend(secure_faults(secure));
    faults.extend([
        ("bad_crc", line.faults.bad_crc.into()),
        ("cut_off", line.faults.cut_off.into()),
        ("too_long", line.faults.too_long.into()),
        ("dropped", line.faults.dropped.into()),
        ("read_errors", line.read_errors.into()),
        ("write_errors", line.write_errors.into()),
    ]);
    faults
}

fn away() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the device is not there")
}

/// A [`Tty`] that is read in large pieces, one system call each.
#[derive(Debug)]
struct Buffered {
    tty: Tty,
    bytes: Box<[u8; 4096]>,
    start: usize,
    end: usize,
    /// Reads that are left until the hub asks again: none once the device was empty, for epoll tells of what comes
    /// after that; and a bounded number, so that a babbling line does not hold up the others.
    reads_left: u8,
    pace: Pace,
}

impl Buffered {
    fn new(tty: Tty, pace: Pace) -> Self {
        Self { tty, bytes: Box::new([0; 4096]), start: 0, end: 0, reads_left: 0, pace }
    }

    const fn allow_reads(&mut self) {
        self.reads_left = 16;
    }

    /// Whether there is nothing more to have until the hub asks again.
    const fn is_drained(&self) -> bool {
        self.reads_left == 0 && self.start == self.end
    }
}

impl ErrorType for Buffered {
    type Error = TtyError;
}

impl ReadReady for Buffered {
    fn read_ready(&mut self) -> Result<bool, TtyError> {
        if self.start == self.end && self.reads_left > 0 {
            match self.tty.read(&mut self.bytes[..]) {
                Ok(count) => {
                    (self.start, self.end) = (0, count);
                    self.reads_left = if count < self.bytes.len() { 0 } else { self.reads_left - 1 };
                }
                Err(TtyError::WouldBlock) => self.reads_left = 0,
                Err(error) => return Err(error),
            }
        }
        Ok(self.start < self.end)
    }
}

impl Read for Buffered {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TtyError> {
        if !self.read_ready()? {
            return Err(TtyError::WouldBlock);
        }
        let count = into.len().min(self.end - self.start);
        into[..count].copy_from_slice(&self.bytes[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, TtyError> {
        let count = self.tty.write(bytes)?;
        self.pace.handle_written(count);
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), TtyError> {
        Ok(())
    }
}

impl WriteReady for Buffered {
    fn write_ready(&mut self) -> Result<bool, TtyError> {
        Ok(self.pace.allows_more() && self.tty.write_ready()?)
    }
}

/// Gives the kernel no more than the line carries in a few milliseconds: it would take 4 KiB, a third of a second at
/// 115 200 baud, and nothing urgent could overtake that.
#[derive(Debug)]
struct Pace {
    baud: u32,
    now: Instant,
    /// When the line has carried all that was written.
    carried_at: Instant,
    /// More was to be written than there is time for.
    waits: bool,
}

impl Pace {
    const fn new(baud: u32, now: Instant) -> Self {
        Self { baud, now, carried_at: now, waits: false }
    }

    fn allows_more(&mut self) -> bool {
        self.waits = self.carried_at.micros_since(self.now) > AHEAD_US;
        !self.waits
    }

    fn handle_written(&mut self, bytes: usize) {
        // Ten bits a byte: start, eight, stop.
        let micros = bytes as u64 * 10_000_000 / u64::from(self.baud.max(1));
        self.carried_at = Instant::from_micros(self.carried_at.max(self.now).as_micros() + micros);
    }

    /// When more may be written, while something waits for that.
    fn waits_until(&self) -> Option<Instant> {
        let until = Instant::from_micros(self.carried_at.as_micros().saturating_sub(AHEAD_US));
        self.waits.then_some(until)
    }
}

/// Whether a device is one of those that Linux has for USB's own serial class (CDC ACM).
fn is_usb(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ttyACM"))
}

/// How far the kernel may be ahead of the line, in microseconds: more than the hub's loop needs to come back to it.
const AHEAD_US: u64 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_never_given_more_than_a_few_milliseconds_of_the_line() {
        let mut pace = Pace::new(115_200, Instant::from_micros(0));
        let mut written = 0;
        for micros in (0..1_000_000).step_by(500) {
            pace.now = Instant::from_micros(micros);
            while pace.allows_more() {
                pace.handle_written(16);
                written += 16;
            }
            let waits = pace.waits_until().unwrap();
            assert!(pace.now <= waits && waits.micros_since(pace.now) <= 16 * 10_000_000 / 115_200);
            let carried = micros * 115_200 / 10_000_000;
            // 4 ms of the line, the piece that went last, and what is lost in rounding it to microseconds.
            assert!(
                written <= carried + 46 + 16 + carried / 500 + 1,
                "{written} bytes given, {carried} carried"
            );
        }
        assert!(written >= 11_520, "the line was idle: {written} bytes");
        assert!(pace.waits_until().is_some());
    }
}
