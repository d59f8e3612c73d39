//! Every type there and back, over postcard, over messages and beside JSON; and nothing that anybody on the bus sends, or a
//! peer describes or answers, does harm.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use dbus::arg::{ArgType, IterAppend};
use dbus::{Message, Signature};
use postcard_schema::Schema;
use postcard_schema::schema::owned::{
    OwnedDataModelType as Type, OwnedDataModelVariant as Variant, OwnedNamedType, OwnedNamedValue,
    OwnedNamedVariant,
};
use serde::{Deserialize, Serialize};
use visorbus_hub::schema::Shape;

use super::*;

mod any;
mod by_items;
mod chance;
mod in_place;
mod messages;

use self::by_items::ByItems;

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq)]
struct Wrapped(u64);

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq)]
struct Marker;

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq)]
enum Mode {
    Off,
    Slow,
    Fast,
}

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq)]
enum Choice {
    Nothing,
    One(Wrapped),
    Two(u8, char),
    Named { first: Option<i16>, second: [f32; 3] },
    Empty {},
}

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq)]
struct Everything {
    flag: bool,
    small: (i8, u8),
    whole: (i16, u16, i32, u32, i64, u64),
    long: (i128, u128),
    floats: (f32, f64),
    letter: char,
    text: String,
    maybe: Option<String>,
    none: Option<u8>,
    marker: Marker,
    unit: (),
    wrapped: Wrapped,
    mode: Mode,
    modes: [Mode; 2],
    choices: Vec<Choice>,
    by_name: BTreeMap<String, Wrapped>,
    by_number: BTreeMap<i16, bool>,
    by_pair: BTreeMap<(u8, u8), String>,
    bytes: Vec<u8>,
    four: [u8; 4],
    units: Vec<()>,
    perhaps: Option<()>,
}

fn everything() -> Everything {
    Everything {
        flag: true,
        small: (-128, 255),
        whole: (i16::MIN, u16::MAX, i32::MIN, u32::MAX, i64::MIN, u64::MAX),
        long: (i128::MIN, u128::MAX),
        floats: (0.1, -1e300),
        letter: 'ß',
        text: "a \"quoted\" text\n".to_owned(),
        maybe: Some("there".to_owned()),
        none: None,
        marker: Marker,
        unit: (),
        wrapped: Wrapped(u64::MAX),
        mode: Mode::Slow,
        modes: [Mode::Fast, Mode::Off],
        choices: vec![
            Choice::Nothing,
            Choice::One(Wrapped(300)),
            Choice::Two(7, 'x'),
            Choice::Named { first: Some(-5), second: [1.0, 0.25, -3e-9] },
            Choice::Empty {},
        ],
        by_name: [("left".to_owned(), Wrapped(1)), ("right".to_owned(), Wrapped(2))].into(),
        by_number: [(-3, true), (7, false)].into(),
        by_pair: [((1, 2), "one".to_owned())].into(),
        bytes: vec![0, 1, 255],
        four: [4; 4],
        units: vec![(), ()],
        perhaps: Some(()),
    }
}

fn typed<T: Schema + ?Sized>() -> Typed {
    Typed::new(&shape_of(&OwnedNamedType::from(T::SCHEMA))).unwrap()
}

fn shape_of(named: &OwnedNamedType) -> Shape {
    Shape::read(&postcard::to_stdvec(named).unwrap()).unwrap()
}

fn call() -> Message {
    Message::new_method_call("org.visorbus.Bus1", "/", "a.b", "C").unwrap()
}

/// The same message as it would come from a bus.
fn carried(message: &mut Message) -> Message {
    message.set_serial(1);
    Message::demarshal(&marshalled(message)).unwrap()
}

fn marshalled(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    let keep = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    };
    message.marshal(keep).unwrap();
    bytes
}

/// Appended, carried and read.
fn over_the_bus(items: &[MessageItem]) -> Vec<MessageItem> {
    let mut message = call();
    append(&mut message, items).unwrap();
    let came = carried(&mut message);
    assert_eq!(signature(&came), check(items).unwrap());
    read_items(&came).unwrap()
}

fn array(items: Vec<MessageItem>, signature: &str) -> MessageItem {
    MessageItem::Array(MessageItemArray::new(items, Signature::new(signature).unwrap()).unwrap())
}

fn variant(content: MessageItem) -> MessageItem {
    MessageItem::Variant(Box::new(content))
}

fn misfit<T: Schema + ?Sized>(arguments: &[MessageItem]) -> String {
    typed::<T>().to_postcard(arguments).unwrap_err().to_string()
}

#[test]
fn every_type_has_the_signature_of_the_table_and_comes_back() {
    let typed = typed::<Everything>();
    let of_fields: Vec<&str> = typed.arguments().iter().map(|argument| argument.signature.as_str()).collect();
    let expected = [
        "b", "(ny)", "(nqiuxt)", "(ss)", "(dd)", "s", "s", "as", "ay", "t", "s", "as", "a(sv)", "a{st}",
        "a{nb}", "a((yy)s)", "ay", "ay", "ay", "ay",
    ];
    assert_eq!(of_fields, expected);
    assert_eq!(typed.signature(), expected.concat());
    assert_eq!(typed.value_signature(), format!("({})", expected.concat()));
    assert_eq!(typed.arguments()[0].name, "flag");
    assert_eq!(typed.arguments()[9].name, "wrapped");

    let bytes = postcard::to_stdvec(&everything()).unwrap();
    let items = typed.from_postcard(&bytes).unwrap();
    assert_eq!(check(&items).unwrap(), typed.signature());
    assert_eq!(over_the_bus(&items), items);
    assert_eq!(typed.to_postcard(&items).unwrap(), bytes);

    let value = variant(typed.value_from_postcard(&bytes).unwrap());
    let MessageItem::Variant(value) = over_the_bus(&[value]).remove(0) else { panic!("no variant") };
    assert_eq!(typed.value_to_postcard(&value).unwrap(), bytes);
}

#[test]
fn arguments_are_the_fields_and_any_other_type_is_one() {
    #[derive(Schema)]
    struct Rate {
        #[allow(dead_code)]
        sensor: &'static str,
        #[allow(dead_code)]
        on: (),
        #[allow(dead_code)]
        hz: u16,
    }
    #[derive(Schema)]
    #[allow(dead_code)]
    struct Outer(Rate);
    let names = |typed: &Typed| -> Vec<(String, String)> {
        typed.arguments().iter().map(|argument| (argument.name.clone(), argument.signature.clone())).collect()
    };
    let pair = |name: &str, signature: &str| (name.to_owned(), signature.to_owned());
    assert_eq!(names(&typed::<Rate>()), [pair("sensor", "s"), pair("hz", "q")]);
    assert_eq!(names(&typed::<Outer>()), names(&typed::<Rate>()));
    assert_eq!(names(&typed::<(bool, u8)>()), [pair("arg0", "b"), pair("arg1", "y")]);
    assert_eq!(names(&typed::<[f32; 3]>()), [pair("value", "ad")]);
    assert_eq!(names(&typed::<u32>()), [pair("value", "u")]);
    assert_eq!(names(&typed::<Mode>()), [pair("value", "s")]);
    assert_eq!(names(&typed::<()>()), []);
    assert_eq!(typed::<()>().value_signature(), "y");
}

#[test]
fn what_has_no_content_is_no_argument_and_may_be_written_in_three_ways() {
    let unit = typed::<()>();
    assert_eq!(unit.to_postcard(&[]), Ok(vec![]));
    assert_eq!(unit.from_postcard(&[]), Ok(vec![]));
    assert!(unit.to_postcard(&[0u8.into()]).is_err());
    assert_eq!(unit.value_from_postcard(&[]), Ok(0u8.into()));
    for nothing in [0u8.into(), "".into(), array(vec![], "ay"), array(vec![], "a{sv}")] {
        assert_eq!(unit.value_to_postcard(&nothing), Ok(vec![]), "{nothing:?}");
    }
    for something in [1u8.into(), "x".into(), 0i32.into(), array(vec![0u8.into()], "ay")] {
        assert!(unit.value_to_postcard(&something).is_err(), "{something:?}");
    }
}

#[test]
fn what_is_of_another_type_is_told_where_and_never_what() {
    assert_eq!(misfit::<(bool, u8)>(&[true.into()]), "by is needed, not more");
    assert_eq!(misfit::<(bool, u8)>(&[true.into(), "secret".into()]), "1: 'y' is needed, not 's'");
    assert_eq!(misfit::<u16>(&[1u32.into()]), "'q' is needed, not 'u'");
    assert_eq!(misfit::<i8>(&[128i16.into()]), "a value is beyond i8");
    assert_eq!(misfit::<u128>(&["secret".into()]), "a value is beyond u128");
    assert_eq!(misfit::<char>(&["secret".into()]), "a value is beyond one character");
    assert_eq!(misfit::<char>(&["".into()]), "a value is beyond one character");
    assert_eq!(misfit::<f32>(&[1e300.into()]), "a value is beyond f32");
    assert_eq!(misfit::<Mode>(&["secret".into()]), "none of the variants Off, Slow, Fast");
    let off = |name: &str| array(vec![MessageItem::Str(name.to_owned()), "secret".into()], "as");
    assert_eq!(misfit::<[Mode; 2]>(&[off("Off")]), "1: none of the variants Off, Slow, Fast");
    assert_eq!(misfit::<[Mode; 3]>(&[off("Off")]), "'as' of 3 elements is needed, not 'as'");
    assert_eq!(misfit::<Option<Mode>>(&[off("Off")]), "'as' of at most one element is needed, not 'as'");
    assert_eq!(misfit::<Vec<u32>>(&[array(vec![], "ai")]), "'au' is needed, not 'ai'");
    let choice = |content| MessageItem::Struct(vec!["Two".into(), variant(content)]);
    assert_eq!(misfit::<Choice>(&[choice(7u8.into())]), "Two: '(ys)' is needed, not 'y'");
    let two = MessageItem::Struct(vec![7u8.into(), "secret".into()]);
    assert_eq!(misfit::<Choice>(&[choice(two)]), "Two.1: a value is beyond one character");
    assert!(
        misfit::<Choice>(&[MessageItem::Struct(vec!["Two".into(), "x".into()])]).contains("'(sv)' is needed")
    );
    assert!(misfit::<BTreeMap<String, u8>>(&["x".into()]).contains("'a{sy}' is needed, not 's'"));
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let text = |name: &str| -> MessageItem { name.into() };
    let sig = |text: &str| Signature::new(text).unwrap();
    let pairs = vec![(text("a"), 1u8.into()), (text("b"), 1u8.into()), (text("a"), 2u8.into())];
    let dict = MessageItemDict::new(pairs, sig("s"), sig("y")).unwrap();
    assert_eq!(misfit::<BTreeMap<String, u8>>(&[MessageItem::Dict(dict)]), "2: a key comes twice");
    // The same number, written in two ways.
    let pairs = vec![(text("7"), 1u8.into()), (text("007"), 1u8.into())];
    let dict = MessageItemDict::new(pairs, sig("s"), sig("y")).unwrap();
    assert_eq!(misfit::<BTreeMap<u128, u8>>(&[MessageItem::Dict(dict)]), "1: a key comes twice");
}

#[test]
fn numbers_that_are_none_pass_and_texts_with_zero_bytes_do_not() {
    for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
        let single = typed::<f32>().to_postcard(&[special.into()]).unwrap();
        assert_eq!(single, (special as f32).to_le_bytes());
        let double = typed::<f64>().to_postcard(&[special.into()]).unwrap();
        assert_eq!(double, special.to_le_bytes());
        let items = over_the_bus(&typed::<f64>().from_postcard(&double).unwrap());
        let MessageItem::Double(back) = items[0] else { panic!("no double") };
        assert_eq!(back.to_bits(), special.to_bits());
    }
    for bytes in [postcard::to_stdvec("a\0b").unwrap(), postcard::to_stdvec(&'\0').unwrap()] {
        assert_eq!(typed::<String>().from_postcard(&bytes), Err(Misfit::ZeroByte));
    }
    let nul = postcard::to_stdvec(&'\0').unwrap();
    assert_eq!(typed::<char>().from_postcard(&nul), Err(Misfit::ZeroByte));
}

#[test]
fn a_variants_name_may_be_anything_and_harms_nobody() {
    let named = |name: &str| OwnedNamedVariant { name: name.to_owned(), ty: Variant::UnitVariant };
    let long = "n".repeat(3000);
    let ty = Type::Enum(vec![named("a\0b"), named(""), named("same"), named("same"), named(&long)]);
    let typed = Typed::new(&shape_of(&OwnedNamedType { name: String::new(), ty })).unwrap();
    assert_eq!(typed.from_postcard(&[0]), Err(Misfit::ZeroByte));
    assert_eq!(typed.from_postcard(&[1]), Ok(vec!["".into()]));
    assert!(matches!(typed.to_postcard(&["same".into()]).unwrap()[..], [2 | 3]));
    assert!(typed.to_postcard(&["other".into()]).unwrap_err().to_string().len() < 500);
    let none = OwnedNamedType { name: String::new(), ty: Type::Enum(vec![]) };
    let none = Typed::new(&shape_of(&none)).unwrap();
    assert!(none.from_postcard(&[0]).is_err() && none.to_postcard(&["x".into()]).is_err());
}

#[test]
fn types_that_d_bus_has_no_form_for_have_none() {
    let unnamed = |ty| OwnedNamedType { name: String::new(), ty };
    let nested = |depth: usize, wrap: &dyn Fn(Box<OwnedNamedType>) -> Type| {
        (0..depth).fold(unnamed(Type::Bool), |inner, _| unnamed(wrap(Box::new(inner))))
    };
    let options = |depth| Typed::new(&shape_of(&nested(depth, &Type::Option)));
    assert_eq!(options(30).unwrap().value_signature(), format!("{}b", "a".repeat(30)));
    assert!(options(31).is_none());
    let choices = |depth| {
        let choice = |inner| {
            Type::Enum(vec![OwnedNamedVariant { name: "A".to_owned(), ty: Variant::NewtypeVariant(inner) }])
        };
        Typed::new(&shape_of(&nested(depth, &choice)))
    };
    assert!(choices(6).is_some());
    assert!(choices(7).is_none());
    let wide = |count| Typed::new(&shape_of(&unnamed(Type::Tuple(vec![unnamed(Type::Bool); count]))));
    assert_eq!(wide(253).unwrap().signature().len(), 253);
    assert!(wide(254).is_none());
    assert!(Typed::new(&shape_of(&unnamed(Type::Schema))).is_none());
    assert!(Typed::new(&shape_of(&nested(3, &|_| Type::Schema))).is_none());
    // As an array it has a short one.
    let ty = Type::Tuple(vec![unnamed(Type::F32); 900]);
    let array = Typed::new(&shape_of(&OwnedNamedType { name: "[T; N]".to_owned(), ty })).unwrap();
    assert_eq!(array.signature(), "ad");
    // And whoever lies about it is taken at his items.
    let ty = Type::Tuple(vec![unnamed(Type::F32), unnamed(Type::Bool)]);
    let lie = Typed::new(&shape_of(&OwnedNamedType { name: "[T; N]".to_owned(), ty })).unwrap();
    assert_eq!(lie.signature(), "db");
}

#[test]
fn the_deepest_type_fits_into_a_message_with_a_variant_around_it() {
    let unnamed = |ty| OwnedNamedType { name: String::new(), ty };
    let (mut named, mut bytes, mut deepest) = (unnamed(Type::Bool), vec![1], 0);
    for depth in 0..30 {
        let (ty, front): (_, &[u8]) = match depth % 4 {
            0 if depth < 24 => {
                let ty = Variant::NewtypeVariant(Box::new(named));
                (Type::Enum(vec![OwnedNamedVariant { name: "A".to_owned(), ty }]), &[0])
            }
            2 => (Type::Tuple(vec![named]), &[]),
            _ => (Type::Option(Box::new(named)), &[1]),
        };
        named = unnamed(ty);
        bytes.splice(0..0, front.iter().copied());
        let Some(typed) = Typed::new(&shape_of(&named)) else { break };
        let value = variant(typed.value_from_postcard(&bytes).unwrap());
        assert_eq!(over_the_bus(std::slice::from_ref(&value)), [value]);
        deepest = depth;
    }
    // Six of them are enums, of two containers each.
    assert_eq!(deepest + 1 + 6, 30);
}

#[test]
fn elements_without_bytes_do_not_go_on_for_ever() {
    let started = Instant::now();
    let fields = |count: usize, ty: &Type| {
        let field = |number: usize| OwnedNamedValue {
            name: format!("f{number}"),
            ty: OwnedNamedType { name: String::new(), ty: ty.clone() },
        };
        OwnedNamedType { name: String::new(), ty: Type::Struct((0..count).map(field).collect()) }
    };
    let many = |item: OwnedNamedType| {
        let ty = Type::Seq(Box::new(item));
        Typed::new(&shape_of(&OwnedNamedType { name: String::new(), ty })).unwrap()
    };
    let refused = Err(Misfit::TooMany { max: MAX_ITEMS });
    for count in [100_000u64, u64::MAX] {
        let bytes = postcard::to_stdvec(&count).unwrap();
        assert_eq!(typed::<Vec<()>>().from_postcard(&bytes), refused);
        assert_eq!(typed::<Vec<Marker>>().from_postcard(&bytes), refused);
        assert_eq!(typed::<Vec<Vec<()>>>().from_postcard(&bytes), refused);
        assert_eq!(many(fields(500, &Type::Unit)).from_postcard(&bytes), refused);
        assert!(typed::<String>().from_postcard(&bytes).is_err());
        assert!(typed::<Vec<u8>>().from_postcard(&bytes).is_err());
    }
    // As many as there may be, each a struct that is mostly nothing.
    let mut mostly = fields(500, &Type::Unit);
    if let Type::Struct(fields) = &mut mostly.ty {
        fields.push(OwnedNamedValue {
            name: "x".to_owned(),
            ty: OwnedNamedType { name: String::new(), ty: Type::U8 },
        });
    }
    let bytes = [postcard::to_stdvec(&10_000u32).unwrap(), vec![7; 10_000]].concat();
    let mostly = many(mostly);
    assert_eq!(mostly.signature(), "a(y)");
    assert!(mostly.from_postcard(&bytes).is_ok());
    // Structs within each other: whoever goes through their signatures goes through each at every depth.
    let nested = |inner, _| OwnedNamedType { name: String::new(), ty: Type::Tuple(vec![inner]) };
    let deep = many((0..28).fold(OwnedNamedType { name: String::new(), ty: Type::U8 }, nested));
    assert_eq!(deep.from_postcard(&[&[50][..], &[7; 50]].concat()).unwrap().len(), 1);
    let bytes = [&[0xd0, 0x0f][..], &[7; 2000]].concat();
    let mut message = call();
    assert_eq!(
        put(&mut message, &[Piece::Arguments(&deep, &bytes)]),
        Err(Misfit::TooMany { max: MAX_ITEMS })
    );
    // Arrays of nothing within each other: each level is counted.
    let ty = Type::Tuple(vec![OwnedNamedType { name: String::new(), ty: Type::Unit }; 900]);
    let nothing = OwnedNamedType { name: "[T; N]".to_owned(), ty };
    assert_eq!(many(nothing).signature(), "ay");
    assert!(started.elapsed().as_secs() < 5);
}
