//! The SPI bus: its controller blocking and asynchronous, its target a future that is woken by the end of a transfer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use embedded_hal::digital::{self, InputPin};
use embedded_hal::spi::{ErrorType, Operation};
use embedded_hal_async::digital::Wait;
use embedded_hal_async::spi::SpiDevice;
use visorbus_core::peer::{DeviceKey, Peer};
use visorbus_core::serve::turn;
use visorbus_core::{Instant, Link};
use visorbus_hal::{
    Lane, SpiController, SpiError, SpiFrames, SpiLink, SpiStats, SpiTargetLink, Timer as _, lane_len,
    serve_link, serve_spi,
};
use visorbus_imu::messages::GetInfo;
use visorbus_imu::{ImuNode, MAX_FRAME};
use visorbus_tests::clock::FakeClock;
use visorbus_tests::spi_bus::{BusDevice, BusFaults, BusReady, BusTarget, SpiBus};

use crate::line::{FakeTimer, a_little_later};
use crate::task::Task;
use crate::{Bench, Leaf, Stage, clock, peer, scenario};

#[test]
fn blocking_and_asynchronous_controllers_say_the_same() {
    let (mut blocking, mut awaited) = (blocking(), awaited());
    // The one makes up to four transfers a turn, the other one: answers come some microseconds apart, and so one of them may
    // see a sample more before the first that both see.
    let (mut one, mut other) = (scenario(&mut awaited), scenario(&mut blocking));
    one.begin_with(&mut other);
    assert_eq!(one.but_for_microseconds(), other.but_for_microseconds());
    let transfers = [blocking.leaf.bus.counts(), awaited.leaf.bus.counts()].map(|counts| counts.transfers);
    assert!(transfers[1].abs_diff(transfers[0]) < transfers[0] / 20, "{transfers:?}");
}

#[test]
fn an_asynchronous_target_serves_too() {
    let mut stage = target();
    scenario(&mut stage);
}

#[test]
fn faults_of_the_bus_cost_time_and_nothing_else() {
    let mut stage = awaited();
    stage.wait_for_service();
    let faults =
        BusFaults { bit_errors: 50, slips: 20, cut_offs: 20, busy: 50, errors: 50, ..BusFaults::NONE };
    stage.leaf.bus.set_faults(BusFaults { ready_glitches: 50, ..faults });
    for _ in 0..200 {
        assert_eq!(stage.call_ok::<GetInfo>(&()).boot_id, 7);
    }
    stage.leaf.bus.set_faults(BusFaults::NONE);
    assert_eq!(stage.call_ok::<GetInfo>(&()).boot_id, 7);
    assert_eq!(stage.hub.opened, 1);
}

#[test]
fn a_bus_that_only_fails_ends_it() {
    let mut stage = awaited();
    stage.wait_for_service();
    stage.leaf.bus.set_faults(BusFaults { errors: 1_000, ..BusFaults::NONE });
    stage.run_ms(1_000);
    let (error, stats) = stage.leaf.task.output.take().expect("it is over");
    assert!(matches!(error, SpiError::Bus(_)), "{error}");
    assert!(stats.errors >= 8, "{stats:?}");
}

#[test]
fn a_target_that_is_dead_leaves_the_bus_and_other_tasks_alone() {
    let mut stage = awaited();
    stage.wait_for_service();
    stage.leaf.bus.set_faults(BusFaults { miso: Some(true), ..BusFaults::NONE });
    stage.run_ms(100);
    let before = (stage.leaf.bus.counts().transfers, stage.leaf.polls);
    stage.run_ms(1_000);
    let (transfers, polls) = (stage.leaf.bus.counts().transfers - before.0, stage.leaf.polls - before.1);
    assert!((100..=300).contains(&transfers), "{transfers} transfers a second");
    assert!(polls < 5_000, "{polls} polls a second");
}

/// A controller whose loop this is.
struct Blocking {
    bus: SpiBus,
    peer: Peer<Lanes<SpiLink<BusDevice, BusReady>>, DeviceKey, MAX_FRAME>,
    node: ImuNode<Bench>,
    clock: FakeClock,
    due: Option<Instant>,
}

impl<L: Link> Leaf<L> for Blocking {
    fn run(&mut self, _hub: &mut L) -> bool {
        let (before, now) = (self.bus.counts(), self.clock.now());
        self.due = turn(&mut self.peer, &mut self.node, now).unwrap();
        self.bus.counts() != before
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// A leaf whose loop is a task.
struct Awaited<T> {
    bus: SpiBus,
    task: Task<T>,
    timer: FakeTimer,
    polls: u64,
}

impl<T, L: Link> Leaf<L> for Awaited<T> {
    fn run(&mut self, _hub: &mut L) -> bool {
        let before = self.bus.counts();
        self.timer.ring();
        let polled = self.task.poll();
        self.polls += u64::from(polled);
        polled || self.bus.counts() != before
    }

    fn due(&self) -> Option<Instant> {
        self.timer.due()
    }
}

fn blocking() -> Stage<Blocking, Lanes<SpiTargetLink<BusTarget>>> {
    let (clock, bus) = (clock(), SpiBus::new(1));
    let hub = Lane::new(SpiTargetLink::new(bus.target()));
    let leaf = Blocking {
        peer: peer(Lane::new(SpiLink::new(bus.device(), bus.ready_line()))),
        node: ImuNode::new(Bench(clock.clone()), 7),
        clock: clock.clone(),
        due: None,
        bus,
    };
    Stage::new(clock, hub, leaf)
}

fn awaited() -> Stage<Awaited<(SpiError, SpiStats)>, Lanes<SpiTargetLink<BusTarget>>> {
    let (clock, bus) = (clock(), SpiBus::new(1));
    let hub = Lane::new(SpiTargetLink::new(bus.target()));
    let timer = FakeTimer::new(clock.clone());
    let task = Task::new({
        let (bench, mut timer) = (Bench(clock.clone()), timer.clone());
        let (device, ready) = (Device(bus.device()), Ready::new(&bus));
        async move {
            let mut peer = peer(Lanes::new(SpiFrames::new(SpiController::new())));
            let mut node = ImuNode::new(bench, 7);
            let Err(gone) = serve_spi(&mut peer, &mut node, device, ready, &mut timer).await;
            (gone, peer.link().link().stats())
        }
    });
    Stage::new(clock, hub, Awaited { bus, task, timer, polls: 0 })
}

/// The leaf is the target: whoever makes a transfer wakes it.
fn target() -> Stage<Awaited<SpiError>, Lanes<Waking>> {
    let (clock, bus) = (clock(), SpiBus::new(1));
    let timer = FakeTimer::new(clock.clone());
    let ended: Rc<RefCell<Option<Waker>>> = Rc::default();
    let link = SpiLink::new(bus.device(), bus.ready_line());
    let hub = Lane::new(Waking { link, bus: bus.clone(), ended: ended.clone() });
    let task = Task::new({
        let (bench, timer, bus) = (Bench(clock.clone()), timer.clone(), bus.clone());
        async move {
            let mut peer = peer(Lanes::new(SpiTargetLink::new(bus.target())));
            let mut node = ImuNode::new(bench, 7);
            let Err(gone) =
                serve_link(&mut peer, &mut node, async |due| wait(due, &timer, &bus, &ended).await).await;
            gone
        }
    });
    Stage::new(clock, hub, Awaited { bus, task, timer, polls: 0 })
}

/// Waits for the end of a transfer, or until `due`; what time it is then.
async fn wait(
    due: Option<Instant>,
    timer: &FakeTimer,
    bus: &SpiBus,
    ended: &RefCell<Option<Waker>>,
) -> Instant {
    let before = bus.counts().transfers;
    let mut timer = timer.clone();
    {
        let mut timeout = pin!(timer.wait_until(due.unwrap_or(Instant::from_micros(u64::MAX))));
        poll_fn(|context| {
            *ended.borrow_mut() = Some(context.waker().clone());
            if bus.counts().transfers != before { Poll::Ready(()) } else { timeout.as_mut().poll(context) }
        })
        .await;
    }
    timer.now()
}

/// The device as an asynchronous one.
struct Device(BusDevice);

impl ErrorType for Device {
    type Error = <BusDevice as ErrorType>::Error;
}

impl SpiDevice for Device {
    async fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Self::Error> {
        a_little_later().await;
        embedded_hal::spi::SpiDevice::transaction(&mut self.0, operations)
    }
}

/// The ready line as one that is waited for.
struct Ready {
    line: BusReady,
    waiting: Arc<Mutex<Option<Waker>>>,
}

impl Ready {
    fn new(bus: &SpiBus) -> Self {
        let waiting = Arc::new(Mutex::new(None));
        bus.on_ready({
            let waiting: Arc<Mutex<Option<Waker>>> = waiting.clone();
            move || {
                if let Some(waker) = waiting.lock().unwrap().take() {
                    waker.wake();
                }
            }
        });
        Self { line: bus.ready_line(), waiting }
    }
}

impl digital::ErrorType for Ready {
    type Error = <BusReady as digital::ErrorType>::Error;
}

impl InputPin for Ready {
    fn is_high(&mut self) -> Result<bool, Self::Error> {
        self.line.is_high()
    }

    fn is_low(&mut self) -> Result<bool, Self::Error> {
        self.line.is_low()
    }
}

impl Wait for Ready {
    async fn wait_for_high(&mut self) -> Result<(), Self::Error> {
        poll_fn(|context| {
            *self.waiting.lock().unwrap() = Some(context.waker().clone());
            match self.line.is_high() {
                Ok(false) => Poll::Pending,
                Ok(true) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    async fn wait_for_low(&mut self) -> Result<(), Self::Error> {
        unreachable!("nobody waits for silence")
    }

    async fn wait_for_rising_edge(&mut self) -> Result<(), Self::Error> {
        unreachable!("a line that is high already would be slept through")
    }

    async fn wait_for_falling_edge(&mut self) -> Result<(), Self::Error> {
        unreachable!("nobody waits for silence")
    }

    async fn wait_for_any_edge(&mut self) -> Result<(), Self::Error> {
        unreachable!("nobody waits for an edge")
    }
}

/// The controller's end, whose transfers wake the target: the interrupt of its chip select.
struct Waking {
    link: SpiLink<BusDevice, BusReady>,
    bus: SpiBus,
    ended: Rc<RefCell<Option<Waker>>>,
}

impl Link for Waking {
    type Error = SpiError;

    fn room(&mut self) -> usize {
        self.link.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, SpiError> {
        self.link.receive()
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, SpiError> {
        self.link.send(frame)
    }

    fn flush(&mut self, now: Instant) -> Result<bool, SpiError> {
        let before = self.bus.counts().transfers;
        let flushed = self.link.flush(now);
        if self.bus.counts().transfers != before
            && let Some(waker) = self.ended.borrow_mut().take()
        {
            waker.wake();
        }
        flushed
    }

    fn max_frame(&self) -> usize {
        self.link.max_frame()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }
}

type Lanes<L> = Lane<L, { 2 * lane_len(MAX_FRAME) }>;
