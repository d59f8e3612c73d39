//! The framed stream on its own.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread;

use nix::poll::PollFlags;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{getgid, getuid};
use visorbus_core::frame::length::{Split, prefix, split};
use visorbus_hub::{HubLink, Origin, ReceiveBuffer};
use visorbus_unix::FramedStream;

use crate::opposite::wait;

fn framed(payload: &[u8]) -> Vec<u8> {
    [&prefix(payload.len())[..], payload].concat()
}

/// Receives once, takes the whole frames, gives the rest back, as a hub does.
fn receive(link: &mut FramedStream, frames: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    let mut buffer = ReceiveBuffer::default();
    let received = link.receive(&mut buffer);
    let mut rest = buffer.as_slice();
    while let Split::Frame { frame, consumed } = split(rest, 2 << 20).unwrap() {
        frames.push(frame.to_vec());
        rest = &rest[consumed..];
    }
    if !rest.is_empty() {
        link.keep(rest);
    }
    received
}

#[test]
fn frames_cut_at_every_byte_come_out_whole() {
    let bytes = [framed(b"abc"), framed(b"d"), framed(&[9; 300])].concat();
    for first in 0..bytes.len() {
        for second in [first, (first + 1).min(bytes.len()), (first + 5).min(bytes.len())] {
            let (mut there, here) = UnixStream::pair().unwrap();
            let mut link = FramedStream::new(here).unwrap();
            let mut frames = Vec::new();
            for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                there.write_all(piece).unwrap();
                receive(&mut link, &mut frames).unwrap();
            }
            assert_eq!(frames, [b"abc".to_vec(), b"d".to_vec(), vec![9; 300]], "cut at {first} and {second}");
        }
    }
}

#[test]
fn a_mebibyte_that_arrives_in_pieces_is_put_together() {
    let (mut there, here) = UnixStream::pair().unwrap();
    let mut link = FramedStream::new(here.try_clone().unwrap()).unwrap();
    let big: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    let sent = [framed(b"before"), framed(&big), framed(b"after")].concat();
    let writer = thread::spawn(move || {
        sent.chunks(7919).for_each(|piece| there.write_all(piece).unwrap());
        there
    });
    let mut frames = Vec::new();
    while frames.len() < 3 {
        wait(&here, PollFlags::POLLIN);
        receive(&mut link, &mut frames).unwrap();
    }
    assert!(frames == [b"before".to_vec(), big, b"after".to_vec()]);
    drop(writer.join().unwrap());
}

#[test]
fn a_peer_that_closes_between_frames_and_one_that_closes_inside_are_told_apart() {
    let (mut there, here) = UnixStream::pair().unwrap();
    let mut link = FramedStream::new(here).unwrap();
    let mut frames = Vec::new();
    there.write_all(&framed(b"last")).unwrap();
    receive(&mut link, &mut frames).unwrap();
    drop(there);
    assert_eq!(frames, [b"last"]);
    assert_eq!(receive(&mut link, &mut frames).unwrap_err().kind(), ErrorKind::UnexpectedEof);

    let (mut there, here) = UnixStream::pair().unwrap();
    let mut link = FramedStream::new(here).unwrap();
    there.write_all(&framed(b"cut off")[..6]).unwrap();
    receive(&mut link, &mut frames).unwrap();
    drop(there);
    assert_eq!(receive(&mut link, &mut frames).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn what_the_socket_does_not_take_waits_and_nothing_is_lost_or_mixed() {
    let (mut there, here) = UnixStream::pair().unwrap();
    let mut link = FramedStream::new(here.try_clone().unwrap()).unwrap();
    let mut expected = Vec::new();
    let mut number = 0u8;
    while link.has_room(0, 1000) {
        link.send(&[number; 7], &vec![number; 5000], number.is_multiple_of(2)).unwrap();
        expected.extend(framed(&[&[number; 7][..], &vec![number; 5000]].concat()));
        number = number.wrapping_add(1);
    }
    assert!(link.queued() >= 64 * 1024);
    let len = expected.len();
    let reader = thread::spawn(move || {
        let mut got = vec![0; len];
        there.read_exact(&mut got).unwrap();
        got
    });
    while !link.flush(visorbus_core::Instant::default()).unwrap() {
        wait(&here, PollFlags::POLLOUT);
    }
    assert!(link.has_room(0, 1000));
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn writing_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    let (there, here) = UnixStream::pair().unwrap();
    let mut link = FramedStream::new(here).unwrap();
    drop(there);
    assert_eq!(link.send(b"a", b"b", true).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn the_kernel_says_who_is_there() {
    let (_there, here) = UnixStream::pair().unwrap();
    let link = FramedStream::new(here).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    assert_eq!(link.origin(), Origin::Unix { uid: getuid().as_raw(), gid: getgid().as_raw(), pid });
}

#[test]
fn descriptors_that_the_peer_attaches_are_closed_and_its_bytes_still_read() {
    let (there, here) = UnixStream::pair().unwrap();
    let mut link = FramedStream::new(here).unwrap();
    let (attached, mut watcher) = UnixStream::pair().unwrap();
    let frame = framed(b"hello");
    let descriptors = [attached.as_raw_fd()];
    sendmsg::<()>(
        there.as_raw_fd(),
        &[IoSlice::new(&frame)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    drop(attached);
    let mut frames = Vec::new();
    receive(&mut link, &mut frames).unwrap();
    assert_eq!(frames, [b"hello"]);
    // The only other end of `watcher` was on its way: the end of the stream says that nobody holds it.
    assert_eq!(watcher.read(&mut [0; 1]).unwrap(), 0);
    assert!(link.as_fd().as_raw_fd() >= 0);
}
