//! What the clock of the other end shows, as the accepting end of a line finds out: probes, and what their echoes prove.
//!
//! A probe is a heartbeat that wants an answer; the echo carries the other end's own clock. That clock showed `stamp` at
//! some moment between sending the probe and receiving the echo, which is all that is ever concluded: with `offset`
//! for what the other clock shows more than this one,
//!
//! ```text
//! offset when the probe was sent    <=  stamp - sent
//! offset when the echo was received >=  stamp - received
//! ```
//!
//! whatever the delays, however unequal. A delay loosens a conclusion and never makes it wrong, so there is nothing to
//! average: of many exchanges the fastest each way bind. All offsets and drifts that no exchange of the last half
//! minute excludes make a small convex area; the estimate is the middle of it, and the error bound half its width.
//!
//! That stands on two properties of the two clocks against each other: they differ by at most [`MAX_DRIFT_PPM`], and that
//! difference changes by at most [`MAX_WANDER_PPB_PER_S`], which a crystal does only while it warms up. Clocks that break
//! them are found out when the exchanges contradict each other; it is then begun again from the last one.

use crate::codec;
use crate::message::Message;
use crate::session::Session;
use crate::time::Instant;

/// The clock of the other end of one line. It is of use to an end that accepts; a leaf links none of it.
///
/// [`ClockSync::poll_transmit`] when [`ClockSync::poll_timeout`] says so, [`ClockSync::handle_echo`] with each
/// [`Verdict::Echoed`](crate::session::Verdict::Echoed), [`ClockSync::reset`] when a session begins.
#[derive(Debug, Clone)]
pub struct ClockSync {
    /// The last exchanges, the oldest overwritten by the next.
    exchanges: [Exchange; WINDOW],
    /// Those taken in since it was last begun.
    taken: usize,
    /// What the other clock showed more than this one at the first of them, in microseconds: offsets count from there.
    base: i64,
    /// What all of them leave possible.
    area: Option<Area>,
    /// The probe that waits for its echo.
    probe: Option<Probe>,
    /// When the next goes out.
    due: Instant,
    /// How long an echo is waited for, in milliseconds.
    patience_ms: u32,
    /// The latest stamp that was mapped, and to what.
    latest: Option<(u64, u64)>,
    counters: ClockCounters,
}

impl ClockSync {
    /// Nothing is known yet; the first probe is due at once.
    pub const fn new() -> Self {
        Self {
            exchanges: [Exchange { sent: 0, received: 0, stamp: 0 }; WINDOW],
            taken: 0,
            base: 0,
            area: None,
            probe: None,
            due: Instant::from_micros(0),
            patience_ms: MAX_PATIENCE_MS,
            latest: None,
            counters: ClockCounters { exchanges: 0, refused: 0, restarts: 0 },
        }
    }

    /// Forgets all but the counters: another session has begun, perhaps with a clock that started anew.
    pub const fn reset(&mut self) {
        *self = Self { counters: self.counters, ..Self::new() };
    }

    /// When the next probe is due.
    pub const fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Writes the next probe, under an id of `session`, and says how many bytes it has; 0 while none is due. `now` must
    /// not be from after the frame leaves: earlier is safe, and costs precision.
    pub fn poll_transmit(&mut self, session: &mut Session, now: Instant, out: &mut [u8]) -> usize {
        if self.due > now {
            return 0;
        }
        if self.probe.is_some() {
            // Lost, or late.
            self.patience_ms = (self.patience_ms * 2).min(MAX_PATIENCE_MS);
        }
        let mut probe = Message::heartbeat(session.take_id());
        probe.flags.requires_response = true;
        // As long as its echo will be, so that a slow line holds up both alike.
        probe.timestamp = Some(self.shows(now));
        self.probe = Some(Probe { id: probe.id, sent: now });
        self.due = now.plus_millis(self.patience_ms);
        codec::encode(&probe, out).unwrap_or(0)
    }

    /// Takes what the other end answered to the probe `id`, and what its clock showed then. `received` must not be from
    /// before the frame was read: later is safe, and costs precision. A second echo, one of an earlier probe, one
    /// without a stamp or after an absurd time is counted and otherwise ignored.
    pub fn handle_echo(&mut self, id: u64, stamp: Option<u64>, received: Instant) {
        let Some(probe) = self.probe.take_if(|probe| probe.id == id) else {
            return self.counters.count_refused();
        };
        let round_trip = received.micros_since(probe.sent);
        let in_time = round_trip <= u64::from(MAX_PATIENCE_MS) * 1_000;
        let Some(stamp) = stamp.filter(|stamp| *stamp < FAR && in_time) else {
            return self.counters.count_refused();
        };
        self.patience_ms = ((round_trip / 1_000) as u32 * 4).clamp(MIN_PATIENCE_MS, MAX_PATIENCE_MS);
        let sent = probe.sent.as_micros();
        self.handle_exchange(Exchange { sent, received: received.as_micros().max(sent), stamp });
        self.due = probe.sent.plus_millis(if self.taken < FAST { FAST_MS } else { STEADY_MS });
    }

    /// What is known of the other clock at `now`; `None` before the first exchange and long after the last.
    pub fn estimate(&self, now: Instant) -> Option<ClockEstimate> {
        let area = self.area?;
        let after = now.as_micros() as i64 - area.at as i64;
        let (offset, bound_us) = area.offset_after(after)?;
        let drift_ppb = (area.centre.0 / PPT_PER_PPB) as i32;
        Some(ClockEstimate { offset_us: self.base + offset, drift_ppb, bound_us })
    }

    /// When this end's clock showed what the other's showed at `stamp`, and by how many microseconds that may be wrong.
    /// `None` while that is not known, and for what cannot be a stamp of that clock, because it lies after `now` or hours
    /// back. For stamps that do not decrease neither does what comes back, for one that does it does not increase.
    pub fn map(&mut self, stamp: u64, now: Instant) -> Option<(Instant, u32)> {
        let area = self.area.filter(|_| stamp < FAR)?;
        let based = stamp as i64 - self.base;
        let (offset, bound) = area.offset_after(based - area.centre.1 / NS - area.at as i64)?;
        let (at, now) = (u64::try_from(based - offset).ok()?, now.as_micros());
        if at > now.saturating_add(u64::from(bound)) {
            return None;
        }
        // Nothing is stamped later than it arrives.
        let mapped = match self.latest {
            Some((latest, mapped)) if stamp < latest => at.min(now).min(mapped),
            Some((_, mapped)) => at.min(now).max(mapped),
            None => at.min(now),
        };
        if self.latest.is_none_or(|(latest, _)| latest <= stamp) {
            self.latest = Some((stamp, mapped));
        }
        let moved = u32::try_from(mapped.abs_diff(at)).unwrap_or(u32::MAX);
        Some((Instant::from_micros(mapped), bound.saturating_add(moved)))
    }

    /// What was taken, refused and begun again.
    pub const fn counters(&self) -> ClockCounters {
        self.counters
    }

    /// What the other clock may show at `now`.
    fn shows(&self, now: Instant) -> u64 {
        let offset = self.estimate(now).map_or(0, |estimate| estimate.offset_us);
        now.as_micros().saturating_add_signed(offset)
    }

    fn handle_exchange(&mut self, exchange: Exchange) {
        self.counters.exchanges = self.counters.exchanges.wrapping_add(1);
        self.keep(exchange);
        self.area = self.find_area();
        if self.area.is_none() {
            // They contradict each other: the other clock stepped, or drifts more than it should.
            self.counters.restarts = self.counters.restarts.wrapping_add(1);
            self.taken = 0;
            self.latest = None;
            self.keep(exchange);
            self.area = self.find_area();
        }
    }

    fn keep(&mut self, exchange: Exchange) {
        if self.taken == 0 {
            self.base = exchange.stamp as i64 - exchange.sent as i64;
        }
        if let Some(slot) = self.exchanges.get_mut(self.taken % WINDOW) {
            *slot = exchange;
        }
        self.taken += 1;
    }

    /// What the exchanges leave possible at the time of the last one; `None` when that is nothing.
    fn find_area(&self) -> Option<Area> {
        let kept = self.exchanges.get(..self.taken.min(WINDOW))?;
        let at = kept.iter().map(|exchange| exchange.received).max()?;
        let known = Known::new(kept, self.base, at);
        let guess = self.area.map_or(0, |area| area.centre.0);
        let possible = known.find_possible(guess)?;
        let drift = (known.find_end(possible, -MAX_DRIFT), known.find_end(possible, MAX_DRIFT));
        // The longer an exchange is ago, the more of the offset is drift: both limits grow with the drift.
        let offset = (known.offsets(drift.0).low, known.offsets(drift.1).high);
        let centre = known.find_centre(drift);
        Some(Area { at, drift, offset, centre })
    }
}

impl Default for ClockSync {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of another clock at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockEstimate {
    /// What it shows more than this end's clock, in microseconds.
    pub offset_us: i64,
    /// What it gains on this end's clock, in billionths.
    pub drift_ppb: i32,
    /// By how many microseconds the offset may be wrong.
    pub bound_us: u32,
}

/// What came of the probes. Counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockCounters {
    /// Exchanges that were taken in.
    pub exchanges: u32,
    /// Echoes that were late, came twice, after an absurd time or without a stamp.
    pub refused: u32,
    /// Times that the exchanges contradicted each other and all was begun again.
    pub restarts: u32,
}

impl ClockCounters {
    const fn count_refused(&mut self) {
        self.refused = self.refused.wrapping_add(1);
    }
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    id: u64,
    sent: Instant,
}

/// A probe and its echo: the other clock showed `stamp` at some time from `sent` to `received`.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    sent: u64,
    received: u64,
    stamp: u64,
}

/// The possible offsets and drifts at one moment, and in between.
#[derive(Debug, Clone, Copy)]
struct Area {
    /// In microseconds of this end's clock.
    at: u64,
    /// From, to; in trillionths.
    drift: (i64, i64),
    /// From, to; in nanoseconds above the base.
    offset: (i64, i64),
    /// The drift and the offset in the middle: what they are on average, if all that is possible is equally so.
    centre: (i64, i64),
}

impl Area {
    /// The offset `micros` later, or earlier when it is negative, in microseconds above the base, and by how many it
    /// may be wrong; `None` hours away.
    fn offset_after(&self, micros: i64) -> Option<(i64, u32)> {
        if micros.abs() > FARTHEST_US {
            return None;
        }
        let slack = wander(micros);
        let (slow, fast) = if micros < 0 { (self.drift.1, self.drift.0) } else { self.drift };
        let low = self.offset.0 + drifted(slow, micros) - slack;
        let high = self.offset.1 + drifted(fast, micros) + slack;
        let offset = self.centre.1 + drifted(self.centre.0, micros);
        let error = (offset - low).max(high - offset);
        // Conversions and the clocks' steps of a microsecond add to it, and the drift while the offset is looked up at a
        // moment that is off by as much.
        let bound = error / NS + error / NS / 500 + 3;
        Some((offset.div_euclid(NS), u32::try_from(bound).unwrap_or(u32::MAX)))
    }
}

/// What some exchanges say of the moment of the last of them.
struct Known {
    lows: [Limit; WINDOW],
    highs: [Limit; WINDOW],
    count: usize,
}

/// A limit of the offset `ago` microseconds before the moment in question, in nanoseconds above the base.
#[derive(Clone, Copy)]
struct Limit {
    offset: i64,
    ago: i64,
}

/// The offsets that are possible with one drift; none when `low` is above `high`.
struct Offsets {
    low: i64,
    high: i64,
    /// How much more of them there are with more drift: the sign counts.
    widens: i64,
}

impl Known {
    fn new(exchanges: &[Exchange], base: i64, at: u64) -> Self {
        let nothing = [Limit { offset: 0, ago: 0 }; WINDOW];
        let mut known = Self { lows: nothing, highs: nothing, count: 0 };
        let young = exchanges.iter().filter(|exchange| at - exchange.sent <= OLDEST_US);
        for ((low, high), exchange) in known.lows.iter_mut().zip(&mut known.highs).zip(young) {
            // A clock that shows 3 is anywhere from 3 to 4.
            let stamp = exchange.stamp as i64 - base;
            let ago = (at - exchange.sent) as i64;
            *high = Limit { offset: (stamp - exchange.sent as i64 + 1) * NS + wander(ago), ago };
            let ago = (at - exchange.received) as i64;
            *low = Limit { offset: (stamp - exchange.received as i64 - 1) * NS - wander(ago), ago };
            known.count += 1;
        }
        known
    }

    /// What the exchanges leave of the offset if the drift is `drift` at the moment in question.
    fn offsets(&self, drift: i64) -> Offsets {
        let (mut low, mut high) = ((i64::MIN, 0), (i64::MAX, 0));
        for (lower, upper) in self.lows.iter().zip(&self.highs).take(self.count) {
            low = low.max((lower.offset + drifted(drift, lower.ago), lower.ago));
            high = high.min((upper.offset + drifted(drift, upper.ago), upper.ago));
        }
        Offsets { low: low.0, high: high.0, widens: high.1 - low.1 }
    }

    /// Some drift that is possible, looked for from `guess` on.
    fn find_possible(&self, guess: i64) -> Option<i64> {
        let (mut from, mut to) = (-MAX_DRIFT, MAX_DRIFT);
        let mut drift = guess;
        while from <= to {
            let offsets = self.offsets(drift);
            // The room between the limits is a concave function of the drift.
            match offsets.widens {
                _ if offsets.low <= offsets.high => return Some(drift),
                0 => return None,
                1.. => from = drift + 1,
                _ => to = drift - 1,
            }
            drift = from + (to - from) / 2;
        }
        None
    }

    /// The last possible drift on the way from a possible one to `end`, or a little beyond it.
    fn find_end(&self, mut possible: i64, mut end: i64) -> i64 {
        while possible.abs_diff(end) > DRIFT_STEP {
            let middle = possible + (end - possible) / 2;
            let offsets = self.offsets(middle);
            if offsets.low <= offsets.high {
                possible = middle;
            } else {
                end = middle;
            }
        }
        end
    }

    /// The drift and the offset at the centre of gravity of all that is possible, in strips of one drift each.
    fn find_centre(&self, drift: (i64, i64)) -> (i64, i64) {
        let offset = self.offsets(drift.0).low;
        let (mut weight, mut drifts, mut offsets) = (0, 0, 0);
        for strip in 0..STRIPS {
            let at = drift.0 + (drift.1 - drift.0) * (2 * strip + 1) / (2 * STRIPS);
            let Offsets { low, high, .. } = self.offsets(at);
            let room = i128::from((high - low).max(0));
            weight += room;
            drifts += room * i128::from(at);
            offsets += room * (i128::from(low - offset) + i128::from(high - offset)) / 2;
        }
        let mean = |sum: i128| sum.checked_div(weight).and_then(|mean| i64::try_from(mean).ok());
        let offset = offset + mean(offsets).unwrap_or(0);
        (mean(drifts).unwrap_or((drift.0 + drift.1) / 2), offset)
    }
}

/// What a drift makes of the offset in so many microseconds, in nanoseconds.
const fn drifted(drift: i64, micros: i64) -> i64 {
    drift * micros / PPT_PER_PPM / NS
}

/// What a changing drift may add to that, or take from it.
const fn wander(micros: i64) -> i64 {
    let millis = micros.abs() / 1_000 + 1;
    let slowly = millis * millis * MAX_WANDER_PPB_PER_S / 2_000_000;
    let most = drifted(2 * MAX_DRIFT, micros.abs());
    if slowly < most { slowly } else { most + 1 }
}

/// Most that two clocks may differ by, in millionths: a bad crystal against one that is being slewed.
pub const MAX_DRIFT_PPM: i64 = 1_000;
/// Most that this may change by in a second, in billionths: a crystal that warms up by a degree in ten seconds.
pub const MAX_WANDER_PPB_PER_S: i64 = 100;

/// Exchanges that count. At the steady rate they are those of the last half minute; in older ones wander is all.
const WINDOW: usize = 256;
/// Where most echoes are lost they are fewer: none from before that.
const OLDEST_US: u64 = 300_000_000;
/// After this many the steady rate is enough.
const FAST: usize = 100;
/// Between probes at first.
const FAST_MS: u32 = 50;
/// Between probes later: 36 bytes both ways on a serial line, eight times a second.
const STEADY_MS: u32 = 125;
/// An echo is waited for at least and at most so long; in between, for four times the last round trip.
const MIN_PATIENCE_MS: u32 = 50;
const MAX_PATIENCE_MS: u32 = 500;
/// Microseconds that no clock of a session shows: 35 years.
const FAR: u64 = 1 << 50;
/// Nothing is said of moments farther than an hour from the last exchange.
const FARTHEST_US: i64 = 3_600_000_000;
/// Nanoseconds in a microsecond: offsets are in nanoseconds, so that a drift adds up.
const NS: i64 = 1_000;
const PPT_PER_PPB: i64 = 1_000;
const PPT_PER_PPM: i64 = 1_000_000;
const MAX_DRIFT: i64 = MAX_DRIFT_PPM * PPT_PER_PPM;
/// Drifts that the middle is found from.
const STRIPS: i64 = 16;
/// The ends of the possible drifts are found this closely, in trillionths: 3 ns over half a minute.
const DRIFT_STEP: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode;
    use crate::session::{Name, Role, SessionConfig};

    #[test]
    fn one_exchange_bounds_the_offset_by_its_round_trip() {
        let mut line = Line::new();
        let received = line.exchange(300, 100);
        let known = line.clock.estimate(received).unwrap();
        assert!((known.offset_us - 6_000_100).abs() <= 1, "half way, as it is taken: {known:?}");
        assert!((200..=205).contains(&known.bound_us), "{known:?}");
        // What a drift of 1 000 ppm may do in a second.
        let later = line.clock.estimate(received.plus_millis(1_000)).unwrap();
        assert!((1_200..=1_210).contains(&later.bound_us), "{later:?}");
        assert_eq!(
            line.clock.estimate(received.plus_millis(3_700_000)),
            None,
            "an hour later nothing is known"
        );
    }

    #[test]
    fn fast_exchanges_each_way_bind_and_slow_ones_cost_nothing() {
        let mut line = Line::new();
        line.exchange(10, 50_000);
        line.exchange(50_000, 10);
        line.exchange(10, 50_000);
        let received = line.exchange(50_000, 10);
        let known = line.clock.estimate(received).unwrap();
        assert!(known.bound_us < 500, "{known:?}: two delays of 10 us, and what drift there may be");
        let received = line.exchange(100_000, 100_000);
        let known = line.clock.estimate(received).unwrap();
        assert!(known.bound_us < 1_000 && line.clock.counters().restarts == 0, "{known:?}");
    }

    #[test]
    fn an_echo_counts_once_in_time_and_for_the_probe_that_waits() {
        let mut line = Line::new();
        let first = line.probe();
        line.clock.handle_echo(first + 1, Some(7_000_000), line.now);
        line.clock.handle_echo(first, None, line.now);
        line.clock.handle_echo(first, Some(7_000_000), line.now);
        let second = line.probe();
        line.clock.handle_echo(second, Some(u64::MAX), line.now);
        let third = line.probe();
        line.clock.handle_echo(third, Some(7_000_000), line.now.plus_millis(MAX_PATIENCE_MS + 1));
        assert_eq!(line.clock.counters(), ClockCounters { exchanges: 0, refused: 5, restarts: 0 });
        assert_eq!((line.clock.estimate(line.now), line.clock.map(7_000_000, line.now)), (None, None));
    }

    #[test]
    fn a_clock_that_steps_is_begun_again_with() {
        let mut line = Line::new();
        line.exchange(100, 100);
        line.offset_us = -900_000;
        let received = line.exchange(100, 100);
        assert_eq!(line.clock.counters().restarts, 1);
        let known = line.clock.estimate(received).unwrap();
        assert!((known.offset_us + 900_000).abs() <= 1 && known.bound_us < 110, "{known:?}");
    }

    #[test]
    fn mapped_stamps_never_step_back_and_what_is_no_stamp_of_that_clock_is_not_mapped() {
        let mut line = Line::new();
        line.exchange(1_000, 9_000);
        let (first, uncertainty) = line.clock.map(7_003_000, line.now).unwrap();
        assert!(first.as_micros().abs_diff(1_003_000) <= u64::from(uncertainty), "{first:?}");
        // Now it is known better: 4 ms from what it seemed.
        line.exchange(10, 10);
        let (second, uncertainty) = line.clock.map(7_003_001, line.now).unwrap();
        assert!(second >= first && second.as_micros().abs_diff(1_003_001) <= u64::from(uncertainty));
        let (earlier, _) = line.clock.map(7_002_000, line.now).unwrap();
        assert!(earlier <= second);
        let yet_to_come = line.now.as_micros() + 6_100_000;
        for stamp in [yet_to_come, 0, FAR, u64::MAX, 1_795_000_000_000_000] {
            assert_eq!(line.clock.map(stamp, line.now), None, "{stamp}");
        }
    }

    #[test]
    fn probes_are_frequent_at_first_and_never_two_at_a_time() {
        let mut line = Line::new();
        let mut out = [0; 64];
        for _ in 0..FAST {
            line.exchange(100, 100);
        }
        let sent = line.clock.poll_timeout();
        line.exchange(100, 100);
        assert_eq!(line.clock.poll_timeout(), sent.plus_millis(STEADY_MS));
        let probe = line.probe();
        assert_eq!(line.clock.poll_transmit(&mut line.session, line.now, &mut out), 0);
        assert_eq!(line.clock.poll_timeout(), line.now.plus_millis(MIN_PATIENCE_MS));
        assert!(line.probe() > probe, "the echo was lost");
        assert_eq!(line.clock.poll_timeout(), line.now.plus_millis(2 * MIN_PATIENCE_MS));
    }

    #[test]
    fn nonsense_for_stamps_never_panics() {
        let mut line = Line::new();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let probe = line.probe();
            line.now = Instant::from_micros(line.now.as_micros() + (state >> 44));
            line.clock.handle_echo(probe, Some(state >> (state & 63)), line.now);
            let _ = line.clock.map(state >> (state >> 8 & 63), line.now);
            let _ = line.clock.estimate(line.now);
        }
        assert!(line.clock.counters().restarts > 1_000);
    }

    /// This end of a line, from one second on, and a clock at the other that shows six more.
    struct Line {
        clock: ClockSync,
        session: Session,
        now: Instant,
        offset_us: i64,
    }

    impl Line {
        fn new() -> Self {
            let session = Session::new(SessionConfig {
                role: Role::Accepting,
                name: Name::try_from("bus").unwrap(),
                boot_id: 1,
                max_frame: 256,
                heartbeat_ms: 500,
                rows: 0,
                requires_authentication: false,
                lossy: true,
            });
            let now = Instant::from_micros(1_000_000);
            Self { clock: ClockSync::new(), session, now, offset_us: 6_000_000 }
        }

        /// Sends the next probe as soon as it is due.
        fn probe(&mut self) -> u64 {
            let mut out = [0; 64];
            self.now = self.now.max(self.clock.poll_timeout());
            let len = self.clock.poll_transmit(&mut self.session, self.now, &mut out);
            let probe = decode(&out[..len]).unwrap();
            assert!(probe.wants_answer());
            probe.id
        }

        /// A probe that takes so long there, an echo that takes so long back; when that came.
        fn exchange(&mut self, there_us: u64, back_us: u64) -> Instant {
            let probe = self.probe();
            let taken = self.now.as_micros() + there_us;
            let stamp = taken.saturating_add_signed(self.offset_us);
            self.now = Instant::from_micros(taken + back_us);
            self.clock.handle_echo(probe, Some(stamp), self.now);
            self.now
        }
    }
}
