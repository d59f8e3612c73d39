use std::error::Error as _;
use std::fs::File;
use std::io::{Read as _, Write as _};

use embedded_io::Error as _;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::LocalModes;

use super::*;

/// The far end of a pty and the path of the near one.
struct Pty {
    master: File,
    path: PathBuf,
}

impl Pty {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        Self { master: master.into(), path: name.into_string().unwrap().into() }
    }

    fn open(&self) -> Tty {
        Tty::open(&self.path, 115_200).unwrap()
    }
}

/// Waits for input, or for a hang-up, and reads once.
fn read_some(tty: &mut Tty, bytes: &mut [u8]) -> Result<usize, TtyError> {
    poll(&mut [PollFd::new(&*tty, PollFlags::IN)], None).unwrap();
    assert!(tty.read_ready().unwrap());
    tty.read(bytes)
}

fn is_gone(error: &TtyError) -> bool {
    matches!(error, TtyError::Gone { .. }) && error.kind() == ErrorKind::NotConnected
}

#[test]
fn every_byte_value_passes_both_ways_unchanged() {
    let mut pty = Pty::new();
    let mut tty = pty.open();
    let all: Vec<u8> = (0..=255).collect();

    assert_eq!(tty.write(&all).unwrap(), all.len());
    let mut arrived = vec![0; all.len()];
    pty.master.read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, all);

    pty.master.write_all(&all).unwrap();
    let mut arrived = Vec::new();
    while arrived.len() < all.len() {
        let mut bytes = [0; 512];
        let count = read_some(&mut tty, &mut bytes).unwrap();
        arrived.extend_from_slice(&bytes[..count]);
    }
    assert_eq!(arrived, all);
}

#[test]
fn reading_nothing_and_writing_to_a_full_device_do_not_block() {
    let pty = Pty::new();
    let mut tty = pty.open();
    assert!(!tty.read_ready().unwrap());
    assert!(matches!(tty.read(&mut [0; 8]), Err(TtyError::WouldBlock)));

    assert!(tty.write_ready().unwrap());
    let mut written = 0;
    let error = loop {
        match tty.write(&[0x55; 4096]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert!(written > 0);
    assert!(matches!(error, TtyError::WouldBlock), "{error}");
    assert!(!tty.write_ready().unwrap());
    tty.flush().unwrap();
}

#[test]
fn an_empty_buffer_is_no_hang_up() {
    let pty = Pty::new();
    let mut tty = pty.open();
    assert_eq!(tty.read(&mut []).unwrap(), 0);
    assert_eq!(tty.write(&[]).unwrap(), 0);
}

#[test]
fn closing_the_other_end_reads_and_writes_as_gone_and_stays_so() {
    let Pty { master, path } = Pty::new();
    let mut tty = Tty::open(&path, 115_200).unwrap();
    drop(master);
    for _ in 0..2 {
        let error = read_some(&mut tty, &mut [0; 8]).unwrap_err();
        assert!(is_gone(&error), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        let error = tty.write(&[1]).unwrap_err();
        assert!(is_gone(&error), "{error}");
    }
}

#[test]
fn a_device_that_went_away_is_missing_on_the_next_open() {
    let Pty { master, path } = Pty::new();
    // While this one is open its number is not given to another test's pty.
    let _gone = Tty::open(&path, 115_200).unwrap();
    drop(master);
    let error = Tty::open(&path, 115_200).unwrap_err();
    assert!(matches!(&error, OpenError::Missing { path: named } if *named == path), "{error}");
}

#[test]
fn eight_data_bits_no_parity_one_stop_bit_and_no_flow_control_whatever_was_set_before() {
    let pty = Pty::new();
    let mut odd = tcgetattr(&pty.master).unwrap();
    odd.input_modes |= InputModes::IXON | InputModes::IXOFF | InputModes::IXANY;
    odd.control_modes -= ControlModes::CSIZE | ControlModes::CREAD | ControlModes::CLOCAL;
    odd.control_modes |=
        ControlModes::CS7 | ControlModes::PARENB | ControlModes::CSTOPB | ControlModes::CRTSCTS;
    let settings = raw(&odd, 9600).unwrap();
    let modes = ControlModes::CSIZE
        | ControlModes::PARENB
        | ControlModes::CSTOPB
        | ControlModes::CRTSCTS
        | ControlModes::CREAD
        | ControlModes::CLOCAL;
    assert_eq!(
        settings.control_modes & modes,
        ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL
    );
    assert!(!settings.input_modes.intersects(InputModes::IXON | InputModes::IXOFF | InputModes::IXANY));
    assert_eq!((settings.input_speed(), settings.output_speed()), (9600, 9600));
}

#[test]
fn any_speed_is_accepted_on_a_pty() {
    let pty = Pty::new();
    for baud in [1, 9600, 250_000, 1_234_567, u32::MAX] {
        assert_eq!(Tty::open(&pty.path, baud).unwrap().baud(), baud);
    }
}

#[test]
fn a_speed_of_0_is_refused_because_it_means_hang_up() {
    let pty = Pty::new();
    let error = Tty::open(&pty.path, 0).unwrap_err();
    assert!(matches!(error, OpenError::SpeedRefused { baud: 0, .. }), "{error}");
    pty.open();
}

#[test]
fn a_second_opener_is_told_that_it_is_in_use_until_the_first_is_dropped() {
    let pty = Pty::new();
    let tty = pty.open();
    let error = Tty::open(&pty.path, 115_200).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("fuser -v {}", pty.path.display())), "{error}");
    drop(tty);
    pty.open();
}

#[test]
fn dropping_it_puts_the_settings_back() {
    let pty = Pty::new();
    let settings = || tcgetattr(&pty.master).unwrap();
    assert!(settings().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    let before = format!("{:?}", settings());

    let tty = Tty::open(&pty.path, 1_234_567).unwrap();
    assert!(!settings().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON));
    assert_eq!(settings().output_speed(), 1_234_567);
    drop(tty);
    assert_eq!(format!("{:?}", settings()), before);
}

#[test]
fn what_arrived_before_it_was_opened_is_discarded() {
    let mut pty = Pty::new();
    let held = File::options().read(true).write(true).open(&pty.path).unwrap();
    pty.master.write_all(b"stale\n").unwrap();
    poll(&mut [PollFd::new(&held, PollFlags::IN)], None).unwrap();
    assert!(!pty.open().read_ready().unwrap());
}

#[test]
fn a_missing_device_is_named_with_where_to_look() {
    let error = Tty::open("/dev/visorbus-none", 115_200).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }));
    assert_eq!(
        error.to_string(),
        "no serial device at /dev/visorbus-none: check the cable and the name (`ls /dev/serial/by-id` lists what is \
         plugged in)"
    );
}

#[test]
fn what_is_no_tty_is_refused() {
    for path in ["/dev/null", "/dev", "/dev/null/tty"] {
        let error = Tty::open(path, 115_200).unwrap_err();
        assert!(matches!(error, OpenError::NotATty { .. }), "{path}: {error}");
    }
}

#[test]
fn a_denied_open_names_the_group_that_owns_the_device() {
    let pty = Pty::new();
    rustix::fs::chmod(&pty.path, Mode::empty()).unwrap();
    let path = &pty.path;
    let error = std::thread::scope(|scope| {
        let open = || {
            // Root may open anything, so this thread stops being root.
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            Tty::open(path, 115_200).unwrap_err()
        };
        scope.spawn(open).join().unwrap()
    });
    let OpenError::PermissionDenied { group, .. } = &error else { panic!("{error}") };
    let owner = fs::metadata(path).unwrap().gid();
    assert!(!group.is_empty() && group != "unknown");
    assert!(
        group.parse().is_ok_and(|number: u32| number == owner)
            || group.bytes().any(|b| b.is_ascii_alphabetic())
    );
    assert!(error.to_string().contains(&format!("usermod -aG {group}")), "{error}");
}

#[test]
fn other_failures_keep_what_the_system_says() {
    let error = OpenError::new(Path::new("/dev/ttyACM0"), Errno::MFILE);
    assert_eq!(error.to_string(), "cannot open /dev/ttyACM0");
    assert!(error.source().unwrap().to_string().contains("Too many open files"));
}
