//! Messages that are valid and yet harmful, and arguments that no message can carry.

use super::super::append::is_object_path;
use super::chance::Noise;
use super::*;

#[test]
fn a_large_array_of_bytes_is_made_values_of_and_a_huge_one_is_not() {
    let typed = typed::<Vec<u8>>();
    let bytes = |len: usize| [postcard::to_stdvec(&len).unwrap(), vec![7; len]].concat();
    let large = bytes(260_000);
    let items = typed.from_postcard(&large).unwrap();
    let came = over_the_bus(&items);
    assert_eq!(typed.to_postcard(&came).unwrap(), large);
    assert_eq!(typed.from_postcard(&bytes(1 << 19)), Err(Misfit::TooMany { max: MAX_ITEMS }));
    let huge = call().append1(&vec![7u8; 1 << 21][..]);
    assert_eq!(read_items(&huge), Err(Unfit::TooMany { max: MAX_ITEMS }));
}

#[test]
fn a_descriptor_is_refused_wherever_it_is_and_none_is_kept() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let pipe = || -> OwnedFd { std::os::unix::net::UnixStream::pair().unwrap().0.into() };
    let file = || std::fs::File::from(pipe());
    let fd = |text: &'static str| Signature::new(text).unwrap();
    let put: [&dyn Fn(&mut IterAppend<'_>); 6] = [
        &|iter| iter.append(file()),
        &|iter| iter.append_variant(&fd("h"), |inner| inner.append(file())),
        &|iter| iter.append_struct(|inner| inner.append(file())),
        &|iter| iter.append_array(&fd("h"), |inner| inner.append(file())),
        &|iter| {
            iter.append_dict(&fd("s"), &fd("h"), |all| {
                all.append_dict_entry(|one| {
                    one.append("key");
                    one.append(file());
                })
            })
        },
        &|iter| {
            iter.append_variant(&fd("v"), |outer| {
                outer.append_variant(&fd("h"), |inner| inner.append(file()))
            })
        },
    ];
    let before = open();
    for _ in 0..20 {
        for put in put {
            let mut message = call();
            let mut iter = IterAppend::new(&mut message);
            iter.append(7u8);
            put(&mut iter);
            assert_eq!(read_items(&message), Err(Unfit::Descriptor));
            assert_eq!(check(&[MessageItem::from(file())]), Err(Unfit::Descriptor));
        }
    }
    // Other tests open and close some at the same time, but not as many.
    assert!(open() < before + 100);
}

#[test]
fn a_descriptor_index_without_a_descriptor_is_refused() {
    let index = 0u32.to_le_bytes();
    let in_variant = [&[1, b'h', 0, 0][..], &index].concat();
    let in_dict =
        [&[16, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0, 0, b'a', 0, 1, b'h', 0, 0, 0, 0], &index].concat();
    for (signature, body) in [
        ("h", index.to_vec()),
        ("v", in_variant.clone()),
        ("(h)", index.to_vec()),
        ("ah", [4u32.to_le_bytes(), index].concat()),
        ("a{sv}", in_dict),
        ("ssv", [&[0; 5][..], &[0; 3], &[0; 5], &[1, b'h', 0], &index[..]].concat()),
    ] {
        let Ok(message) = Message::demarshal(&raw(signature, &body)) else { panic!("{signature}") };
        assert_eq!(read_items(&message), Err(Unfit::Descriptor), "{signature}");
        assert_eq!(super::signature(&message), signature);
    }
}

#[test]
fn variants_and_containers_that_are_too_deep_are_refused_and_those_that_are_not_are_read() {
    let nested = |depth: usize| {
        let mut message = call();
        variants(&mut IterAppend::new(&mut message), depth);
        carried(&mut message)
    };
    assert_eq!(check(&read_items(&nested(8)).unwrap()).unwrap(), "v");
    for depth in [9, 32, 60] {
        assert_eq!(read_items(&nested(depth)), Err(Unfit::VariantsTooDeep { max: MAX_VARIANTS }));
    }
    let mut item = MessageItem::Byte(1);
    for depth in 1..=40 {
        item = if depth % 2 == 0 {
            MessageItem::Struct(vec![item])
        } else {
            MessageItem::new_array(vec![item]).unwrap()
        };
        let mut message = call();
        dbus::arg::Append::append_by_ref(&item, &mut IterAppend::new(&mut message));
        let read = read_items(&carried(&mut message));
        // The innermost, an array of bytes, is no deeper than its bytes.
        if depth <= 32 {
            assert_eq!(read, Ok(vec![item.clone()]), "{depth}");
            assert!(check(std::slice::from_ref(&item)).is_ok());
        } else if depth > 33 {
            assert_eq!(read, Err(Unfit::TooDeep { max: MAX_DEPTH }), "{depth}");
            assert_eq!(check(std::slice::from_ref(&item)), Err(Unfit::TooDeep { max: MAX_DEPTH }));
        }
    }
}

#[test]
fn more_values_than_a_message_may_have_are_refused_in_little_time() {
    let started = Instant::now();
    let most = call().append1(&vec![7u32; MAX_ITEMS - 9][..]);
    assert_eq!(read_items(&most).unwrap().len(), 1);
    let more = call().append1(&vec![7u32; MAX_ITEMS - 8][..]);
    assert_eq!(read_items(&more), Err(Unfit::TooMany { max: MAX_ITEMS }));
    let huge = call().append1(&vec![0u64; 8_000_000][..]);
    assert_eq!(read_items(&huge), Err(Unfit::TooMany { max: MAX_ITEMS }));
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn what_libdbus_would_end_the_process_for_is_not_appended() {
    let path = |text: &str| MessageItem::ObjectPath(dbus::Path::new(text).unwrap());
    let mut deep = MessageItem::Byte(0);
    (0..9).for_each(|_| deep = variant(deep.clone()));
    let mut structs = MessageItem::Byte(0);
    (0..33).for_each(|_| structs = MessageItem::Struct(vec![structs.clone()]));
    let long = MessageItem::Struct(vec![MessageItem::Byte(0); 254]);
    let huge = MessageItem::Str("x".repeat(MAX_BODY));
    let cases = [
        ("a\0b".into(), Unfit::ZeroByte),
        (path("/a\0b"), Unfit::Path),
        (MessageItem::Signature(Signature::new("u\0b").unwrap()), Unfit::Signature),
        (MessageItem::Struct(vec![]), Unfit::EmptyStruct),
        (variant(MessageItem::Struct(vec![])), Unfit::EmptyStruct),
        (MessageItem::Struct(vec![MessageItem::Struct(vec![])]), Unfit::EmptyStruct),
        (array(vec!["a\0".into()], "as"), Unfit::ZeroByte),
        (array(vec![variant("a\0".into())], "av"), Unfit::ZeroByte),
        (deep, Unfit::VariantsTooDeep { max: MAX_VARIANTS }),
        (structs, Unfit::TooDeep { max: MAX_DEPTH }),
        (long, Unfit::Signature),
        (huge, Unfit::TooLong { max: MAX_BODY }),
        (array(vec![], "ah"), Unfit::Signature),
    ];
    for (item, unfit) in cases {
        let mut message = call();
        assert_eq!(append(&mut message, &[1u8.into(), item.clone()]), Err(unfit));
        assert_eq!(message.iter_init().arg_type(), ArgType::Invalid);
        let pair = MessageItem::Struct(vec!["key".into(), item.clone()]);
        assert!(append(&mut message, &[pair]).is_err());
        let _ = signature_of(&[item]);
    }
    let too_many = vec![MessageItem::Byte(0); 256];
    assert_eq!(check(&too_many), Err(Unfit::Signature));
    assert_eq!(check(&too_many[..255]).map(|signature| signature.len()), Ok(255));
}

#[test]
fn every_character_but_the_zero_byte_is_carried() {
    let mut all: Vec<char> = (1..0x11_0000u32).step_by(61).filter_map(char::from_u32).collect();
    // What is no character, and where lengths in UTF-8 change.
    all.extend(
        "\u{1}\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fdd0}\u{fffe}\u{ffff}\u{10000}\u{10ffff}".chars(),
    );
    let texts: Vec<MessageItem> = all.iter().map(|letter| MessageItem::Str(letter.to_string())).collect();
    let items = [array(texts, "as"), MessageItem::Str(all.into_iter().collect())];
    assert_eq!(over_the_bus(&items), items);
}

#[test]
fn empty_arrays_and_dictionaries_keep_their_types() {
    let dict = MessageItemDict::new(vec![], Signature::new("s").unwrap(), Signature::new("v").unwrap());
    let all = [
        array(vec![], "ay"),
        array(vec![], "a(sv)"),
        array(vec![], "aa{sv}"),
        MessageItem::Dict(dict.unwrap()),
        variant(array(vec![], "at")),
        MessageItem::Struct(vec![array(vec![], "aas"), "".into()]),
        MessageItem::Signature(Signature::new("a{sh}").unwrap()),
        MessageItem::ObjectPath("/".into()),
    ];
    assert_eq!(over_the_bus(&all), all);
}

#[test]
fn signatures_of_any_number_of_types_are_values() {
    // Signatures as values may be empty or have several types, which the library's own type for them has not.
    for text in ["", "ss", "a{sv}u"] {
        let body = [&[text.len() as u8][..], text.as_bytes(), &[0]].concat();
        let message = Message::demarshal(&raw("g", &body)).unwrap();
        let items = read_items(&message).unwrap();
        assert_eq!(over_the_bus(&items), items);
    }
}

#[test]
fn messages_of_either_byte_order_are_read() {
    let little = [&4u32.to_le_bytes()[..], &258u16.to_le_bytes(), &7u16.to_le_bytes()].concat();
    let big = [&4u32.to_be_bytes()[..], &258u16.to_be_bytes(), &7u16.to_be_bytes()].concat();
    for bytes in [raw("aq", &little), raw_in(u32::to_be_bytes, "aq", &big)] {
        let message = Message::demarshal(&bytes).unwrap();
        assert_eq!(signature(&message), "aq");
        assert_eq!(read_items(&message).unwrap(), [array(vec![258u16.into(), 7u16.into()], "aq")]);
    }
}

#[test]
fn messages_that_are_spoilt_are_refused_or_read() {
    let mut noise = Noise(0x0dd0_5eed_0dd0_5eed);
    let bytes = postcard::to_stdvec(&everything()).unwrap();
    let typed = typed::<Everything>();
    let mut message = call();
    append(&mut message, &typed.from_postcard(&bytes).unwrap()).unwrap();
    message.set_serial(1);
    let good = marshalled(&message);
    let mut read = 0;
    for _ in 0..20_000 {
        let Ok(message) = Message::demarshal(&noise.spoil(&good)) else { continue };
        let Ok(items) = read_items(&message) else { continue };
        read += 1;
        if let Ok(bytes) = typed.to_postcard(&items) {
            assert!(typed.from_postcard(&bytes).is_ok());
        }
        // A place for descriptors is none of ours, also where it is empty.
        assert!(check(&items) == Ok(signature(&message)) || check(&items) == Err(Unfit::Signature));
    }
    assert!(read > 1000, "{read}");
}

#[test]
fn signatures_are_judged_as_libdbus_judges_them() {
    let mut noise = Noise(0x5107_5107_5107_5107);
    let (mut right, mut wrong) = (0, 0);
    let judge = |text: &str| {
        let single = Signature::new(text).is_ok() && !text.contains('h');
        assert_eq!(is_single_type(text), single, "{text}");
        single
    };
    for _ in 0..100_000 {
        let letters = b"ybnqiuxtdsogvahaa((){{}}z0";
        let text: String = (0..noise.below(9)).map(|_| letters[noise.below(letters.len())] as char).collect();
        if judge(&text) {
            right += 1
        } else {
            wrong += 1
        }
        let joined = format!("{text}{text}");
        assert_eq!(is_signature(&joined), is_signature(&text), "{joined}");
    }
    assert!(right > 1000 && wrong > 1000, "{right} {wrong}");
    for depth in [1, 31, 32, 33, 64] {
        judge(&format!("{}y", "a".repeat(depth)));
        judge(&format!("{}y{}", "(".repeat(depth), ")".repeat(depth)));
        judge(&format!("{}y{}", "a{s".repeat(depth), "}".repeat(depth)));
        judge(&format!("{}y{}", "a(".repeat(depth), ")".repeat(depth)));
    }
    judge(&format!("({})", "y".repeat(253)));
    judge(&format!("({})", "y".repeat(254)));
    assert!(!is_single_type("y\0y") && !is_signature("y\0") && is_signature(""));
    assert_eq!(split("sa{s(iv)}aayv"), Some(vec!["s", "a{s(iv)}", "aay", "v"]));
    assert_eq!(split(&"y".repeat(256)), None);
}

#[test]
fn object_paths_are_judged_as_libdbus_judges_them() {
    let mut noise = Noise(0xabad_1dea_abad_1dea);
    for _ in 0..20_000 {
        let letters = b"aZ09_//-.";
        let text: String = (0..noise.below(7)).map(|_| letters[noise.below(letters.len())] as char).collect();
        assert_eq!(is_object_path(&text), dbus::Path::new(text.as_str()).is_ok(), "{text}");
    }
}

/// Puts in variants within each other.
pub(super) fn variants(iter: &mut IterAppend<'_>, depth: usize) {
    match depth {
        0 => iter.append(7u8),
        1 => iter.append_variant(&Signature::new("y").unwrap(), |inner| variants(inner, 0)),
        _ => iter.append_variant(&Signature::new("v").unwrap(), |inner| variants(inner, depth - 1)),
    }
}

/// A method call as it lies on the wire, with any body.
fn raw(signature: &str, body: &[u8]) -> Vec<u8> {
    raw_in(u32::to_le_bytes, signature, body)
}

/// The same in a byte order.
pub(super) fn raw_in(order: fn(u32) -> [u8; 4], signature: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if order(1)[0] == 1 { b'l' } else { b'B' }, 1, 0, 1];
    bytes.extend_from_slice(&order(body.len() as u32));
    bytes.extend_from_slice(&order(1));
    let mut fields = Vec::new();
    for (code, kind, text) in [(1, b'o', "/"), (3, b's', "C")] {
        fields.resize(usize::next_multiple_of(fields.len(), 8), 0);
        fields.extend_from_slice(&[code, 1, kind, 0]);
        fields.extend_from_slice(&order(text.len() as u32));
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.resize(usize::next_multiple_of(fields.len(), 8), 0);
    fields.extend_from_slice(&[8, 1, b'g', 0, signature.len() as u8]);
    fields.extend_from_slice(signature.as_bytes());
    fields.push(0);
    bytes.extend_from_slice(&order(fields.len() as u32));
    bytes.extend_from_slice(&fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(body);
    bytes
}
