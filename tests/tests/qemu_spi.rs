//! The controller's end of an SPI link on the emulated board, over its PL022 in loop-back mode. What is demanded there
//! stands in the firmware: `spi-loopback`, an example of the board's crate.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

#[test]
fn an_spi_link_puts_its_transfers_through_a_pl022_byte_for_byte() {
    let image = build();
    let directory = tempfile::tempdir().unwrap();
    let mut emulator = Command::new(QEMU)
        .current_dir(&directory)
        .args(["-machine", "mps2-an385", "-display", "none", "-monitor", "none"])
        .args(["-serial", "file:uart.txt", "-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{QEMU} does not start: apt-get install {QEMU}? {error}"));
    let ended = pidfd_open(Pid::from_child(&emulator), PidfdFlags::empty()).unwrap();
    let longest = Timespec { tv_sec: 60, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&longest)).unwrap() == 0 {
        emulator.kill().unwrap();
    }
    let status = emulator.wait().unwrap();
    assert_eq!(status.code(), Some(42), "the number of what does not hold, as in spi-loopback.rs");
    let said = std::fs::read_to_string(directory.path().join("uart.txt")).unwrap();
    let numbers: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [transfers, bytes] = numbers[..] else { panic!("it said {said:?}") };
    // Each length once as the controller's own, then 500 frames there and back.
    assert!(transfers >= 128 + 2 * 500 && bytes > 128 * (8 + 64), "{transfers} transfers, {bytes} bytes");
}

/// Builds the image, where users find it.
fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-examples");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET])
        .args(["-p", "board-mps2-an385", "--features", "defmt", "--example", "spi-loopback"])
        .current_dir(&workspace)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    assert!(built.success(), "the firmware does not build, see above; `rustup target add {TARGET}`?");
    workspace.join("target").join(TARGET).join("release/examples/spi-loopback")
}

const QEMU: &str = "qemu-system-arm";
const TARGET: &str = "thumbv7m-none-eabi";
