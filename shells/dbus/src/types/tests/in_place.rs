//! What is read where it stands and written where it shall be: as much as the hub takes, in little time, whatever comes.

use super::messages::variants;
use super::*;

#[test]
fn as_many_bytes_as_the_hub_takes_pass_both_ways_in_one_piece() {
    let typed = typed::<Vec<u8>>();
    let bytes = postcard::to_stdvec(&vec![7u8; MAX_POSTCARD - 3]).unwrap();
    assert_eq!(bytes.len(), MAX_POSTCARD);
    for piece in [Piece::Arguments(&typed, &bytes), Piece::Value(&typed, &bytes), Piece::Bytes(&bytes)] {
        let mut message = call();
        put(&mut message, std::slice::from_ref(&piece)).unwrap();
        let message = carried(&mut message);
        let mut first = message.iter_init();
        let taken = match piece {
            Piece::Arguments(..) => typed.take(&mut first).unwrap(),
            Piece::Value(..) => typed.take_value(&mut first.recurse(ArgType::Variant).unwrap()).unwrap(),
            _ => first.recurse(ArgType::Variant).unwrap().get::<&[u8]>().unwrap().to_vec(),
        };
        assert!(taken == bytes);
    }
}

#[test]
fn more_than_the_hub_takes_is_refused_whatever_it_is_made_of() {
    let long = Err(Misfit::TooLong { max: MAX_POSTCARD });
    let bytes = call().append1(&vec![7u8; MAX_POSTCARD][..]);
    assert_eq!(typed::<Vec<u8>>().take(&mut bytes.iter_init()), long);
    let numbers = call().append1(&vec![u64::MAX; MAX_POSTCARD / 9][..]);
    assert_eq!(typed::<Vec<u64>>().take(&mut numbers.iter_init()), long);
    let huge = call().append1(&vec![0u64; 4_000_000][..]);
    assert_eq!(typed::<Vec<u64>>().take(&mut huge.iter_init()), long);
    let text = call().append1("x".repeat(MAX_POSTCARD).as_str());
    assert_eq!(typed::<String>().take(&mut text.iter_init()), long);
    let texts = call().append1(vec!["x".repeat(MAX_POSTCARD / 2).as_str(); 3]);
    assert_eq!(
        typed::<Vec<String>>().take(&mut texts.iter_init()),
        Err(Misfit::TooLong { max: MAX_POSTCARD }.within("2"))
    );
    let flags = call().append1(vec![true; MAX_READ]);
    let many = typed::<Vec<bool>>().take(&mut flags.iter_init());
    assert_eq!(many, Err(Misfit::TooMany { max: MAX_READ }.within("8191")));
    let nothing = call().append1(&vec![0u8; 1 << 22][..]);
    assert_eq!(typed::<Vec<()>>().take(&mut nothing.iter_init()), long);
}

#[test]
fn numbers_of_one_width_are_read_in_one_piece_in_either_byte_order() {
    fn there_and_back<T: Schema + Serialize>(value: &T, signature: &str) {
        let typed = typed::<T>();
        let bytes = postcard::to_stdvec(value).unwrap();
        assert_eq!(typed.signature(), signature);
        assert_eq!(typed.to_postcard(&typed.from_postcard(&bytes).unwrap()).as_ref(), Ok(&bytes));
    }
    there_and_back(&vec![i8::MIN, -1, 0, i8::MAX], "an");
    there_and_back(&vec![i16::MIN, -1, 0, i16::MAX], "an");
    there_and_back(&vec![i32::MIN, -1, 0, i32::MAX], "ai");
    there_and_back(&vec![i64::MIN, -1, 0, i64::MAX], "ax");
    there_and_back(&vec![0, 127, 128, u16::MAX], "aq");
    there_and_back(&vec![0, 127, 128, u32::MAX], "au");
    there_and_back(&vec![0, 127, 128, u64::MAX], "at");
    there_and_back(&vec![0.5f32, f32::MIN, f32::INFINITY], "ad");
    there_and_back(&vec![0.5f64, f64::MIN, f64::INFINITY], "ad");
    there_and_back(&vec![(); 300], "ay");
    there_and_back(&vec![Some(7u8), None], "aay");
    there_and_back(&vec![vec![7u32; 200]; 200], "aau");
    there_and_back(&[vec![-1i16], vec![]], "aan");
    assert_eq!(
        misfit::<Vec<i8>>(&[array(vec![1i16.into(), 128i16.into()], "an")]),
        "1: a value is beyond i8"
    );
    let big = [&4u32.to_be_bytes()[..], &258u16.to_be_bytes(), &7u16.to_be_bytes()].concat();
    let message = Message::demarshal(&super::messages::raw_in(u32::to_be_bytes, "aq", &big)).unwrap();
    let taken = typed::<Vec<u16>>().take(&mut message.iter_init()).unwrap();
    assert_eq!(taken, postcard::to_stdvec(&vec![258u16, 7]).unwrap());
}

#[test]
fn what_takes_long_to_get_past_is_refused_before_anybody_tries() {
    let skimmed = |depth: usize| {
        let mut message = call();
        variants(&mut IterAppend::new(&mut message), depth);
        skim(&carried(&mut message))
    };
    assert_eq!(skimmed(8), Ok(()));
    assert_eq!(skimmed(9), Err(Unfit::VariantsTooDeep { max: MAX_VARIANTS }));
    for (name, message) in hostile() {
        assert!(skim(&message).is_err(), "{name}");
    }
    let large = call().append2(&vec![7u8; 1 << 20][..], "x".repeat(1 << 20).as_str());
    assert_eq!(skim(&large), Ok(()));
}

/// Messages that are valid, and that somebody made to cost time.
fn hostile() -> Vec<(&'static str, Message)> {
    let sig = |text: &'static str| Signature::new(text).unwrap();
    let mut wide = call();
    let of_bytes = |iter: &mut IterAppend<'_>| {
        iter.append_struct(|all| (0..250).for_each(|_| all.append_variant(&sig("y"), |one| one.append(7u8))))
    };
    let many = Signature::new(format!("({})", "v".repeat(250))).unwrap();
    IterAppend::new(&mut wide).append_variant(&many, |outer| {
        outer.append_struct(|all| {
            for _ in 0..250 {
                all.append_variant(&many, of_bytes);
            }
        })
    });
    let mut deep = call();
    variants(&mut IterAppend::new(&mut deep), 60);
    vec![("250 variants in each of 250", wide), ("60 variants within each other", deep)]
}
