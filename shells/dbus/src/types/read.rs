//! The arguments of a message that anybody may have sent. libdbus has checked that the message is one; what is refused here
//! is valid and yet harmful: descriptors, depth, mass.

use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use dbus::arg::{ArgType, Get, Iter};
use dbus::{Message, Signature};

use super::{BYTES_PER_ITEM, MAX_DEPTH, MAX_ITEMS, MAX_VARIANTS, Unfit};

/// The arguments.
///
/// # Errors
/// [`Unfit`] for file descriptors wherever they are, for variants more than 8 deep, containers more than 32 deep, and more
/// than 65 536 values; nothing was made of the message then.
pub(crate) fn read_items(message: &Message) -> Result<Vec<MessageItem>, Unfit> {
    let mut walk = Walk { room: MAX_ITEMS };
    let mut arguments = message.iter_init();
    walk.outer(&mut arguments, 0, 0)?;
    Ok(made(&mut message.iter_init()))
}

/// The signature of a message's arguments; `h` may be in it.
pub(crate) fn signature(message: &Message) -> String {
    let (mut all, mut arguments) = (String::new(), message.iter_init());
    while arguments.arg_type() != ArgType::Invalid {
        all.push_str(&arguments.signature());
        arguments.next();
    }
    all
}

/// The bytes of argument `number` where that is an array of bytes, or a variant that holds one: as many as the message has,
/// without a value for each.
pub(crate) fn read_bytes(message: &Message, number: usize) -> Option<Vec<u8>> {
    let mut arguments = message.iter_init();
    if (0..number).any(|_| !arguments.next()) {
        return None;
    }
    let bytes: Option<&[u8]> = match arguments.arg_type() {
        ArgType::Variant => arguments.recurse(ArgType::Variant)?.get(),
        _ => arguments.get(),
    };
    bytes.map(<[u8]>::to_vec)
}

/// Goes through a message without making anything of it.
struct Walk {
    /// Values that may still come.
    room: usize,
}

impl Walk {
    /// Arguments, or what a variant holds: here alone a type begins that has not been looked at.
    fn outer(&mut self, items: &mut Iter<'_>, depth: usize, variants: usize) -> Result<(), Unfit> {
        while items.arg_type() != ArgType::Invalid {
            if items.signature().contains('h') {
                return Err(Unfit::Descriptor);
            }
            self.item(items, depth, variants)?;
            items.next();
        }
        Ok(())
    }

    fn item(&mut self, item: &mut Iter<'_>, depth: usize, variants: usize) -> Result<(), Unfit> {
        self.take(1)?;
        let kind = item.arg_type();
        if kind == ArgType::UnixFd {
            return Err(Unfit::Descriptor);
        }
        if let Some(bytes) = bytes(item) {
            return self.take(bytes.len() / BYTES_PER_ITEM);
        }
        let Some(mut inner) = item.recurse(kind) else { return Ok(()) };
        if depth >= MAX_DEPTH {
            return Err(Unfit::TooDeep { max: MAX_DEPTH });
        }
        if kind != ArgType::Variant {
            return self.inner(&mut inner, depth + 1, variants);
        }
        if variants >= MAX_VARIANTS {
            return Err(Unfit::VariantsTooDeep { max: MAX_VARIANTS });
        }
        self.outer(&mut inner, depth + 1, variants + 1)
    }

    fn inner(&mut self, items: &mut Iter<'_>, depth: usize, variants: usize) -> Result<(), Unfit> {
        while items.arg_type() != ArgType::Invalid {
            self.item(items, depth, variants)?;
            items.next();
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<(), Unfit> {
        self.room = self.room.checked_sub(count).ok_or(Unfit::TooMany { max: MAX_ITEMS })?;
        Ok(())
    }
}

/// Makes the values of what was gone through before, and not refused.
fn made(items: &mut Iter<'_>) -> Vec<MessageItem> {
    let mut all = Vec::new();
    while items.arg_type() != ArgType::Invalid {
        all.extend(one(items));
        items.next();
    }
    all
}

fn one(item: &mut Iter<'_>) -> Option<MessageItem> {
    let kind = item.arg_type();
    match kind {
        ArgType::Array => array(item),
        ArgType::Struct => Some(MessageItem::Struct(made(&mut item.recurse(kind)?))),
        ArgType::Variant => Some(MessageItem::Variant(Box::new(one(&mut item.recurse(kind)?)?))),
        _ => MessageItem::get(item),
    }
}

fn array(item: &mut Iter<'_>) -> Option<MessageItem> {
    let signature = item.signature();
    if let Some(bytes) = bytes(item) {
        let bytes = bytes.iter().map(|byte| MessageItem::Byte(*byte)).collect();
        return MessageItemArray::new(bytes, signature).ok().map(MessageItem::Array);
    }
    let mut inner = item.recurse(ArgType::Array)?;
    let Some(entry) = signature.strip_prefix("a{").and_then(|rest| rest.strip_suffix('}')) else {
        return MessageItemArray::new(made(&mut inner), signature).ok().map(MessageItem::Array);
    };
    let (key, value) = entry.split_at_checked(1)?;
    let (key, value) = (Signature::new(key).ok()?, Signature::new(value).ok()?);
    let mut pairs = Vec::new();
    while inner.arg_type() == ArgType::DictEntry {
        let mut entry = inner.recurse(ArgType::DictEntry)?;
        let key = one(&mut entry)?;
        entry.next();
        pairs.push((key, one(&mut entry)?));
        inner.next();
    }
    MessageItemDict::new(pairs, key, value).ok().map(MessageItem::Dict)
}

/// An array of bytes, in one piece.
fn bytes<'a>(item: &mut Iter<'a>) -> Option<&'a [u8]> {
    if item.arg_type() == ArgType::Array { item.get() } else { None }
}
