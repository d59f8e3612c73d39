//! A simulated SPI bus as a hub's hardware, which may be pulled out.

use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use embedded_hal::digital::{self, InputPin};
use visorbus_mcu::{ReadyLine, SpiHardware, SpiOpenError};

use crate::spi_bus::{BusDevice, BusFaults, BusReady, SpiBus};

/// A bus, and whether its target is plugged in. A clone is another handle to both.
#[derive(Debug, Clone)]
pub struct SpiBench {
    /// The bus.
    pub bus: SpiBus,
    plugged: Arc<AtomicBool>,
}

impl SpiBench {
    /// A bus with the faults of `seed`, and a target on it.
    pub fn new(seed: u64) -> Self {
        Self { bus: SpiBus::new(seed), plugged: Arc::new(AtomicBool::new(true)) }
    }

    /// Puts the target back. The bus has no faults from then on.
    pub fn plug(&self) {
        self.bus.set_faults(BusFaults::NONE);
        self.plugged.store(true, Ordering::SeqCst);
    }

    /// Pulls the target out.
    pub fn unplug(&self) {
        self.plugged.store(false, Ordering::SeqCst);
        self.bus.set_faults(BusFaults::DEAD);
    }
}

impl SpiHardware for SpiBench {
    type Device = BusDevice;
    type Ready = BenchReady;

    fn open(&mut self) -> Result<(BusDevice, BenchReady), SpiOpenError> {
        if !self.plugged.load(Ordering::SeqCst) {
            return Err(SpiOpenError::Missing { path: self.path().into() });
        }
        let (rises, rise) = std::io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&rises, true).expect("a pipe");
        rustix::io::ioctl_fionbio(&rise, true).expect("a pipe");
        // One that is not taken yet is as good as two.
        self.bus.on_ready(move || {
            let _ = rustix::io::write(&rise, &[0]);
        });
        Ok((self.bus.device(), BenchReady { line: self.bus.ready_line(), rises }))
    }

    fn path(&self) -> String {
        "a simulated bus".to_owned()
    }
}

/// The ready line, and a pipe that tells when it rises.
#[derive(Debug)]
pub struct BenchReady {
    line: BusReady,
    rises: PipeReader,
}

impl AsFd for BenchReady {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rises.as_fd()
    }
}

impl digital::ErrorType for BenchReady {
    type Error = digital::ErrorKind;
}

impl InputPin for BenchReady {
    fn is_high(&mut self) -> Result<bool, digital::ErrorKind> {
        self.line.is_high()
    }

    fn is_low(&mut self) -> Result<bool, digital::ErrorKind> {
        self.line.is_low()
    }
}

impl ReadyLine for BenchReady {
    fn clear(&mut self) -> Result<(), digital::ErrorKind> {
        let mut seen = [0; 64];
        while rustix::io::read(&self.rises, &mut seen).is_ok_and(|count| count == seen.len()) {}
        Ok(())
    }
}
