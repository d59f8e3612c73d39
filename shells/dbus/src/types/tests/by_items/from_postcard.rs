//! From postcard to arguments, by a form.

use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use visorbus_hub::schema::Misfit as Bytes;

use crate::types::form::{Field, Form, List, Map, Pair};
use crate::types::{BYTES_PER_ITEM, MAX_ITEMS, Misfit};

/// Bytes that are gone through from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Values that may still be made.
    room: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, room: MAX_ITEMS }
    }

    /// Makes one value, of whatever type: at least one is counted for each.
    pub(super) fn value(&mut self, form: &Form) -> Result<MessageItem, Misfit> {
        self.take(1)?;
        Ok(match form {
            Form::Bool => MessageItem::Bool(self.flag()?),
            Form::U8 => MessageItem::Byte(self.byte()?),
            Form::I8 => MessageItem::Int16((self.byte()? as i8).into()),
            Form::I16 => MessageItem::Int16(self.signed(16)? as i16),
            Form::I32 => MessageItem::Int32(self.signed(32)? as i32),
            Form::I64 => MessageItem::Int64(self.signed(64)? as i64),
            Form::I128 => MessageItem::Str(self.signed(128)?.to_string()),
            Form::U16 => MessageItem::UInt16(self.varint(16)? as u16),
            Form::U32 => MessageItem::UInt32(self.varint(32)? as u32),
            Form::U64 => MessageItem::UInt64(self.varint(64)? as u64),
            Form::U128 => MessageItem::Str(self.varint(128)?.to_string()),
            Form::F32 => MessageItem::Double(f32::from_le_bytes(self.array()?).into()),
            Form::F64 => MessageItem::Double(f64::from_le_bytes(self.array()?)),
            Form::Char => match self.text()? {
                letter if letter.chars().count() == 1 => MessageItem::Str(letter.to_owned()),
                _ => return Err(Bytes::OutOfRange.into()),
            },
            Form::Text => MessageItem::Str(self.text()?.to_owned()),
            Form::Bytes => {
                let count = self.count()?;
                self.bytes(count)?
            }
            Form::FixedBytes(count) => self.bytes(*count)?,
            Form::Nothing => MessageItem::Byte(0),
            Form::Optional(list) => {
                let count = self.flag()?.into();
                self.list(list, count)?
            }
            Form::List(list) => {
                let count = self.count()?;
                self.list(list, count)?
            }
            Form::Fixed(list, count) => self.list(list, *count)?,
            Form::Map(map) => self.map(map)?,
            Form::Struct(fields) => MessageItem::Struct(self.fields(fields)?),
            // It is tested by itself.
            Form::Any => return Err(Bytes::Untranslatable.into()),
            Form::Names(variants) => {
                let name = variants.name(self.number()?).ok_or(Bytes::OutOfRange)?;
                named(name)?
            }
            Form::Choice(variants, contents) => {
                let number = self.number()?;
                let (Some(name), Some(content)) = (variants.name(number), contents.get(number)) else {
                    return Err(Bytes::OutOfRange.into());
                };
                let content = self.value(&content.form)?;
                MessageItem::Struct(vec![named(name)?, MessageItem::Variant(Box::new(content))])
            }
        })
    }

    /// The fields of a struct.
    pub(super) fn fields(&mut self, fields: &[Field]) -> Result<Vec<MessageItem>, Misfit> {
        fields.iter().map(|field| self.value(&field.form)).collect()
    }

    /// That nothing is left.
    pub(super) fn end(&self) -> Result<(), Misfit> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Bytes::LeftOver { bytes }.into()),
        }
    }

    fn list(&mut self, list: &List, count: usize) -> Result<MessageItem, Misfit> {
        self.has_room(count)?;
        let items = (0..count).map(|_| self.value(&list.item)).collect::<Result<Vec<_>, _>>()?;
        // All are of the form that the signature was made of.
        let array = MessageItemArray::new(items, list.signature.clone());
        array.map(MessageItem::Array).map_err(|_| Bytes::Untranslatable.into())
    }

    fn map(&mut self, map: &Map) -> Result<MessageItem, Misfit> {
        let count = self.count()?;
        self.has_room(count)?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.value(&map.key)?, self.value(&map.value)?));
        }
        let made = match &map.pair {
            Pair::Entry(key, value) => {
                MessageItemDict::new(pairs, key.clone(), value.clone()).map(MessageItem::Dict)
            }
            Pair::Struct(_) => {
                let pairs = pairs.into_iter().map(|(key, value)| MessageItem::Struct(vec![key, value]));
                MessageItemArray::new(pairs.collect(), map.signature.clone()).map(MessageItem::Array)
            }
        };
        made.map_err(|_| Bytes::Untranslatable.into())
    }

    fn bytes(&mut self, count: usize) -> Result<MessageItem, Misfit> {
        self.take(count / BYTES_PER_ITEM)?;
        let bytes = self.split(count)?;
        let items = bytes.iter().map(|byte| MessageItem::Byte(*byte)).collect();
        let array = MessageItemArray::new(items, dbus::Signature::make::<Vec<u8>>());
        array.map(MessageItem::Array).map_err(|_| Bytes::Untranslatable.into())
    }

    fn text(&mut self) -> Result<&'a str, Misfit> {
        let len = usize::try_from(self.varint(64)?).map_err(|_| Bytes::CutOff)?;
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

    fn count(&mut self) -> Result<usize, Misfit> {
        usize::try_from(self.varint(64)?).map_err(|_| Misfit::TooMany { max: MAX_ITEMS })
    }

    fn signed(&mut self, bits: u32) -> Result<i128, Misfit> {
        let folded = self.varint(bits)?;
        Ok((folded >> 1) as i128 ^ -((folded & 1) as i128))
    }

    fn varint(&mut self, bits: u32) -> Result<u128, Misfit> {
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

/// The name of a variant; whoever described the type may have put anything there.
fn named(name: &str) -> Result<MessageItem, Misfit> {
    if name.contains('\0') { Err(Misfit::ZeroByte) } else { Ok(MessageItem::Str(name.to_owned())) }
}
