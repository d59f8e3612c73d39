//! Category 2: pings and pongs.

use visorbus_tests::raw_websocket::Frame;

use crate::dialect::Dialect;
use crate::script::{Case, PROTOCOL_ERROR, run};

#[test]
fn pings_are_answered_and_pongs_are_not() {
    run("2 pings and pongs", &Dialect::all(), |_| {
        let longest = vec![0xfe; 125];
        let ten: Vec<Frame> = (0..10).map(|number| Frame::ping(format!("payload-{number}"))).collect();
        let pongs = |case: Case| (0..10).fold(case, |case, number| case.pong(format!("payload-{number}")));
        vec![
            Case::new("2.1").send([Frame::ping("")]).pong(""),
            Case::new("2.2").send([Frame::ping("Hello, world!")]).pong("Hello, world!"),
            Case::new("2.3").send([Frame::ping(STRANGE)]).pong(STRANGE),
            Case::new("2.4").send([Frame::ping(&*longest)]).pong(&*longest),
            Case::new("2.5").send([Frame::ping(vec![0xfe; 126])]).refused(PROTOCOL_ERROR),
            Case::new("2.6").chop([Frame::ping(&*longest)], 1).pong(&*longest),
            Case::new("2.7").send([Frame::pong("")]),
            Case::new("2.8").send([Frame::pong("unsolicited pong payload")]),
            Case::new("2.9")
                .send([Frame::pong("unsolicited pong payload"), Frame::ping("ping payload")])
                .pong("ping payload"),
            pongs(Case::new("2.10").send_at_once(ten.clone())),
            pongs(Case::new("2.11").chop(ten, 1)),
        ]
    });
}

const STRANGE: [u8; 8] = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
