//! The scripted session of the guide, as it stands there.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use crate::page;
use crate::script::{Desk, steps};

#[test]
fn the_session_of_the_guide_goes_as_written_and_leaves_nothing() {
    let steps = steps(&page("session.md"));
    assert!(steps.len() > 50, "{}", steps.len());
    let desk = Desk::new();
    desk.run(&steps, true);
    assert_eq!(desk.left(), [] as [String; 0]);
    assert!(!desk.socket().exists() && UnixStream::connect(desk.socket()).is_err());
    assert!(TcpListener::bind((desk.address, 7400)).is_ok(), "the port is still taken");
    assert_eq!(desk.bus.owner("org.visorbus.Bus1"), None);
}
