//! From postcard to JSON, by a schema, piece by piece: nothing is kept but the text, and that is bounded.

use std::io::Write as _;

use postcard_schema::schema::owned::{
    OwnedDataModelType as Type, OwnedDataModelVariant as Variant, OwnedNamedType, OwnedNamedValue,
    OwnedNamedVariant,
};
use serde::de::IgnoredAny;

use super::Misfit;

/// Adds to `work` what it has cost, in bytes, also where nothing came of it.
pub(super) fn to_json(ty: &Type, bytes: &[u8], max: usize, work: &mut usize) -> Result<String, Misfit> {
    let max = max.min(MIN_TEXT.saturating_add(bytes.len().saturating_mul(MAX_GROWTH)));
    let mut writer = Writer { rest: bytes, out: Vec::new(), max, steps: 0 };
    let written = writer.value(ty);
    *work += bytes.len() - writer.rest.len() + writer.out.len() + writer.steps;
    written?;
    if !writer.rest.is_empty() {
        return Err(Misfit::LeftOver { bytes: writer.rest.len() });
    }
    // All of it was text when it was written.
    String::from_utf8(writer.out).map_err(|_| Misfit::NotText)
}

struct Writer<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    max: usize,
    /// Parts of the type that were looked at: those that only wrap another write nothing.
    steps: usize,
}

impl<'a> Writer<'a> {
    /// Writes at least one byte, whatever the type: so nothing goes on for longer than the text may be.
    fn value(&mut self, ty: &Type) -> Result<(), Misfit> {
        self.steps += 1;
        match ty {
            Type::Bool => match self.byte()? {
                0 => self.put(b"false"),
                1 => self.put(b"true"),
                _ => Err(Misfit::OutOfRange),
            },
            Type::U8 => self.byte().and_then(|byte| self.show(byte)),
            Type::I8 => self.byte().and_then(|byte| self.show(byte as i8)),
            Type::U16 => self.unsigned(16),
            Type::U32 => self.unsigned(32),
            Type::U64 | Type::Usize => self.unsigned(64),
            Type::U128 => self.unsigned(128),
            Type::I16 => self.signed(16),
            Type::I32 => self.signed(32),
            Type::I64 | Type::Isize => self.signed(64),
            Type::I128 => self.signed(128),
            Type::F32 => {
                let value = f32::from_le_bytes(self.array()?);
                if value.is_finite() { self.show(format_args!("{value:?}")) } else { self.put(b"null") }
            }
            Type::F64 => {
                let value = f64::from_le_bytes(self.array()?);
                if value.is_finite() { self.show(format_args!("{value:?}")) } else { self.put(b"null") }
            }
            Type::Char => {
                let text = self.text()?;
                let is_one = text.chars().count() == 1;
                if is_one { self.quote(text) } else { Err(Misfit::OutOfRange) }
            }
            Type::String => {
                let text = self.text()?;
                self.quote(text)
            }
            Type::ByteArray => self.list(&Type::U8),
            Type::Option(inner) => match self.byte()? {
                0 => self.put(b"null"),
                1 => self.value(&inner.ty),
                _ => Err(Misfit::OutOfRange),
            },
            Type::Unit | Type::UnitStruct => self.put(b"null"),
            Type::NewtypeStruct(inner) => self.value(&inner.ty),
            Type::Seq(item) => self.list(&item.ty),
            Type::Tuple(items) | Type::TupleStruct(items) => self.items(items),
            Type::Map { key, val } => self.map(&key.ty, &val.ty),
            Type::Struct(fields) => self.fields(fields),
            Type::Enum(variants) if super::is_value(variants) => self.any(variants),
            Type::Enum(_) => self.variant(ty),
            Type::Schema => Err(Misfit::Untranslatable),
        }
    }

    fn list(&mut self, item: &Type) -> Result<(), Misfit> {
        self.put(b"[")?;
        for at in 0..self.count()? {
            self.separate(at > 0)?;
            self.value(item)?;
        }
        self.put(b"]")
    }

    fn items(&mut self, items: &[OwnedNamedType]) -> Result<(), Misfit> {
        self.put(b"[")?;
        for (at, item) in items.iter().enumerate() {
            self.separate(at > 0)?;
            self.value(&item.ty)?;
        }
        self.put(b"]")
    }

    fn fields(&mut self, fields: &[OwnedNamedValue]) -> Result<(), Misfit> {
        self.put(b"{")?;
        for (at, field) in fields.iter().enumerate() {
            self.separate(at > 0)?;
            self.quote(&field.name)?;
            self.put(b":")?;
            self.value(&field.ty.ty)?;
        }
        self.put(b"}")
    }

    fn map(&mut self, key: &Type, value: &Type) -> Result<(), Misfit> {
        let is_text = match key {
            Type::String | Type::Char => true,
            key if super::range(key).is_some() => false,
            _ => return Err(Misfit::Untranslatable),
        };
        let quote: &[u8] = if is_text { b"" } else { b"\"" };
        self.put(b"{")?;
        for at in 0..self.count()? {
            self.separate(at > 0)?;
            self.put(quote)?;
            self.value(key)?;
            self.put(quote)?;
            self.put(b":")?;
            self.value(value)?;
        }
        self.put(b"}")
    }

    fn variant(&mut self, ty: &Type) -> Result<(), Misfit> {
        let Type::Enum(variants) = ty else { return Err(Misfit::Untranslatable) };
        let number = usize::try_from(self.varint(32)?).unwrap_or(usize::MAX);
        let variant = variants.get(number).ok_or(Misfit::OutOfRange)?;
        if variant.ty == Variant::UnitVariant {
            return self.quote(&variant.name);
        }
        self.put(b"{")?;
        self.quote(&variant.name)?;
        self.put(b":")?;
        match &variant.ty {
            Variant::UnitVariant => {}
            Variant::NewtypeVariant(inner) => self.value(&inner.ty)?,
            Variant::TupleVariant(items) => self.items(items)?,
            Variant::StructVariant(fields) => self.fields(fields)?,
        }
        self.put(b"}")
    }

    /// Writes a [`crate::Value`], which these are the variants of, as the plain value.
    fn any(&mut self, variants: &[OwnedNamedVariant]) -> Result<(), Misfit> {
        let number = usize::try_from(self.varint(32)?).unwrap_or(usize::MAX);
        let variant = variants.get(number).ok_or(Misfit::OutOfRange)?;
        match &variant.ty {
            Variant::NewtypeVariant(_) if number + 1 == variants.len() => {
                let text = self.text()?;
                serde_json::from_str::<IgnoredAny>(text).map_err(|_| Misfit::NoStructure)?;
                self.put(text.as_bytes())
            }
            Variant::NewtypeVariant(inner) => self.value(&inner.ty),
            _ => self.put(b"null"),
        }
    }

    /// How many elements there are. More than the text can hold, at one byte and a comma each, are not begun with.
    fn count(&mut self) -> Result<usize, Misfit> {
        let too_long = Misfit::TooLong { max: self.max };
        let count = usize::try_from(self.varint(64)?).map_err(|_| too_long.clone())?;
        let room = self.max.saturating_sub(self.out.len());
        if count > room.div_ceil(2) { Err(too_long) } else { Ok(count) }
    }

    fn unsigned(&mut self, bits: u32) -> Result<(), Misfit> {
        let value = self.varint(bits)?;
        self.show(value)
    }

    fn signed(&mut self, bits: u32) -> Result<(), Misfit> {
        let folded = self.varint(bits)?;
        self.show((folded >> 1) as i128 ^ -((folded & 1) as i128))
    }

    fn varint(&mut self, bits: u32) -> Result<u128, Misfit> {
        let mut value = 0u128;
        for at in 0..bits.div_ceil(7) {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            let room = bits - at * 7;
            if room < 7 && part >> room != 0 {
                return Err(Misfit::OutOfRange);
            }
            value |= part << (at * 7);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Misfit::OutOfRange)
    }

    fn text(&mut self) -> Result<&'a str, Misfit> {
        let len = usize::try_from(self.varint(64)?).map_err(|_| Misfit::CutOff)?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Misfit::CutOff)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| Misfit::NotText)
    }

    fn byte(&mut self) -> Result<u8, Misfit> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Misfit::CutOff)?;
        self.rest = rest;
        Ok(*array)
    }

    fn separate(&mut self, comma: bool) -> Result<(), Misfit> {
        self.put(if comma { b"," } else { b"" })
    }

    fn quote(&mut self, text: &str) -> Result<(), Misfit> {
        // Escapes may make it longer, by a factor that is bounded.
        self.check(text.len())?;
        serde_json::to_writer(&mut self.out, text).map_err(|_| Misfit::NotText)?;
        self.check(0)
    }

    fn show(&mut self, value: impl std::fmt::Display) -> Result<(), Misfit> {
        self.check(1)?;
        // Writing into memory does not fail.
        let _ = write!(self.out, "{value}");
        Ok(())
    }

    fn put(&mut self, text: &[u8]) -> Result<(), Misfit> {
        self.check(text.len())?;
        self.out.extend_from_slice(text);
        Ok(())
    }

    const fn check(&self, more: usize) -> Result<(), Misfit> {
        if self.out.len() + more > self.max { Err(Misfit::TooLong { max: self.max }) } else { Ok(()) }
    }
}

/// What JSON may have however short its postcard is: a type without content is still written with its names.
const MIN_TEXT: usize = 4096;
/// How often as long as its postcard JSON may be beyond that. A byte that stands for an absent option, or for a variant,
/// is written as a name of some sixty letters and what is around it, perhaps in several structs within each other.
const MAX_GROWTH: usize = 256;
