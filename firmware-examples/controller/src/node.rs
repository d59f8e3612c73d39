//! The node: publishes what the hand does, shakes it, switches a lamp, and answers what it is asked. Written once, whatever it runs on.

use visorbus_core::dispatch::{Answers, Row};
use visorbus_core::peer::{Event, Keys, Node};
use visorbus_core::serve::Application;
use visorbus_core::{Instant, IpcError, Link, Peer};
use visorbus_device::{Board, Schedule, fitting};

use crate::hand::{buttons_at, next_change, stick_at};
use crate::haptics::Haptics;
use crate::messages::{
    Battery, GetBattery, GetInfo, Haptic, INPUT_RATE_HZ, Info, Input, Inputs, Pulse, Shake, SwitchLed,
};

/// The controller on the board `B`.
///
/// It publishes while the session is ready: at its rate and whenever a button changes, stamped with that moment. What
/// the link has no room for is dropped and counted, never put off; the next one tells which buttons are down. A pulse
/// ends on time, session or not.
#[derive(Debug)]
pub struct ControllerNode<B> {
    board: B,
    boot_id: u64,
    /// While the session is ready.
    moments: Option<Moments>,
    haptics: Haptics,
    inputs_sent: u32,
    inputs_dropped: u32,
}

impl<B: ControllerBoard> ControllerNode<B> {
    /// A controller that publishes as soon as somebody takes it in.
    pub const fn new(board: B, boot_id: u64) -> Self {
        let haptics = Haptics::new();
        Self { board, boot_id, moments: None, haptics, inputs_sent: 0, inputs_dropped: 0 }
    }

    const TABLE: [Row<Self>; ROWS] = [
        Row::endpoint::<GetInfo>(),
        Row::endpoint::<GetBattery>(),
        Row::endpoint::<Shake>(),
        Row::endpoint::<SwitchLed>(),
        Row::publishes::<Inputs>(),
    ];

    /// Publishes all inputs that are due at `now`.
    fn publish_due<L: Link, K: Keys, const OUT: usize>(
        &mut self,
        peer: &mut Peer<L, K, OUT>,
        now: Instant,
    ) -> Result<(), L::Error> {
        let now_us = now.as_micros();
        let moments = self.moments.get_or_insert_with(|| Moments::from(now_us));
        if now_us.saturating_sub(moments.next_us()) > LATEST_US {
            *moments = Moments::from(now_us);
        }
        while moments.next_us() <= now_us {
            let timestamp_us = moments.take();
            let (buttons, stick) = (buttons_at(timestamp_us), stick_at(timestamp_us));
            let input = Input { timestamp_us, buttons, stick };
            let counter = match peer.publish_at::<Self, Inputs>(&input, Instant::from_micros(timestamp_us))? {
                true => &mut self.inputs_sent,
                false => &mut self.inputs_dropped,
            };
            *counter = counter.wrapping_add(1);
        }
        Ok(())
    }
}

impl<B: ControllerBoard> Node for ControllerNode<B> {
    const ROWS: &'static [Row<Self>] = &Self::TABLE;
}

impl<B: ControllerBoard, L: Link, K: Keys, const OUT: usize> Application<L, K, OUT> for ControllerNode<B> {
    fn tick(
        &mut self,
        peer: &mut Peer<L, K, OUT>,
        event: Option<Event>,
        now: Instant,
    ) -> Result<(), L::Error> {
        if let Some(event) = event {
            self.board.on_event(event);
        }
        if self.haptics.handle_timeout(now.as_micros()) {
            self.board.drive(None);
        }
        if peer.session().is_ready() {
            return self.publish_due(peer, now);
        }
        self.moments = None;
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        let input_us = self.moments.as_ref().map(Moments::next_us);
        let due_us = match (input_us, self.haptics.ends_us()) {
            (Some(input_us), Some(ends_us)) => Some(input_us.min(ends_us)),
            (input_us, ends_us) => input_us.or(ends_us),
        };
        due_us.map(Instant::from_micros)
    }
}

impl<B: ControllerBoard> Answers<GetInfo> for ControllerNode<B> {
    fn answer(&mut self, (): ()) -> Result<Info, IpcError> {
        let uptime_us = self.board.now_us();
        Ok(Info {
            firmware: fitting(env!("CARGO_PKG_VERSION")),
            board: fitting(B::NAME),
            boot_id: self.boot_id,
            inputs_sent: self.inputs_sent,
            inputs_dropped: self.inputs_dropped,
            pulses: self.haptics.begun(),
            pulse: self.haptics.running(uptime_us),
            led: self.board.is_led_lit(),
            uptime_us,
        })
    }
}

impl<B: ControllerBoard> Answers<GetBattery> for ControllerNode<B> {
    fn answer(&mut self, (): ()) -> Result<Battery, IpcError> {
        let uptime_us = self.board.now_us();
        Ok(Battery::after(uptime_us, self.haptics.spent_us(uptime_us)))
    }
}

impl<B: ControllerBoard> Answers<Shake> for ControllerNode<B> {
    fn answer(&mut self, haptic: Haptic) -> Result<Pulse, IpcError> {
        let now_us = self.board.now_us();
        let pulse = self.haptics.begin(&haptic, now_us)?;
        self.board.drive(self.haptics.running(now_us));
        Ok(pulse)
    }
}

impl<B: ControllerBoard> Answers<SwitchLed> for ControllerNode<B> {
    fn answer(&mut self, on: bool) -> Result<bool, IpcError> {
        self.board.set_led(on);
        Ok(self.board.is_led_lit())
    }
}

/// What the node needs of what it runs on, beside what every node needs.
pub trait ControllerBoard: Board {
    /// Runs the motor as `pulse` says, until it is called again; `None` stops it. Must not wait.
    fn drive(&mut self, pulse: Option<Pulse>) {
        let _ = pulse;
    }

    /// Switches the lamp, until it is called again. Must not wait.
    fn set_led(&mut self, on: bool);

    /// Whether the lamp is lit, as the hardware says.
    fn is_led_lit(&self) -> bool;
}

/// When the next input is due: at the rate, and when a button changes.
#[derive(Debug)]
struct Moments {
    schedule: Schedule,
    change_us: u64,
}

impl Moments {
    fn from(now_us: u64) -> Self {
        Self { schedule: Schedule::new(now_us, INPUT_RATE_HZ), change_us: next_change(now_us) }
    }

    fn next_us(&self) -> u64 {
        self.schedule.next_us().min(self.change_us)
    }

    /// The next moment; goes on to the one after it.
    fn take(&mut self) -> u64 {
        let moment_us = self.next_us();
        if self.schedule.next_us() == moment_us {
            self.schedule.advance();
        }
        if self.change_us == moment_us {
            self.change_us = next_change(moment_us);
        }
        moment_us
    }
}

/// Rows of the node's table.
pub(crate) const ROWS: usize = 5;

/// A loop that was held up for longer than this leaves out what it has missed.
const LATEST_US: u64 = 100_000;
