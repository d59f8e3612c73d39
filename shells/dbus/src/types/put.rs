//! From postcard into a message, by a form, without making values of it: once to see whether it can be, once to do it.

use std::borrow::Cow;
use std::collections::HashMap;

use dbus::arg::messageitem::MessageItem;
use dbus::arg::{Append, Arg, IterAppend, Variant};
use dbus::{Message, Signature};
use serde_json::Value as Json;
use visorbus_hub::schema::Misfit as Bytes;

use super::append::{self, Walk};
use super::form::{Field, Form, List, Map, Pair, Typed};
use super::signature::MAX_LEN;
use super::take::SIGNATURE_PER_ITEM;
use super::{DEPTH_PER_ITEM, MAX_ITEMS, MAX_LEVELS, Misfit, Unfit};

/// Arguments of a message, made or still as they came.
#[derive(Debug, Clone)]
pub(crate) enum Piece<'a> {
    /// A value that is made.
    Item(MessageItem),
    /// All arguments of a type, of this postcard.
    Arguments(&'a Typed, &'a [u8]),
    /// A variant with one value of a type, of this postcard.
    Value(&'a Typed, &'a [u8]),
    /// A variant with bytes.
    Bytes(&'a [u8]),
    /// A variant with a text. A zero byte in it becomes U+FFFD.
    Text(&'a str),
}

impl Piece<'_> {
    fn write_signature(&self, out: &mut String) -> Result<(), Unfit> {
        match self {
            Self::Item(item) => out.push_str(&append::signature_of(std::slice::from_ref(item))?),
            Self::Arguments(typed, _) => out.push_str(typed.signature()),
            Self::Value(..) | Self::Bytes(_) | Self::Text(_) => out.push('v'),
        }
        if out.len() > MAX_LEN { Err(Unfit::Signature) } else { Ok(()) }
    }

    fn put(&self, sink: &mut impl Sink) -> Result<(), Misfit> {
        match self {
            Self::Item(item) => sink.item(item),
            Self::Arguments(typed, bytes) => {
                let mut reader = Reader::new(bytes);
                match typed.form() {
                    Form::Nothing => {}
                    Form::Struct(fields) => reader.fields(fields, sink, 0)?,
                    form => reader.value(form, sink, 0)?,
                }
                reader.end()
            }
            Self::Value(typed, bytes) => sink.variant(typed.value_type(), |sink| {
                let mut reader = Reader::new(bytes);
                reader.value(typed.form(), sink, 1)?;
                reader.end()
            }),
            Self::Bytes(bytes) => sink.variant(&Signature::make::<Vec<u8>>(), |sink| sink.slice(bytes)),
            Self::Text(text) => {
                let text = if text.contains('\0') {
                    Cow::Owned(text.replace('\0', "\u{fffd}"))
                } else {
                    Cow::Borrowed(*text)
                };
                sink.variant(&Signature::make::<String>(), |sink| sink.text(&text))
            }
        }
    }
}

/// Puts arguments into a message.
///
/// # Errors
/// [`Misfit`] when bytes are not of their type, or D-Bus cannot carry what they say; the message is as it was then.
pub(crate) fn put(message: &mut Message, pieces: &[Piece<'_>]) -> Result<(), Misfit> {
    let (mut signature, mut walk) = (String::new(), Walk::default());
    for piece in pieces {
        piece.write_signature(&mut signature)?;
        piece.put(&mut walk)?;
    }
    let mut iter = IterAppend::new(message);
    pieces.iter().try_for_each(|piece| piece.put(&mut iter))
}

/// What takes values one by one, in the order of a message.
trait Sink: Sized {
    fn item(&mut self, item: &MessageItem) -> Result<(), Misfit>;
    fn fixed<T: Append>(&mut self, value: T, width: usize) -> Result<(), Misfit>;
    /// It has no zero byte in it.
    fn text(&mut self, text: &str) -> Result<(), Misfit>;
    /// An array of what is as wide in memory as in a message.
    fn slice<T: Arg + Append + Clone>(&mut self, values: &[T]) -> Result<(), Misfit>;
    fn structure(&mut self, fields: impl FnOnce(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit>;
    fn variant(
        &mut self,
        signature: &Signature<'static>,
        content: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit>;
    /// The signature is an element's.
    fn array(
        &mut self,
        element: &Signature<'static>,
        items: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit>;
    fn dictionary(
        &mut self,
        of: (&Signature<'static>, &Signature<'static>),
        entries: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit>;
    fn entry(&mut self, pair: impl FnOnce(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit>;
}

/// Only counts.
impl Sink for Walk {
    fn item(&mut self, item: &MessageItem) -> Result<(), Misfit> {
        Ok(Walk::item(self, item, 0, 0)?)
    }

    fn fixed<T: Append>(&mut self, _: T, width: usize) -> Result<(), Misfit> {
        Ok(Walk::fixed(self, width)?)
    }

    fn text(&mut self, text: &str) -> Result<(), Misfit> {
        Ok(Walk::text(self, text, 4)?)
    }

    fn slice<T: Arg + Append + Clone>(&mut self, values: &[T]) -> Result<(), Misfit> {
        self.array_of(T::signature().as_bytes().first().copied())?;
        Ok(self.add(size_of_val(values))?)
    }

    fn structure(&mut self, fields: impl FnOnce(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit> {
        self.align(8)?;
        fields(self)
    }

    fn variant(
        &mut self,
        signature: &Signature<'static>,
        content: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        Walk::text(self, signature, 1)?;
        content(self)
    }

    fn array(
        &mut self,
        element: &Signature<'static>,
        items: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        self.array_of(element.as_bytes().first().copied())?;
        items(self)
    }

    fn dictionary(
        &mut self,
        _: (&Signature<'static>, &Signature<'static>),
        entries: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        self.array_of(Some(b'{'))?;
        entries(self)
    }

    fn entry(&mut self, pair: impl FnOnce(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit> {
        self.structure(pair)
    }
}

/// Writes what was counted before.
impl Sink for IterAppend<'_> {
    fn item(&mut self, item: &MessageItem) -> Result<(), Misfit> {
        append::put(self, item);
        Ok(())
    }

    fn fixed<T: Append>(&mut self, value: T, _: usize) -> Result<(), Misfit> {
        self.append(value);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Misfit> {
        self.append(text);
        Ok(())
    }

    fn slice<T: Arg + Append + Clone>(&mut self, values: &[T]) -> Result<(), Misfit> {
        self.append(values);
        Ok(())
    }

    fn structure(&mut self, fields: impl FnOnce(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit> {
        let mut outcome = Ok(());
        self.append_struct(|inner| outcome = fields(inner));
        outcome
    }

    fn variant(
        &mut self,
        signature: &Signature<'static>,
        content: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        let mut outcome = Ok(());
        self.append_variant(signature, |inner| outcome = content(inner));
        outcome
    }

    fn array(
        &mut self,
        element: &Signature<'static>,
        items: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        let mut outcome = Ok(());
        self.append_array(element, |inner| outcome = items(inner));
        outcome
    }

    fn dictionary(
        &mut self,
        (key, value): (&Signature<'static>, &Signature<'static>),
        entries: impl FnOnce(&mut Self) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        let mut outcome = Ok(());
        self.append_dict(key, value, |inner| outcome = entries(inner));
        outcome
    }

    fn entry(&mut self, pair: impl FnOnce(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit> {
        let mut outcome = Ok(());
        self.append_dict_entry(|inner| outcome = pair(inner));
        outcome
    }
}

/// Postcard that is gone through from the front.
struct Reader<'a> {
    rest: &'a [u8],
    /// Values that may still come, but for those that are written in one piece.
    room: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, room: MAX_ITEMS }
    }

    fn fields(&mut self, fields: &[Field], sink: &mut impl Sink, depth: usize) -> Result<(), Misfit> {
        fields.iter().try_for_each(|field| self.value(&field.form, sink, depth))
    }

    fn value(&mut self, form: &Form, sink: &mut impl Sink, depth: usize) -> Result<(), Misfit> {
        self.take(1 + depth / DEPTH_PER_ITEM)?;
        match form {
            Form::Bool => sink.fixed(self.flag()?, 4),
            Form::U8 => sink.fixed(self.byte()?, 1),
            Form::I8 => sink.fixed(i16::from(self.byte()? as i8), 2),
            Form::I16 => sink.fixed(self.signed(16)? as i16, 2),
            Form::I32 => sink.fixed(self.signed(32)? as i32, 4),
            Form::I64 => sink.fixed(self.signed(64)?, 8),
            Form::U16 => sink.fixed(self.varint(16)? as u16, 2),
            Form::U32 => sink.fixed(self.varint(32)? as u32, 4),
            Form::U64 => sink.fixed(self.varint(64)?, 8),
            Form::I128 => {
                let folded = self.long()?;
                sink.text(&((folded >> 1) as i128 ^ -((folded & 1) as i128)).to_string())
            }
            Form::U128 => sink.text(&self.long()?.to_string()),
            Form::F32 => sink.fixed(f64::from(f32::from_le_bytes(self.array()?)), 8),
            Form::F64 => sink.fixed(f64::from_le_bytes(self.array()?), 8),
            Form::Char => match self.text()? {
                letter if letter.chars().count() == 1 => sink.text(letter),
                _ => Err(Bytes::OutOfRange.into()),
            },
            Form::Text => sink.text(self.text()?),
            Form::Bytes => {
                let len = self.len()?;
                sink.slice(self.split(len)?)
            }
            Form::FixedBytes(len) => sink.slice(self.split(*len)?),
            Form::Nothing => sink.fixed(0u8, 1),
            Form::Optional(list) => {
                let count = self.flag()?.into();
                self.list(list, count, sink, depth)
            }
            Form::List(list) => {
                let count = self.len()?;
                self.list(list, count, sink, depth)
            }
            Form::Fixed(list, count) => self.list(list, *count, sink, depth),
            Form::Map(map) => self.map(map, sink, depth),
            Form::Struct(fields) => sink.structure(|sink| self.fields(fields, sink, depth + 1)),
            Form::Any => {
                let number = self.number()?;
                self.any(number, sink)
            }
            Form::Names(variants) => {
                let number = self.number()?;
                sink.text(named(variants.name(number).ok_or(Bytes::OutOfRange)?)?)
            }
            Form::Choice(variants, contents) => {
                let number = self.number()?;
                let (Some(name), Some(content)) = (variants.name(number), contents.get(number)) else {
                    return Err(Bytes::OutOfRange.into());
                };
                self.take(content.signature.len() / SIGNATURE_PER_ITEM)?;
                sink.structure(|sink| {
                    sink.text(named(name)?)?;
                    sink.variant(&content.signature, |sink| self.value(&content.form, sink, depth + 2))
                })
            }
        }
    }

    /// A [`visorbus_hub::Value`] of this variant, as the variant that it is on the bus.
    fn any(&mut self, number: usize, sink: &mut impl Sink) -> Result<(), Misfit> {
        match number {
            0 => nothing(sink),
            1 => {
                let value = self.flag()?;
                sink.variant(&Signature::make::<bool>(), |sink| sink.fixed(value, 4))
            }
            2 => {
                let value = self.signed(64)?;
                sink.variant(&Signature::make::<i64>(), |sink| sink.fixed(value, 8))
            }
            3 => {
                let value = f64::from_le_bytes(self.array()?);
                sink.variant(&Signature::make::<f64>(), |sink| sink.fixed(value, 8))
            }
            4 => {
                let text = self.text()?;
                sink.variant(&Signature::make::<String>(), |sink| sink.text(text))
            }
            5 => {
                let count = self.len()?;
                self.take(count)?;
                sink.variant(&Signature::make::<Vec<String>>(), |sink| {
                    sink.array(&Signature::make::<String>(), |sink| {
                        (0..count).try_for_each(|_| sink.text(self.text()?))
                    })
                })
            }
            6 => {
                let count = self.len()?;
                let values = self.run(count, |this| this.signed(64))?;
                sink.variant(&Signature::make::<Vec<i64>>(), |sink| sink.slice(&values))
            }
            7 => {
                let count = self.len()?;
                let values = self.run(count, |this| Ok(f64::from_le_bytes(this.array()?)))?;
                sink.variant(&Signature::make::<Vec<f64>>(), |sink| sink.slice(&values))
            }
            8 => {
                let json = serde_json::from_str(self.text()?).map_err(|_| Bytes::NoStructure)?;
                self.structure(&json, sink, 0)
            }
            _ => Err(Bytes::OutOfRange.into()),
        }
    }

    /// JSON as the variant that it is on the bus, within so many others.
    fn structure(&mut self, json: &Json, sink: &mut impl Sink, level: usize) -> Result<(), Misfit> {
        self.take(1 + level)?;
        if level >= MAX_LEVELS && (json.is_array() || json.is_object()) {
            return Err(Unfit::VariantsTooDeep { max: MAX_LEVELS }.into());
        }
        match json {
            Json::Null => nothing(sink),
            Json::Bool(value) => sink.variant(&Signature::make::<bool>(), |sink| sink.fixed(*value, 4)),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => sink.variant(&Signature::make::<i64>(), |sink| sink.fixed(value, 8)),
                (None, value) => {
                    let value = value.unwrap_or(f64::NAN);
                    sink.variant(&Signature::make::<f64>(), |sink| sink.fixed(value, 8))
                }
            },
            Json::String(text) => {
                let text = named(text)?;
                sink.variant(&Signature::make::<String>(), |sink| sink.text(text))
            }
            // An empty one of variants is nothing.
            Json::Array(items) if items.is_empty() => {
                let element = Signature::make::<String>();
                sink.variant(&Signature::make::<Vec<String>>(), |sink| sink.array(&element, |_| Ok(())))
            }
            Json::Array(items) => sink.variant(&Signature::make::<Vec<AnyVariant>>(), |sink| {
                sink.array(&Signature::make::<AnyVariant>(), |sink| {
                    items.iter().try_for_each(|item| self.structure(item, sink, level + 1))
                })
            }),
            Json::Object(entries) => {
                let (key, value) = (Signature::make::<String>(), Signature::make::<AnyVariant>());
                sink.variant(&Signature::make::<HashMap<String, AnyVariant>>(), |sink| {
                    sink.dictionary((&key, &value), |sink| {
                        entries.iter().try_for_each(|(name, item)| {
                            sink.entry(|sink| {
                                sink.text(named(name)?)?;
                                self.structure(item, sink, level + 1)
                            })
                        })
                    })
                })
            }
        }
    }

    fn list(&mut self, list: &List, count: usize, sink: &mut impl Sink, depth: usize) -> Result<(), Misfit> {
        match &*list.item {
            Form::U8 => sink.slice(self.split(count)?),
            Form::I8 => sink.slice(&self.run(count, |this| Ok(i16::from(this.byte()? as i8)))?),
            Form::I16 => sink.slice(&self.run(count, |this| Ok(this.signed(16)? as i16))?),
            Form::I32 => sink.slice(&self.run(count, |this| Ok(this.signed(32)? as i32))?),
            Form::I64 => sink.slice(&self.run(count, |this| this.signed(64))?),
            Form::U16 => sink.slice(&self.run(count, |this| Ok(this.varint(16)? as u16))?),
            Form::U32 => sink.slice(&self.run(count, |this| Ok(this.varint(32)? as u32))?),
            Form::U64 => sink.slice(&self.run(count, |this| this.varint(64))?),
            Form::F32 => {
                sink.slice(&self.run(count, |this| Ok(f64::from(f32::from_le_bytes(this.array()?))))?)
            }
            Form::F64 => sink.slice(&self.run(count, |this| Ok(f64::from_le_bytes(this.array()?)))?),
            Form::Nothing => {
                self.take(count)?;
                sink.slice(&vec![0u8; count])
            }
            form => {
                self.has_room(count)?;
                sink.array(&list.element, |sink| {
                    (0..count).try_for_each(|_| self.value(form, sink, depth + 1))
                })
            }
        }
    }

    /// Values that have at least a byte each.
    fn run<T>(
        &mut self,
        count: usize,
        one: impl Fn(&mut Self) -> Result<T, Misfit>,
    ) -> Result<Vec<T>, Misfit> {
        if count > self.rest.len() {
            return Err(Bytes::CutOff.into());
        }
        (0..count).map(|_| one(self)).collect()
    }

    fn map(&mut self, map: &Map, sink: &mut impl Sink, depth: usize) -> Result<(), Misfit> {
        let count = self.len()?;
        self.has_room(count)?;
        match &map.pair {
            Pair::Entry(key, value) => sink.dictionary((key, value), |sink| {
                (0..count).try_for_each(|_| sink.entry(|sink| self.pair(map, sink, depth + 2)))
            }),
            Pair::Struct(pair) => sink.array(pair, |sink| {
                (0..count).try_for_each(|_| sink.structure(|sink| self.pair(map, sink, depth + 2)))
            }),
        }
    }

    fn pair(&mut self, map: &Map, sink: &mut impl Sink, depth: usize) -> Result<(), Misfit> {
        self.value(&map.key, sink, depth)?;
        self.value(&map.value, sink, depth)
    }

    /// That nothing is left.
    fn end(self) -> Result<(), Misfit> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Bytes::LeftOver { bytes }.into()),
        }
    }

    fn text(&mut self) -> Result<&'a str, Misfit> {
        let len = self.len()?;
        let text = std::str::from_utf8(self.split(len)?).map_err(|_| Bytes::NotText)?;
        if text.contains('\0') { Err(Misfit::ZeroByte) } else { Ok(text) }
    }

    fn flag(&mut self) -> Result<bool, Misfit> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Bytes::OutOfRange.into()),
        }
    }

    fn number(&mut self) -> Result<usize, Misfit> {
        Ok(usize::try_from(self.varint(32)?).unwrap_or(usize::MAX))
    }

    fn len(&mut self) -> Result<usize, Misfit> {
        usize::try_from(self.varint(64)?).map_err(|_| Misfit::TooMany { max: MAX_ITEMS })
    }

    fn signed(&mut self, bits: u32) -> Result<i64, Misfit> {
        let folded = self.varint(bits)?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    fn varint(&mut self, bits: u32) -> Result<u64, Misfit> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(byte.into())
            }
            _ => Ok(self.wide(bits)? as u64),
        }
    }

    fn long(&mut self) -> Result<u128, Misfit> {
        self.wide(128)
    }

    fn wide(&mut self, bits: u32) -> Result<u128, Misfit> {
        let mut value = 0u128;
        for at in 0..bits.div_ceil(7) {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            let room = bits - at * 7;
            if room < 7 && part >> room != 0 {
                return Err(Bytes::OutOfRange.into());
            }
            value |= part << (at * 7);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Bytes::OutOfRange.into())
    }

    fn byte(&mut self) -> Result<u8, Misfit> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Bytes::CutOff)?;
        self.rest = rest;
        Ok(*array)
    }

    fn split(&mut self, len: usize) -> Result<&'a [u8], Misfit> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Bytes::CutOff)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take(&mut self, count: usize) -> Result<(), Misfit> {
        self.has_room(count)?;
        self.room -= count;
        Ok(())
    }

    const fn has_room(&self, count: usize) -> Result<(), Misfit> {
        if count > self.room { Err(Misfit::TooMany { max: MAX_ITEMS }) } else { Ok(()) }
    }
}

/// What stands for nothing where anything may stand: an empty array of variants.
fn nothing(sink: &mut impl Sink) -> Result<(), Misfit> {
    sink.variant(&Signature::make::<Vec<AnyVariant>>(), |sink| {
        sink.array(&Signature::make::<AnyVariant>(), |_| Ok(()))
    })
}

/// A variant, for its signature.
type AnyVariant = Variant<u8>;

/// The name of a variant; whoever described the type may have put anything there.
fn named(name: &str) -> Result<&str, Misfit> {
    if name.contains('\0') { Err(Misfit::ZeroByte) } else { Ok(name) }
}
