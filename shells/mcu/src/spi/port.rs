//! An SPI target as a link of the hub, over hardware that may come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant as Clock;

use rustix::event::{EventfdFlags, epoll, eventfd};
use visorbus_core::frame::length::prefix;
use visorbus_core::{Instant, Link};
use visorbus_hal::{Lane, LaneStats, SpiController, SpiLink, SpiStats, lane_len};
use visorbus_hub::{HubLink, LinkOptions, Origin, ReceiveBuffer, Reopen};

use super::{ReadyLine, SpiHardware, SpiSpec, SpidevHardware};
use crate::Trust;
use crate::lookout::{Fault, Lookout, lane_faults};

/// The hub's end of an SPI link. It outlives the device: gone, it waits for it to come back.
///
/// ```no_run
/// use visorbus_mcu::SpiPort;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub: visorbus_hub::HubHandle = todo();
/// hub.attach(Box::new(SpiPort::new("/dev/spidev0.0@8000000,ready=/dev/gpiochip0:17".parse()?)))?;
/// # Ok(()) }
/// # fn todo() -> visorbus_hub::HubHandle { std::process::exit(0) }
/// ```
#[derive(Debug)]
pub struct SpiPort<H: SpiHardware = SpidevHardware> {
    hardware: H,
    turnaround_us: u32,
    trust: Trust,
    lookout: Lookout,
    link: Option<Box<Open<H>>>,
    /// Two parts of a frame put together.
    frame: Vec<u8>,
}

impl SpiPort {
    /// The target that `spec` names; it is opened when the hub first asks for it.
    pub fn new(spec: SpiSpec) -> Self {
        let (turnaround_us, trust) = (spec.turnaround_us, spec.trust.clone());
        Self::over(SpidevHardware::new(spec), turnaround_us, trust)
    }
}

impl<H: SpiHardware> SpiPort<H> {
    /// Bytes of the longest message: on the bus it goes in pieces.
    pub const MAX_FRAME: usize = 1024;

    /// A target on other hardware; the rest as in an [`SpiSpec`].
    pub fn over(hardware: H, turnaround_us: u32, trust: Trust) -> Self {
        Self { hardware, turnaround_us, trust, lookout: Lookout::new(), link: None, frame: Vec::new() }
    }

    fn open(&mut self, now: Instant) -> Result<Open<H>, String> {
        let (device, ready) = self.hardware.open().map_err(|error| error.to_string())?;
        Open::new(
            SpiLink::with_controller(device, ready, SpiController::with_turnaround(self.turnaround_us)),
            now,
        )
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
        self.link.as_ref().map(|open| open.waiter.as_fd())
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        let Some(open) = &mut self.link else { return Err(self.away()) };
        open.receive(into).map_err(|error| self.gone(error))
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
                self.lookout.handle_opened(&name, "", now)
            }
            Err(error) => self.lookout.handle_failure(error, false, now),
        }
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
            keyed: false,
        }
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        let nothing = || faults(SpiStats::default(), LaneStats::default());
        self.lookout.with_earlier(self.link.as_deref().map_or_else(nothing, Open::faults))
    }
}

/// What a link has counted.
fn faults(spi: SpiStats, lane: LaneStats) -> Vec<Fault> {
    let mut faults = lane_faults(lane).to_vec();
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
    SpiLink<<H as SpiHardware>::Device, <H as SpiHardware>::Ready>,
    { 2 * lane_len(SpiPort::<SpidevHardware>::MAX_FRAME) },
>;

/// A link that is there.
struct Open<H: SpiHardware> {
    lane: SpiLane<H>,
    /// What the hub waits for: the ready line, or `again`.
    waiter: OwnedFd,
    /// Raised when there is something to receive of which the ready line does not speak.
    again: OwnedFd,
    /// What the hub's clock said last, and when that was.
    clock: (Instant, Clock),
}

impl<H: SpiHardware> Open<H> {
    fn new(link: SpiLink<H::Device, H::Ready>, now: Instant) -> io::Result<Self> {
        let waiter = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let again = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        for fd in [link.ready().as_fd(), again.as_fd()] {
            epoll::add(&waiter, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        }
        Ok(Self { lane: Lane::new(link), waiter, again, clock: (now, Clock::now()) })
    }

    /// Makes transfers and takes what they bring until there is nothing more to have at this moment, a bounded number.
    fn receive(&mut self, into: &mut ReceiveBuffer) -> Result<(), String> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.again, &mut count);
        // The level is looked at after this: a line that rises in between is seen either way.
        self.lane.link_mut().ready_mut().clear().map_err(|error| format!("{error:?}"))?;
        for _ in 0..TURNS {
            let before = self.transfers();
            self.lane.flush(self.now()).map_err(|error| error.to_string())?;
            while let Some(frame) = self.lane.receive().map_err(|error| error.to_string())? {
                into.extend(&prefix(frame.len()));
                into.extend(frame);
            }
            if self.transfers() == before {
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
        let _ = rustix::io::write(&self.again, &1_u64.to_ne_bytes());
    }

    fn faults(&self) -> Vec<Fault> {
        faults(self.lane.link().stats(), self.lane.stats())
    }

    fn transfers(&self) -> u32 {
        self.lane.link().stats().transfers
    }

    /// What the hub's clock says, as far as this link knows.
    fn now(&self) -> Instant {
        let (then, at) = self.clock;
        Instant::from_micros(then.as_micros() + at.elapsed().as_micros() as u64)
    }
}

impl<H: SpiHardware> std::fmt::Debug for Open<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("stats", &self.lane.link().stats()).finish_non_exhaustive()
    }
}

/// Times that a call looks for more, so that a target that babbles does not hold up the others.
const TURNS: u8 = 16;
