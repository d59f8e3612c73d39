//! The node: publishes samples on time and answers what it is asked. Written once, whatever it runs on.

use visorbus_core::dispatch::{Answers, Row};
use visorbus_core::peer::{Event, Keys, Node};
use visorbus_core::serve::Application;
use visorbus_core::{Instant, IpcError, Link, Peer};
use visorbus_device::{Board, Schedule, fitting};

use crate::messages::{DEFAULT_RATE_HZ, GetInfo, Info, RATES_HZ, Report, Sample, Samples, SelfTest, SetRate};
use crate::motion::sample_at;
use crate::self_test;

/// The sensor on the board `B`.
///
/// It publishes while the session is ready: one sample for each moment of its schedule, stamped with that moment. What
/// the link has no room for is dropped and counted, never put off.
#[derive(Debug)]
pub struct ImuNode<B> {
    board: B,
    boot_id: u64,
    rate_hz: u16,
    /// While the session is ready.
    schedule: Option<Schedule>,
    samples_sent: u32,
    samples_dropped: u32,
}

impl<B: Board> ImuNode<B> {
    /// A sensor that publishes at [`DEFAULT_RATE_HZ`] as soon as somebody takes it in.
    pub const fn new(board: B, boot_id: u64) -> Self {
        Self { board, boot_id, rate_hz: DEFAULT_RATE_HZ, schedule: None, samples_sent: 0, samples_dropped: 0 }
    }

    /// The board.
    pub const fn board(&self) -> &B {
        &self.board
    }

    const TABLE: [Row<Self>; ROWS] = [
        Row::endpoint::<GetInfo>(),
        Row::endpoint::<SetRate>(),
        Row::endpoint::<SelfTest>(),
        Row::publishes::<Samples>(),
    ];

    /// Publishes all samples that are due at `now`.
    fn publish_due<L: Link, K: Keys, const OUT: usize>(
        &mut self,
        peer: &mut Peer<L, K, OUT>,
        now: Instant,
    ) -> Result<(), L::Error> {
        let start = || Schedule::new(now.as_micros(), self.rate_hz);
        let schedule = self.schedule.get_or_insert_with(start);
        if now.as_micros().saturating_sub(schedule.next_us()) > LATEST_US {
            *schedule = start();
        }
        while schedule.next_us() <= now.as_micros() {
            let timestamp_us = schedule.next_us();
            let (accel, gyro) = sample_at(timestamp_us);
            let sample = Sample { timestamp_us, accel, gyro };
            let taken = Instant::from_micros(timestamp_us);
            let counter = match peer.publish_at::<Self, Samples>(&sample, taken)? {
                true => &mut self.samples_sent,
                false => &mut self.samples_dropped,
            };
            *counter = counter.wrapping_add(1);
            schedule.advance();
        }
        Ok(())
    }
}

impl<B: Board> Node for ImuNode<B> {
    const ROWS: &'static [Row<Self>] = &Self::TABLE;
}

impl<B: Board, L: Link, K: Keys, const OUT: usize> Application<L, K, OUT> for ImuNode<B> {
    fn tick(
        &mut self,
        peer: &mut Peer<L, K, OUT>,
        event: Option<Event>,
        now: Instant,
    ) -> Result<(), L::Error> {
        if let Some(event) = event {
            self.board.on_event(event);
        }
        if peer.session().is_ready() {
            return self.publish_due(peer, now);
        }
        self.schedule = None;
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        self.schedule.as_ref().map(|schedule| Instant::from_micros(schedule.next_us()))
    }
}

impl<B: Board> Answers<GetInfo> for ImuNode<B> {
    fn answer(&mut self, (): ()) -> Result<Info, IpcError> {
        Ok(Info {
            firmware: fitting(env!("CARGO_PKG_VERSION")),
            board: fitting(B::NAME),
            boot_id: self.boot_id,
            rate_hz: self.rate_hz,
            samples_sent: self.samples_sent,
            samples_dropped: self.samples_dropped,
            uptime_us: self.board.now_us(),
        })
    }
}

impl<B: Board> Answers<SetRate> for ImuNode<B> {
    fn answer(&mut self, rate_hz: u16) -> Result<u16, IpcError> {
        if !RATES_HZ.contains(&rate_hz) {
            return Err(IpcError::Message("the rate goes from 1 to 1000 Hz"));
        }
        self.rate_hz = rate_hz;
        // From the next turn of the loop on.
        self.schedule = None;
        Ok(rate_hz)
    }
}

impl<B: Board> Answers<SelfTest> for ImuNode<B> {
    fn answer(&mut self, (): ()) -> Result<Report, IpcError> {
        Ok(self_test::run(sample_at))
    }
}

/// Rows of the node's table.
pub(crate) const ROWS: usize = 4;

/// A loop that was held up for longer than this leaves out what it has missed.
const LATEST_US: u64 = 100_000;
