//! From JSON to postcard, by a schema: read and written in one go, fields in whatever order they come.

use std::fmt;

use postcard_schema::schema::owned::{
    OwnedDataModelType as Type, OwnedDataModelVariant as Variant, OwnedNamedType, OwnedNamedValue,
};
use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Misfit, is_value, range};
use crate::owned::without_values;
use crate::value::Value;

/// Adds to `work` what it has cost, in bytes, also where nothing came of it.
pub(super) fn to_postcard(ty: &Type, json: &str, max: usize, work: &mut usize) -> Result<Vec<u8>, Misfit> {
    let growth = json.len().saturating_mul(MAX_GROWTH);
    let max = max.min(MIN_BYTES.saturating_add(growth));
    let max_steps = max.max(MIN_STEPS).min(MIN_STEPS.saturating_add(growth));
    let mut sink = Sink { out: Vec::new(), max, steps: 0, max_steps, is_full: false };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Place { ty, sink: &mut sink }.deserialize(&mut deserializer);
    *work += json.len() + sink.steps + sink.out.len();
    match read.and_then(|()| deserializer.end()) {
        Ok(()) => Ok(sink.out),
        Err(_) if sink.is_full => Err(Misfit::TooLong { max }),
        Err(error) => Err(Misfit::Json(without_values(&error.to_string()))),
    }
}

/// What was written, and how much work that was.
struct Sink {
    out: Vec<u8>,
    max: usize,
    steps: usize,
    max_steps: usize,
    is_full: bool,
}

impl Sink {
    /// Counts `count` looks at a part of the type, of which each may be one for nothing.
    fn step<E: Error>(&mut self, count: usize) -> Result<(), E> {
        self.steps += count;
        if self.steps > self.max_steps || self.out.len() > self.max {
            self.is_full = true;
            return Err(E::custom("too long"));
        }
        Ok(())
    }

    fn varint(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// Puts `count` before what was written from `start` on.
    fn count<E: Error>(&mut self, start: usize, count: usize) -> Result<(), E> {
        let end = self.out.len();
        self.varint(count as u128);
        let len = self.out.len() - end;
        self.out[start..].rotate_right(len);
        self.step((end - start) / MOVED_PER_STEP)
    }

    fn any<E: Error>(&mut self, value: Value) -> Result<(), E> {
        let bytes = postcard::to_stdvec(&value).map_err(E::custom)?;
        self.out.extend_from_slice(&bytes);
        self.step(bytes.len() / MOVED_PER_STEP)
    }

    fn text<E: Error>(&mut self, text: &str) -> Result<(), E> {
        self.varint(text.len() as u128);
        self.out.extend_from_slice(text.as_bytes());
        self.step(0)
    }
}

/// Where a value of a type is awaited.
struct Place<'a> {
    ty: &'a Type,
    sink: &'a mut Sink,
}

impl<'a> Place<'a> {
    fn whole<E: Error>(self, value: i128) -> Result<(), E> {
        let (least, most) = range(self.ty).ok_or_else(|| wrong(&self, "a number"))?;
        if value < least || value > most {
            return Err(E::custom(format_args!("{value} is beyond {}", Expected(self.ty))));
        }
        match self.ty {
            Type::U8 => self.sink.out.push(value as u8),
            Type::I8 => self.sink.out.push(value as i8 as u8),
            _ if least == 0 => self.sink.varint(value as u128),
            _ => self.sink.varint(((value << 1) ^ (value >> 127)) as u128),
        }
        Ok(())
    }

    fn float<E: Error>(self, value: f64) -> Result<(), E> {
        match self.ty {
            Type::F32 => self.sink.out.extend_from_slice(&(value as f32).to_le_bytes()),
            Type::F64 => self.sink.out.extend_from_slice(&value.to_le_bytes()),
            _ => return Err(wrong(&self, "a number that is not whole")),
        }
        Ok(())
    }

    fn items<'de, A: SeqAccess<'de>>(self, items: &[OwnedNamedType], mut access: A) -> Result<(), A::Error> {
        for (at, item) in items.iter().enumerate() {
            let place = Place { ty: &item.ty, sink: &mut *self.sink };
            if access.next_element_seed(place)?.is_none() {
                let len = items.len();
                return Err(A::Error::custom(format_args!("{at} elements where {len} are needed")));
            }
        }
        match access.next_element::<serde::de::IgnoredAny>()? {
            Some(_) => Err(A::Error::custom(format_args!("more elements than {}", items.len()))),
            None => Ok(()),
        }
    }

    fn list<'de, A: SeqAccess<'de>>(self, item: &Type, mut access: A) -> Result<(), A::Error> {
        let (start, mut count) = (self.sink.out.len(), 0);
        while access.next_element_seed(Place { ty: item, sink: &mut *self.sink })?.is_some() {
            count += 1;
        }
        self.sink.count(start, count)
    }

    fn map<'de, A: MapAccess<'de>>(self, key: &Type, value: &Type, mut access: A) -> Result<(), A::Error> {
        let (start, mut count) = (self.sink.out.len(), 0);
        let mut known = std::collections::HashSet::new();
        while let Some(name) = access.next_key::<String>()? {
            Place { ty: key, sink: &mut *self.sink }.name(&name)?;
            access.next_value_seed(Place { ty: value, sink: &mut *self.sink })?;
            count += 1;
            if !known.insert(name) {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        self.sink.count(start, count)
    }

    /// A name in a map: a text, or a number as one.
    fn name<E: Error>(self, name: &str) -> Result<(), E> {
        match self.ty {
            Type::String | Type::Char => self.visit_str(name),
            _ => {
                let number = name.parse().map_err(|_| wrong(&self, "a name that is no number"))?;
                self.whole(number)
            }
        }
    }

    /// The fields go where they belong once all are there.
    fn fields<'de, A: MapAccess<'de>>(
        self,
        fields: &[OwnedNamedValue],
        mut access: A,
    ) -> Result<(), A::Error> {
        let sink = self.sink;
        let start = sink.out.len();
        // Field, begin and end of each that came.
        let mut came: Vec<(usize, usize, usize)> = Vec::with_capacity(fields.len());
        while let Some((field, steps)) = access.next_key_seed(Name { fields, after: came.len() })? {
            sink.step(steps)?;
            let begin = sink.out.len();
            access.next_value_seed(Place { ty: &fields[field].ty.ty, sink: &mut *sink })?;
            came.push((field, begin, sink.out.len()));
        }
        if came.len() == fields.len() && came.iter().enumerate().all(|(at, (field, ..))| at == *field) {
            return Ok(());
        }
        came.sort_unstable();
        if let Some(twice) = came.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(A::Error::custom(format_args!("'{}' comes twice", fields[twice[0].0].name)));
        }
        let unordered = sink.out.split_off(start);
        sink.step(unordered.len() / MOVED_PER_STEP)?;
        let mut came = came.into_iter().peekable();
        for (at, field) in fields.iter().enumerate() {
            sink.step(1)?;
            match came.next_if(|(field, ..)| *field == at) {
                Some((_, begin, end)) => sink.out.extend_from_slice(&unordered[begin - start..end - start]),
                None => absent(field, sink)?,
            }
        }
        Ok(())
    }

    fn variant<E: Error>(&mut self, name: &str) -> Result<&'a Variant, E> {
        let Type::Enum(variants) = self.ty else { return Err(wrong(self, "a text")) };
        let number = variants.iter().position(|variant| variant.name == name);
        self.sink.step(number.unwrap_or(variants.len()))?;
        let number = number.ok_or_else(|| wrong(self, "another variant"))?;
        self.sink.varint(number as u128);
        Ok(&variants[number].ty)
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.sink.step(1)?;
        match self.ty {
            Type::Option(_) => deserializer.deserialize_option(self),
            Type::NewtypeStruct(inner) => Place { ty: &inner.ty, sink: self.sink }.deserialize(deserializer),
            Type::Enum(variants) if is_value(variants) => {
                serde_json::Value::deserialize(deserializer).and_then(|json| self.sink.any(json.into()))
            }
            Type::U128 => deserializer.deserialize_u128(self),
            Type::I128 => deserializer.deserialize_i128(self),
            Type::Schema => Err(D::Error::custom("it is a type, which has no form in JSON")),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Expected(self.ty))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.ty {
            Type::Bool => self.sink.out.push(value.into()),
            _ => return Err(wrong(&self, "true or false")),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if is_float(self.ty) { self.float(value as f64) } else { self.whole(value.into()) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if is_float(self.ty) { self.float(value as f64) } else { self.whole(value.into()) }
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<(), E> {
        match (self.ty, i128::try_from(value)) {
            (Type::U128, _) => self.sink.varint(value),
            (_, Ok(value)) => return self.whole(value),
            (..) => return Err(wrong(&self, "a number as long as this")),
        }
        Ok(())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        self.whole(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.float(value)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.ty {
            Type::String => self.sink.text(text),
            Type::Char if text.chars().count() == 1 => self.sink.text(text),
            // What JavaScript has no number for.
            Type::U64 | Type::I64 | Type::Usize | Type::Isize | Type::U128 | Type::I128 => self.name(text),
            Type::Enum(_) => match self.variant(text)? {
                Variant::UnitVariant => Ok(()),
                _ => Err(wrong(&self, "a variant without its content")),
            },
            _ => Err(wrong(&self, "a text")),
        }
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Type::Option(inner) = self.ty else { return Err(wrong(&self, "a value")) };
        self.sink.out.push(1);
        Place { ty: &inner.ty, sink: self.sink }.deserialize(deserializer)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if has_absent(self.ty, self.sink) { Ok(()) } else { Err(wrong(&self, "null")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        match self.ty {
            Type::Seq(item) => self.list(&item.ty, access),
            Type::ByteArray => self.list(&Type::U8, access),
            Type::Tuple(items) | Type::TupleStruct(items) => self.items(items, access),
            _ => Err(wrong(&self, "an array")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        match self.ty {
            Type::Struct(fields) => return self.fields(fields, access),
            Type::Map { key, val } => return self.map(&key.ty, &val.ty, access),
            Type::Enum(_) => {}
            _ => return Err(wrong(&self, "an object")),
        }
        let name = access.next_key::<String>()?.ok_or_else(|| wrong(&self, "an empty object"))?;
        match self.variant(&name)? {
            Variant::UnitVariant => access.next_value::<()>()?,
            Variant::NewtypeVariant(inner) => {
                access.next_value_seed(Place { ty: &inner.ty, sink: &mut *self.sink })?;
            }
            content => access.next_value_seed(Content { variant: content, sink: &mut *self.sink })?,
        }
        match access.next_key::<serde::de::IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("more than one variant")),
            None => Ok(()),
        }
    }
}

/// Where the content of a variant with several parts is awaited.
struct Content<'a> {
    variant: &'a Variant,
    sink: &'a mut Sink,
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.sink.step(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content of a variant")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        match self.variant {
            Variant::TupleVariant(items) => Place { ty: &Type::Unit, sink: self.sink }.items(items, access),
            _ => Err(A::Error::custom("an array where an object is needed")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        match self.variant {
            Variant::StructVariant(fields) => {
                Place { ty: &Type::Unit, sink: self.sink }.fields(fields, access)
            }
            _ => Err(A::Error::custom("an object where an array is needed")),
        }
    }
}

/// The number of the field that a name stands for, and how many others were looked at.
struct Name<'a> {
    fields: &'a [OwnedNamedValue],
    /// Where it is looked for first.
    after: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = (usize, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = (usize, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let Self { fields, after } = self;
        let mut all = (0..fields.len()).map(|at| (after + at) % fields.len()).enumerate();
        let found = all.find(|(_, field)| fields[*field].name == name);
        let (steps, field) = found.ok_or_else(|| E::custom("a field that the type does not have"))?;
        Ok((field, steps))
    }
}

/// What a place takes, in a word.
struct Expected<'a>(&'a Type);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Type::Bool => "true or false",
            Type::I8 => "i8",
            Type::U8 => "u8",
            Type::I16 => "i16",
            Type::I32 => "i32",
            Type::I64 | Type::Isize => "i64",
            Type::I128 => "i128",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 | Type::Usize => "u64",
            Type::U128 => "u128",
            Type::F32 | Type::F64 => "a number",
            Type::Char => "a text of one character",
            Type::String => "a text",
            Type::ByteArray => "an array of bytes",
            Type::Option(inner) => return write!(f, "null or {}", Expected(&inner.ty)),
            Type::Unit | Type::UnitStruct => "null",
            Type::NewtypeStruct(inner) => return write!(f, "{}", Expected(&inner.ty)),
            Type::Seq(_) | Type::Tuple(_) | Type::TupleStruct(_) => "an array",
            Type::Map { .. } | Type::Struct(_) => "an object",
            Type::Enum(_) => "the name of a variant, or an object with it",
            Type::Schema => "nothing that JSON has",
        })
    }
}

fn wrong<E: Error>(place: &Place<'_>, said: &str) -> E {
    E::custom(format_args!("{said} where {} is needed", Expected(place.ty)))
}

/// A field that did not come.
fn absent<E: Error>(field: &OwnedNamedValue, sink: &mut Sink) -> Result<(), E> {
    match has_absent(&field.ty.ty, sink) {
        true => Ok(()),
        false => Err(E::custom(format_args!("'{}' is missing", field.name))),
    }
}

/// Writes what is there of a type where nothing is; `false` where that cannot be.
fn has_absent(ty: &Type, sink: &mut Sink) -> bool {
    match ty {
        Type::Option(_) => sink.out.push(0),
        Type::Unit | Type::UnitStruct => {}
        Type::Tuple(items) | Type::TupleStruct(items) if items.is_empty() => {}
        Type::Struct(fields) if fields.is_empty() => {}
        Type::NewtypeStruct(inner) => return has_absent(&inner.ty, sink),
        _ => return false,
    }
    true
}

const fn is_float(ty: &Type) -> bool {
    matches!(ty, Type::F32 | Type::F64)
}

/// However short a document is, it may take so many looks at parts of the type.
const MIN_STEPS: usize = 1 << 16;
/// And become so many bytes.
const MIN_BYTES: usize = 4096;
/// How many more of both each of its bytes may bring about: a `{}` stands for every field that may be absent, and each of
/// many fields, in the order of the alphabet, is looked for among all others.
const MAX_GROWTH: usize = 32;
/// Bytes that are moved in the time of one look.
const MOVED_PER_STEP: usize = 16;
