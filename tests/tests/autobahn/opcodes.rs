//! Category 4: opcodes that are reserved.

use visorbus_tests::raw_websocket::Frame;

use crate::dialect::Dialect;
use crate::script::{Case, PROTOCOL_ERROR, run};

#[test]
fn reserved_opcodes_end_the_connection() {
    run("4 opcodes", &Dialect::all(), |dialect| {
        let message = dialect.message("Hello, world!");
        let content = "reserved opcode payload";
        // Data, then control; each the same five ways.
        let of = |(category, opcodes): (u8, [u8; 5])| {
            let behind = |number: u8, frame: Frame, chop: usize| {
                Case::new(format!("4.{category}.{number}"))
                    .chop([message.whole()], chop)
                    .echo(&message)
                    .chop([frame, Frame::ping("")], chop)
                    .refused(PROTOCOL_ERROR)
            };
            let alone = |number: u8, frame: Frame| {
                Case::new(format!("4.{category}.{number}")).send([frame]).refused(PROTOCOL_ERROR)
            };
            [
                alone(1, Frame::new(opcodes[0], "")),
                alone(2, Frame::new(opcodes[1], content)),
                behind(3, Frame::new(opcodes[2], ""), usize::MAX),
                behind(4, Frame::new(opcodes[3], content), usize::MAX),
                behind(5, Frame::new(opcodes[4], content), 1),
            ]
        };
        [(1, [3, 4, 5, 6, 7]), (2, [11, 12, 13, 14, 15])].into_iter().flat_map(of).collect()
    });
}
