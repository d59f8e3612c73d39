//! The arguments of a message that anybody may have sent. libdbus has checked that the message is one; what is refused here
//! is valid and yet harmful: descriptors, depth, mass.

use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use dbus::arg::{ArgType, Get, Iter};
use dbus::{Message, Signature};

use super::{BYTES_PER_ITEM, DEPTH_PER_ITEM, ITEMS_PER_ARRAY, MAX_DEPTH, MAX_ITEMS, MAX_VARIANTS, Unfit};

/// The arguments.
///
/// # Errors
/// [`Unfit`] for file descriptors wherever they are, for variants more than 8 deep, containers more than 32 deep, and more
/// than 65 536 values; nothing was made of the message then. An array counts as eight, four bytes of an array of bytes as one,
/// what is deep as more.
pub(crate) fn read_items(message: &Message) -> Result<Vec<MessageItem>, Unfit> {
    let mut walk = Walk { room: MAX_ITEMS, structs: 0 };
    walk.items(&mut message.iter_init(), 0, 0)?;
    Ok(made(&mut message.iter_init(), None))
}

/// The signature of a message's arguments; `h` may be in it.
pub(crate) fn signature(message: &Message) -> String {
    let (mut all, mut arguments) = (String::new(), message.iter_init());
    loop {
        match arguments.arg_type() {
            ArgType::Invalid => return all,
            // Only of these the library knows more than the code.
            ArgType::Array | ArgType::Struct => all.push_str(&arguments.signature()),
            plain => all.push((plain as u8).into()),
        }
        arguments.next();
    }
}

/// Goes through a message without making anything of it.
struct Walk {
    /// Values that may still come.
    room: usize,
    /// Arrays of structs that it is in: there each byte is made as any other value.
    structs: usize,
}

impl Walk {
    fn items(&mut self, items: &mut Iter<'_>, depth: usize, variants: usize) -> Result<(), Unfit> {
        while items.arg_type() != ArgType::Invalid {
            self.item(items, depth, variants)?;
            items.next();
        }
        Ok(())
    }

    fn item(&mut self, item: &mut Iter<'_>, depth: usize, mut variants: usize) -> Result<(), Unfit> {
        let kind = item.arg_type();
        match kind {
            ArgType::UnixFd => return Err(Unfit::Descriptor),
            ArgType::Array => {
                self.take(ITEMS_PER_ARRAY)?;
                if let Some(bytes) = bytes(item) {
                    let by = if self.structs > 0 { 1 } else { BYTES_PER_ITEM };
                    return self.take(bytes.len() / by);
                }
            }
            ArgType::Variant if variants >= MAX_VARIANTS => {
                return Err(Unfit::VariantsTooDeep { max: MAX_VARIANTS });
            }
            ArgType::Variant => variants += 1,
            _ => {}
        }
        // The library goes through what is in a struct again for every struct around it.
        self.take(1 + depth / DEPTH_PER_ITEM)?;
        let Some(mut inner) = item.recurse(kind) else { return Ok(()) };
        if depth >= MAX_DEPTH {
            return Err(Unfit::TooDeep { max: MAX_DEPTH });
        }
        let structs = usize::from(kind == ArgType::Array && has_structs(&mut inner));
        self.structs += structs;
        self.items(&mut inner, depth + 1, variants)?;
        self.structs -= structs;
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<(), Unfit> {
        self.room = self.room.checked_sub(count).ok_or(Unfit::TooMany { max: MAX_ITEMS })?;
        Ok(())
    }
}

/// Makes the values of what was gone through before, and not refused; all have the signature that is `known`.
fn made(items: &mut Iter<'_>, known: Option<&str>) -> Vec<MessageItem> {
    let mut all = Vec::new();
    while items.arg_type() != ArgType::Invalid {
        all.extend(one(items, known));
        items.next();
    }
    all
}

fn one(item: &mut Iter<'_>, known: Option<&str>) -> Option<MessageItem> {
    let kind = item.arg_type();
    match kind {
        ArgType::Array => array(item, known),
        ArgType::Struct => Some(MessageItem::Struct(made(&mut item.recurse(kind)?, None))),
        ArgType::Variant => Some(MessageItem::Variant(Box::new(one(&mut item.recurse(kind)?, None)?))),
        _ => MessageItem::get(item),
    }
}

fn array(item: &mut Iter<'_>, known: Option<&str>) -> Option<MessageItem> {
    let signature = match known {
        Some(known) => Signature::new(known).ok()?,
        None => item.signature(),
    };
    let mut inner = item.recurse(ArgType::Array)?;
    let items = match signature.as_bytes().get(1)? {
        b'y' => bytes(item)?.iter().map(|byte| MessageItem::Byte(*byte)).collect(),
        b'{' if signature.as_bytes().get(3) != Some(&b'(') => return dictionary(&mut inner, &signature),
        // The library alone makes an array without working out the signature of each of its elements. It panics at
        // descriptors, which are not there.
        b'(' | b'{' => return MessageItem::get(item),
        _ => made(&mut inner, signature.get(1..)),
    };
    MessageItemArray::new(items, signature).ok().map(MessageItem::Array)
}

fn dictionary(entries: &mut Iter<'_>, signature: &str) -> Option<MessageItem> {
    let (key, value) = signature.strip_prefix("a{")?.strip_suffix('}')?.split_at_checked(1)?;
    let mut pairs = Vec::new();
    while let Some(mut entry) = entries.recurse(ArgType::DictEntry) {
        let key = one(&mut entry, None)?;
        entry.next();
        pairs.push((key, one(&mut entry, Some(value))?));
        entries.next();
    }
    let (key, value) = (Signature::new(key).ok()?, Signature::new(value).ok()?);
    MessageItemDict::new(pairs, key, value).ok().map(MessageItem::Dict)
}

/// Whether the elements of an array are structs, or entries with one.
fn has_structs(elements: &mut Iter<'_>) -> bool {
    match elements.recurse(ArgType::DictEntry) {
        Some(mut entry) => entry.next() && entry.arg_type() == ArgType::Struct,
        None => elements.arg_type() == ArgType::Struct,
    }
}

/// An array of bytes, in one piece.
fn bytes<'a>(item: &mut Iter<'a>) -> Option<&'a [u8]> {
    if item.arg_type() == ArgType::Array { item.get() } else { None }
}
