//! Category 5: fragmented messages, with what may stand between the fragments and what may not.

use visorbus_tests::raw_websocket::Frame;

use crate::dialect::{Dialect, Message};
use crate::script::{Case, PROTOCOL_ERROR, run};

#[test]
fn fragments_make_a_message_only_in_their_order() {
    run("5 fragmentation", &Dialect::all(), |dialect| {
        let message = dialect.message("fragment1fragment2");
        let mut cases = vec![
            Case::new("5.1").send(halves(Frame::PING, "fragment")).refused(PROTOCOL_ERROR),
            Case::new("5.2").send(halves(Frame::PONG, "fragment")).refused(PROTOCOL_ERROR),
        ];
        cases.extend(three_ways([3, 4, 5], message.fragments(2), |case| case.echo(&message)));
        let mut pinged = message.fragments(2);
        pinged.insert(1, Frame::ping("ping payload"));
        cases.extend(three_ways([6, 7, 8], pinged, |case| case.pong("ping payload").echo(&message)));
        for (numbers, is_final) in [([9, 10, 11], true), ([12, 13, 14], false)] {
            let lonely = Frame { is_final, ..Frame::continuation("non-continuation payload") };
            let frames = vec![lonely, message.whole()];
            cases.extend(three_ways(numbers, frames, |case| case.refused(PROTOCOL_ERROR)));
        }
        cases.extend([
            after_a_message(&message),
            repeated("5.16", false, &message),
            repeated("5.17", true, &message),
        ]);
        let [first, second] = message.fragments(2).try_into().expect("two halves");
        let anew = Frame { opcode: first.opcode, ..second };
        cases.push(Case::new("5.18").send([first, anew]).refused(PROTOCOL_ERROR));
        cases.extend(between_five(dialect));
        cases
    });
}

/// Nothing can be continued once a message has come to its end, though it was in fragments itself.
fn after_a_message(message: &Message) -> Case {
    let lonely = Frame::continuation("fragment3");
    Case::new("5.15")
        .send(message.fragments(2))
        .echo(message)
        .send([lonely, message.whole()])
        .refused(PROTOCOL_ERROR)
}

fn repeated(number: &str, is_final: bool, message: &Message) -> Case {
    let lonely = Frame { is_final, ..Frame::continuation("fragment1") };
    let round: Vec<Frame> = [lonely].into_iter().chain(message.fragments(2)).collect();
    Case::new(number).send([round.clone(), round].concat()).refused(PROTOCOL_ERROR)
}

/// A message in five fragments with pings between them.
fn between_five(dialect: &Dialect) -> Vec<Case> {
    let message = dialect.message("fragment1fragment2fragment3fragment4fragment5");
    let pieces = message.fragments(5);
    let ping = |number: u8| Frame::ping(format!("pongme {number}!"));
    let begin = [&pieces[..2], &[ping(1)]].concat();
    let end = [&pieces[2..4], &[ping(2)], &pieces[4..]].concat();
    vec![
        Case::new("5.19")
            .send_at_once(begin.clone())
            .pong("pongme 1!")
            .send_at_once(end.clone())
            .pong("pongme 2!")
            .echo(&message),
        Case::new("5.20").send(begin).pong("pongme 1!").send(end).pong("pongme 2!").echo(&message),
    ]
}

/// The same frames in one write, in a write each, and byte by byte.
fn three_ways(numbers: [u8; 3], frames: Vec<Frame>, what: impl Fn(Case) -> Case) -> [Case; 3] {
    let [at_once, each, chopped] = numbers.map(|number| Case::new(format!("5.{number}")));
    [
        what(at_once.send_at_once(frames.clone())),
        what(each.send(frames.clone())),
        what(chopped.chop(frames, 1)),
    ]
}

fn halves(opcode: u8, content: &str) -> [Frame; 2] {
    [Frame::new(opcode, content).with_more(), Frame::continuation(content)]
}
