use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use nix::poll::{PollFd, PollFlags, poll};
use rustls::pki_types::ServerName;
use visorbus_client::{Inbox, Wait, Wire};
use visorbus_core::frame::length::{Split, split};

use super::*;
use crate::tls::{TlsClientConfig, TlsConfig};
use crate::wire::WebSocketWire;

/// Both ends of a connection that is upgraded.
fn pair(tls: bool, config: &LinkConfig) -> (WebSocketLink, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, address) = listener.accept().unwrap();
    let (there, here) = if tls { secure(there, here) } else { (Channel::plain(there), Channel::plain(here)) };
    let origin = Origin::WebSocket { address, tls };
    let link = WebSocketLink::accepted(
        there.unwrap(),
        Vec::new(),
        Subprotocol::Postcard,
        origin,
        config,
        Seat::default(),
    );
    (link, here.unwrap())
}

fn secure(
    there: std::net::TcpStream,
    here: std::net::TcpStream,
) -> (io::Result<Channel>, io::Result<Channel>) {
    let files = tempfile::tempdir().unwrap();
    let path = |name| files.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert"), made.cert.pem()).unwrap();
    std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(path("key"), PermissionsExt::from_mode(0o600)).unwrap();
    let server = TlsConfig::new(path("cert"), path("key")).load().unwrap();
    let client = TlsClientConfig::with_ca(path("cert")).load().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    (Channel::tls_server(there, server), Channel::tls_client(here, client, name))
}

/// The `index`th frame of a flood: of any length, its content told by the index.
fn frame(index: usize) -> Vec<u8> {
    let len = 1 + index * 7919 % 50_000;
    (0..len).map(|at| (at * 31 + index) as u8).collect()
}

fn wait(on: BorrowedFd<'_>, output: bool) {
    let mut events = PollFlags::POLLIN;
    events.set(PollFlags::POLLOUT, output);
    let count = poll(&mut [PollFd::new(on, events)], 10_000u16).unwrap();
    assert!(count > 0, "nothing goes on: both ends wait for each other");
}

/// As the hub drives a link: sends frames while there is room, and reads as many.
fn drive_link(mut link: WebSocketLink) {
    let (mut sent, mut got) = (0, 0);
    let mut buffer = ReceiveBuffer::default();
    let mut now = 1;
    loop {
        while sent < FRAMES && link.has_room(0, 1) {
            link.send(&[], &frame(sent), false).unwrap();
            sent += 1;
        }
        now += 1;
        let is_flushed = link.flush(Instant::from_micros(now)).unwrap();
        assert!(link.dialog.output().len() < QUEUE_LEN + 60_000);
        if got == FRAMES && sent == FRAMES && is_flushed {
            return;
        }
        // With room again there is more to send, which nothing that comes would tell.
        if !(is_flushed && sent < FRAMES) {
            wait(link.fd().unwrap(), !is_flushed);
        }
        buffer.clear();
        link.receive(&mut buffer).unwrap();
        let mut rest = buffer.as_slice();
        while let Split::Frame { frame: bytes, consumed } = split(rest, 1 << 20).unwrap() {
            assert!(bytes == frame(got), "frame {got} came out another");
            got += 1;
            rest = &rest[consumed..];
        }
        assert!(rest.is_empty(), "a frame that is not whole");
    }
}

/// The same for the client's end.
fn drive_wire(wire: &WebSocketWire) {
    let (mut sent, mut got) = (0, 0);
    let mut inbox = Inbox::new();
    loop {
        while sent < FRAMES && wire.queued() == 0 {
            wire.send(&[], &frame(sent)).unwrap();
            sent += 1;
        }
        let is_flushed = wire.flush().unwrap();
        if got == FRAMES && sent == FRAMES && is_flushed {
            assert_eq!(wire.accepted(), wire.written());
            return;
        }
        if !(is_flushed && sent < FRAMES) {
            wire.wait(Wait::For(Duration::from_secs(10)), !is_flushed).unwrap();
        }
        wire.read(&mut inbox, Wait::No).unwrap();
        while let Some(bytes) = inbox.next_frame().unwrap() {
            assert!(bytes == frame(got), "frame {got} came out another");
            got += 1;
        }
    }
}

fn flood(tls: bool) {
    let (link, channel) = pair(tls, &LinkConfig::default());
    let there = thread::spawn(|| drive_link(link));
    drive_wire(&WebSocketWire::new(channel, Vec::new()));
    there.join().unwrap();
}

/// About 8 MiB each way.
const FRAMES: usize = 330;

#[test]
fn both_ends_flood_each_other_over_tls_and_nothing_is_lost_or_stuck() {
    flood(true);
}

#[test]
fn both_ends_flood_each_other_without_tls_and_nothing_is_lost_or_stuck() {
    flood(false);
}

#[test]
fn a_silent_end_is_pinged_once_and_then_gone() {
    let (mut link, silent) = pair(false, &LinkConfig::default());
    assert_eq!(link.poll_timeout(), Some(Instant::default()), "it wants to know the time");
    link.flush(Instant::from_micros(1)).unwrap();
    let every = link.config.protocol.heartbeat_interval_ms;
    let mut at = link.poll_timeout().unwrap();
    let due = Instant::from_micros(1).plus_millis(every);
    assert!((due..=due.plus_millis(every / 64)).contains(&at), "{at:?}");
    link.flush(at).unwrap();
    at = link.poll_timeout().unwrap();
    assert_eq!(link.flush(at).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(!link.lingers(), "nobody may be there who would read a goodbye");
    drop(link);
    silent.stream().set_nonblocking(false).unwrap();
    let mut heard = Vec::new();
    io::Read::read_to_end(&mut silent.stream(), &mut heard).unwrap();
    assert_eq!(heard[..2], [0x89, 0], "a ping");
    assert_eq!((heard[2], &heard[4..6]), (0x88, &1008_u16.to_be_bytes()[..]), "{heard:?}");
}

#[test]
fn ends_that_came_one_after_the_other_are_looked_for_together() {
    let times = [1_u64, 90_000, 200_000].map(|came| {
        let (mut link, _silent) = pair(false, &LinkConfig::default());
        link.flush(Instant::from_micros(came)).unwrap();
        link.poll_timeout().unwrap()
    });
    assert_eq!(times, [times[0]; 3]);
}

#[test]
fn an_end_that_answers_pings_stays() {
    let (mut link, channel) = pair(false, &LinkConfig::default());
    let wire = WebSocketWire::new(channel, Vec::new());
    let mut inbox = Inbox::new();
    let mut now = Instant::from_micros(1);
    for _ in 0..6 {
        link.flush(now).unwrap();
        if link.heartbeat.has_asked {
            wire.read(&mut inbox, Wait::For(Duration::from_secs(10))).unwrap();
            assert!(wire.queued() > 0, "a pong is due");
            assert!(wire.flush().unwrap());
            wait(link.fd().unwrap(), false);
            link.receive(&mut ReceiveBuffer::default()).unwrap();
        }
        now = link.poll_timeout().unwrap();
    }
    assert!(inbox.is_empty());
}

#[test]
fn a_message_that_does_not_come_to_its_end_is_not_waited_for() {
    let (mut link, mut channel) = pair(false, &LinkConfig::default());
    link.flush(Instant::from_micros(1)).unwrap();
    // A frame of 100 bytes, of which two come.
    channel.write(&[0x82, 0xe4, 0, 0, 0, 0, 1, 2]).unwrap();
    wait(link.fd().unwrap(), false);
    link.receive(&mut ReceiveBuffer::default()).unwrap();
    assert!(!link.is_idle(), "it asks to be told the time");
    link.flush(Instant::from_micros(2)).unwrap();
    assert!(link.is_idle());
    let by = Instant::from_micros(2).plus_millis(30_000);
    link.heartbeat.at = Some(by.plus_millis(1));
    assert_eq!(link.poll_timeout(), Some(by));
    // A ping in between is no progress.
    channel.write(&[3; 98]).unwrap();
    channel.write(&[0x02, 0x80, 0, 0, 0, 0, 0x89, 0x80, 0, 0, 0, 0]).unwrap();
    wait(link.fd().unwrap(), false);
    let mut buffer = ReceiveBuffer::default();
    while link.dialog.unfinished() == link.slow.map(|slow| slow.0) {
        link.receive(&mut buffer).unwrap();
    }
    assert_eq!(buffer.as_slice().len(), 104);
    link.flush(Instant::from_micros(3)).unwrap();
    let later = Instant::from_micros(3).plus_millis(30_000);
    link.heartbeat.at = Some(later.plus_millis(1));
    assert_eq!(link.flush(later).unwrap_err().to_string(), "a message took too long to arrive");
    assert!(link.lingers());
    assert!(link.flush(later).unwrap());
}

#[test]
fn pings_that_nobody_reads_the_answers_of_are_not_queued_for_ever() {
    let (mut link, mut channel) = pair(false, &LinkConfig::default());
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[7; 125]].concat();
    let many = ping.repeat(500);
    for _ in 0..400 {
        let mut rest = &many[..];
        while !rest.is_empty() {
            let count = channel.write(rest).unwrap();
            rest = &rest[count..];
            link.receive(&mut ReceiveBuffer::default()).unwrap();
            link.flush(Instant::from_micros(1)).unwrap();
        }
        assert!(link.dialog.output().len() < QUEUE_LEN + 256);
    }
    assert!(!link.is_idle());
}

#[test]
fn an_idle_link_holds_no_buffers() {
    let (mut link, mut channel) = pair(false, &LinkConfig::default());
    let long = [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[7; 65_536]].concat();
    let mut buffer = ReceiveBuffer::default();
    for part in long.chunks(1000) {
        assert_eq!(channel.write(part).unwrap(), part.len());
        wait(link.fd().unwrap(), false);
        link.receive(&mut buffer).unwrap();
    }
    assert_eq!(buffer.as_slice().len(), 65_540);
    link.send(&[1], &[2; 1000], false).unwrap();
    assert!(link.flush(Instant::from_micros(1)).unwrap());
    assert!(link.is_idle());
    assert_eq!(link.dialog.held(), 0);
    assert!(size_of::<WebSocketLink>() < 512, "{}", size_of::<WebSocketLink>());
}

#[test]
fn what_is_being_said_is_not_shown() {
    let (mut link, channel) = pair(false, &LinkConfig::default());
    let wire = WebSocketWire::new(channel, b"secret".to_vec());
    link.send(b"sec", b"ret", false).unwrap();
    // What it asked is answered: the content of a ping is as much another's as a message is.
    link.dialog.handle(&mut [0x89, 0x86, 0, 0, 0, 0, b's', b'e', b'c', b'r', b'e', b't'], |_| Ok(()));
    link.tail = b"secret".to_vec();
    let listed = format!("{:?}", b"secret").trim_matches(['[', ']']).to_owned();
    for shown in [format!("{link:?}"), format!("{wire:?}"), format!("{:?}", link.dialog)] {
        assert!(!shown.contains(&listed) && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn what_is_written_leaves_nothing_behind() {
    let mut dialog = Dialog::server(Subprotocol::Postcard, 100);
    dialog.send(b"first", &[]);
    let first = dialog.output().len();
    dialog.send(b"second", &[]);
    dialog.written(first);
    assert!(!dialog.everything().windows(5).any(|five| five == b"first"));
    assert!(dialog.output().ends_with(b"second"));
    dialog.send(&[1; 1000], &[]);
    assert!(dialog.output()[2..].starts_with(b"second"));
}
