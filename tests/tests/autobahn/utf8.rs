//! Category 6: texts that are UTF-8 and texts that are not, however they are cut.

use visorbus_tests::raw_websocket::Frame;

use crate::dialect::{Dialect, Message};
use crate::script::{Case, run};

#[test]
fn empty_fragments_are_fragments() {
    run("6.1 empty fragments", &Dialect::text(), |dialect| {
        let empty = Message::empty(dialect);
        let message = dialect.message("middle frame payload");
        let around = |middle: &[u8]| {
            let middle = Frame::continuation(middle).with_more();
            [Frame::text("").with_more(), middle, Frame::continuation("")]
        };
        vec![
            Case::new("6.1.1").send([empty.whole()]).no_message(dialect),
            Case::new("6.1.2").send(around(b"")).no_message(dialect),
            Case::new("6.1.3").send(around(&message.bytes)).echo(&message),
        ]
    });
}

#[test]
fn a_valid_text_comes_back_however_it_is_cut() {
    run("6.2 valid texts", &Dialect::text(), |dialect| {
        let message = dialect.message("Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!");
        let at = message.bytes.iter().position(|byte| *byte == 0xb5).expect("its second byte is there");
        vec![
            Case::new("6.2.1").send([message.whole()]).echo(&message),
            // Between two code points, within one, and each byte by itself.
            Case::new("6.2.2").send(message.cut(at + 1)).echo(&message),
            Case::new("6.2.3").send(Frame::fragments(Frame::TEXT, &message.bytes, 1)).echo(&message),
            Case::new("6.2.4").send(message.cut(at)).echo(&message),
        ]
    });
}

#[test]
fn an_invalid_text_is_refused_however_it_is_cut() {
    run("6.3 invalid texts", &Dialect::text(), |dialect| {
        let message = dialect
            .message(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64");
        let bytes = Frame::fragments(Frame::TEXT, &message.bytes, 1);
        vec![
            Case::new("6.3.1").send([message.whole()]).refused(NOT_UTF8),
            Case::new("6.3.2").send(bytes).refused(NOT_UTF8),
        ]
    });
}

/// Autobahn calls it strict to fail as soon as a text cannot become UTF-8 any more, and lets pass who waits for the rest of
/// its frame. Here whole frames are looked at: a wrong fragment ends its message, a wrong piece of a frame waits for the rest.
#[test]
fn a_fragment_that_cannot_become_utf_8_ends_the_connection() {
    run("6.4 failing early", &Dialect::text(), |dialect| {
        let begin = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes();
        let pieces = |wrong: &[u8], edited: &[u8]| {
            let message = dialect.message([begin, wrong, edited].concat());
            let first =
                message.bytes.windows(begin.len()).position(|piece| piece == begin).expect("it is there");
            let (first, second) = (first + begin.len(), first + begin.len() + wrong.len());
            [&message.bytes[..first], &message.bytes[first..second], &message.bytes[second..]]
                .map(<[u8]>::to_vec)
        };
        let too_high = pieces(b"\xf4\x90\x80\x80", b"edited");
        let cut_off = pieces(b"\xf4", b"\x90\x80\x80edited");
        let in_frames = |number: &str, [first, second, third]: [Vec<u8>; 3]| {
            let case =
                Case::new(number).send([Frame::text(first).with_more()]).send([Frame::ping("")]).pong("");
            let case = case.send([Frame::continuation(second).with_more()]);
            // In the second of these the third fragment is what is wrong.
            let case = if number == "6.4.1" { case } else { case.send([Frame::continuation(third)]) };
            case.refused(NOT_UTF8)
        };
        let in_one = |number: &str, pieces: [Vec<u8>; 3]| {
            let frame = Frame::text(pieces.concat()).to_bytes();
            let header = frame.len() - pieces.concat().len();
            let second = header + pieces[0].len() + pieces[1].len();
            let cuts = [
                &frame[..header + pieces[0].len()],
                &frame[header + pieces[0].len()..second],
                &frame[second..],
            ];
            cuts.into_iter()
                .fold(Case::new(number), |case, cut| case.send_bytes(cut.to_vec()))
                .refused(NOT_UTF8)
        };
        vec![
            in_frames("6.4.1", too_high.clone()),
            in_frames("6.4.2", cut_off.clone()),
            in_one("6.4.3", too_high),
            in_one("6.4.4", cut_off),
        ]
    });
}

#[test]
fn every_sequence_is_taken_for_what_it_is() {
    run("6.5 to 6.23 sequences", &Dialect::text(), |dialect| {
        let mut cases = Vec::new();
        for (number, is_valid, sequences) in table() {
            for (sequence, within) in sequences.iter().zip(1..) {
                let mut is_valid = is_valid;
                // Beyond the last code point there is.
                is_valid &= (number, within) != ("6.11", 5);
                is_valid |= number == "6.6" && [2, 5, 7, 9, 11].contains(&within);
                let message = dialect.message(sequence);
                let case = Case::new(format!("{number}.{within}")).send([message.whole()]);
                cases.push(if is_valid { case.echo(&message) } else { case.refused(NOT_UTF8) });
            }
        }
        cases
    });
}

/// By the numbers of Autobahn's table, after Markus Kuhn's stress test for UTF-8 decoders: whether it is valid, and the
/// sequences.
fn table() -> Vec<(&'static str, bool, Vec<Vec<u8>>)> {
    let list = |sequences: &[&[u8]]| sequences.iter().map(|sequence| sequence.to_vec()).collect::<Vec<_>>();
    let kosme = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes();
    let words = [
        "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}",
        "hello\u{24}world",
        "hello\u{a2}world",
        "hello\u{20ac}world",
        "hello\u{10348}world",
    ];
    let prefixes = (1..=kosme.len()).map(|len| kosme[..len].to_vec()).collect();
    vec![
        ("6.5", true, words.iter().map(|word| word.as_bytes().to_vec()).collect()),
        ("6.6", false, prefixes),
        ("6.7", true, list(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"])),
        ("6.8", false, list(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"])),
        ("6.9", true, list(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"])),
        ("6.10", false, list(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"])),
        ("6.11", true, list(&[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"])),
        ("6.12", false, continuations()),
        ("6.13", false, lonely_starts()),
        (
            "6.14",
            false,
            list(&[
                b"\xc0",
                b"\xe0\x80",
                b"\xf0\x80\x80",
                b"\xf8\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80",
                b"\xdf",
                b"\xef\xbf",
                b"\xf7\xbf\xbf",
                b"\xfb\xbf\xbf\xbf",
                b"\xfd\xbf\xbf\xbf\xbf",
            ]),
        ),
        (
            "6.15",
            false,
            list(&[b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"]),
        ),
        ("6.16", false, list(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"])),
        (
            "6.17",
            false,
            list(&[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"]),
        ),
        (
            "6.18",
            false,
            list(&[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"]),
        ),
        (
            "6.19",
            false,
            list(&[b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"]),
        ),
        (
            "6.20",
            false,
            list(&[
                b"\xed\xa0\x80",
                b"\xed\xad\xbf",
                b"\xed\xae\x80",
                b"\xed\xaf\xbf",
                b"\xed\xb0\x80",
                b"\xed\xbe\x80",
                b"\xed\xbf\xbf",
            ]),
        ),
        (
            "6.21",
            false,
            list(&[
                b"\xed\xa0\x80\xed\xb0\x80",
                b"\xed\xa0\x80\xed\xbf\xbf",
                b"\xed\xad\xbf\xed\xb0\x80",
                b"\xed\xad\xbf\xed\xbf\xbf",
                b"\xed\xae\x80\xed\xb0\x80",
                b"\xed\xae\x80\xed\xbf\xbf",
                b"\xed\xaf\xbf\xed\xb0\x80",
                b"\xed\xaf\xbf\xed\xbf\xbf",
            ]),
        ),
        ("6.22", true, no_characters()),
        ("6.23", true, (0xfff9..=0xffff).map(utf8).collect()),
    ]
}

/// Continuation bytes that continue nothing: the first, the last, two to seven of them, and all there are.
fn continuations() -> Vec<Vec<u8>> {
    let some = (2..=6).map(|count| [0x80, 0xbf].into_iter().cycle().take(count).collect());
    let all = (0x80..=0xbf).collect();
    [vec![0x80], vec![0xbf]].into_iter().chain(some).chain([all]).collect()
}

/// All first bytes of sequences of two to six bytes, a space behind each.
fn lonely_starts() -> Vec<Vec<u8>> {
    let ranges = [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd];
    ranges.into_iter().map(|range| range.flat_map(|start: u8| [start, b' ']).collect()).collect()
}

/// The last two code points of each plane, which are no characters and yet UTF-8.
fn no_characters() -> Vec<Vec<u8>> {
    (0..=16).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]).map(utf8).collect()
}

fn utf8(code_point: u32) -> Vec<u8> {
    char::from_u32(code_point).expect("no surrogate").to_string().into_bytes()
}

/// RFC 6455 section 7.4.1: data that is not what its type says.
const NOT_UTF8: &[u16] = &[1007];
