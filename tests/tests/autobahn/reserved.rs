//! Category 3: reserved bits, which mean nothing where nothing was agreed on.

use visorbus_tests::raw_websocket::Frame;

use crate::dialect::Dialect;
use crate::script::{Case, PROTOCOL_ERROR, run};

#[test]
fn reserved_bits_end_the_connection() {
    run("3 reserved bits", &Dialect::all(), |dialect| {
        let (first, second) = (dialect.message("Hello, world!"), dialect.message("Hello again"));
        let strange = |reserved| second.whole().with_reserved(reserved);
        let ping = Frame::ping("");
        vec![
            Case::new("3.1").send([strange(1)]).refused(PROTOCOL_ERROR),
            Case::new("3.2")
                .send([first.whole()])
                .echo(&first)
                .send_at_once([strange(2), ping.clone()])
                .refused(PROTOCOL_ERROR),
            Case::new("3.3")
                .send([first.whole()])
                .echo(&first)
                .send([strange(3), ping.clone()])
                .refused(PROTOCOL_ERROR),
            Case::new("3.4")
                .chop([first.whole()], 1)
                .echo(&first)
                .chop([strange(4), ping.clone()], 1)
                .refused(PROTOCOL_ERROR),
            Case::new("3.5").send([strange(5)]).refused(PROTOCOL_ERROR),
            Case::new("3.6").send([ping.with_reserved(6)]).refused(PROTOCOL_ERROR),
            Case::new("3.7").send([Frame::close(1000, "").with_reserved(7)]).refused(PROTOCOL_ERROR),
        ]
    });
}
