//! Categories 9 and 10: large messages, many fragments, many small messages. Autobahn goes up to 16 MiB; here a mebibyte is
//! the limit, so its sizes are scaled to that, and what is beyond is refused by name.

use visorbus_tests::raw_websocket::{Frame, Length};

use crate::dialect::{Dialect, LIMIT, Message};
use crate::script::{Case, run};

#[test]
fn large_messages_are_taken_up_to_the_limit() {
    run("9.1 and 9.2 large messages", &Dialect::all(), |dialect| {
        let category = dialect.number("9.1", "9.2");
        let sizes = [64 << 10, 256 << 10, 512 << 10, LIMIT - 1, LIMIT];
        let whole = sizes.into_iter().zip(1..).map(|(size, number)| {
            let message = of(dialect, size);
            Case::new(format!("{category}.{number}, {size} bytes")).send([message.whole()]).echo(&message)
        });
        let too_long = of(dialect, LIMIT + 1);
        let refused =
            Case::new(format!("{category}.6, one byte more")).send([too_long.whole()]).refused(TOO_BIG);
        whole.chain([refused]).collect()
    });
}

/// Nothing is waited for, and nothing made room for, that would be refused at its end.
#[test]
fn what_claims_to_be_too_large_is_refused_at_its_header() {
    run("9, claimed sizes", &Dialect::all(), |dialect| {
        let opcode = of(dialect, 1 << 10).opcode;
        let claims = [LIMIT as u64 + 1, u32::MAX.into(), 1 << 40, i64::MAX as u64, u64::MAX];
        let claim = |len: u64| {
            let frame = Frame::new(opcode, "").with_length(Length::Claimed(len));
            // The highest bit of the length must be 0 (RFC 6455 section 5.2).
            let codes: &[u16] = if len > i64::MAX as u64 { &[1002, 1009] } else { TOO_BIG };
            Case::new(format!("9, {len} bytes claimed")).send([frame]).refused(codes)
        };
        claims.into_iter().map(claim).collect()
    });
}

#[test]
fn large_messages_are_taken_in_fragments_up_to_the_limit() {
    run("9.3 and 9.4 fragments", &Dialect::all(), |dialect| {
        let category = dialect.number("9.3", "9.4");
        let sizes = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
        let mut cases: Vec<Case> = Vec::new();
        for (size, number) in sizes.into_iter().zip(1..) {
            let message = of(dialect, LIMIT);
            let fragments = Frame::fragments(message.opcode, &message.bytes, size);
            let case = Case::new(format!("{category}.{number}, fragments of {size} bytes"));
            cases.push(case.send_at_once(fragments).echo(&message));
        }
        let too_long = of(dialect, LIMIT + 1);
        let fragments = Frame::fragments(too_long.opcode, &too_long.bytes, 64 << 10);
        let case = Case::new(format!("{category}.9, one byte more"));
        cases.push(case.send_at_once(fragments).refused(TOO_BIG));
        cases
    });
}

#[test]
fn large_messages_are_taken_chopped() {
    run("9.5 and 9.6 chopped", &Dialect::all(), |dialect| {
        let message = of(dialect, LIMIT);
        let chopped = |(chop, number): (usize, u8)| {
            let case = Case::new(format!("{}.{number}", dialect.number("9.5", "9.6")));
            case.chop([message.whole()], chop).echo(&message)
        };
        [(1024, 5), (2048, 6)].into_iter().map(chopped).collect()
    });
}

#[test]
fn many_small_messages_come_back_in_their_order() {
    run("9.7 and 9.8 many messages", &Dialect::all(), |dialect| {
        let many = |(size, number): (usize, u8)| {
            let messages: Vec<Message> =
                (0..200).map(|at| dialect.message(format!("{at:0>size$}"))).collect();
            let case = Case::new(format!("{}.{number}", dialect.number("9.7", "9.8")));
            // Fewer than may wait for their answers at once.
            messages.chunks(20).fold(case, |case, some| {
                let case = case.send_at_once(some.iter().map(Message::whole));
                some.iter().fold(case, Case::echo)
            })
        };
        [(0, 1), (16, 2), (64, 3), (256, 4), (1024, 5), (4096, 6)].into_iter().map(many).collect()
    });
}

#[test]
fn what_a_sender_fragments_by_itself_is_one_message() {
    run("10 fragments of a sender's own", &Dialect::all(), |dialect| {
        let message = of(dialect, 65_536);
        let fragments = Frame::fragments(message.opcode, &message.bytes, 1300);
        vec![Case::new("10.1.1").send(fragments).echo(&message)]
    });
}

fn of(dialect: &Dialect, len: usize) -> Message {
    dialect.message_of(len).expect("it is not short")
}

/// RFC 6455 section 7.4.1: a message too big to process.
const TOO_BIG: &[u16] = &[1009];
