//! How a person writes down an SPI link: which device, how fast, which ready line, as whom. It opens nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use visorbus_hal::SpiController;

use crate::trust::Trust;

/// An SPI link as it stands on a command line or in a configuration file: `PATH[@HZ],ready=CHIP:LINE[,OPTION…]`, with
/// `spidev:` before it or not.
///
/// `HZ` defaults to [`SpiSpec::DEFAULT_HZ`]. Options are `mode=0` to `mode=3` (0 unless told), `turnaround=MICROSECONDS`, the
/// time the target needs from one transfer to the next ([`SpiController::TURNAROUND_US`] unless told), and
/// `unkeyed=NAME` or `unauthenticated=NAME`, see [`Trust`]. `Display` writes the same form back.
///
/// ```
/// let spec: visorbus_mcu::SpiSpec = "/dev/spidev0.0@8000000,ready=/dev/gpiochip0:17".parse().unwrap();
/// assert_eq!((spec.hz, spec.ready_line), (8_000_000, 17));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpiSpec {
    /// The device, such as `/dev/spidev0.0`: a chip select of a bus.
    pub path: PathBuf,
    /// Clocks a second at most, not 0.
    pub hz: u32,
    /// The chip that has the target's ready line, such as `/dev/gpiochip0`.
    pub ready_chip: PathBuf,
    /// Number of the line on it.
    pub ready_line: u32,
    /// Phase and polarity of the clock, 0 to 3.
    pub mode: u8,
    /// Microseconds the target needs from one transfer to the next.
    pub turnaround_us: u32,
    /// By what the board on it is known.
    pub trust: Trust,
}

impl SpiSpec {
    /// The speed when none is given, in clocks a second: what long wires and slow targets still do.
    pub const DEFAULT_HZ: u32 = 1_000_000;

    fn new(path: &str, hz: u32) -> Self {
        Self {
            path: path.into(),
            hz,
            ready_chip: PathBuf::new(),
            ready_line: 0,
            mode: 0,
            turnaround_us: SpiController::TURNAROUND_US,
            trust: Trust::LinkKey,
        }
    }

    fn set_option(&mut self, option: &str) -> Result<&'static str, SpiSpecError> {
        let bad = || SpiSpecError::BadOption { option: option.to_owned() };
        match option.split_once('=') {
            Some(("ready", place)) => {
                let (chip, line) =
                    place.rsplit_once(':').filter(|(chip, _)| !chip.is_empty()).ok_or_else(bad)?;
                self.ready_chip = chip.into();
                self.ready_line = number(line).ok_or_else(bad)?;
                Ok("ready")
            }
            Some(("mode", mode)) => {
                self.mode = number(mode).filter(|mode| *mode < 4).ok_or_else(bad)? as u8;
                Ok("mode")
            }
            Some(("turnaround", micros)) => {
                self.turnaround_us = number(micros).filter(|micros| *micros <= 1_000_000).ok_or_else(bad)?;
                Ok("turnaround")
            }
            _ => match Trust::parse(option) {
                Some(Ok(trust)) => {
                    self.trust = trust;
                    Ok("unkeyed or unauthenticated")
                }
                Some(Err(_)) => Err(bad()),
                None => Err(SpiSpecError::UnknownOption { option: option.to_owned() }),
            },
        }
    }
}

impl FromStr for SpiSpec {
    type Err = SpiSpecError;

    fn from_str(text: &str) -> Result<Self, SpiSpecError> {
        let mut parts = text.strip_prefix("spidev:").unwrap_or(text).split(',');
        let device = parts.next().unwrap_or_default();
        let (path, hz) = device.rsplit_once('@').map_or((device, None), |(path, hz)| (path, Some(hz)));
        if path.is_empty() {
            return Err(SpiSpecError::NoPath);
        }
        let hz = hz.map_or(Some(Self::DEFAULT_HZ), |hz| number(hz).filter(|hz| *hz != 0));
        let mut spec =
            Self::new(path, hz.ok_or_else(|| SpiSpecError::BadSpeed { device: device.to_owned() })?);
        let mut given = Vec::new();
        for option in parts {
            let name = spec.set_option(option)?;
            if given.contains(&name) {
                return Err(SpiSpecError::RepeatedOption { option: name });
            }
            given.push(name);
        }
        if given.contains(&"ready") { Ok(spec) } else { Err(SpiSpecError::NoReadyLine) }
    }
}

impl fmt::Display for SpiSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, hz, ready_chip, ready_line, mode, turnaround_us, trust } = self;
        write!(f, "{}@{hz},ready={}:{ready_line}", path.display(), ready_chip.display())?;
        write!(f, ",mode={mode},turnaround={turnaround_us}{trust}")
    }
}

/// Why a text is not an SPI link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiSpecError {
    /// Nothing stands where the device should.
    #[error(
        "an SPI link starts with its device: write PATH[@HZ],ready=CHIP:LINE, such as \
         /dev/spidev0.0@8000000,ready=/dev/gpiochip0:17"
    )]
    NoPath,
    /// What follows the last `@` is no speed.
    #[error(
        "{device:?} has no speed behind the '@': write digits between 1 and {}, such as @8000000",
        u32::MAX
    )]
    BadSpeed {
        /// The device as written.
        device: String,
    },
    /// The ready line is missing.
    #[error(
        "an SPI link needs the target's ready line: add ready=CHIP:LINE, such as ready=/dev/gpiochip0:17"
    )]
    NoReadyLine,
    /// An option that this version does not know.
    #[error(
        "unknown option {option:?} on an SPI link: known are ready=CHIP:LINE, mode=0..3, turnaround=MICROSECONDS, \
         unkeyed=NAME and unauthenticated=NAME"
    )]
    UnknownOption {
        /// The option as written.
        option: String,
    },
    /// An option with a value that it cannot have.
    #[error(
        "{option:?} cannot be: write ready=CHIP:LINE, mode=0..3, turnaround=MICROSECONDS up to 1000000, unkeyed=NAME or \
         unauthenticated=NAME, NAME of at most 32 of a-z, 0-9, '.', '_' and '-'"
    )]
    BadOption {
        /// The option as written.
        option: String,
    },
    /// An option is there twice.
    #[error("option {option} is given twice on one SPI link: leave one out")]
    RepeatedOption {
        /// The option's name.
        option: &'static str,
    },
}

/// Digits, and nothing else.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SpiSpec, SpiSpecError> {
        text.parse()
    }

    #[test]
    fn device_and_ready_line_are_enough() {
        let spec = parse("/dev/spidev0.0,ready=/dev/gpiochip0:17").unwrap();
        assert_eq!((spec.path.to_str(), spec.hz, spec.mode), (Some("/dev/spidev0.0"), 1_000_000, 0));
        assert_eq!((spec.ready_chip.to_str(), spec.ready_line), (Some("/dev/gpiochip0"), 17));
        assert_eq!((spec.turnaround_us, spec.trust), (50, Trust::LinkKey));
        assert_eq!(
            parse("spidev:/dev/spidev0.0@5,ready=a:0").unwrap(),
            parse("/dev/spidev0.0@5,ready=a:0").unwrap()
        );
    }

    #[test]
    fn options_stand_in_any_order_and_read_back_the_same() {
        let text = "/dev/spidev1.2@8000000,unauthenticated=imu,mode=3,ready=/dev/gpiochip4:0,turnaround=0";
        let spec = parse(text).unwrap();
        assert_eq!((spec.hz, spec.mode, spec.turnaround_us), (8_000_000, 3, 0));
        assert_eq!(spec.trust, Trust::Nothing { name: "imu".to_owned() });
        assert_eq!(parse(&spec.to_string()), Ok(spec));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(parse(""), Err(SpiSpecError::NoPath));
        assert_eq!(parse("spidev:@5,ready=a:0"), Err(SpiSpecError::NoPath));
        assert_eq!(parse("/dev/spidev0.0"), Err(SpiSpecError::NoReadyLine));
        for device in ["a@", "a@0", "a@fast", "a@4294967296", "a@+5"] {
            let error = parse(&format!("{device},ready=a:0")).unwrap_err();
            assert_eq!(error, SpiSpecError::BadSpeed { device: device.to_owned() });
        }
        for option in
            ["ready=17", "ready=:17", "ready=a:", "ready=a:x", "mode=4", "mode=", "turnaround=1000001"]
        {
            let error = parse(&format!("a,{option}")).unwrap_err();
            assert!(matches!(error, SpiSpecError::BadOption { .. }), "{option}: {error}");
        }
        for option in ["", "speed=5", "ready", "unauthenticated"] {
            let error = parse(&format!("a,ready=a:0,{option}")).unwrap_err();
            assert!(matches!(error, SpiSpecError::UnknownOption { .. }), "{option}: {error}");
        }
        let error = parse("a,ready=a:0,ready=a:1").unwrap_err();
        assert_eq!(error, SpiSpecError::RepeatedOption { option: "ready" });
        assert!(parse("a,ready=a:0,unauthenticated=IMU").is_err());
        assert!(parse("a,ready=a:0,unauthenticated=imu,unkeyed=imu").is_err());
    }
}
