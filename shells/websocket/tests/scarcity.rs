//! A door in a process that has no descriptors left, and one whose visitors all wait for something. By itself in a process,
//! whose limits it changes and whose processor time it looks at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};

use visorbus_hub::Listener as _;
use visorbus_websocket::{Pages, Reason, WebSocketConfig, WebSocketListener};

#[test]
fn a_process_without_descriptors_turns_away_does_not_spin_and_recovers() {
    let mut config = WebSocketConfig::default();
    config.door.pending_per_address = 200;
    config.pages = Pages::new().with("/large", "text/plain", vec![b'x'; 8_000_000]);
    let mut listener = WebSocketListener::bind("127.0.0.1:0", config).unwrap();
    let mut visitors: Vec<_> = (0..100).map(|_| new_socket()).collect();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = visitors.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    // Room for ten more.
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(highest).unwrap() + 11, hard).unwrap();
    let SocketAddr::V4(there) = listener.local_addr() else { unreachable!() };
    for visitor in &visitors {
        connect(visitor.as_raw_fd(), &SockaddrIn::from(there)).unwrap();
    }
    let stats = wait_for(&listener, |stats| stats.accepted + stats.refused(Reason::Descriptors) == 100);
    assert!(stats.refused(Reason::Descriptors) >= 85 && stats.pending > 0, "{stats:?}");
    let mut closed = TcpStream::from(visitors.pop().unwrap());
    assert_eq!(closed.read(&mut [0]).unwrap_or(0), 0);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let mut good = TcpStream::from(new_socket());
    connect(good.as_raw_fd(), &SockaddrIn::from(there)).unwrap();
    good.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Protocol: visorbus.v1.json\r\n\r\n",
    )
    .unwrap();
    let mut answer = [0; 12];
    good.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    poll(&mut [PollFd::new(listener.fd(), PollFlags::POLLIN)], PollTimeout::from(20_000_u16)).unwrap();
    let _link = listener.accept().unwrap().expect("it was handed on");

    // One of each that waits: silent, in its head, for an answer that it does not read, and answered but not gone.
    let mut waiting = Vec::new();
    for text in
        ["", "GET", "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\nmore", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(there).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        waiting.push(stream);
    }
    wait_for(&listener, |stats| stats.pages == 1 && stats.refused(Reason::Host) == 1);
    let before = processor_time();
    // Nobody connects; this waits its time out.
    let mut nothing = [PollFd::new(listener.fd(), PollFlags::empty())];
    poll(&mut nothing, PollTimeout::from(500_u16)).unwrap();
    let used = processor_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?} of 500 ms");
}

fn new_socket() -> OwnedFd {
    socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

fn wait_for(
    listener: &WebSocketListener,
    what: impl Fn(&visorbus_websocket::DoorStats) -> bool,
) -> visorbus_websocket::DoorStats {
    let start = Instant::now();
    loop {
        let stats = listener.door().stats();
        if what(&stats) {
            return stats;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{stats:?}");
        std::thread::yield_now();
    }
}

fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros =
        |time: nix::sys::time::TimeVal| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap();
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}
