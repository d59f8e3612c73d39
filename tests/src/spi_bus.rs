//! An SPI bus without wires: a controller and a target in one process, and between them everything that a real bus does
//! wrong, by a seeded generator.
//!
//! The target is the one that the contract of [`SpiTarget`] describes: a transfer takes what is armed, whatever its owner is
//! doing meanwhile; what is not armed answers with bytes that say nothing. The two ends may be on different threads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedded_hal::digital::{self, InputPin};
use embedded_hal::spi::{self, ErrorKind, Operation, SpiDevice};
use visorbus_core::frame::spi::MAX_TRANSFER;
use visorbus_hal::SpiTarget;

use crate::faulty_link::Random;

/// The bus; a clone is another handle to it.
#[derive(Debug, Clone)]
pub struct SpiBus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wires: Mutex<Wires>,
    /// A transfer is over.
    ended: Condvar,
}

impl SpiBus {
    /// A bus with the faults of `seed`; none until [`SpiBus::set_faults`].
    pub fn new(seed: u64) -> Self {
        let wires = Wires {
            target: Peripheral::default(),
            faults: BusFaults::NONE,
            counts: BusCounts::default(),
            random: Random::new(seed),
            on_ready: None,
            log: None,
        };
        Self(Arc::new(Shared { wires: Mutex::new(wires), ended: Condvar::new() }))
    }

    /// The controller's end: the target's chip select on the bus.
    pub fn device(&self) -> BusDevice {
        BusDevice(self.clone())
    }

    /// The controller's end of the target's ready line.
    pub fn ready_line(&self) -> BusReady {
        BusReady(self.clone())
    }

    /// The target's end. Power comes on: what another one had armed is gone.
    pub fn target(&self) -> BusTarget {
        self.wires().target = Peripheral::default();
        BusTarget { bus: self.clone(), received: Vec::new() }
    }

    /// From now on this often.
    pub fn set_faults(&self, faults: BusFaults) {
        self.wires().faults = faults;
    }

    /// What the bus did so far.
    pub fn counts(&self) -> BusCounts {
        self.wires().counts
    }

    /// Has `rise` called whenever the ready line rises.
    pub fn on_ready(&self, rise: impl FnMut() + Send + 'static) {
        self.wires().on_ready = Some(Rise(Box::new(rise)));
    }

    /// From now on keeps what the ends put on the wires, before any faults.
    pub fn record(&self) {
        self.wires().log = Some(VecDeque::new());
    }

    /// The transfers recorded since this was last asked: what the controller sent, and what the target did.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.wires().log.as_mut().map(|log| log.drain(..).collect()).unwrap_or_default()
    }

    /// Waits until a transfer is over that nobody has asked the target for, or for `longest`; on a real target that is
    /// the interrupt of its chip select.
    pub fn wait_for_transfer(&self, longest: Duration) {
        let waits = |wires: &mut Wires| wires.target.finished.is_none();
        drop(self.0.ended.wait_timeout_while(self.wires(), longest, waits));
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often what happens, in transfers of a thousand unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusFaults {
    /// One to three bits are flipped, in one direction or the other.
    pub bit_errors: u32,
    /// Somewhere in it the target misses one to seven clocks, or sees as many too many.
    pub slips: u32,
    /// The target sees chip select go up somewhere within it.
    pub cut_offs: u32,
    /// The target does not see chip select go up at its end: the next transfer goes on where this one stopped.
    pub lost_ends: u32,
    /// The target is busy: it takes nothing and says nothing, and what is armed stays for the next one.
    pub busy: u32,
    /// The controller's hardware reports an error in the middle of it.
    pub errors: u32,
    /// Looks of a thousand at which the ready line seems to have the other level.
    pub ready_glitches: u32,
    /// The level of a line from the target to the controller that is stuck.
    pub miso: Option<bool>,
    /// The level of a line from the controller to the target that is stuck.
    pub mosi: Option<bool>,
    /// The level of a ready line that is stuck.
    pub ready: Option<bool>,
}

impl BusFaults {
    /// A bus as it should be.
    pub const NONE: Self = Self {
        bit_errors: 0,
        slips: 0,
        cut_offs: 0,
        lost_ends: 0,
        busy: 0,
        errors: 0,
        ready_glitches: 0,
        miso: None,
        mosi: None,
        ready: None,
    };
    /// The controller's hardware fails each time.
    pub const DEAD: Self = Self { errors: 1_000, ..Self::NONE };
}

/// What a [`SpiBus`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusCounts {
    /// Transfers.
    pub transfers: u64,
    /// Bytes clocked in them.
    pub bytes: u64,
    /// Those of them that found nothing armed.
    pub unarmed: u64,
    /// Faults, of all kinds but lines that are stuck.
    pub faults: u64,
}

/// What the ends put on the wires in one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The bytes of the controller, all of them.
    pub controller: Vec<u8>,
    /// The bytes of the target, as many; `None` when nothing was armed.
    pub target: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Wires {
    target: Peripheral,
    faults: BusFaults,
    counts: BusCounts,
    random: Random,
    on_ready: Option<Rise>,
    log: Option<VecDeque<Recorded>>,
}

struct Rise(Box<dyn FnMut() + Send>);

impl std::fmt::Debug for Rise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rise")
    }
}

/// The target's hardware.
#[derive(Debug, Default)]
struct Peripheral {
    armed: Option<Vec<u8>>,
    /// A transfer whose end it has not seen, and what came in it so far.
    running: Option<Vec<u8>>,
    finished: Option<Vec<u8>>,
    ready: bool,
}

impl Wires {
    fn happens(&mut self, share: u32) -> bool {
        let happens = self.random.per_mille(share);
        self.counts.faults += u64::from(happens);
        happens
    }

    /// One transfer: what the controller hears while it sends `sent`.
    fn transfer(&mut self, sent: &[u8]) -> Vec<u8> {
        self.counts.transfers += 1;
        self.counts.bytes += sent.len() as u64;
        let busy = self.happens(self.faults.busy);
        let answer = if busy { None } else { self.answer(sent.len()) };
        let target = answer.clone();
        if let Some(log) = &mut self.log {
            log.push_back(Recorded { controller: sent.to_vec(), target });
        }
        let Some(answer) = answer else {
            self.counts.unarmed += 1;
            return vec![0xFF; sent.len()];
        };
        let (mut out, mut back) = (sent.to_vec(), answer);
        self.spoil(&mut out, &mut back);
        if let Some(level) = self.faults.mosi {
            out.fill(if level { 0xFF } else { 0 });
        }
        if let Some(level) = self.faults.miso {
            back.fill(if level { 0xFF } else { 0 });
        }
        self.target.running.get_or_insert_default().extend(out);
        if !self.happens(self.faults.lost_ends) {
            self.end();
        }
        back
    }

    /// What the target has to say in `len` bytes; `None` when it is not armed.
    fn answer(&self, len: usize) -> Option<Vec<u8>> {
        let armed = self.target.armed.as_ref()?;
        let begin = self.target.running.as_ref().map_or(0, Vec::len);
        let mut answer: Vec<u8> = armed.iter().skip(begin).take(len).copied().collect();
        answer.resize(len, 0);
        Some(answer)
    }

    /// What happens to the bytes on their way.
    fn spoil(&mut self, out: &mut Vec<u8>, back: &mut Vec<u8>) {
        if out.is_empty() {
            return;
        }
        if self.happens(self.faults.bit_errors) {
            let one = if self.random.per_mille(500) { &mut *out } else { &mut *back };
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(one.len() as u64) as usize;
                one[at] ^= 1 << self.random.below(8);
            }
        }
        if self.happens(self.faults.slips) {
            let at = self.random.below(out.len() as u64 * 8) as usize;
            let bits = 1 + self.random.below(7) as usize;
            let gained = self.random.per_mille(500);
            *out = slipped(out, at, bits, gained);
            let len = back.len();
            // A clock that the target misses it sends a bit later.
            *back = slipped(back, at, bits, !gained);
            back.resize(len, 0xFF);
        }
        if self.happens(self.faults.cut_offs) {
            let at = self.random.below(out.len() as u64 + 1) as usize;
            out.truncate(at);
            back[at..].fill(0xFF);
        }
    }

    /// The target sees chip select go up.
    fn end(&mut self) {
        let mut received = self.target.running.take().unwrap_or_default();
        received.truncate(MAX_TRANSFER);
        self.target.finished = Some(received);
        self.target.armed = None;
        self.target.ready = false;
    }
}

/// `bytes` with `bits` bits left out, or sent once more, at bit `at`.
fn slipped(bytes: &[u8], at: usize, bits: usize, gained: bool) -> Vec<u8> {
    let all: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 != 0)).collect();
    let (before, after) = all.split_at(at);
    let after = if gained {
        [&vec![after.first().copied().unwrap_or_default(); bits][..], after].concat()
    } else {
        after.get(bits..).unwrap_or_default().to_vec()
    };
    let all = [before, &after].concat();
    let whole = all.chunks_exact(8);
    whole.map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

/// The target's chip select, seen from the controller.
#[derive(Debug)]
pub struct BusDevice(SpiBus);

impl spi::ErrorType for BusDevice {
    type Error = ErrorKind;
}

impl SpiDevice for BusDevice {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        let mut sent = Vec::new();
        for operation in &*operations {
            match operation {
                Operation::Read(into) => sent.extend(vec![0; into.len()]),
                Operation::Write(bytes) => sent.extend(*bytes),
                Operation::Transfer(into, bytes) => {
                    sent.extend(*bytes);
                    sent.extend(vec![0; into.len().saturating_sub(bytes.len())]);
                }
                Operation::TransferInPlace(bytes) => sent.extend(&**bytes),
                Operation::DelayNs(_) => {}
            }
        }
        let mut wires = self.0.wires();
        let share = wires.faults.errors;
        let fails = wires.happens(share);
        if fails {
            // Some of it was on the wires.
            let at = wires.random.below(sent.len() as u64 + 1) as usize;
            sent.truncate(at);
        }
        let heard = wires.transfer(&sent);
        drop(wires);
        self.0.0.ended.notify_all();
        if fails {
            return Err(ErrorKind::Overrun);
        }
        let mut heard = heard.into_iter();
        for operation in operations {
            match operation {
                Operation::Read(into) => into.fill_with(|| heard.next().unwrap_or_default()),
                Operation::Write(bytes) => heard.by_ref().take(bytes.len()).for_each(drop),
                Operation::Transfer(into, bytes) => {
                    into.fill_with(|| heard.next().unwrap_or_default());
                    heard.by_ref().take(bytes.len().saturating_sub(into.len())).for_each(drop);
                }
                Operation::TransferInPlace(bytes) => bytes.fill_with(|| heard.next().unwrap_or_default()),
                Operation::DelayNs(_) => {}
            }
        }
        Ok(())
    }
}

/// The target's ready line, seen from the controller.
#[derive(Debug)]
pub struct BusReady(SpiBus);

impl digital::ErrorType for BusReady {
    type Error = digital::ErrorKind;
}

impl InputPin for BusReady {
    fn is_high(&mut self) -> Result<bool, digital::ErrorKind> {
        let mut wires = self.0.wires();
        let share = wires.faults.ready_glitches;
        let glitch = wires.happens(share);
        Ok(wires.faults.ready.unwrap_or(wires.target.ready ^ glitch))
    }

    fn is_low(&mut self) -> Result<bool, digital::ErrorKind> {
        self.is_high().map(|high| !high)
    }
}

/// The target's end of the bus.
#[derive(Debug)]
pub struct BusTarget {
    bus: SpiBus,
    received: Vec<u8>,
}

impl SpiTarget for BusTarget {
    type Error = ErrorKind;

    fn arm(&mut self, bytes: &[u8], ready: bool) -> Result<bool, ErrorKind> {
        let mut wires = self.bus.wires();
        if wires.target.running.is_some() || wires.target.finished.is_some() {
            return Ok(false);
        }
        wires.target.armed = Some(bytes.to_vec());
        let rises = ready && !wires.target.ready;
        wires.target.ready = ready;
        if let Some(rise) = wires.on_ready.as_mut().filter(|_| rises) {
            (rise.0)();
        }
        Ok(true)
    }

    fn finished(&mut self) -> Result<Option<&[u8]>, ErrorKind> {
        let Some(received) = self.bus.wires().target.finished.take() else { return Ok(None) };
        self.received = received;
        Ok(Some(&self.received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_carries_both_ways_at_once_and_only_what_is_armed() {
        let bus = SpiBus::new(1);
        let (mut device, mut target, mut ready) = (bus.device(), bus.target(), bus.ready_line());
        let mut heard = [0; 3];
        device.transfer(&mut heard, &[1, 2, 3]).unwrap();
        assert_eq!((heard, target.finished()), ([0xFF; 3], Ok(None)));
        assert_eq!((target.arm(&[7, 8], true), ready.is_high()), (Ok(true), Ok(true)));
        device.transfer(&mut heard[..1], &[1, 2, 3]).unwrap();
        assert_eq!((heard[0], ready.is_high()), (7, Ok(false)));
        assert_eq!(target.arm(&[9], true), Ok(false));
        assert_eq!(target.finished(), Ok(Some(&[1, 2, 3][..])));
        assert_eq!(target.finished(), Ok(None));
        assert_eq!(target.arm(&[9], true), Ok(true));
    }

    #[test]
    fn the_operations_of_a_transaction_are_one_transfer() {
        let bus = SpiBus::new(1);
        let (mut device, mut target) = (bus.device(), bus.target());
        target.arm(&[1, 2, 3, 4, 5], false).unwrap();
        let (mut one, mut two) = ([0; 1], [9; 2]);
        let mut operations =
            [Operation::Write(&[7]), Operation::Read(&mut one), Operation::TransferInPlace(&mut two)];
        device.transaction(&mut operations).unwrap();
        assert_eq!((one, two), ([2], [3, 4]));
        assert_eq!(target.finished(), Ok(Some(&[7, 0, 9, 9][..])));
    }

    #[test]
    fn a_slip_moves_the_bits_behind_it() {
        assert_eq!(slipped(&[0b1111_0000, 0xAA], 4, 2, false), [0b1111_0010]);
        assert_eq!(slipped(&[0b1111_0000, 0xAA], 2, 3, true), [0b1111_1110, 0b0001_0101]);
    }

    #[test]
    fn a_transfer_whose_end_is_lost_goes_on_in_the_next() {
        let bus = SpiBus::new(1);
        let (mut device, mut target) = (bus.device(), bus.target());
        target.arm(&[1, 2, 3, 4], false).unwrap();
        let mut heard = [0; 2];
        bus.set_faults(BusFaults { lost_ends: 1_000, ..BusFaults::NONE });
        device.transfer(&mut heard, &[5, 6]).unwrap();
        assert_eq!((heard, target.arm(&[9], false)), ([1, 2], Ok(false)));
        assert_eq!(target.finished(), Ok(None));
        bus.set_faults(BusFaults::NONE);
        device.transfer(&mut heard, &[7, 8]).unwrap();
        assert_eq!((heard, target.finished()), ([3, 4], Ok(Some(&[5, 6, 7, 8][..]))));
    }
}
