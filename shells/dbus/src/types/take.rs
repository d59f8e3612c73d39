//! From the arguments of a message to postcard, by a form, without making values of them: what has one width is read in one
//! piece where it stands.

use std::collections::HashSet;

use dbus::arg::{ArgType, FixedArray, Get, Iter};
use dbus::{Path, Signature};
use serde_json::Value as Json;
use visorbus_hub::Value;

use super::form::{Content, Field, Form, List, Map, Pair, Variants};
use super::{DEPTH_PER_ITEM, MAX_DEPTH, MAX_POSTCARD, MAX_READ, Misfit, Unfit};

/// Postcard that grows.
pub(super) struct Taker {
    out: Vec<u8>,
    /// Values that may still come, but for those that are read in one piece.
    room: usize,
}

impl Taker {
    pub(super) const fn new() -> Self {
        Self { out: Vec::new(), room: MAX_READ }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Takes the fields of a struct, from one item on.
    pub(super) fn fields(
        &mut self,
        fields: &[Field],
        items: &mut Iter<'_>,
        depth: usize,
    ) -> Result<(), Misfit> {
        for field in fields {
            self.value(&field.form, items, depth).map_err(|misfit| misfit.within(&field.name))?;
            items.next();
        }
        Ok(())
    }

    /// Takes one value, at most `depth` containers in. Nobody goes past what was not of the form: that could be long.
    pub(super) fn value(&mut self, form: &Form, item: &mut Iter<'_>, depth: usize) -> Result<(), Misfit> {
        // The library goes through what is in a struct again for every struct around it.
        self.take(1 + depth / DEPTH_PER_ITEM)?;
        match form {
            Form::Bool => self.out.push(got::<bool>(form, item)?.into()),
            Form::U8 => self.out.push(got(form, item)?),
            Form::I8 => self.out.push(byte(got(form, item)?)?),
            Form::I16 => signed(&mut self.out, got::<i16>(form, item)?.into()),
            Form::I32 => signed(&mut self.out, got::<i32>(form, item)?.into()),
            Form::I64 => signed(&mut self.out, got(form, item)?),
            Form::U16 => varint(&mut self.out, got::<u16>(form, item)?.into()),
            Form::U32 => varint(&mut self.out, got::<u32>(form, item)?.into()),
            Form::U64 => varint(&mut self.out, got(form, item)?),
            Form::I128 => {
                let value: i128 = text(form, item)?.parse().map_err(|_| beyond("i128"))?;
                long(&mut self.out, ((value << 1) ^ (value >> 127)) as u128);
            }
            Form::U128 => long(&mut self.out, text(form, item)?.parse().map_err(|_| beyond("u128"))?),
            Form::F32 => self.out.extend_from_slice(&single(got(form, item)?)?.to_le_bytes()),
            Form::F64 => self.out.extend_from_slice(&got::<f64>(form, item)?.to_le_bytes()),
            Form::Char => match text(form, item)? {
                letter if letter.chars().nth(1).is_none() && !letter.is_empty() => {
                    self.bytes(letter.as_bytes())?
                }
                _ => return Err(beyond("one character")),
            },
            Form::Text => self.bytes(text(form, item)?.as_bytes())?,
            Form::Bytes => self.bytes(got(form, item)?)?,
            Form::FixedBytes(count) => match got::<&[u8]>(form, item)? {
                bytes if bytes.len() == *count => self.piece(bytes)?,
                _ => return Err(wrong(form, item)),
            },
            Form::Nothing if is_nothing(item) => {}
            Form::Nothing => return Err(wrong(form, item)),
            Form::Optional(list) => self.optional(form, list, item, depth)?,
            Form::List(list) => {
                self.counted(item, |taker, item| taker.elements(&list.item, item, depth + 1))?
            }
            Form::Fixed(list, count) if self.elements(&list.item, item, depth + 1)? == *count => {}
            Form::Fixed(..) => return Err(wrong(form, item)),
            Form::Map(map) => self.counted(item, |taker, item| taker.pairs(map, item, depth + 1))?,
            Form::Struct(fields) => {
                let mut inner = item.recurse(ArgType::Struct).ok_or_else(|| wrong(form, item))?;
                self.fields(fields, &mut inner, depth + 1)?;
            }
            Form::Any => {
                let mut content = item.recurse(ArgType::Variant).ok_or_else(|| wrong(form, item))?;
                self.any(form, &mut content, depth + 1)?;
            }
            Form::Names(variants) => self.variant(variants, text(form, item)?).map(drop)?,
            Form::Choice(variants, contents) => self.choice(form, variants, contents, item, depth)?,
        }
        if self.out.len() > MAX_POSTCARD { Err(TOO_LONG) } else { Ok(()) }
    }

    /// Takes whatever a variant holds as a [`visorbus_hub::Value`].
    fn any(&mut self, form: &Form, item: &mut Iter<'_>, depth: usize) -> Result<(), Misfit> {
        match item.arg_type() {
            ArgType::Boolean => self.out.extend([1, got::<bool>(form, item)?.into()]),
            ArgType::Byte => self.integer(got::<u8>(form, item)?.into()),
            ArgType::Int16 => self.integer(got::<i16>(form, item)?.into()),
            ArgType::UInt16 => self.integer(got::<u16>(form, item)?.into()),
            ArgType::Int32 => self.integer(got::<i32>(form, item)?.into()),
            ArgType::UInt32 => self.integer(got::<u32>(form, item)?.into()),
            ArgType::Int64 => self.integer(got(form, item)?),
            ArgType::UInt64 => {
                self.integer(i64::try_from(got::<u64>(form, item)?).map_err(|_| beyond("i64"))?)
            }
            ArgType::Double => {
                self.out.push(3);
                self.out.extend_from_slice(&got::<f64>(form, item)?.to_le_bytes());
            }
            ArgType::String => {
                self.out.push(4);
                self.bytes(text(form, item)?.as_bytes())?;
            }
            ArgType::Array => return self.any_list(form, item, depth),
            _ => return self.structure(form, item, depth),
        }
        Ok(())
    }

    fn integer(&mut self, value: i64) {
        self.out.push(2);
        signed(&mut self.out, value);
    }

    fn any_list(&mut self, form: &Form, item: &mut Iter<'_>, depth: usize) -> Result<(), Misfit> {
        let signature = item.signature();
        let (variant, element) = match signature.as_bytes() {
            b"as" => (5, Form::Text),
            b"ay" => (6, Form::U8),
            b"an" => (6, Form::I16),
            b"aq" => (6, Form::U16),
            b"ai" => (6, Form::I32),
            b"au" => (6, Form::U32),
            b"ax" => (6, Form::I64),
            b"ad" => (7, Form::F64),
            _ => return self.structure(form, item, depth),
        };
        self.out.push(variant);
        self.counted(item, |taker, item| match element {
            Form::U8 => taker.run(form, item, |out, value: u8| signed(out, value.into())),
            Form::U16 => taker.run(form, item, |out, value: u16| signed(out, value.into())),
            Form::U32 => taker.run(form, item, |out, value: u32| signed(out, value.into())),
            element => taker.elements(&element, item, depth + 1),
        })
    }

    /// Takes what has no variant of its own.
    fn structure(&mut self, form: &Form, item: &mut Iter<'_>, depth: usize) -> Result<(), Misfit> {
        let value = Value::from(self.json(form, item, depth)?);
        let bytes = postcard::to_stdvec(&value).map_err(|_| wrong(form, item))?;
        self.piece(&bytes)
    }

    /// Any value as JSON; an empty array of variants is `null`.
    fn json(&mut self, form: &Form, item: &mut Iter<'_>, depth: usize) -> Result<Json, Misfit> {
        self.take(1 + depth / DEPTH_PER_ITEM)?;
        if depth > MAX_DEPTH {
            return Err(Unfit::TooDeep { max: MAX_DEPTH }.into());
        }
        Ok(match item.arg_type() {
            ArgType::Boolean => got::<bool>(form, item)?.into(),
            ArgType::Byte => got::<u8>(form, item)?.into(),
            ArgType::Int16 => got::<i16>(form, item)?.into(),
            ArgType::UInt16 => got::<u16>(form, item)?.into(),
            ArgType::Int32 => got::<i32>(form, item)?.into(),
            ArgType::UInt32 => got::<u32>(form, item)?.into(),
            ArgType::Int64 => got::<i64>(form, item)?.into(),
            ArgType::UInt64 => got::<u64>(form, item)?.into(),
            ArgType::Double => got::<f64>(form, item)?.into(),
            ArgType::String => text(form, item)?.into(),
            ArgType::ObjectPath => got::<Path<'_>>(form, item)?.to_string().into(),
            ArgType::Signature => got::<Signature<'_>>(form, item)?.to_string().into(),
            ArgType::Array if item.signature().as_bytes().get(1) == Some(&b'{') => {
                self.entries(form, item, depth)?
            }
            ArgType::Variant => {
                let mut content = item.recurse(ArgType::Variant).ok_or_else(|| wrong(form, item))?;
                self.json(form, &mut content, depth + 1)?
            }
            kind @ (ArgType::Array | ArgType::Struct) => {
                let is_of_variants = kind == ArgType::Array && item.signature().as_bytes() == b"av";
                let mut items = item.recurse(kind).ok_or_else(|| wrong(form, item))?;
                let mut all = Vec::new();
                while items.arg_type() != ArgType::Invalid {
                    all.push(self.json(form, &mut items, depth + 1)?);
                    items.next();
                }
                if is_of_variants && all.is_empty() { Json::Null } else { Json::Array(all) }
            }
            _ => return Err(wrong(form, item)),
        })
    }

    /// A dictionary, in which no key may come twice.
    fn entries(&mut self, form: &Form, item: &mut Iter<'_>, depth: usize) -> Result<Json, Misfit> {
        let mut items = item.recurse(ArgType::Array).ok_or_else(|| wrong(form, item))?;
        let mut all = serde_json::Map::new();
        while let Some(mut pair) = items.recurse(ArgType::DictEntry) {
            let number = all.len();
            let key = match self.json(form, &mut pair, depth + 2)? {
                Json::String(key) => key,
                key => key.to_string(),
            };
            pair.next();
            if all.insert(key, self.json(form, &mut pair, depth + 2)?).is_some() {
                return Err(Misfit::Twice { at: number.to_string() });
            }
            items.next();
        }
        Ok(Json::Object(all))
    }

    /// Takes the elements of an array; how many there were.
    fn elements(&mut self, form: &Form, array: &mut Iter<'_>, depth: usize) -> Result<usize, Misfit> {
        match form {
            Form::U8 => self.run(form, array, Vec::push),
            Form::I16 => self.run(form, array, |out, value: i16| signed(out, value.into())),
            Form::I32 => self.run(form, array, |out, value: i32| signed(out, value.into())),
            Form::I64 => self.run(form, array, signed),
            Form::U16 => self.run(form, array, |out, value: u16| varint(out, value.into())),
            Form::U32 => self.run(form, array, |out, value: u32| varint(out, value.into())),
            Form::U64 => self.run(form, array, varint),
            Form::F64 => self.run(form, array, |out, value: f64| out.extend_from_slice(&value.to_le_bytes())),
            Form::I8 => self.try_run(form, array, |out, value| byte(value).map(|byte| out.push(byte))),
            Form::F32 => self.try_run(form, array, |out, value| {
                single(value).map(|value| out.extend_from_slice(&value.to_le_bytes()))
            }),
            Form::Nothing => self.try_run(form, array, |_, value: u8| match value {
                0 => Ok(()),
                _ => Err(Misfit::Wrong { at: String::new(), needed: needed(form), got: "'y'".to_owned() }),
            }),
            _ => {
                let mut items = array.recurse(ArgType::Array).ok_or_else(|| wrong(form, array))?;
                let mut count = 0;
                while items.arg_type() != ArgType::Invalid {
                    self.value(form, &mut items, depth)
                        .map_err(|misfit| misfit.within(&count.to_string()))?;
                    items.next();
                    count += 1;
                }
                Ok(count)
            }
        }
    }

    /// Takes an array whose elements are all of one width, in one piece; how many there were.
    fn run<'a, T: FixedArray + Copy>(
        &mut self,
        form: &Form,
        array: &mut Iter<'a>,
        write: impl Fn(&mut Vec<u8>, T),
    ) -> Result<usize, Misfit>
    where
        &'a [T]: Get<'a>,
    {
        self.try_run(form, array, |out, value| {
            write(out, value);
            Ok(())
        })
    }

    /// The same, where not every value fits.
    fn try_run<'a, T: FixedArray + Copy>(
        &mut self,
        form: &Form,
        array: &mut Iter<'a>,
        write: impl Fn(&mut Vec<u8>, T) -> Result<(), Misfit>,
    ) -> Result<usize, Misfit>
    where
        &'a [T]: Get<'a>,
    {
        let values: &[T] = array.get().ok_or_else(|| wrong(form, array))?;
        if values.len() > MAX_POSTCARD {
            return Err(TOO_LONG);
        }
        for (number, part) in values.chunks(PART).enumerate() {
            for (place, value) in part.iter().enumerate() {
                let within = |misfit: Misfit| misfit.within(&(number * PART + place).to_string());
                write(&mut self.out, *value).map_err(within)?;
            }
            if self.out.len() > MAX_POSTCARD {
                return Err(TOO_LONG);
            }
        }
        Ok(values.len())
    }

    fn optional(
        &mut self,
        form: &Form,
        list: &List,
        item: &mut Iter<'_>,
        depth: usize,
    ) -> Result<(), Misfit> {
        let mut inner = item.recurse(ArgType::Array).ok_or_else(|| wrong(form, item))?;
        if inner.arg_type() == ArgType::Invalid {
            self.out.push(0);
            return Ok(());
        }
        self.out.push(1);
        self.value(&list.item, &mut inner, depth + 1).map_err(|misfit| misfit.within("0"))?;
        if inner.next() { Err(wrong(form, item)) } else { Ok(()) }
    }

    /// Takes a map, in which no key may come twice; how many pairs there were.
    fn pairs(&mut self, map: &Map, item: &mut Iter<'_>, depth: usize) -> Result<usize, Misfit> {
        let kind = match map.pair {
            Pair::Entry(..) => ArgType::DictEntry,
            Pair::Struct(_) => ArgType::Struct,
        };
        let mut items = item.recurse(ArgType::Array).ok_or_else(|| wrong(&map.key, item))?;
        let mut keys = Vec::new();
        while let Some(mut pair) = items.recurse(kind) {
            let number = keys.len();
            let within = |misfit: Misfit| misfit.within(&number.to_string());
            let start = self.out.len();
            self.value(&map.key, &mut pair, depth + 1).map_err(within)?;
            keys.push(start..self.out.len());
            pair.next();
            self.value(&map.value, &mut pair, depth + 1).map_err(within)?;
            items.next();
        }
        let mut known = HashSet::with_capacity(keys.len());
        match keys.iter().position(|key| !known.insert(&self.out[key.clone()])) {
            Some(number) => Err(Misfit::Twice { at: number.to_string() }),
            None => Ok(keys.len()),
        }
    }

    /// Takes an enum that comes as its variant's name, and the content in a variant.
    fn choice(
        &mut self,
        form: &Form,
        variants: &Variants,
        contents: &[Content],
        item: &mut Iter<'_>,
        depth: usize,
    ) -> Result<(), Misfit> {
        let mut parts = item.recurse(ArgType::Struct).ok_or_else(|| wrong(form, item))?;
        let number = self.variant(variants, text(form, &mut parts)?)?;
        parts.next();
        let mut content = parts.recurse(ArgType::Variant).ok_or_else(|| wrong(form, item))?;
        let Content { form, signature } = &contents[number];
        let given = content.signature();
        self.take(given.len() / SIGNATURE_PER_ITEM)?;
        let taken = if given == *signature || matches!(form, Form::Nothing) {
            self.value(form, &mut content, depth + 2)
        } else {
            Err(wrong(form, &mut content))
        };
        taken.map_err(|misfit| misfit.within(variants.name(number).unwrap_or("?")))
    }

    /// Writes which variant it is.
    fn variant(&mut self, variants: &Variants, name: &str) -> Result<usize, Misfit> {
        let unknown = || Misfit::UnknownVariant { at: String::new(), known: variants.known() };
        let number = variants.number(name).ok_or_else(unknown)?;
        varint(&mut self.out, number.into());
        Ok(number as usize)
    }

    /// Writes what `write` counts, behind the count.
    fn counted<'a>(
        &mut self,
        item: &mut Iter<'a>,
        write: impl FnOnce(&mut Self, &mut Iter<'a>) -> Result<usize, Misfit>,
    ) -> Result<(), Misfit> {
        let at = self.out.len();
        self.out.push(0);
        let mut count = Vec::new();
        varint(&mut count, write(self, item)? as u64);
        // Of most, one byte is enough.
        self.out.splice(at..=at, count);
        Ok(())
    }

    /// Writes a length, and the bytes behind it.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Misfit> {
        varint(&mut self.out, bytes.len() as u64);
        self.piece(bytes)
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), Misfit> {
        if bytes.len() > MAX_POSTCARD {
            return Err(TOO_LONG);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<(), Misfit> {
        self.room = self.room.checked_sub(count).ok_or(Misfit::TooMany { max: MAX_READ })?;
        Ok(())
    }
}

/// What may stand for nothing.
fn is_nothing(item: &mut Iter<'_>) -> bool {
    match item.arg_type() {
        ArgType::Byte => item.get::<u8>() == Some(0),
        ArgType::String => item.get::<&str>().is_some_and(str::is_empty),
        ArgType::Array => {
            item.recurse(ArgType::Array).is_some_and(|mut inner| inner.arg_type() == ArgType::Invalid)
        }
        _ => false,
    }
}

fn got<'a, T: Get<'a>>(form: &Form, item: &mut Iter<'a>) -> Result<T, Misfit> {
    item.get().ok_or_else(|| wrong(form, item))
}

fn text<'a>(form: &Form, item: &mut Iter<'a>) -> Result<&'a str, Misfit> {
    got(form, item)
}

fn byte(value: i16) -> Result<u8, Misfit> {
    i8::try_from(value).map(|value| value as u8).map_err(|_| beyond("i8"))
}

/// The nearest `f32`; no finite number becomes an infinite one.
fn single(value: f64) -> Result<f32, Misfit> {
    let single = value as f32;
    if single.is_infinite() && value.is_finite() { Err(beyond("f32")) } else { Ok(single) }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn long(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn beyond(needed: &'static str) -> Misfit {
    Misfit::OutOfRange { at: String::new(), needed }
}

fn wrong(form: &Form, item: &mut Iter<'_>) -> Misfit {
    let got = match item.arg_type() {
        ArgType::Invalid => "nothing".to_owned(),
        // The library has no signature for it by itself.
        ArgType::DictEntry => "an entry of a dictionary".to_owned(),
        _ => format!("'{}'", &*item.signature()),
    };
    Misfit::Wrong { at: String::new(), needed: needed(form), got }
}

/// What a place takes, in a word or two.
pub(super) fn needed(form: &Form) -> String {
    match form {
        Form::Optional(list) => format!("'{}' of at most one element", &*list.signature),
        Form::Fixed(list, count) => format!("'{}' of {count} elements", &*list.signature),
        Form::FixedBytes(count) => format!("'ay' of {count} elements"),
        Form::Nothing => "nothing ('y' 0)".to_owned(),
        form => format!("'{}'", form.signature()),
    }
}

const TOO_LONG: Misfit = Misfit::TooLong { max: MAX_POSTCARD };
/// Values of one width that are written before it is looked whether they are too long.
const PART: usize = 4096;
/// So many bytes of a variant's signature count as another value.
pub(super) const SIGNATURE_PER_ITEM: usize = 16;
