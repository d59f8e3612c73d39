//! From arguments to postcard, by a form.

use std::collections::HashSet;

use dbus::arg::messageitem::{MessageItem, MessageItemArray};

use crate::types::Misfit;
use crate::types::form::{Content, Field, Form, Map, Variants};
use crate::types::take::needed;

/// Writes a value of one type.
pub(super) fn value(form: &Form, item: &MessageItem, out: &mut Vec<u8>) -> Result<(), Misfit> {
    match (form, item) {
        (Form::Bool, MessageItem::Bool(value)) => out.push((*value).into()),
        (Form::U8, MessageItem::Byte(value)) => out.push(*value),
        (Form::I8, MessageItem::Int16(value)) => {
            out.push(i8::try_from(*value).map_err(|_| beyond("i8"))? as u8);
        }
        (Form::I16, MessageItem::Int16(value)) => signed(out, (*value).into()),
        (Form::I32, MessageItem::Int32(value)) => signed(out, (*value).into()),
        (Form::I64, MessageItem::Int64(value)) => signed(out, (*value).into()),
        (Form::U16, MessageItem::UInt16(value)) => varint(out, (*value).into()),
        (Form::U32, MessageItem::UInt32(value)) => varint(out, (*value).into()),
        (Form::U64, MessageItem::UInt64(value)) => varint(out, (*value).into()),
        (Form::I128, MessageItem::Str(text)) => signed(out, text.parse().map_err(|_| beyond("i128"))?),
        (Form::U128, MessageItem::Str(text)) => varint(out, text.parse().map_err(|_| beyond("u128"))?),
        (Form::F32, MessageItem::Double(value)) => out.extend_from_slice(&single(*value)?.to_le_bytes()),
        (Form::F64, MessageItem::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (Form::Char, MessageItem::Str(letter)) if letter.chars().nth(1).is_some() || letter.is_empty() => {
            return Err(beyond("one character"));
        }
        (Form::Char | Form::Text, MessageItem::Str(value)) => {
            varint(out, value.len() as u128);
            out.extend_from_slice(value.as_bytes());
        }
        (Form::Names(variants), MessageItem::Str(name)) => variant(variants, name, out).map(drop)?,
        (Form::Choice(variants, contents), MessageItem::Struct(parts)) => {
            choice(form, variants, contents, parts, out)?;
        }
        (Form::Struct(parts), MessageItem::Struct(items)) if parts.len() == items.len() => {
            fields(parts, items, out)?;
        }
        (Form::Nothing, item) if is_nothing(item) => {}
        (form, MessageItem::Array(array)) => elements(form, array, out)?,
        (Form::Map(map), MessageItem::Dict(dict)) if *dict.signature() == map.signature => {
            pairs(map, dict.len(), dict.iter().map(|(key, value)| (key, value)), out)?;
        }
        (form, item) => return Err(wrong(form, item)),
    }
    Ok(())
}

/// Writes the fields of a struct, of which there are as many items.
pub(super) fn fields(fields: &[Field], items: &[MessageItem], out: &mut Vec<u8>) -> Result<(), Misfit> {
    for (field, item) in fields.iter().zip(items) {
        value(&field.form, item, out).map_err(|misfit| misfit.within(&field.name))?;
    }
    Ok(())
}

/// Writes what is an array on the bus.
fn elements(form: &Form, array: &MessageItemArray, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let is_of = |signature: &str| **array.signature() == *signature;
    let wrong = || Misfit::Wrong {
        at: String::new(),
        needed: needed(form),
        got: format!("'{}'", &**array.signature()),
    };
    match form {
        Form::Bytes if is_of("ay") => {
            varint(out, array.len() as u128);
            out.extend(array.iter().filter_map(byte));
        }
        Form::FixedBytes(count) if is_of("ay") && array.len() == *count => {
            out.extend(array.iter().filter_map(byte));
        }
        Form::Optional(list) if is_of(&list.signature) && array.len() < 2 => {
            out.push(array.len() as u8);
            items(&list.item, array, out)?;
        }
        Form::List(list) if is_of(&list.signature) => {
            varint(out, array.len() as u128);
            items(&list.item, array, out)?;
        }
        Form::Fixed(list, count) if is_of(&list.signature) && array.len() == *count => {
            items(&list.item, array, out)?;
        }
        Form::Map(map) if is_of(&map.signature) => {
            let all = array.iter().map(pair).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
            pairs(map, all.len(), all.into_iter(), out)?;
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn items(form: &Form, items: &[MessageItem], out: &mut Vec<u8>) -> Result<(), Misfit> {
    for (number, item) in items.iter().enumerate() {
        value(form, item, out).map_err(|misfit| misfit.within(&number.to_string()))?;
    }
    Ok(())
}

/// Writes a map, in which no key may come twice.
fn pairs<'a>(
    map: &Map,
    count: usize,
    pairs: impl Iterator<Item = (&'a MessageItem, &'a MessageItem)>,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    varint(out, count as u128);
    let mut known = HashSet::new();
    for (number, (key, content)) in pairs.enumerate() {
        let within = |misfit: Misfit| misfit.within(&number.to_string());
        let start = out.len();
        value(&map.key, key, out).map_err(within)?;
        if !known.insert(out[start..].to_vec()) {
            return Err(within(Misfit::Twice { at: String::new() }));
        }
        value(&map.value, content, out).map_err(within)?;
    }
    Ok(())
}

/// Writes an enum that comes as its variant's name, and the content in a variant.
fn choice(
    form: &Form,
    variants: &Variants,
    contents: &[Content],
    parts: &[MessageItem],
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    let [MessageItem::Str(name), MessageItem::Variant(content)] = parts else {
        return Err(Misfit::Wrong {
            at: String::new(),
            needed: needed(form),
            got: "another struct".to_owned(),
        });
    };
    let number = variant(variants, name, out)?;
    value(&contents[number].form, content, out)
        .map_err(|misfit| misfit.within(variants.name(number).unwrap_or("?")))
}

/// Writes which variant it is.
fn variant(variants: &Variants, name: &str, out: &mut Vec<u8>) -> Result<usize, Misfit> {
    let unknown = || Misfit::UnknownVariant { at: String::new(), known: variants.known() };
    let number = variants.number(name).ok_or_else(unknown)?;
    varint(out, number.into());
    Ok(number as usize)
}

/// What may stand for nothing.
fn is_nothing(item: &MessageItem) -> bool {
    match item {
        MessageItem::Byte(byte) => *byte == 0,
        MessageItem::Str(text) => text.is_empty(),
        MessageItem::Array(array) => array.is_empty(),
        MessageItem::Dict(dict) => dict.is_empty(),
        _ => false,
    }
}

/// A pair of a map whose keys no dictionary may have.
const fn pair(item: &MessageItem) -> Option<(&MessageItem, &MessageItem)> {
    match item {
        MessageItem::Struct(pair) => match pair.as_slice() {
            [key, content] => Some((key, content)),
            _ => None,
        },
        _ => None,
    }
}

const fn byte(item: &MessageItem) -> Option<u8> {
    if let MessageItem::Byte(byte) = item { Some(*byte) } else { None }
}

/// The nearest `f32`; no finite number becomes an infinite one.
fn single(value: f64) -> Result<f32, Misfit> {
    let single = value as f32;
    if single.is_infinite() && value.is_finite() { Err(beyond("f32")) } else { Ok(single) }
}

pub(super) fn varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i128) {
    varint(out, ((value << 1) ^ (value >> 127)) as u128);
}

const fn beyond(needed: &'static str) -> Misfit {
    Misfit::OutOfRange { at: String::new(), needed }
}

fn wrong(form: &Form, item: &MessageItem) -> Misfit {
    let signature = crate::types::signature_of(std::slice::from_ref(item));
    let got = signature.map_or_else(|unfit| unfit.to_string(), |signature| format!("'{signature}'"));
    Misfit::Wrong { at: String::new(), needed: needed(form), got }
}
