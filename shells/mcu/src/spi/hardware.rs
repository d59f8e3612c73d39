//! What an SPI link of the hub runs over: Linux's spidev and a GPIO line, or what a test has instead. It knows bytes and
//! levels, no frames.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use embedded_hal::digital::{self, InputPin};
use embedded_hal::spi::{self, Operation, SpiDevice};
use gpiocdev::Request;
use gpiocdev::line::{EdgeDetection, Value};
use spidev::{SpiModeFlags, Spidev, SpidevOptions, SpidevTransfer};

use crate::SpiSpec;

/// A target's chip select on a bus and its ready line, which may come and go.
pub trait SpiHardware: Debug + Send {
    /// The chip select.
    type Device: SpiDevice + Send;
    /// The ready line.
    type Ready: ReadyLine + Send;

    /// Opens both.
    ///
    /// # Errors
    /// One of them is not there, or not what it should be.
    fn open(&mut self) -> Result<(Self::Device, Self::Ready), SpiOpenError>;

    /// Which it is, for people to read: the device's path.
    fn path(&self) -> String;
}

/// A ready line that can be waited for.
///
/// # For the implementer
/// The descriptor is readable from when the line rises until [`ReadyLine::clear`]; a line that is high without having risen
/// since is seen by its level alone. It is never ready for output.
pub trait ReadyLine: InputPin + AsFd {
    /// Forgets that the line rose. Before its level is looked at: what rises after that is reported again.
    ///
    /// # Errors
    /// The line is gone.
    fn clear(&mut self) -> Result<(), Self::Error>;
}

/// Linux's spidev and GPIO character devices.
#[derive(Debug, Clone)]
pub struct SpidevHardware(SpiSpec);

impl SpidevHardware {
    /// What `spec` names; nothing is opened yet.
    pub const fn new(spec: SpiSpec) -> Self {
        Self(spec)
    }
}

impl SpiHardware for SpidevHardware {
    type Device = SpidevDevice;
    type Ready = SpidevReady;

    fn open(&mut self) -> Result<(SpidevDevice, SpidevReady), SpiOpenError> {
        Ok((SpidevDevice::open(&self.0)?, SpidevReady::open(&self.0.ready_chip, self.0.ready_line)?))
    }

    fn path(&self) -> String {
        self.0.path.display().to_string()
    }
}

/// A chip select of a bus, by Linux's spidev. One transaction is one system call, which waits until it is over.
#[derive(Debug)]
pub struct SpidevDevice(Spidev);

impl SpidevDevice {
    /// Opens and sets up what `spec` names, with 8-bit words, the most significant bit first.
    ///
    /// # Errors
    /// It is missing, may not be opened, is no spidev, or cannot do the mode or the speed.
    pub fn open(spec: &SpiSpec) -> Result<Self, SpiOpenError> {
        let path = &spec.path;
        let explain = |error: io::Error| SpiOpenError::of_device(path, error);
        // Whatever else stands there is not to be opened: it may block, or be changed.
        if !std::fs::metadata(path).map_err(explain)?.file_type().is_char_device() {
            return Err(SpiOpenError::NotSpidev { path: path.clone() });
        }
        let mut device = Spidev::new(File::options().read(true).write(true).open(path).map_err(explain)?);
        device.query_configuration().map_err(explain)?;
        let mode = SpiModeFlags::from_bits_truncate(spec.mode.into());
        let options =
            SpidevOptions::new().bits_per_word(8).lsb_first(false).mode(mode).max_speed_hz(spec.hz).build();
        device.configure(&options).map_err(explain)?;
        Ok(Self(device))
    }
}

impl spi::ErrorType for SpidevDevice {
    type Error = SpidevError;
}

impl SpiDevice for SpidevDevice {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), SpidevError> {
        let mut transfers = Vec::with_capacity(2 * operations.len());
        for operation in operations {
            match operation {
                Operation::Read(into) => transfers.push(SpidevTransfer::read(into)),
                Operation::Write(bytes) => transfers.push(SpidevTransfer::write(bytes)),
                Operation::TransferInPlace(bytes) => {
                    transfers.push(SpidevTransfer::read_write_in_place(bytes))
                }
                Operation::Transfer(into, bytes) => {
                    let both = into.len().min(bytes.len());
                    let (into, rest_in) = into.split_at_mut(both);
                    let (bytes, rest_out) = bytes.split_at(both);
                    transfers.push(SpidevTransfer::read_write(bytes, into));
                    if !rest_in.is_empty() {
                        transfers.push(SpidevTransfer::read(rest_in));
                    }
                    if !rest_out.is_empty() {
                        transfers.push(SpidevTransfer::write(rest_out));
                    }
                }
                Operation::DelayNs(nanos) => {
                    transfers.push(SpidevTransfer::delay(nanos.div_ceil(1_000).min(u16::MAX.into()) as u16));
                }
            }
        }
        self.0.transfer_multiple(&mut transfers).map_err(SpidevError)
    }
}

/// A transaction that the driver did not make.
#[derive(Debug, thiserror::Error)]
#[error("the SPI transfer failed")]
pub struct SpidevError(#[source] io::Error);

impl spi::Error for SpidevError {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

/// A line of a GPIO character device that reports when it rises.
#[derive(Debug)]
pub struct SpidevReady {
    request: Request,
    line: u32,
}

impl SpidevReady {
    /// Asks for line `line` of the chip at `chip` as an input.
    ///
    /// # Errors
    /// The chip is missing, may not be opened, or is none; it has no such line, or another program has it.
    pub fn open(chip: &Path, line: u32) -> Result<Self, SpiOpenError> {
        let explain = |error: io::Error| SpiOpenError::of_chip(chip, error);
        let metadata = std::fs::metadata(chip).map_err(explain)?;
        if !metadata.file_type().is_char_device() {
            return Err(SpiOpenError::NotAChip { chip: chip.to_owned() });
        }
        File::options().read(true).write(true).open(chip).map_err(explain)?;
        if gpiocdev::chip::is_chip(chip).is_err() {
            return Err(SpiOpenError::NotAChip { chip: chip.to_owned() });
        }
        let request = Request::builder()
            .on_chip(chip)
            .with_consumer("visorbus")
            .with_line(line)
            .as_input()
            .with_edge_detection(EdgeDetection::RisingEdge)
            .request()
            .map_err(|reason| SpiOpenError::Line {
                chip: chip.to_owned(),
                line,
                reason: reason.to_string(),
            })?;
        Ok(Self { request, line })
    }
}

impl AsFd for SpidevReady {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.request.as_fd()
    }
}

impl digital::ErrorType for SpidevReady {
    type Error = ReadyError;
}

impl InputPin for SpidevReady {
    fn is_high(&mut self) -> Result<bool, ReadyError> {
        self.request.value(self.line).map(|value| value == Value::Active).map_err(ReadyError)
    }

    fn is_low(&mut self) -> Result<bool, ReadyError> {
        self.is_high().map(|high| !high)
    }
}

impl ReadyLine for SpidevReady {
    fn clear(&mut self) -> Result<(), ReadyError> {
        while self.request.has_edge_event().map_err(ReadyError)? {
            self.request.read_edge_event().map_err(ReadyError)?;
        }
        Ok(())
    }
}

/// A ready line that cannot be read any longer.
#[derive(Debug, thiserror::Error)]
#[error("the ready line cannot be read")]
pub struct ReadyError(#[source] gpiocdev::Error);

impl digital::Error for ReadyError {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

/// Why an SPI target could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpiOpenError {
    /// No device is there.
    #[error(
        "no SPI device at {}: check the name (`ls /dev/spidev*`), and that the bus is switched on, on a Raspberry Pi with \
         dtparam=spi=on",
        path.display()
    )]
    Missing {
        /// The path that was tried.
        path: PathBuf,
    },
    /// Something else than a spidev is there.
    #[error("{} is not an SPI device: name a spidev, such as /dev/spidev0.0", path.display())]
    NotSpidev {
        /// The path that was tried.
        path: PathBuf,
    },
    /// No GPIO chip is there.
    #[error("no GPIO chip at {}: `ls /dev/gpiochip*` lists those there are", chip.display())]
    ChipMissing {
        /// The path that was tried.
        chip: PathBuf,
    },
    /// Something else than a GPIO chip is there.
    #[error("{} is not a GPIO chip: name one, such as /dev/gpiochip0", chip.display())]
    NotAChip {
        /// The path that was tried.
        chip: PathBuf,
    },
    /// This user may not open it.
    #[error(
        "not allowed to open {0}: it belongs to group {group}; add yourself with `sudo usermod -aG {group} $USER` \
         and log in again",
        path.display()
    )]
    PermissionDenied {
        /// The path that was tried.
        path: PathBuf,
        /// The group that owns it, by name or number; `unknown` when even that may not be read.
        group: String,
    },
    /// The chip does not give the line.
    #[error(
        "line {line} of {} cannot be had: {reason}; is the number right (`gpioinfo`), and does nobody else use it?",
        chip.display()
    )]
    Line {
        /// The chip.
        chip: PathBuf,
        /// The number of the line on it.
        line: u32,
        /// What the system says.
        reason: String,
    },
    /// Whatever else the system says: a mode or a speed that the bus cannot do, for one.
    #[error("cannot set up {}: {source}", path.display())]
    Os {
        /// The path that was tried.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl SpiOpenError {
    fn of_device(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match Kind::of(&error) {
            Kind::Missing => Self::Missing { path },
            Kind::Denied => Self::PermissionDenied { group: crate::tty::group_of(&path), path },
            Kind::Wrong => Self::NotSpidev { path },
            Kind::Other => Self::Os { path, source: error },
        }
    }

    fn of_chip(chip: &Path, error: io::Error) -> Self {
        let path = chip.to_owned();
        match Kind::of(&error) {
            Kind::Missing => Self::ChipMissing { chip: path },
            Kind::Denied => Self::PermissionDenied { group: crate::tty::group_of(&path), path },
            Kind::Wrong => Self::NotAChip { chip: path },
            Kind::Other => Self::Os { path, source: error },
        }
    }
}

/// What an error of the system comes to.
enum Kind {
    Missing,
    Denied,
    Wrong,
    Other,
}

impl Kind {
    fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR) => Self::Missing,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            Some(Errno::NOTTY | Errno::ISDIR) => Self::Wrong,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn device_error(path: &Path) -> SpiOpenError {
        let text = format!("{},ready=/dev/gpiochip0:1", path.display());
        SpidevDevice::open(&text.parse().unwrap()).unwrap_err()
    }

    #[test]
    fn a_device_or_chip_that_is_not_there_is_named_with_what_lists_them() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().join("spidev9.9"), directory.path().join("no/spidev9.9")] {
            let error = device_error(&path);
            assert!(matches!(error, SpiOpenError::Missing { .. }), "{error}");
            assert!(error.to_string().contains("ls /dev/spidev*"), "{error}");
            let error = SpidevReady::open(&path, 1).unwrap_err();
            assert!(matches!(error, SpiOpenError::ChipMissing { .. }), "{error}");
            assert!(error.to_string().contains("ls /dev/gpiochip*"), "{error}");
        }
    }

    #[test]
    fn what_is_no_spidev_or_chip_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "content").unwrap();
        for path in [Path::new("/dev/null"), Path::new("/dev/zero"), &file, directory.path()] {
            let error = device_error(path);
            assert!(matches!(error, SpiOpenError::NotSpidev { .. }), "{error}");
            let error = SpidevReady::open(path, 1).unwrap_err();
            assert!(matches!(error, SpiOpenError::NotAChip { .. }), "{error}");
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), "content");
    }

    #[test]
    fn a_device_that_may_not_be_opened_says_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("spidev0.0");
        std::fs::write(&path, "").unwrap();
        let try_both = || {
            // Root may open anything, so this thread stops being root. Without that the file is no device.
            let nobody = rustix::process::Uid::from_raw(65534);
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                vec![device_error(&path), SpidevReady::open(&path, 1).unwrap_err()]
            } else {
                let denied = || rustix::io::Errno::ACCESS.into();
                vec![SpiOpenError::of_device(&path, denied()), SpiOpenError::of_chip(&path, denied())]
            }
        };
        for error in std::thread::scope(|scope| scope.spawn(try_both).join().unwrap()) {
            assert!(matches!(error, SpiOpenError::PermissionDenied { .. }), "{error}");
            assert!(error.to_string().contains("usermod -aG"), "{error}");
        }
    }

    #[test]
    fn other_failures_keep_what_the_system_says() {
        let error = SpiOpenError::of_device(Path::new("/dev/spidev0.0"), rustix::io::Errno::INVAL.into());
        assert!(error.to_string().starts_with("cannot set up /dev/spidev0.0: Invalid argument"), "{error}");
    }
}
