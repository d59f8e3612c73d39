//! Every type there and back, and nothing that a peer says of a type, or sends as one, does harm.

use std::collections::BTreeMap;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::value::Value;

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Wrapped(u64);

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Marker;

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Choice {
    Nothing,
    One(Wrapped),
    Two(u8, char),
    Named { first: Option<i16>, second: [f32; 3] },
}

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
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
    choices: Vec<Choice>,
    by_name: BTreeMap<String, Wrapped>,
    by_number: BTreeMap<i16, bool>,
    one: [u8; 1],
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
        choices: vec![
            Choice::Nothing,
            Choice::One(Wrapped(300)),
            Choice::Two(7, 'x'),
            Choice::Named { first: Some(-5), second: [1.0, 0.25, -3e-9] },
        ],
        by_name: [("left".to_owned(), Wrapped(1)), ("right".to_owned(), Wrapped(2))].into(),
        by_number: [(-3, true), (7, false)].into(),
        one: [9],
    }
}

fn shape<T: Schema + ?Sized>() -> Shape {
    Shape::read(&schema_bytes::<T>()).unwrap()
}

fn schema_bytes<T: Schema + ?Sized>() -> Vec<u8> {
    postcard::to_stdvec(T::SCHEMA).unwrap()
}

fn misfit<T: Schema + ?Sized>(json: &str) -> String {
    shape::<T>().to_postcard(json, MAX).unwrap_err().to_string()
}

#[test]
fn every_type_has_the_json_that_serde_gives_it_and_comes_back() {
    let value = everything();
    let (bytes, shape) = (postcard::to_stdvec(&value).unwrap(), shape::<Everything>());
    let json = shape.to_json(&bytes, MAX).unwrap();
    assert_eq!(serde_json::from_str::<Everything>(&json).unwrap(), value);
    assert_eq!(shape.to_postcard(&json, MAX).unwrap(), bytes);
    let other = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(shape.to_postcard(&other, MAX).unwrap(), bytes);
}

#[test]
fn fields_may_come_in_any_order_and_what_is_optional_may_be_absent() {
    #[derive(Schema, Serialize)]
    struct Rate {
        sensor: &'static str,
        hz: u16,
        burst: Option<u8>,
        on: (),
    }
    let bytes = postcard::to_stdvec(&Rate { sensor: "gyro", hz: 200, burst: None, on: () }).unwrap();
    for json in [
        r#"{"sensor":"gyro","hz":200}"#,
        r#"{"hz":200,"sensor":"gyro"}"#,
        r#"{"burst":null,"on":null,"hz":200,"sensor":"gyro"}"#,
    ] {
        assert_eq!(shape::<Rate>().to_postcard(json, MAX).unwrap(), bytes, "{json}");
    }
    assert!(misfit::<Rate>(r#"{"hz":200}"#).starts_with("'sensor' is missing"));
    assert!(misfit::<Rate>(r#"{"hz":200,"sensor":"a","hz":1}"#).starts_with("'hz' comes twice"));
    assert!(misfit::<Rate>(r#"{"hz":200,"sensor":"a","his":1}"#).contains("does not have"));
    assert!(misfit::<Rate>(r#"{"hz":70000,"sensor":"a"}"#).starts_with("70000 is beyond u16"));
    assert!(misfit::<Rate>(r#"{"hz":2.5,"sensor":"a"}"#).contains("where u16 is needed"));
}

#[test]
fn what_a_text_holds_is_not_said_back() {
    for json in ["\"vb1.secret\"", "{\"vb1.secret\":1}", "[\"vb1.secret\"]"] {
        for text in [misfit::<Everything>(json), misfit::<Choice>(json), misfit::<Vec<u8>>(json)] {
            assert!(!text.contains("secret"), "{text}");
        }
    }
}

#[test]
fn numbers_that_javascript_does_not_have_may_be_texts() {
    let shape = shape::<u64>();
    let bytes = shape.to_postcard("\"18446744073709551615\"", MAX).unwrap();
    assert_eq!(bytes, postcard::to_stdvec(&u64::MAX).unwrap());
    assert!(shape.to_postcard("\"-1\"", MAX).is_err());
    assert!(shape.to_postcard("1e3", MAX).is_err());
}

#[test]
fn a_number_that_is_none_is_null() {
    let shape = shape::<f32>();
    assert_eq!(shape.to_json(&f32::NAN.to_le_bytes(), MAX).unwrap(), "null");
    assert!(shape.to_postcard("null", MAX).is_err());
}

#[test]
fn what_is_left_over_cut_off_or_of_another_type_is_refused() {
    let (bytes, shape) = (postcard::to_stdvec(&everything()).unwrap(), shape::<Everything>());
    for len in 0..bytes.len() {
        assert!(shape.to_json(&bytes[..len], MAX).is_err(), "cut to {len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(shape.to_json(&longer, MAX), Err(Misfit::LeftOver { bytes: 1 }));
    for json in ["{} {}", "", "{", "nul", "[1,2", "\"\\ud800\""] {
        assert!(shape.to_postcard(json, MAX).is_err(), "{json}");
    }
}

#[test]
fn elements_without_bytes_do_not_go_on_for_ever() {
    let count = postcard::to_stdvec(&u64::MAX).unwrap();
    assert_eq!(shape::<Vec<()>>().to_json(&count, 1000), Err(Misfit::TooLong { max: 1000 }));
    assert_eq!(shape::<Vec<Marker>>().to_json(&count, 1000), Err(Misfit::TooLong { max: 1000 }));
    assert_eq!(shape::<String>().to_json(&count, 1000), Err(Misfit::CutOff));
}

#[test]
fn a_short_document_does_not_become_long_bytes_nor_long_work() {
    // A struct of many fields that may all be absent, over and over.
    let field = |number: usize, ty: u8| {
        [&[3, b'f', b'0' + (number / 10) as u8, b'0' + (number % 10) as u8, 0, ty][..]].concat()
    };
    for ty in [&[19u8][..], &[18, 0, 0]] {
        let fields: Vec<u8> =
            (0..100).flat_map(|number| [&field(number, ty[0])[..], &ty[1..]].concat()).collect();
        let schema = [&[0, 22, 0, 26, 100][..], &fields].concat();
        let shape = Shape::read(&schema).unwrap();
        let json = format!("[{}]", vec!["{}"; 300_000].join(","));
        let started = std::time::Instant::now();
        assert_eq!(shape.to_postcard(&json, MAX), Err(Misfit::TooLong { max: MAX }));
        assert!(started.elapsed().as_secs() < 5);
    }
}

/// `Vec<struct { <a name of 60 000 letters>: () }>` in the form of a schema.
fn long_name() -> Shape {
    let name = "n".repeat(60_000);
    let len = postcard::to_stdvec(&name.len()).unwrap();
    let schema = [&[0, 22, 0, 26, 1][..], &len, name.as_bytes(), &[0, 19]].concat();
    Shape::read(&schema).unwrap()
}

#[test]
fn a_few_bytes_do_not_become_long_json_nor_long_work() {
    let units = shape::<Vec<()>>();
    for (shape, count) in [(long_name(), 15u32), (units.clone(), 200_000), (units, 1000)] {
        let (bytes, mut work) = (postcard::to_stdvec(&count).unwrap(), 0);
        let most = 4096 + 256 * bytes.len();
        assert_eq!(shape.to_json_counted(&bytes, MAX, &mut work), Err(Misfit::TooLong { max: most }));
        assert!(work <= 2 * most, "{work}");
    }
    assert_eq!(shape::<Vec<()>>().to_json(&[3], MAX).unwrap(), "[null,null,null]");
}

#[test]
fn a_document_of_a_few_kilobytes_does_not_become_long_bytes() {
    let fields: Vec<u8> = (0..480u16)
        .flat_map(|number| [&[4, b'f'][..], format!("{number:03}").as_bytes(), &[0, 18, 0, 0]].concat())
        .collect();
    let count = postcard::to_stdvec(&480u16).unwrap();
    let shape = Shape::read(&[&[0, 22, 0, 26][..], &count, &fields].concat()).unwrap();
    let json = format!("[{}]", vec!["{}"; 2000].join(","));
    let mut work = 0;
    let refused = shape.to_postcard_counted(&json, MAX, &mut work);
    assert_eq!(refused, Err(Misfit::TooLong { max: 4096 + 32 * json.len() }));
    assert!(work < 100 * json.len(), "{work}");
    assert_eq!(shape.to_postcard("[{},{}]", MAX).unwrap().len(), 1 + 2 * 480);
}

#[test]
fn honest_types_with_long_names_pass_both_ways() {
    // Sixty-letter names around an absent option each, as a configuration may have them, in the worst order.
    let names: Vec<String> = (0..500).map(|number| format!("{number:0>60}")).collect();
    let fields: Vec<u8> =
        names.iter().flat_map(|name| [&[60][..], name.as_bytes(), &[0, 18, 0, 0]].concat()).collect();
    let count = postcard::to_stdvec(&500u16).unwrap();
    let shape = Shape::read(&[&[0, 26][..], &count, &fields].concat()).unwrap();
    let bytes = vec![0; 500];
    let json = shape.to_json(&bytes, MAX).unwrap();
    let parts: Vec<&str> = json[1..json.len() - 1].split(',').rev().collect();
    assert_eq!(shape.to_postcard(&format!("{{{}}}", parts.join(",")), MAX).unwrap(), bytes);
}

#[test]
fn a_schema_that_is_too_deep_or_too_large_is_none() {
    let nested = |depth| [[0, 18].repeat(depth), vec![0, 2]].concat();
    assert!(Shape::read(&nested(31)).is_some());
    assert!(Shape::read(&nested(32)).is_none());
    assert!(Shape::read(&nested(30_000)).is_none());
    let wide = |count: u16| {
        [&[0, 23][..], &postcard::to_stdvec(&count).unwrap(), &[0, 2].repeat(count.into())].concat()
    };
    assert!(Shape::read(&wide(1000)).is_some());
    assert!(Shape::read(&wide(2000)).is_none());
    let lie = [&[0, 23][..], &postcard::to_stdvec(&u32::MAX).unwrap()].concat();
    assert!(Shape::read(&lie).is_none());
    assert!(Shape::read(&[]).is_none());
}

#[test]
fn the_hash_of_a_schema_is_that_of_its_type() {
    let hash = visorbus_core::message::typed::TypeSchema::of::<Everything>().hash;
    assert_eq!(shape::<Everything>().hash(), hash);
}

#[test]
fn no_bytes_no_json_and_no_schema_can_do_harm() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let good = schema_bytes::<Everything>();
    let bytes = postcard::to_stdvec(&everything()).unwrap();
    let json = serde_json::to_string(&everything()).unwrap();
    let whole = shape::<Everything>();
    for _ in 0..5_000 {
        let (schema, bytes) = (noise.spoil(&good), noise.spoil(&bytes));
        let json = String::from_utf8_lossy(&noise.spoil(json.as_bytes())).into_owned();
        for shape in Shape::read(&schema).iter().chain([&whole]) {
            if let Ok(text) = shape.to_json(&bytes, SMALL) {
                assert!(
                    text.len() <= SMALL && serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                    "{text}"
                );
            }
            if let Ok(bytes) = shape.to_postcard(&json, SMALL) {
                assert!(bytes.len() <= SMALL);
                assert!(shape.to_json(&bytes, MAX).is_ok(), "{shape}: {json}");
            }
            let _ = shape.to_string();
        }
    }
}

/// Numbers that look like chance.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    /// The same with some bytes changed, taken out or put in, or nothing but chance.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.next().is_multiple_of(8) {
            let len = self.next() % 64;
            return (0..len).map(|_| self.next() as u8).collect();
        }
        let mut bytes = bytes.to_vec();
        for _ in 0..self.next() % 4 {
            let at = self.next() % bytes.len();
            match self.next() % 4 {
                0 => bytes[at] = self.next() as u8,
                1 => bytes[at] = bytes[self.next() % bytes.len()],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, self.next() as u8 % 32),
            }
        }
        bytes
    }
}

const MAX: usize = 1 << 20;
const SMALL: usize = 4096;

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Setting {
    key: String,
    value: Value,
    old: Option<Value>,
    all: Vec<Value>,
}

#[test]
fn a_value_is_plain_json_and_comes_back() {
    let shape = shape::<Setting>();
    let json =
        r#"{"key":"a","value":{"b":[1,"c"]},"old":0.5,"all":[null,true,-3,"x",["a"],[],[1,2],[1.5,2.0]]}"#;
    let setting = Setting {
        key: "a".to_owned(),
        value: Value::Json(r#"{"b":[1,"c"]}"#.to_owned()),
        old: Some(Value::Float(0.5)),
        all: vec![
            Value::Empty,
            Value::Bool(true),
            Value::Integer(-3),
            Value::Text("x".to_owned()),
            Value::Texts(vec!["a".to_owned()]),
            Value::Texts(Vec::new()),
            Value::Integers(vec![1, 2]),
            Value::Floats(vec![1.5, 2.0]),
        ],
    };
    let bytes = postcard::to_stdvec(&setting).unwrap();
    assert_eq!(shape.to_json(&bytes, 10_000).unwrap(), json);
    assert_eq!(serde_json::to_string(&setting).unwrap(), json, "as a program writes it that has the type");
    assert_eq!(shape.to_postcard(json, 10_000).unwrap(), bytes);
    let short = shape.to_postcard(r#"{"all":[],"value":18446744073709551615,"key":"a"}"#, 10_000).unwrap();
    let short: Setting = postcard::from_bytes(&short).unwrap();
    assert_eq!((short.value, short.old), (Value::Float(18446744073709551615.0), None));
    assert!(shape.to_postcard(r#"{"all":[],"key":"a"}"#, 10_000).is_err(), "it says what it is");
}

#[test]
fn a_value_that_is_none_harms_nobody() {
    let shape = shape::<Value>();
    for (bytes, misfit) in [
        (&[9][..], Misfit::OutOfRange),
        (&[1, 2], Misfit::OutOfRange),
        (&[8, 1, b'{'], Misfit::NoStructure),
        (&[8, 3, b'1', b',', b'2'], Misfit::NoStructure),
        (&[8, 0], Misfit::NoStructure),
        (&[4, 1, 0xff], Misfit::NotText),
        (&[0, 0], Misfit::LeftOver { bytes: 1 }),
    ] {
        assert_eq!(shape.to_json(bytes, 1_000), Err(misfit), "{bytes:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(shape.to_postcard(&deep, usize::MAX >> 1).is_err());
    let deep = [&[8][..], &postcard::to_stdvec(&deep).unwrap()].concat();
    assert_eq!(shape.to_json(&deep, usize::MAX >> 1), Err(Misfit::NoStructure));
    let long = format!("[{}0]", "0,".repeat(10_000));
    assert_eq!(shape.to_postcard(&long, 100), Err(Misfit::TooLong { max: 100 }));
    let bytes = shape.to_postcard(&long, 100_000).unwrap();
    assert_eq!(shape.to_json(&bytes, 100), Err(Misfit::TooLong { max: 100 }));
}

#[test]
fn a_type_that_is_almost_a_value_keeps_its_variants() {
    #[derive(Schema, Serialize)]
    #[allow(dead_code)]
    enum Shorter {
        Empty,
        Bool(bool),
    }
    #[derive(Schema, Serialize)]
    #[allow(dead_code)]
    enum Narrower {
        Empty,
        Bool(bool),
        Integer(i64),
        Float(f64),
        Text(String),
        Texts(Vec<String>),
        Integers(Vec<i64>),
        Floats(Vec<f32>),
        Json(String),
    }
    #[derive(Schema, Serialize)]
    #[allow(dead_code)]
    enum Renamed {
        Empty,
        Bool(bool),
        Integer(i64),
        Float(f64),
        Text(String),
        Texts(Vec<String>),
        Integers(Vec<i64>),
        Floats(Vec<f64>),
        Structure(String),
    }
    let bytes = [1, 1];
    for shape in [shape::<Shorter>(), shape::<Narrower>(), shape::<Renamed>()] {
        assert_eq!(shape.to_json(&bytes, 1_000).unwrap(), r#"{"Bool":true}"#);
        assert_eq!(shape.to_postcard(r#"{"Bool":true}"#, 1_000).unwrap(), bytes);
        assert!(shape.to_postcard("true", 1_000).is_err());
    }
    assert_eq!(self::shape::<Value>().to_json(&bytes, 1_000).unwrap(), "true");
}
