//! An SPI target as a link of the hub, over hardware that may come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant as Clock;

use rustix::event::{EventfdFlags, epoll, eventfd};
use visorbus_core::frame::length::prefix;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::secure::SecureStats;
use visorbus_core::{Instant, Link};
use visorbus_hal::{Lane, LaneStats, SpiController, SpiLink, SpiStats, lane_len};
use visorbus_hub::{HubLink, LinkOptions, Origin, Proven, ReceiveBuffer, Reopen};

use super::{ReadyLine, SpiHardware, SpiSpec, SpidevHardware};
use crate::guarded::{Guarded, Notes, secure_faults};
use crate::lookout::{Fault, Lookout, lane_faults};
use crate::{BoardKeys, Trust};

/// The hub's end of an SPI link. It outlives the device: gone, it waits for it to come back.
///
/// ```no_run
/// use visorbus_mcu::SpiPort;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub: visorbus_hub::HubHandle = todo();
/// # let keys: std::sync::Arc<dyn visorbus_mcu::BoardKeys> = std::sync::Arc::new(visorbus_mcu::NoBoardKeys);
/// hub.attach(Box::new(SpiPort::new("/dev/spidev0.0@8000000,ready=/dev/gpiochip0:17".parse()?, keys)))?;
/// # Ok(()) }
/// # fn todo() -> visorbus_hub::HubHandle { std::process::exit(0) }
/// ```
pub struct SpiPort<H: SpiHardware = SpidevHardware> {
    hardware: H,
    turnaround_us: u32,
    trust: Trust,
    keys: Arc<dyn BoardKeys>,
    lookout: Lookout,
    link: Option<Box<Open<H>>>,
    notes: Notes,
    /// Two parts of a frame put together.
    frame: Vec<u8>,
}

impl SpiPort {
    /// The target that `spec` names, for a board that one of `keys` proves unless `spec` says otherwise; it is opened when
    /// the hub first asks for it.
    pub fn new(spec: SpiSpec, keys: Arc<dyn BoardKeys>) -> Self {
        let (turnaround_us, trust) = (spec.turnaround_us, spec.trust.clone());
        Self::over(SpidevHardware::new(spec), turnaround_us, trust, keys)
    }
}

impl<H: SpiHardware> SpiPort<H> {
    /// Bytes of the longest message: on the bus it goes in pieces.
    pub const MAX_FRAME: usize = 1024;

    /// A target on other hardware; the rest as in an [`SpiSpec`].
    pub fn over(hardware: H, turnaround_us: u32, trust: Trust, keys: Arc<dyn BoardKeys>) -> Self {
        let (lookout, notes) = (Lookout::new(), Notes::default());
        Self { hardware, turnaround_us, trust, keys, lookout, link: None, notes, frame: Vec::new() }
    }

    fn open(&mut self, now: Instant) -> Result<Open<H>, String> {
        let (device, ready) = self.hardware.open().map_err(|error| error.to_string())?;
        let controller = SpiController::with_turnaround(self.turnaround_us);
        let link = SpiLink::with_controller(device, ready, controller);
        let wake = Wake::new(link.ready().as_fd());
        let guarded = Guarded::new(link, &self.trust, &self.keys);
        wake.map(|wake| Open::new(guarded, wake, now))
            .map_err(|error| format!("cannot wait for {}: {error}", self.hardware.path()))
    }

    fn away(&self) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, "the device is not there")
    }

    fn gone(&self, error: impl std::fmt::Display) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, format!("{} is gone: {error}", self.hardware.path()))
    }
}

impl<H: SpiHardware> HubLink for SpiPort<H> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(|open| open.wake.waiter.as_fd())
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        let Some(open) = &mut self.link else { return Err(self.away()) };
        let line = self.hardware.path();
        open.receive(&mut self.notes, &line, into).map_err(|error| self.gone(error))
    }

    fn has_room(&mut self, head: u8, len: usize) -> bool {
        self.link.as_mut().is_some_and(|open| open.lane.room_for(head) >= len)
    }

    fn send(&mut self, head: &[u8], payload: &[u8], _at_once: bool) -> io::Result<()> {
        let Some(open) = &mut self.link else { return Err(self.away()) };
        self.frame.clear();
        self.frame.extend_from_slice(head);
        self.frame.extend_from_slice(payload);
        // The end of the hub's turn is soon enough to begin.
        let sent = open.lane.send(&self.frame);
        sent.map(|_| ()).map_err(|error| self.gone(error))
    }

    /// Always `true`: time decides what goes next, and never the descriptor.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        let Some(open) = &mut self.link else { return Ok(true) };
        open.flush(now).map(|()| true).map_err(|error| self.gone(error))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.as_ref()?.lane.poll_timeout()
    }

    fn reset(&mut self, epoch: Option<u16>) {
        if let Some(open) = &mut self.link {
            open.lane.reset(epoch);
        }
    }

    fn reopen(&mut self, now: Instant) -> Reopen {
        let name = self.hardware.path();
        if let Some(open) = self.link.take() {
            self.lookout.handle_gone(&name, open.faults(), now);
        }
        if let Some(later) = self.lookout.poll_wait(now) {
            return later;
        }
        match self.open(now) {
            Ok(open) => {
                self.link = Some(Box::new(open));
                self.notes = Notes::default();
                self.lookout.handle_opened(&name, "", now)
            }
            Err(error) => self.lookout.handle_failure(error, false, now),
        }
    }

    fn trouble(&self) -> Option<&str> {
        self.lookout.trouble()
    }

    fn origin(&self) -> Origin {
        Origin::Spi { path: self.hardware.path() }
    }

    fn options(&self) -> LinkOptions {
        LinkOptions {
            lossy: true,
            lane: true,
            max_frame: Self::MAX_FRAME as u32,
            unauthenticated: self.trust.unauthenticated(),
            only: self.trust.only(),
            keyed: self.trust == Trust::LinkKey,
            ..LinkOptions::default()
        }
    }

    fn proven(&self) -> Option<Proven> {
        self.link.as_ref()?.lane.link().proven()
    }

    fn recheck(&mut self) {
        if let Some(open) = &mut self.link {
            open.lane.link_mut().recheck();
        }
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        let nothing = || faults(SpiStats::default(), LaneStats::default(), SecureStats::default());
        self.lookout.with_earlier(self.link.as_deref().map_or_else(nothing, Open::faults))
    }
}

/// What a link has counted.
fn faults(spi: SpiStats, lane: LaneStats, secure: SecureStats) -> Vec<Fault> {
    let mut faults = lane_faults(lane).to_vec();
    faults.extend(secure_faults(secure));
    faults.extend([
        ("bad_status", spi.bad_status.into()),
        ("bad_crc", spi.bad_crc.into()),
        ("repeated", spi.repeated.into()),
        ("errors", spi.errors.into()),
    ]);
    faults
}

/// With room for two of the longest messages each way.
type SpiLane<H> = Lane<
    Guarded<SpiLink<<H as SpiHardware>::Device, <H as SpiHardware>::Ready>, MAX_LINE_FRAME>,
    { 2 * lane_len(SpiPort::<SpidevHardware>::MAX_FRAME) },
>;

/// A link that is there.
struct Open<H: SpiHardware> {
    lane: SpiLane<H>,
    wake: Wake,
    /// What the hub's clock said last, and when that was.
    clock: (Instant, Clock),
}

/// What has the hub look at a link.
struct Wake {
    /// What the hub waits for: the ready line, or `again`.
    waiter: OwnedFd,
    /// Raised when there is something to receive of which the ready line does not speak.
    again: OwnedFd,
}

impl Wake {
    fn new(ready: BorrowedFd<'_>) -> io::Result<Self> {
        let waiter = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let again = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        for fd in [ready, again.as_fd()] {
            epoll::add(&waiter, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        }
        Ok(Self { waiter, again })
    }
}

impl<H: SpiHardware> Open<H> {
    fn new(link: Guarded<SpiLink<H::Device, H::Ready>, MAX_LINE_FRAME>, wake: Wake, now: Instant) -> Self {
        Self { lane: Lane::new(link), wake, clock: (now, Clock::now()) }
    }

    /// Makes transfers and takes what they bring until there is nothing more to have at this moment, a bounded number.
    fn receive(&mut self, notes: &mut Notes, line: &str, into: &mut ReceiveBuffer) -> Result<(), String> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake.again, &mut count);
        // The level is looked at after this: a line that rises in between is seen either way.
        self.lane.link_mut().raw_mut().ready_mut().clear().map_err(|error| format!("{error:?}"))?;
        for _ in 0..TURNS {
            let before = self.transfers();
            self.lane.flush(self.now()).map_err(|error| error.to_string())?;
            while let Some(frame) = self.lane.receive().map_err(|error| error.to_string())? {
                into.extend(&prefix(frame.len()));
                into.extend(frame);
            }
            let is_new = notes.follow(self.lane.link_mut(), line, into);
            if self.transfers() == before && !is_new {
                return Ok(());
            }
        }
        self.come_again();
        Ok(())
    }

    fn flush(&mut self, now: Instant) -> Result<(), String> {
        self.clock = (now, Clock::now());
        let before = self.transfers();
        self.lane.flush(now).map_err(|error| error.to_string())?;
        if self.transfers() != before {
            // It may have brought something.
            self.come_again();
        }
        Ok(())
    }

    fn come_again(&self) {
        // It fails only when it is raised 2^64 - 2 times already.
        let _ = rustix::io::write(&self.wake.again, &1_u64.to_ne_bytes());
    }

    fn faults(&self) -> Vec<Fault> {
        faults(self.lane.link().raw().stats(), self.lane.stats(), self.lane.link().stats())
    }

    fn transfers(&self) -> u32 {
        self.lane.link().raw().stats().transfers
    }

    /// What the hub's clock says, as far as this link knows.
    fn now(&self) -> Instant {
        let (then, at) = self.clock;
        Instant::from_micros(then.as_micros() + at.elapsed().as_micros() as u64)
    }
}

impl<H: SpiHardware> std::fmt::Debug for Open<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("stats", &self.lane.link().raw().stats()).finish_non_exhaustive()
    }
}

/// Times that a call looks for more, so that a target that babbles does not hold up the others.
const TURNS: u8 = 16;
