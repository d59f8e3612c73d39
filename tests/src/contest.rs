//! Round trips of several contenders, measured in turns so that what disturbs the machine disturbs all of them alike.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::stats::{Ratio, RoundTrips};

/// One way to take a message to another process and back.
pub trait Contender {
    /// How the table calls it; also what [`Against::limit`] refers to.
    fn name(&self) -> &'static str;

    /// The bare limit that it is held against, if any.
    fn against(&self) -> Option<Against> {
        None
    }

    /// Sets up whatever one round trip of `size` bytes needs. Dropping what it returns ends and reaps all of it.
    ///
    /// # Errors
    /// It cannot be set up.
    fn start(&self, size: usize) -> io::Result<RoundTrip>;
}

/// Does one round trip each time it is called; ends what it uses when dropped.
pub type RoundTrip = Box<dyn FnMut() -> io::Result<()>>;

/// What a contender's median is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Against {
    /// The name of another contender of the same contest.
    pub limit: &'static str,
    /// The highest ratio of the medians that passes; `None` shows the ratio only.
    pub at_most: Option<f64>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How often every contender has its turn; at least 1.
    pub rounds: usize,
    /// Measured round trips in one turn; at least 1.
    pub trips: usize,
    /// Round trips at the start of each turn that are not measured.
    pub warm_up: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rounds: 20, trips: 500, warm_up: 50 }
    }
}

/// What one contender did at one message size. `Display` is its line of the table, under [`TABLE_HEAD`].
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// The contender's name.
    pub name: &'static str,
    /// Bytes of one message.
    pub size: usize,
    /// All its round trips.
    pub trips: RoundTrips,
    /// Its ratio to the limit it is held against.
    pub ratio: Option<Ratio>,
    /// The limit and the highest ratio that passes.
    pub against: Option<Against>,
}

impl Score {
    /// Whether the ratio is above what it may be.
    pub fn is_too_slow(&self) -> bool {
        let at_most = self.against.and_then(|against| against.at_most);
        self.ratio.zip(at_most).is_some_and(|(ratio, at_most)| ratio.of_medians > at_most)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99] =
            [self.trips.p50, self.trips.p90, self.trips.p99].map(|time| time.as_secs_f64() * 1e6);
        write!(f, "{:>6}  {:<24}{p50:>9.1}{p90:>9.1}{p99:>9.1}", self.size, self.name)?;
        let Some((ratio, against)) = self.ratio.zip(self.against) else { return Ok(()) };
        let Ratio { of_medians, lowest_round, highest_round } = ratio;
        write!(f, "{of_medians:>8.2}  ({lowest_round:.2} to {highest_round:.2})  of {}", against.limit)?;
        match against.at_most {
            Some(at_most) if self.is_too_slow() => write!(f, ", TOO SLOW: at most {at_most}"),
            Some(at_most) => write!(f, ", at most {at_most}"),
            None => Ok(()),
        }
    }
}

/// The head of the table that the lines of [`Score`] make.
pub const TABLE_HEAD: &str =
    " bytes  round trip                 p50 us   p90 us   p99 us   ratio  (per round)";

/// Lets all `contenders` take turns at messages of `size` bytes; their scores are in the same order.
///
/// # Errors
/// A contender could not be set up, or failed on the way; the error names it.
///
/// # Panics
/// When `plan` measures nothing, or a contender is held against one that takes no part: a mistake of the caller.
pub fn run(contenders: &[&dyn Contender], size: usize, plan: Plan) -> io::Result<Vec<Score>> {
    assert!(plan.rounds > 0 && plan.trips > 0, "a plan without round trips");
    let mut lanes =
        contenders.iter().map(|&contender| Lane::new(contender, size)).collect::<io::Result<Vec<_>>>()?;
    for _ in 0..plan.rounds {
        for lane in &mut lanes {
            lane.take_turn(plan).map_err(|error| named(lane.contender, &error))?;
        }
    }
    let totals: Vec<RoundTrips> = lanes.iter_mut().map(Lane::total).collect();
    let score = |(lane, &trips): (&Lane<'_>, &RoundTrips)| {
        let against = lane.contender.against();
        let ratio = against.and_then(|against| {
            let at = lanes.iter().position(|lane| lane.contender.name() == against.limit);
            let at = at.unwrap_or_else(|| panic!("{} takes no part", against.limit));
            Ratio::new(trips, &lane.rounds, totals[at], &lanes[at].rounds)
        });
        Score { name: lane.contender.name(), size, trips, ratio, against }
    };
    Ok(lanes.iter().zip(&totals).map(score).collect())
}

/// One contender while the contest runs.
struct Lane<'a> {
    contender: &'a dyn Contender,
    round_trip: RoundTrip,
    rounds: Vec<RoundTrips>,
    samples: Vec<Duration>,
}

impl<'a> Lane<'a> {
    fn new(contender: &'a dyn Contender, size: usize) -> io::Result<Self> {
        let round_trip = contender.start(size).map_err(|error| named(contender, &error))?;
        Ok(Self { contender, round_trip, rounds: Vec::new(), samples: Vec::new() })
    }

    fn take_turn(&mut self, plan: Plan) -> io::Result<()> {
        for _ in 0..plan.warm_up {
            (self.round_trip)()?;
        }
        let mut turn = Vec::with_capacity(plan.trips);
        for _ in 0..plan.trips {
            let start = Instant::now();
            (self.round_trip)()?;
            turn.push(start.elapsed());
        }
        self.rounds.extend(RoundTrips::from_samples(&mut turn));
        self.samples.append(&mut turn);
        Ok(())
    }

    fn total(&mut self) -> RoundTrips {
        RoundTrips::from_samples(&mut self.samples).expect("a plan has at least one round trip")
    }
}

fn named(contender: &dyn Contender, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", contender.name()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Writes down every round trip instead of doing it.
    struct Noted(&'static str, Option<Against>, Rc<RefCell<String>>);

    impl Contender for Noted {
        fn name(&self) -> &'static str {
            self.0
        }

        fn against(&self) -> Option<Against> {
            self.1
        }

        fn start(&self, _size: usize) -> io::Result<RoundTrip> {
            let (name, notes) = (self.0, Rc::clone(&self.2));
            Ok(Box::new(move || {
                notes.borrow_mut().push_str(name);
                if name == "!" { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
            }))
        }
    }

    const PLAN: Plan = Plan { rounds: 3, trips: 2, warm_up: 1 };

    #[test]
    fn contenders_take_turns_and_the_warm_up_is_not_counted() {
        let notes = Rc::default();
        let against = Some(Against { limit: "a", at_most: None });
        let (a, b) = (Noted("a", None, Rc::clone(&notes)), Noted("b", against, Rc::clone(&notes)));
        let scores = run(&[&a, &b], 64, PLAN).unwrap();
        assert_eq!(*notes.borrow(), "aaabbb".repeat(3));
        assert_eq!(scores.iter().map(|score| score.trips.count).collect::<Vec<_>>(), [6, 6]);
        assert!(scores[0].ratio.is_none() && scores[1].ratio.is_some());
    }

    #[test]
    fn a_failing_contender_is_named() {
        let error = run(&[&Noted("!", None, Rc::default())], 64, PLAN).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::BrokenPipe, "!: broken pipe".to_owned())
        );
    }

    #[test]
    fn a_ratio_above_its_limit_is_too_slow_and_says_so() {
        let trips = RoundTrips::from_samples(&mut [Duration::from_micros(15)]).unwrap();
        let mut score = Score {
            name: "ours",
            size: 64,
            trips,
            ratio: Some(Ratio { of_medians: 1.5, lowest_round: 1.4, highest_round: 1.6 }),
            against: Some(Against { limit: "bare", at_most: Some(1.3) }),
        };
        assert!(score.is_too_slow());
        assert!(
            score.to_string().ends_with("1.50  (1.40 to 1.60)  of bare, TOO SLOW: at most 1.3"),
            "{score}"
        );
        score.against = Some(Against { limit: "bare", at_most: Some(1.5) });
        assert!(!score.is_too_slow());
    }
}
