//! A hub whose listeners and links come and go a thousand times: alone in its process, because it counts descriptors and
//! threads.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use visorbus_core::auth::{Key, KeyRing, Slot};
use visorbus_hub::{Hub, HubConfig, HubServer};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::RawPeer;
use visorbus_unix::{UnixSocketListener, UnixSocketServer};
use visorbus_websocket::WebSocketServer;

#[test]
fn a_thousand_rounds_leave_no_descriptor_no_thread_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/hub.sock");
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
    let hub = Hub::new(HubConfig::new(keys, 1)).unwrap();
    let handle = hub.handle();
    let running = thread::spawn(move || hub.run());
    let round = || {
        let listener = handle.listen(Box::new(UnixSocketListener::bind(&path).unwrap())).unwrap();
        let mut peer = RawPeer::over(UnixStream::connect(&path).unwrap());
        peer.hello("guest").unwrap();
        let (mut board, link) = RawPeer::pair();
        let link = handle.attach(Box::new(link)).unwrap();
        board.hello("board").unwrap();
        let watch = handle.watch(4).unwrap();
        handle.detach(link, "a round is over").unwrap();
        handle.unlisten(listener, "a round is over").unwrap();
        peer.read_to_end();
        board.read_to_end();
        drop(watch);
    };
    // What is made once and stays, such as threads that are named, is there after the first.
    (0..3).for_each(|_| round());
    let before = settled(|| used().0 < usize::MAX);
    (0..1_000).for_each(|_| round());
    let after = settled(|| used() == before);
    assert_eq!(after, before, "descriptors and threads");
    for _ in 0..100 {
        let mut unix = UnixSocketServer::over(&path, handle.clone()).unwrap();
        unix.start().unwrap();
        let mut web = WebSocketServer::over("127.0.0.1:0", handle.clone());
        web.start().unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let _caller = std::net::TcpStream::connect(web.local_addr().unwrap()).unwrap();
        let mut other = HubServer::over(handle.clone());
        other.start(|| Ok(Box::new(UnixSocketListener::bind(path.with_extension("other"))?))).unwrap();
    }
    let after = settled(|| used() == before);
    assert_eq!(after, before, "descriptors and threads");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "files");
    assert_eq!(handle.shutdown(PATIENCE), Ok(()));
    running.join().unwrap().unwrap();
}

/// How many descriptors and threads this process has, once `so` holds or it does not come about.
fn settled(so: impl Fn() -> bool) -> (usize, usize) {
    let end = Instant::now() + PATIENCE;
    while !so() && Instant::now() < end {
        thread::yield_now();
    }
    used()
}

fn used() -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("fd"), count("task"))
}
