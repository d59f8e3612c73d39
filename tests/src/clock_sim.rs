//! Clocks that run apart, links that delay, lose and hold up, and how well [`ClockSync`] sees through them. The truth is
//! known here, so that every mapped timestamp can be held against it.

use std::collections::BTreeMap;

use visorbus_core::clock::ClockSync;
use visorbus_core::session::{Name, Role, SessionConfig};
use visorbus_core::{Instant, Message, Session};

/// One simulated leaf on its link.
#[derive(Debug, Clone, Copy)]
pub struct ClockCase {
    /// What is special about it, for people.
    pub name: &'static str,
    /// What the leaf's clock gains, in millionths.
    pub drift_ppm: f64,
    /// By how many millionths that changes in a second at most.
    pub wander_ppm_per_s: f64,
    /// The time from the hub to the leaf.
    pub there: Delay,
    /// The time from the leaf to the hub.
    pub back: Delay,
    /// Bits a second of a serial line: what a frame takes beside its delay goes by its length.
    pub baud: Option<u32>,
    /// Of a hundred probes and of a hundred echoes so many are lost.
    pub lost_percent: u32,
    /// Of a hundred echoes so many come up to a second late.
    pub late_percent: u32,
    /// When the leaf's clock starts anew at zero, in seconds, without a new session.
    pub restart_s: Option<u64>,
    /// How long it is watched, in seconds.
    pub seconds: u64,
}

/// How long a frame takes, in microseconds: at least `floor`, and by chance `jitter` more, evenly spread or, with
/// `tail`, on average and now and then many times that.
#[derive(Debug, Clone, Copy)]
pub struct Delay {
    /// What every frame takes.
    pub floor: f64,
    /// What chance adds.
    pub jitter: f64,
    /// Whether chance has a tail.
    pub tail: bool,
}

impl ClockCase {
    /// The case that Visorbus promises: 50 ppm, and up to a millisecond each way.
    pub const PROMISED: Self = Self {
        name: "50 ppm, jitter 1 ms",
        drift_ppm: 50.0,
        wander_ppm_per_s: 0.0,
        there: Delay::JITTER,
        back: Delay::JITTER,
        baud: None,
        lost_percent: 0,
        late_percent: 0,
        restart_s: None,
        seconds: 60,
    };
}

impl Delay {
    /// Up to a millisecond, evenly spread.
    pub const JITTER: Self = Self { floor: 0.0, jitter: 1_000.0, tail: false };

    fn draw(&self, chance: &mut Chance) -> f64 {
        let even = chance.unit();
        self.floor + self.jitter * if self.tail { -(1.0 - even).ln() } else { even }
    }
}

/// The cases that the table shows.
pub const CASES: [ClockCase; 12] = [
    ClockCase::PROMISED,
    ClockCase { name: "-50 ppm, jitter 1 ms", drift_ppm: -50.0, ..ClockCase::PROMISED },
    ClockCase { name: "+100 ppm", drift_ppm: 100.0, ..ClockCase::PROMISED },
    ClockCase { name: "-100 ppm", drift_ppm: -100.0, ..ClockCase::PROMISED },
    ClockCase { name: "900 ppm", drift_ppm: 900.0, ..ClockCase::PROMISED },
    ClockCase { name: "50 ppm, wander 0.1 ppm/s", wander_ppm_per_s: 0.1, ..ClockCase::PROMISED },
    ClockCase {
        name: "exponential tails, 1 ms on average",
        there: Delay { tail: true, ..Delay::JITTER },
        back: Delay { tail: true, ..Delay::JITTER },
        ..ClockCase::PROMISED
    },
    ClockCase {
        name: "asymmetric: 0 to 1 ms there, 0 to 4 ms back",
        back: Delay { jitter: 4_000.0, ..Delay::JITTER },
        ..ClockCase::PROMISED
    },
    ClockCase { name: "115200 baud, and jitter", baud: Some(115_200), ..ClockCase::PROMISED },
    ClockCase { name: "20 % lost", lost_percent: 20, ..ClockCase::PROMISED },
    ClockCase { name: "20 % of the echoes late", late_percent: 20, ..ClockCase::PROMISED },
    ClockCase { name: "the leaf's clock starts anew", restart_s: Some(30), ..ClockCase::PROMISED },
];

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockReport {
    /// The case's name.
    pub name: &'static str,
    /// Timestamps that were mapped after the first ten seconds.
    pub mapped: usize,
    /// How far half of them were off at most, in microseconds.
    pub p50_us: f64,
    /// How far 99 % of them were off at most, in microseconds.
    pub p99_us: f64,
    /// How far the worst was off, in microseconds.
    pub max_us: f64,
    /// The uncertainty that half of them had at most, in microseconds.
    pub bound_us: u32,
    /// Timestamps, from the very beginning, that were off by more than their uncertainty.
    pub violations: usize,
    /// Timestamps that came before those of earlier ones.
    pub backward: usize,
    /// Probes whose echoes were taken in, in a second on average.
    pub exchanges_per_s: f64,
    /// Echoes that were refused.
    pub refused: u32,
    /// Times that it was begun again.
    pub restarts: u32,
}

/// Runs `case` once for each seed and takes everything together.
pub fn run_case(case: &ClockCase, seeds: core::ops::Range<u64>) -> ClockReport {
    let runs = seeds.end - seeds.start;
    let mut all = Seen::default();
    let mut counters = (0, 0, 0);
    for seed in seeds {
        let clock = Simulation::new(case, seed).run(&mut all);
        let run = clock.counters();
        counters = (counters.0 + run.exchanges, counters.1 + run.refused, counters.2 + run.restarts);
    }
    all.errors.sort_by(f64::total_cmp);
    all.bounds.sort_unstable();
    let rank = |percent: usize| all.errors[(all.errors.len() * percent).div_ceil(100) - 1];
    ClockReport {
        name: case.name,
        mapped: all.errors.len(),
        p50_us: rank(50),
        p99_us: rank(99),
        max_us: rank(100),
        bound_us: all.bounds[all.bounds.len() / 2],
        violations: all.violations,
        backward: all.backward,
        exchanges_per_s: f64::from(counters.0) / (runs * case.seconds) as f64,
        refused: counters.1,
        restarts: counters.2,
    }
}

/// The table of all [`CASES`], a line each.
pub fn table(seeds: core::ops::Range<u64>) -> String {
    let mut lines = vec![format!(
        "{:<52}{:>8}{:>8}{:>8}{:>8}{:>12}{:>8}{:>9}",
        "clock error after 10 s, us", "p50", "p99", "max", "bound", "violations", "per s", "restarts"
    )];
    lines.extend(CASES.iter().map(|case| {
        let report = run_case(case, seeds.clone());
        format!(
            "{:<52}{:>8.1}{:>8.1}{:>8.1}{:>8}{:>12}{:>8.1}{:>9}",
            report.name,
            report.p50_us,
            report.p99_us,
            report.max_us,
            report.bound_us,
            report.violations,
            report.exchanges_per_s,
            report.restarts
        )
    }));
    lines.join("\n")
}

#[derive(Debug, Default)]
struct Seen {
    errors: Vec<f64>,
    bounds: Vec<u32>,
    violations: usize,
    backward: usize,
}

/// What is on its way to the hub.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    Echo { id: u64, stamp: u64 },
    Message { made_us: f64, stamp: u64 },
}

struct Simulation<'c> {
    case: &'c ClockCase,
    chance: Chance,
    clock: ClockSync,
    session: Session,
    leaf: LeafClock,
    /// By the time of arrival, in tenths of a nanosecond.
    arrivals: BTreeMap<(u64, u64), Arrival>,
    number: u64,
    last: (u64, u64),
}

impl<'c> Simulation<'c> {
    fn new(case: &'c ClockCase, seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let leaf = LeafClock::new(case, &mut chance);
        Self {
            case,
            chance,
            clock: ClockSync::new(),
            session: accepting_session(),
            leaf,
            arrivals: BTreeMap::new(),
            number: 0,
            last: (0, 0),
        }
    }

    fn run(mut self, seen: &mut Seen) -> ClockSync {
        let end = self.case.seconds as f64 * 1e6;
        let mut next_message = START_US;
        let mut now = START_US;
        while now < START_US + end {
            let arrival = self.arrivals.first_key_value().map(|((at, _), _)| *at as f64 / TICKS);
            // A loop that is woken is woken a little late.
            let probe = (self.clock.poll_timeout().as_micros() as f64).max(now) + 1.0;
            let next = probe.min(next_message).min(arrival.unwrap_or(f64::MAX));
            now = next.max(now);
            if arrival == Some(next) {
                self.arrive(now, seen);
            } else if next_message <= next {
                self.publish(now);
                next_message += MESSAGE_US;
            } else {
                self.probe(now);
            }
        }
        self.clock
    }

    fn probe(&mut self, now: f64) {
        let mut out = [0; 64];
        let len = self.clock.poll_transmit(&mut self.session, Instant::from_micros(now as u64), &mut out);
        let Ok(probe) = visorbus_core::decode(&out[..len]) else { return };
        let there = now + self.on_line_us(len) + self.case.there.draw(&mut self.chance);
        let stamp = self.leaf.shows(there);
        let echo = Message { timestamp: Some(stamp), ..Message::heartbeat(probe.id) };
        let echo_len = visorbus_core::encode(&echo, &mut [0; 64]).unwrap_or(0);
        let mut back = there + self.on_line_us(echo_len) + self.case.back.draw(&mut self.chance);
        if self.chance.percent(self.case.late_percent) {
            back += 1e6 * self.chance.unit();
        }
        let lost = [(); 2].map(|()| self.chance.percent(self.case.lost_percent));
        if lost == [false; 2] {
            self.put(back, Arrival::Echo { id: probe.id, stamp });
        }
    }

    /// Microseconds for the bits of a frame of `len` bytes, its CRC-32 and COBS around it.
    fn on_line_us(&self, len: usize) -> f64 {
        self.case.baud.map_or(0.0, |baud| (len + 6) as f64 * 10.0 / f64::from(baud) * 1e6)
    }

    fn publish(&mut self, now: f64) {
        let arrives = now + self.on_line_us(SAMPLE_LEN) + self.case.back.draw(&mut self.chance);
        self.put(arrives, Arrival::Message { made_us: now, stamp: self.leaf.shows(now) });
    }

    fn put(&mut self, at: f64, arrival: Arrival) {
        self.number += 1;
        self.arrivals.insert(((at * TICKS) as u64, self.number), arrival);
    }

    fn arrive(&mut self, now: f64, seen: &mut Seen) {
        let Some((_, arrival)) = self.arrivals.pop_first() else { return };
        let at = Instant::from_micros(now as u64);
        match arrival {
            Arrival::Echo { id, stamp } => self.clock.handle_echo(id, Some(stamp), at),
            Arrival::Message { made_us, stamp } => {
                // What shows the clock before it started anew says nothing of the one after.
                let restart = self.case.restart_s.map(|s| START_US + s as f64 * 1e6);
                let settling = restart.is_some_and(|at| now >= at && now < at + SETTLING_US);
                if settling {
                    return;
                }
                let Some((mapped, bound)) = self.clock.map(stamp, at) else { return };
                let error = (mapped.as_micros() as f64 - made_us).abs();
                seen.violations += usize::from(error > f64::from(bound));
                let last = core::mem::replace(&mut self.last, (stamp, mapped.as_micros()));
                seen.backward += usize::from(stamp >= last.0 && mapped.as_micros() < last.1);
                if made_us >= START_US + 10e6 && restart.is_none_or(|at| made_us < at || made_us > at + 10e6)
                {
                    seen.errors.push(error);
                    seen.bounds.push(bound);
                }
            }
        }
    }
}

/// What the leaf's clock shows at a true time, in closed form: its drift swings around its mean.
struct LeafClock {
    shown_at_start: f64,
    drift: f64,
    /// How fast the drift changes at most, in parts a microsecond.
    wander: f64,
    /// Of the swing, in radians a microsecond.
    pace: f64,
    phase: f64,
    restart: Option<f64>,
}

impl LeafClock {
    fn new(case: &ClockCase, chance: &mut Chance) -> Self {
        // From ten seconds to a thousand.
        let period_us = 1e7 * 100f64.powf(chance.unit());
        Self {
            shown_at_start: 1e9 * chance.unit(),
            drift: case.drift_ppm * 1e-6,
            wander: case.wander_ppm_per_s * 1e-12,
            pace: core::f64::consts::TAU / period_us,
            phase: core::f64::consts::TAU * chance.unit(),
            restart: case.restart_s.map(|s| START_US + s as f64 * 1e6),
        }
    }

    fn shows(&self, at: f64) -> u64 {
        let (zero, start) = match self.restart {
            Some(restart) if at >= restart => (0.0, restart),
            _ => (self.shown_at_start, START_US),
        };
        let swing = self.phase.cos() - (self.pace * (at - START_US) + self.phase).cos();
        (zero + (at - start) * (1.0 + self.drift) + self.wander / (self.pace * self.pace) * swing) as u64
    }
}

/// xorshift64*.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.unit() * 100.0 < f64::from(percent)
    }
}

fn accepting_session() -> Session {
    Session::new(SessionConfig {
        role: Role::Accepting,
        name: Name::try_from("bus").expect("the name is short"),
        boot_id: 1,
        max_frame: 1_024,
        heartbeat_ms: 500,
        rows: 0,
        requires_authentication: false,
        lossy: true,
    })
}

/// Of a message of the leaf, in bytes.
const SAMPLE_LEN: usize = 34;
/// The true time at which a simulation begins, in microseconds.
const START_US: f64 = 5e6;
/// Between two messages of the leaf.
const MESSAGE_US: f64 = 10_000.0;
/// Until a clock that started anew must have been noticed.
const SETTLING_US: f64 = 1e6;
/// Of the keys by which arrivals are ordered, in a microsecond.
const TICKS: f64 = 1e4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_50_ppm_and_a_millisecond_of_jitter_99_of_100_timestamps_are_off_by_less_than_50_us() {
        for drift_ppm in [50.0, -50.0] {
            let report = run_case(&ClockCase { drift_ppm, ..ClockCase::PROMISED }, 0..4);
            assert!(report.mapped > 18_000, "{report:?}");
            assert!(report.p99_us < 50.0, "{report:?}");
            assert!(report.exchanges_per_s < 12.0, "{report:?}");
        }
    }

    #[test]
    fn no_timestamp_is_off_by_more_than_its_uncertainty_and_none_steps_back() {
        for case in &CASES {
            let report = run_case(case, 100..102);
            assert_eq!((report.violations, report.backward), (0, 0), "{report:?}");
            let begun_again = if case.restart_s.is_some() { 2 } else { 0 };
            assert_eq!(report.restarts, begun_again, "{report:?}");
            assert!(report.mapped > 7_000, "{report:?}");
        }
    }

    #[test]
    fn late_echoes_are_refused() {
        let late = CASES.iter().find(|case| case.late_percent > 0).unwrap();
        let report = run_case(late, 0..2);
        assert!(report.refused > 50 && report.p99_us < 60.0, "{report:?}");
    }

    /// Two hundred times what is allowed for: were nothing wrong then, this simulation would show nothing.
    #[test]
    fn clocks_that_break_what_is_taken_for_granted_are_seen_to_break_it() {
        let wild = ClockCase { wander_ppm_per_s: 20.0, ..ClockCase::PROMISED };
        let report = run_case(&wild, 0..3);
        assert!(report.violations > 0 && report.restarts > 0, "{report:?}");
    }
}
