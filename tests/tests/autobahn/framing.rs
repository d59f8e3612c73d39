//! Category 1: frames of every form of length, whole and chopped.

use crate::dialect::{Dialect, Message};
use crate::script::{Case, run};

#[test]
fn frames_of_every_length_are_taken_whole_and_chopped() {
    run("1 framing", &Dialect::all(), |dialect| {
        let lengths = [0, 125, 126, 127, 128, 65_535, 65_536];
        let mut cases: Vec<Case> = lengths
            .into_iter()
            .zip(1..)
            .map(|(len, number)| {
                let case = Case::new(format!("{}.{number}", dialect.number("1.1", "1.2")));
                sent(dialect, case, len, usize::MAX)
            })
            .collect();
        cases.push(sent(dialect, Case::new(dialect.number("1.1.8", "1.2.8")), 65_536, 997));
        cases
    });
}

/// Also every length at which its form changes, in the longest frame that is chopped in single bytes.
#[test]
fn a_frame_is_taken_byte_by_byte() {
    run("1 framing, byte by byte", &Dialect::all(), |dialect| {
        let case = |len: usize| sent(dialect, Case::new(format!("1, {len} bytes one by one")), len, 1);
        [125, 126, 300].into_iter().map(case).collect()
    });
}

fn sent(dialect: &Dialect, case: Case, len: usize, chop: usize) -> Case {
    match dialect.message_of(len) {
        Some(message) if chop == usize::MAX => case.send([message.whole()]).echo(&message),
        Some(message) => case.chop([message.whole()], chop).echo(&message),
        None => {
            let empty = Message::empty(dialect);
            case.send([empty.whole()]).no_message(dialect)
        }
    }
}
