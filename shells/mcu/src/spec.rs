//! How a person writes down a serial link: which device, how fast, as whom. It opens nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::trust::{BadName, Trust};

/// A serial link as it stands on a command line or in a configuration file: `PATH[@BAUD][,OPTION…]`.
///
/// `BAUD` defaults to [`SerialSpec::DEFAULT_BAUD`]. A path may hold an `@` of its own: only digits after the last one
/// are a speed. It cannot hold a comma: what follows the first one are options. The options are
/// `unkeyed=NAME` and `unauthenticated=NAME`, of which one may be there: see [`Trust`]. `Display` writes the same form back.
///
/// ```
/// use visorbus_mcu::{SerialSpec, Trust};
///
/// let spec: SerialSpec = "/dev/ttyACM0@921600,unkeyed=imu".parse().unwrap();
/// assert_eq!(spec.baud, 921_600);
/// assert_eq!(spec.trust, Trust::Token { name: "imu".to_owned() });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SerialSpec {
    /// The device, such as `/dev/ttyACM0`; a name under `/dev/serial/by-id` survives replugging.
    pub path: PathBuf,
    /// Bits a second, not 0. A pty takes any value and ignores it.
    pub baud: u32,
    /// By what the board on it is known.
    pub trust: Trust,
}

impl SerialSpec {
    /// The speed when none is given, in bits a second.
    pub const DEFAULT_BAUD: u32 = 115_200;

    /// The device at `path` with the default speed and no options.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), baud: Self::DEFAULT_BAUD, trust: Trust::LinkKey }
    }

    fn set_option(&mut self, option: &str) -> Result<(), SpecError> {
        match Trust::parse(option) {
            Some(_) if self.trust != Trust::LinkKey => Err(SpecError::RepeatedTrust),
            Some(Ok(trust)) => {
                self.trust = trust;
                Ok(())
            }
            Some(Err(BadName(name))) => Err(SpecError::BadName { name }),
            None => Err(SpecError::UnknownOption { option: option.to_owned() }),
        }
    }
}

impl FromStr for SerialSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split(',');
        let (path, baud) = split_baud(parts.next().unwrap_or_default())?;
        if path.is_empty() {
            return Err(SpecError::NoPath);
        }
        let mut spec = Self { baud, ..Self::new(path) };
        for option in parts {
            spec.set_option(option)?;
        }
        Ok(spec)
    }
}

impl fmt::Display for SerialSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}{}", self.path.display(), self.baud, self.trust)
    }
}

/// Why a text is not a serial link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Nothing stands where the device should.
    #[error(
        "a serial link starts with its device: write PATH[@BAUD][,OPTION...], such as /dev/ttyACM0@115200"
    )]
    NoPath,
    /// What follows the last `@` is no speed.
    #[error(
        "{baud:?} is not a speed: write digits between 1 and {} after the '@', such as @115200",
        u32::MAX
    )]
    BadBaud {
        /// What stands there.
        baud: String,
    },
    /// An option that this version does not know.
    #[error("unknown option {option:?} on a serial link: known are unkeyed=NAME and unauthenticated=NAME")]
    UnknownOption {
        /// The option as written.
        option: String,
    },
    /// Two options say by what the board is known.
    #[error("one serial link is for one board: give one of unkeyed=NAME and unauthenticated=NAME, once")]
    RepeatedTrust,
    /// `unkeyed` or `unauthenticated` with something that cannot name a component.
    #[error("{name:?} cannot name a component: use at most 32 of a-z, 0-9, '.', '_' and '-'")]
    BadName {
        /// The name as written.
        name: String,
    },
}

/// Splits `PATH[@BAUD]`.
fn split_baud(text: &str) -> Result<(&str, u32), SpecError> {
    match text.rsplit_once('@') {
        Some((path, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let baud = digits.parse().ok().filter(|&baud| baud != 0);
            Ok((path, baud.ok_or_else(|| SpecError::BadBaud { baud: digits.to_owned() })?))
        }
        _ => Ok((text, SerialSpec::DEFAULT_BAUD)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SerialSpec, SpecError> {
        text.parse()
    }

    #[test]
    fn a_bare_path_gets_the_default_speed_and_needs_a_key() {
        let spec = parse("/dev/ttyACM0").unwrap();
        assert_eq!(spec, SerialSpec::new("/dev/ttyACM0"));
        assert_eq!((spec.baud, spec.trust), (115_200, Trust::LinkKey));
    }

    #[test]
    fn only_digits_after_the_last_at_sign_are_a_speed() {
        for (text, path, baud) in [
            ("/dev/ttyACM0@921600", "/dev/ttyACM0", 921_600),
            ("/dev/a@b", "/dev/a@b", 115_200),
            ("/dev/a@1@2", "/dev/a@1", 2),
            ("/dev/a@1@b", "/dev/a@1@b", 115_200),
            ("/dev/a@4294967295", "/dev/a", u32::MAX),
        ] {
            let spec = parse(text).unwrap();
            assert_eq!((spec.path.to_str().unwrap(), spec.baud), (path, baud), "{text}");
        }
    }

    #[test]
    fn a_speed_that_is_none_is_refused() {
        for text in ["/dev/a@", "/dev/a@0", "/dev/a@4294967296"] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, SpecError::BadBaud { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_list_of_known_ones() {
        for text in
            ["/dev/a,parity=odd", "/dev/a,", "/dev/a@9600,unauthenticated", "/dev/a,unauthenticated=x,y"]
        {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, SpecError::UnknownOption { .. }), "{text}: {error}");
            assert!(error.to_string().contains("unauthenticated=NAME"), "{error}");
        }
    }

    #[test]
    fn a_node_without_a_key_is_named_once_and_by_a_component_name() {
        let name = || "imu".to_owned();
        for (option, trust) in [
            ("unkeyed=imu", Trust::Token { name: name() }),
            ("unauthenticated=imu", Trust::Nothing { name: name() }),
        ] {
            assert_eq!(parse(&format!("/dev/a@9600,{option}")).unwrap().trust, trust);
        }
        for name in ["", "Imu", "imu/left", "*", ".."] {
            for word in ["unkeyed", "unauthenticated"] {
                let error = parse(&format!("/dev/a,{word}={name}")).unwrap_err();
                assert_eq!(error, SpecError::BadName { name: name.to_owned() });
            }
        }
        for twice in ["unauthenticated=a,unauthenticated=b", "unkeyed=a,unauthenticated=a"] {
            assert_eq!(parse(&format!("/dev/a,{twice}")), Err(SpecError::RepeatedTrust));
        }
    }

    #[test]
    fn a_missing_path_is_refused() {
        for text in ["", "@9600", ",unauthenticated=imu"] {
            assert_eq!(parse(text), Err(SpecError::NoPath), "{text}");
        }
    }

    #[test]
    fn what_is_written_out_reads_back_the_same() {
        for text in
            ["/dev/a", "/dev/a@1@2", "/dev/a@7,unauthenticated=imu", "/dev/a@7,unkeyed=imu", "/dev/a@b"]
        {
            let spec = parse(text).unwrap();
            assert_eq!(parse(&spec.to_string()), Ok(spec), "{text}");
        }
    }
}
