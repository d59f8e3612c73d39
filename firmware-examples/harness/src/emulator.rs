//! The emulator with firmware in it, and how that is built.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Builds the firmware `package` for a processor; the path of its image.
pub fn build_firmware(package: &str, target: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", target, "--package", package])
        .current_dir(workspace)
        .status()
        .unwrap();
    assert!(built.success(), "the firmware builds; see above");
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    folder.join(target).join("release").join(package)
}

/// QEMU with the firmware in it; killed when dropped.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    folder: tempfile::TempDir,
}

impl Emulator {
    /// Starts the board that QEMU calls `machine`, with an image in it.
    pub fn start(machine: &str, image: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("qemu-system-arm")
            .current_dir(&folder)
            .args(["-machine", machine, "-display", "none"])
            .args(["-serial", "unix:uart.sock,server=on,wait=off"])
            .args(["-monitor", "unix:monitor.sock,server=on,wait=off"])
            .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
            .arg(image)
            .stdin(Stdio::null())
            // A file: a pipe that nobody reads would block the firmware.
            .stdout(std::fs::File::create(folder.path().join("log.defmt")).unwrap())
            .spawn()
            .expect("qemu-system-arm is installed");
        Self { child, folder }
    }

    /// Connects to one of its sockets, as soon as it is there.
    pub fn connect(&self, socket: &str) -> UnixStream {
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(self.folder.path().join(socket)) {
                return stream;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the emulator opens no {socket}");
    }

    /// Ends it; the bytes of its log.
    pub fn stop(&mut self) -> Vec<u8> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut log = Vec::new();
        std::fs::File::open(self.folder.path().join("log.defmt")).unwrap().read_to_end(&mut log).unwrap();
        log
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}
