//! Values whose type only their owner knows are variants on the bus, both ways.

use visorbus_hub::Value;

use super::*;

fn texts(texts: &[&str]) -> Value {
    Value::Texts(texts.iter().map(|&text| text.to_owned()).collect())
}

fn structure(json: &str) -> Value {
    Value::Json(json.to_owned())
}

/// What a value is on the bus.
fn shown<T: Schema + Serialize>(value: &T) -> Result<Vec<MessageItem>, Misfit> {
    let (typed, bytes) = (typed::<T>(), postcard::to_stdvec(value).unwrap());
    let mut message = call();
    put(&mut message, &[Piece::Arguments(&typed, &bytes)])?;
    let message = carried(&mut message);
    assert_eq!(signature(&message), typed.signature());
    Ok(read_items(&message).unwrap())
}

/// What is made of what stands on the bus.
fn taken<T: Schema + for<'a> Deserialize<'a>>(items: &[MessageItem]) -> Result<T, Misfit> {
    let mut message = call();
    append(&mut message, items).unwrap();
    let message = carried(&mut message);
    skim(&message).map_err(Misfit::Unfit)?;
    let bytes = typed::<T>().take(&mut message.iter_init())?;
    Ok(postcard::from_bytes(&bytes).unwrap())
}

#[test]
fn every_value_is_a_variant_and_comes_back() {
    assert_eq!(typed::<Value>().signature(), "v");
    for (value, of) in [
        (Value::Empty, "av"),
        (Value::Bool(true), "b"),
        (Value::Integer(i64::MIN), "x"),
        (Value::Float(-0.5), "d"),
        (Value::Text("für \"dich\"".to_owned()), "s"),
        (texts(&[]), "as"),
        (texts(&["a", ""]), "as"),
        (Value::Integers(vec![i64::MAX, -1]), "ax"),
        (Value::Floats(vec![0.5, f64::INFINITY]), "ad"),
        (structure("{\"a\":[1,\"b\",null],\"c\":{\"d\":true},\"e\":[]}"), "a{sv}"),
        (structure("[1,\"b\",0.5]"), "av"),
        (structure("{}"), "a{sv}"),
    ] {
        let items = shown(&value).unwrap();
        let [MessageItem::Variant(content)] = &*items else { panic!("{items:?}") };
        assert_eq!(signature_of(std::slice::from_ref(content)).unwrap(), of, "{value}");
        assert_eq!(taken::<Value>(&items).unwrap(), value);
    }
}

#[test]
fn a_value_stands_wherever_a_type_may() {
    #[derive(Schema, Serialize, Deserialize, Debug, PartialEq)]
    struct Setting {
        key: String,
        value: Value,
        old: Option<Value>,
        all: Vec<Value>,
        by_name: BTreeMap<String, Value>,
    }
    let setting = Setting {
        key: "display.brightness".to_owned(),
        value: Value::Integer(80),
        old: Some(Value::Float(0.5)),
        all: vec![Value::Empty, Value::Bool(false)],
        by_name: BTreeMap::from([("a".to_owned(), texts(&["b"]))]),
    };
    assert_eq!(typed::<Setting>().signature(), "svavava{sv}");
    let items = shown(&setting).unwrap();
    assert_eq!(taken::<Setting>(&items).unwrap(), setting);
}

#[test]
fn numbers_of_every_width_are_whole_numbers() {
    let of = |item: MessageItem| taken::<Value>(&[variant(item)]);
    for item in [7u8.into(), 7i16.into(), 7u16.into(), 7i32.into(), 7u32.into(), 7i64.into(), 7u64.into()] {
        assert_eq!(of(item).unwrap(), Value::Integer(7));
    }
    for (item, element) in [
        (MessageItem::from(7u8), "ay"),
        (7i16.into(), "an"),
        (7u16.into(), "aq"),
        (7i32.into(), "ai"),
        (7u32.into(), "au"),
        (7i64.into(), "ax"),
        (7u64.into(), "at"),
    ] {
        assert_eq!(of(array(vec![item], element)).unwrap(), Value::Integers(vec![7]), "{element}");
    }
    assert_eq!(of(u64::MAX.into()).unwrap_err().to_string(), "a value is beyond i64");
    assert!(matches!(of(f64::NAN.into()).unwrap(), Value::Float(none) if none.is_nan()));
}

#[test]
fn what_a_program_wraps_in_variants_is_the_value_in_them() {
    let of = |item: MessageItem| taken::<Value>(&[variant(item)]).unwrap();
    assert_eq!(of(variant(variant(5u8.into()))), Value::Integer(5));
    assert_eq!(of(array(vec![variant("a".into()), variant("b".into())], "av")), texts(&["a", "b"]));
    assert_eq!(of(array(vec![true.into()], "ab")), structure("[true]"));
    assert_eq!(of(MessageItem::Struct(vec![1u8.into(), "x".into()])), structure("[1,\"x\"]"));
    let path = MessageItem::ObjectPath(dbus::Path::new("/a/b").unwrap());
    assert_eq!(of(path), Value::Text("/a/b".to_owned()));
    let sig = |text: &str| Signature::new(text).unwrap();
    let pairs = vec![(7u16.into(), variant("x".into()))];
    let by_number = MessageItemDict::new(pairs, sig("q"), sig("v")).unwrap();
    assert_eq!(of(MessageItem::Dict(by_number)), structure("{\"7\":\"x\"}"));
}

#[test]
fn what_cannot_be_a_value_is_refused_and_nothing_goes_on_for_ever() {
    let of = |item: MessageItem| taken::<Value>(&[variant(item)]);
    let sig = |text: &str| Signature::new(text).unwrap();
    let twice = vec![("a".into(), variant(1u8.into())), ("a".into(), variant(2u8.into()))];
    let twice = MessageItem::Dict(MessageItemDict::new(twice, sig("s"), sig("v")).unwrap());
    assert_eq!(of(twice).unwrap_err().to_string(), "1: a key comes twice");
    let many = array((0..20_000).map(|_| variant(1u8.into())).collect(), "av");
    assert!(matches!(of(many).unwrap_err(), Misfit::TooMany { .. }));
    assert_eq!(taken::<Value>(&["x".into()]).unwrap_err().to_string(), "'v' is needed, not 's'");
    // Deeper than variants may be.
    let mut deep: MessageItem = 1u8.into();
    for _ in 0..6 {
        deep = array(vec![variant(deep)], "av");
    }
    let deep = of(deep);
    assert!(matches!(deep, Ok(Value::Json(_))), "{deep:?}");
    let shown = shown(&structure("[[[[1]]]]"));
    assert!(matches!(shown, Err(Misfit::Unfit(Unfit::VariantsTooDeep { .. }))), "{shown:?}");
}

#[test]
fn postcard_that_is_no_value_is_refused() {
    for (bytes, why) in [
        (&[9][..], "beyond its type"),
        (&[1, 2], "beyond its type"),
        (&[4, 1, 0], "zero byte"),
        (&[4, 9, b'a'], "too early"),
        (&[5, 0xff, 0xff, 0xff, 0x7f], "more than"),
        (&[6, 0xff, 0xff, 0xff, 0x7f], "too early"),
        (&[8, 1, b'{'], "no JSON"),
        (&[0, 0], "left over"),
        (&[8, 6, b'"', b'\\', b'u', b'0', b'0', b'"'], "no JSON"),
    ] {
        let mut message = call();
        let misfit = put(&mut message, &[Piece::Arguments(&typed::<Value>(), bytes)]).unwrap_err();
        assert!(misfit.to_string().contains(why), "{bytes:?}: {misfit}");
    }
}

#[test]
fn a_type_that_is_almost_a_value_is_an_enum_like_any_other() {
    #[derive(Schema)]
    #[allow(dead_code)]
    enum Other {
        Empty,
        Bool(bool),
        Integer(i32),
        Float(f64),
        Text(String),
        Texts(Vec<String>),
        Integers(Vec<i64>),
        Floats(Vec<f64>),
        Json(String),
    }
    assert_eq!(typed::<Other>().signature(), "(sv)");
}
