//! The structure of a type as bytes, made while compiling: a microcontroller holds and sends no more than these.

use core::marker::PhantomData;

use postcard_schema::Schema;
use postcard_schema::key::Key;
use postcard_schema::schema::{DataModelType, DataModelVariant, NamedType, NamedValue};

/// The structure of a type: a hash to compare, a description to show.
#[derive(Debug, Clone, Copy)]
pub struct TypeSchema {
    /// FNV-1a, 64 bit, over the structure as `postcard-schema` defines it (names and shapes of fields and variants).
    pub hash: u64,
    /// The structure itself: `postcard-schema`'s `NamedType` in postcard, which its `OwnedNamedType` reads back.
    pub bytes: &'static [u8],
}

impl TypeSchema {
    /// The structure of `T`.
    ///
    /// # Panics
    /// While compiling, when its description is longer than 4096 bytes.
    pub const fn of<T: Schema + ?Sized>() -> Self {
        Self { hash: u64::from_le_bytes(Key::for_path::<T>("").to_bytes()), bytes: Encoded::<T>::BYTES }
    }
}

/// Has an enum described under the names that its variants have in texts, as serde's `rename_all` gives them, where
/// `derive(Schema)` would describe them by their names in Rust: so what is turned into JSON by its schema reads as what serde
/// writes. The variants stand in their order, with their content in parentheses.
///
/// ```
/// #[derive(serde::Serialize)]
/// #[serde(rename_all = "snake_case")]
/// enum Lamp {
///     Off,
///     AtHalf,
///     Level(u8),
/// }
///
/// visorbus_core::variant_names!(Lamp: "off", "at_half", "level"(u8));
/// ```
#[macro_export]
macro_rules! variant_names {
    (@) => { &::postcard_schema::schema::DataModelVariant::UnitVariant };
    (@ $content:ty) => {
        &::postcard_schema::schema::DataModelVariant::NewtypeVariant(
            <$content as ::postcard_schema::Schema>::SCHEMA,
        )
    };
    ($name:ident: $($variant:literal $(($content:ty))?),+ $(,)?) => {
        impl ::postcard_schema::Schema for $name {
            const SCHEMA: &'static ::postcard_schema::schema::NamedType =
                &::postcard_schema::schema::NamedType {
                    name: stringify!($name),
                    ty: &::postcard_schema::schema::DataModelType::Enum(&[
                        $(&::postcard_schema::schema::NamedVariant {
                            name: $variant,
                            ty: $crate::variant_names!(@ $($content)?),
                        }),+
                    ]),
                };
        }
    };
}

/// The bytes of `T`'s structure. An array's length cannot depend on `T`, so they stand in the shortest of some arrays
/// that holds them; the others do not get into the program.
struct Encoded<T: ?Sized>(PhantomData<T>);

impl<T: Schema + ?Sized> Encoded<T> {
    const LEN: usize = encode::<0>(T::SCHEMA).len;
    const BYTES: &'static [u8] = match Self::LEN {
        0..=8 => cut(const { &encode::<8>(T::SCHEMA) }),
        9..=16 => cut(const { &encode::<16>(T::SCHEMA) }),
        17..=32 => cut(const { &encode::<32>(T::SCHEMA) }),
        33..=64 => cut(const { &encode::<64>(T::SCHEMA) }),
        65..=96 => cut(const { &encode::<96>(T::SCHEMA) }),
        97..=128 => cut(const { &encode::<128>(T::SCHEMA) }),
        129..=192 => cut(const { &encode::<192>(T::SCHEMA) }),
        193..=256 => cut(const { &encode::<256>(T::SCHEMA) }),
        257..=512 => cut(const { &encode::<512>(T::SCHEMA) }),
        513..=1024 => cut(const { &encode::<1024>(T::SCHEMA) }),
        1025..=4096 => cut(const { &encode::<4096>(T::SCHEMA) }),
        _ => panic!("the type has too many parts: its description is longer than 4096 bytes"),
    };
}

/// Where the bytes go: what does not fit is counted and left out.
struct Sink<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Sink<N> {
    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.byte(count as u8 | 0x80);
            count >>= 7;
        }
        self.byte(count as u8);
    }

    const fn text(&mut self, text: &str) {
        self.count(text.len());
        let mut at = 0;
        while at < text.len() {
            self.byte(text.as_bytes()[at]);
            at += 1;
        }
    }

    const fn named(&mut self, named: &NamedType) {
        self.text(named.name);
        self.byte(code(named.ty));
        match named.ty {
            DataModelType::Option(inner)
            | DataModelType::NewtypeStruct(inner)
            | DataModelType::Seq(inner) => {
                self.named(inner);
            }
            DataModelType::Tuple(items) | DataModelType::TupleStruct(items) => self.items(items),
            DataModelType::Map { key, val } => {
                self.named(key);
                self.named(val);
            }
            DataModelType::Struct(fields) => self.fields(fields),
            DataModelType::Enum(variants) => {
                self.count(variants.len());
                let mut at = 0;
                while at < variants.len() {
                    self.text(variants[at].name);
                    self.variant(variants[at].ty);
                    at += 1;
                }
            }
            _ => {}
        }
    }

    const fn variant(&mut self, variant: &DataModelVariant) {
        match variant {
            DataModelVariant::UnitVariant => self.byte(0),
            DataModelVariant::NewtypeVariant(inner) => {
                self.byte(1);
                self.named(inner);
            }
            DataModelVariant::TupleVariant(items) => {
                self.byte(2);
                self.items(items);
            }
            DataModelVariant::StructVariant(fields) => {
                self.byte(3);
                self.fields(fields);
            }
        }
    }

    const fn items(&mut self, items: &[&NamedType]) {
        self.count(items.len());
        let mut at = 0;
        while at < items.len() {
            self.named(items[at]);
            at += 1;
        }
    }

    const fn fields(&mut self, fields: &[&NamedValue]) {
        self.count(fields.len());
        let mut at = 0;
        while at < fields.len() {
            self.text(fields[at].name);
            self.named(fields[at].ty);
            at += 1;
        }
    }
}

const fn encode<const N: usize>(schema: &NamedType) -> Sink<N> {
    let mut sink = Sink { bytes: [0; N], len: 0 };
    sink.named(schema);
    sink
}

const fn cut<const N: usize>(sink: &'static Sink<N>) -> &'static [u8] {
    sink.bytes.split_at(sink.len).0
}

/// The place of a kind of type in `postcard-schema`'s list, which is its code in postcard.
const fn code(kind: &DataModelType) -> u8 {
    match kind {
        DataModelType::Bool => 0,
        DataModelType::I8 => 1,
        DataModelType::U8 => 2,
        DataModelType::I16 => 3,
        DataModelType::I32 => 4,
        DataModelType::I64 => 5,
        DataModelType::I128 => 6,
        DataModelType::U16 => 7,
        DataModelType::U32 => 8,
        DataModelType::U64 => 9,
        DataModelType::U128 => 10,
        DataModelType::Usize => 11,
        DataModelType::Isize => 12,
        DataModelType::F32 => 13,
        DataModelType::F64 => 14,
        DataModelType::Char => 15,
        DataModelType::String => 16,
        DataModelType::ByteArray => 17,
        DataModelType::Option(_) => 18,
        DataModelType::Unit => 19,
        DataModelType::UnitStruct => 20,
        DataModelType::NewtypeStruct(_) => 21,
        DataModelType::Seq(_) => 22,
        DataModelType::Tuple(_) => 23,
        DataModelType::TupleStruct(_) => 24,
        DataModelType::Map { .. } => 25,
        DataModelType::Struct(_) => 26,
        DataModelType::Enum(_) => 27,
        DataModelType::Schema => 28,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// What postcard makes of the structure itself is what stands in the program.
    fn assert_same<T: Schema + ?Sized>() {
        let mut out = [0; 4096];
        let bytes = postcard::to_slice(T::SCHEMA, &mut out).unwrap();
        assert_eq!(TypeSchema::of::<T>().bytes, bytes, "{:?}", T::SCHEMA);
    }

    #[derive(Schema)]
    #[allow(dead_code)]
    struct Unit;

    #[derive(Schema)]
    #[allow(dead_code)]
    struct Wrapped(u64);

    #[derive(Schema)]
    #[allow(dead_code)]
    struct Pair(i8, f64);

    #[derive(Schema)]
    #[allow(dead_code)]
    enum Choice {
        Nothing,
        One(Wrapped),
        Two(u8, char),
        Named { first: Option<Pair>, second: [f32; 3] },
    }

    #[derive(Schema)]
    #[allow(dead_code)]
    struct Everything<'a> {
        unit: Unit,
        wrapped: Wrapped,
        pair: Pair,
        choice: Choice,
        text: &'a str,
        bytes: &'a [u8],
        numbers: (i16, i32, i64, i128, u16, u128),
        flag: bool,
        a_name_that_is_longer_than_a_byte_can_count_in_seven_bits_which_are_all_that_a_varint_has_for_it_in_its_first_byte_and_so_takes_two:
            (),
    }

    #[test]
    fn every_kind_of_type_has_the_bytes_that_postcard_gives_it() {
        assert_same::<()>();
        assert_same::<u32>();
        assert_same::<str>();
        assert_same::<Unit>();
        assert_same::<Wrapped>();
        assert_same::<Pair>();
        assert_same::<Choice>();
        assert_same::<Everything<'_>>();
        assert_same::<[Everything<'_>; 4]>();
        assert_same::<NamedType>();
    }

    #[test]
    fn every_code_is_the_one_that_postcard_gives_it() {
        use DataModelType::*;
        let inner = <()>::SCHEMA;
        for kind in [
            Bool,
            I8,
            U8,
            I16,
            I32,
            I64,
            I128,
            U16,
            U32,
            U64,
            U128,
            Usize,
            Isize,
            F32,
            F64,
            Char,
            String,
            ByteArray,
            Option(inner),
            Unit,
            UnitStruct,
            NewtypeStruct(inner),
            Seq(inner),
            Tuple(&[]),
            TupleStruct(&[]),
            Map { key: inner, val: inner },
            Struct(&[]),
            Enum(&[]),
            Schema,
        ] {
            let mut out = [0; 64];
            assert_eq!(postcard::to_slice(&kind, &mut out).unwrap()[0], code(&kind), "{kind:?}");
        }
    }
}
