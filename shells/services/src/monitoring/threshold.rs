//! When something is to be worried about: a threshold and its text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::monitoring::selector::{Selector, short};

/// When something is to be worried about. Its text is, for example,
///
/// ```text
/// machine.cpu_percent > 90 for 10s, clear < 80 for 30s: warning
/// peer.queued_bytes{peer="imu"} >= 1000000: critical
/// rate(hub.refused) > 10 for 5s
/// ```
///
/// A metric, a comparison and a number; for how long it must hold (at once, if nothing is said); when it is over and for
/// how long that must hold; how bad it is (`warning` if nothing is said). Without a `clear` it is over when the comparison
/// holds no more; without a time there, for as long as the first, and at least ten seconds. A metric that stands for many,
/// such as `peer.queued_bytes`, is watched for each of them. Times are whole or broken numbers with `ms`, `s`, `m` or `h`,
/// a day at most.
///
/// ```
/// use visorbus_services::monitoring::{Severity, Threshold};
///
/// let threshold: Threshold = "machine.cpu_percent > 90 for 10s, clear < 80: critical".parse()?;
/// assert_eq!((threshold.limit, threshold.clear, threshold.severity), (90.0, 80.0, Severity::Critical));
/// assert_eq!(threshold.to_string(), "machine.cpu_percent > 90 for 10s, clear < 80: critical");
/// # Ok::<(), visorbus_services::monitoring::ThresholdError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// What is watched.
    pub metric: Selector,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub limit: f64,
    /// For how long it must hold.
    pub hold: Duration,
    /// How it is compared to be over.
    pub clear_comparison: Comparison,
    /// What it is compared with to be over.
    pub clear: f64,
    /// For how long it must be over.
    pub clear_hold: Duration,
    /// How bad it is.
    pub severity: Severity,
}

impl Threshold {
    /// Whether `value` is to be worried about.
    pub fn is_over(&self, value: f64) -> bool {
        self.comparison.holds(value, self.limit)
    }

    /// Whether `value` no longer is.
    pub fn is_clear(&self, value: f64) -> bool {
        self.clear_comparison.holds(value, self.clear)
    }

    /// Whether one replaces the other: they watch the same in the same direction, and are equally bad.
    pub fn replaces(&self, other: &Self) -> bool {
        self.metric == other.metric
            && self.comparison.is_upward() == other.comparison.is_upward()
            && self.severity == other.severity
    }

    fn default_clear_hold(hold: Duration) -> Duration {
        hold.max(LEAST_CLEAR_HOLD)
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let wrong = |what: String| ThresholdError { text: short(text), what };
        if text.len() > MAX_TEXT {
            return Err(wrong(format!("it is longer than {MAX_TEXT} bytes")));
        }
        parse(text).map_err(wrong)
    }
}

/// Its text, from which the same is read again.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.metric, self.comparison, self.limit)?;
        if !self.hold.is_zero() {
            write!(f, " for {}", Span(self.hold))?;
        }
        let is_default = self.clear_hold == Self::default_clear_hold(self.hold);
        if !is_default || self.clear != self.limit || self.clear_comparison != self.comparison.opposite() {
            write!(f, ", clear {} {}", self.clear_comparison, self.clear)?;
        }
        if !is_default {
            write!(f, " for {}", Span(self.clear_hold))?;
        }
        write!(f, ": {}", self.severity)
    }
}

/// How a figure is compared with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
}

impl Comparison {
    /// Whether it holds.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
        }
    }

    /// What holds when it does not.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Above => Self::AtMost,
            Self::AtLeast => Self::Below,
            Self::Below => Self::AtLeast,
            Self::AtMost => Self::Above,
        }
    }

    /// Whether it is what is too much that it finds.
    pub const fn is_upward(self) -> bool {
        matches!(self, Self::Above | Self::AtLeast)
    }

    fn parse_start(text: &str) -> Result<(Self, &str), String> {
        let text = text.trim_start();
        let all = [(">=", Self::AtLeast), ("<=", Self::AtMost), (">", Self::Above), ("<", Self::Below)];
        let found = all.iter().find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?)));
        found.ok_or_else(|| format!("'>', '>=', '<' or '<=' is missing before '{}'", short(text)))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        })
    }
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known; the health stays as it is.
    Info,
    /// The headset works, but not as it should: it is degraded.
    Warning,
    /// Something does not work: it is failing.
    Critical,
}

visorbus_core::variant_names!(Severity: "info", "warning", "critical");

impl Severity {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is no threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no threshold, such as 'machine.cpu_percent > 90 for 10s, clear < 80: warning': {what}")]
pub struct ThresholdError {
    text: String,
    what: String,
}

/// A time as a threshold has it.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 3_600_000 == 0 && ms > 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 && ms > 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

fn parse(text: &str) -> Result<Threshold, String> {
    let (metric, rest) = Selector::parse_start(text)?;
    let (comparison, rest) = Comparison::parse_start(rest)?;
    let (limit, rest) = parse_number(rest)?;
    let (hold, rest) = parse_hold(rest)?;
    let hold = hold.unwrap_or_default();
    let (over, rest) = parse_clear(rest)?;
    let (clear_comparison, clear, clear_hold) = over.unwrap_or((comparison.opposite(), limit, None));
    let clear_hold = clear_hold.unwrap_or(Threshold::default_clear_hold(hold));
    let severity = parse_severity(rest)?;
    let threshold =
        Threshold { metric, comparison, limit, hold, clear_comparison, clear, clear_hold, severity };
    if comparison.is_upward() == clear_comparison.is_upward() {
        return Err(format!("it begins with '{comparison}' and cannot be over with '{clear_comparison}'"));
    }
    let overlaps = if comparison.is_upward() { clear > limit } else { clear < limit };
    if overlaps {
        return Err(format!("it would be over at {clear} and begin at {limit}, both at once"));
    }
    Ok(threshold)
}

/// A comparison, a number and a time after `, clear`.
type Clear = (Comparison, f64, Option<Duration>);

fn parse_clear(text: &str) -> Result<(Option<Clear>, &str), String> {
    let Some(rest) = text.trim_start().strip_prefix(',') else { return Ok((None, text)) };
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("clear ").ok_or_else(|| format!("'{}' should be 'clear'", short(rest)))?;
    let (comparison, rest) = Comparison::parse_start(rest)?;
    let (number, rest) = parse_number(rest)?;
    let (hold, rest) = parse_hold(rest)?;
    Ok((Some((comparison, number, hold)), rest))
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Severity::Warning);
    }
    let word = text.strip_prefix(':').map(str::trim);
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    let found = all.into_iter().find(|severity| word == Some(severity.as_str()));
    found.ok_or_else(|| format!("'{}' should be ': info', ': warning' or ': critical'", short(text)))
}

fn parse_number(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+' | 'e' | 'E'));
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((value, rest)),
        _ => Err(format!("'{}' is no number", short(text))),
    }
}

fn parse_hold(text: &str) -> Result<(Option<Duration>, &str), String> {
    let Some(rest) = text.trim_start().strip_prefix("for ") else { return Ok((None, text)) };
    let (number, rest) = parse_number(rest)?;
    let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("'{number}{}' is no time, such as 500ms, 10s, 5m or 1h", short(unit))),
    };
    let seconds = number * unit;
    if !(0.0..=LONGEST_HOLD).contains(&seconds) {
        return Err("it must hold for between nothing and a day".to_owned());
    }
    // As many milliseconds as its text has.
    Ok((Some(Duration::from_millis(Duration::from_secs_f64(seconds).as_millis() as u64)), rest))
}

/// Longest text, in bytes.
const MAX_TEXT: usize = 512;
/// Longest time that something must hold, in seconds: a day.
const LONGEST_HOLD: f64 = 86_400.0;
/// What was over must be so for this long, where nothing else is said, so that it does not come and go.
const LEAST_CLEAR_HOLD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitoring::MonitoringConfig;

    #[test]
    fn a_text_is_read_as_it_is_written() {
        for (text, written) in [
            ("a > 1", "a > 1: warning"),
            ("  a.b_c<=-1.5e3 for 90s:critical ", "a.b_c <= -1500 for 90s: critical"),
            ("a > 90 for 10s, clear < 80: info", "a > 90 for 10s, clear < 80: info"),
            ("a > 90 for 1m, clear <= 90 for 1m", "a > 90 for 1m: warning"),
            ("a > 1, clear < 1 for 0s", "a > 1, clear < 1 for 0s: warning"),
            ("a >= 1 for 0.25s", "a >= 1 for 250ms: warning"),
            ("rate( a{y=\"2\", x=\"1\"} ) > 1", "rate(a{x=\"1\",y=\"2\"}) > 1: warning"),
            (r#"a{x="q\"\\\n,}"} > 1"#, r#"a{x="q\"\\\n,}"} > 1: warning"#),
        ] {
            let threshold: Threshold = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(threshold.to_string(), written);
            assert_eq!(written.parse::<Threshold>().unwrap(), threshold, "{written}");
        }
    }

    #[test]
    fn what_is_no_threshold_is_refused_with_what_is_wrong() {
        for (text, wrong) in [
            ("", "no metric's name"),
            ("CPU > 1", "no metric's name"),
            ("a.", "no metric's name"),
            ("a", "'>', '>=', '<' or '<=' is missing"),
            ("a > ", "is no number"),
            ("a > nan", "is no number"),
            ("a > 1e999", "is no number"),
            ("a > 1 for 5", "is no time"),
            ("a > 1 for -5s", "between nothing and a day"),
            ("a > 1 for 25h", "between nothing and a day"),
            ("a > 1: terrible", "should be ': info'"),
            ("a > 1 please", "should be ': info'"),
            ("a > 1, then < 1", "should be 'clear'"),
            ("a > 1, clear > 0", "cannot be over with '>'"),
            ("a > 1, clear < 2", "both at once"),
            ("a < 1, clear > 0", "both at once"),
            ("rate(a > 1", "')' is missing"),
            ("rate(rate(a)) > 1", "a rate has no rate"),
            ("a{x=1} > 1", "no label"),
            ("a{x=\"1\" > 1", "is missing before"),
            ("a{x=\"1} > 1", "no label"),
            ("a{x=\"1\",x=\"2\"} > 1", "there twice"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{text}: {error}");
        }
        let endless = "rate(".repeat(100_000);
        assert!(endless.parse::<Threshold>().is_err());
        let screen = "a > 1 for \u{1f3a7}\x1b[2J".parse::<Threshold>().unwrap_err().to_string();
        assert!(!screen.contains(char::is_control), "{screen:?}");
    }

    #[test]
    fn the_default_thresholds_are_all_read() {
        let all = MonitoringConfig::default_thresholds();
        assert_eq!(all.len(), 8);
        assert!(all.iter().all(|of| crate::monitoring::describe(&of.metric.name).is_some()), "{all:?}");
    }
}
