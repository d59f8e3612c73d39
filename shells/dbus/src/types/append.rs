//! Arguments into a message, whoever made them: what libdbus would end the process for, or cut off, is refused before.

use dbus::arg::IterAppend;
use dbus::arg::messageitem::MessageItem;
use dbus::{Message, Signature};

use super::signature::{MAX_LEN, is_signature};
use super::{MAX_BODY, MAX_DEPTH, MAX_VARIANTS, Unfit};

/// Appends arguments.
///
/// # Errors
/// [`Unfit`]; the message is as it was then.
pub(crate) fn append(message: &mut Message, arguments: &[MessageItem]) -> Result<(), Unfit> {
    check(arguments)?;
    let mut iter = IterAppend::new(message);
    arguments.iter().for_each(|argument| put(&mut iter, argument));
    Ok(())
}

/// Whether arguments can be appended; their signature where they can.
///
/// # Errors
/// [`Unfit`] says why they cannot.
pub(crate) fn check(arguments: &[MessageItem]) -> Result<String, Unfit> {
    let signature = signature_of(arguments)?;
    let mut walk = Walk::default();
    arguments.iter().try_for_each(|argument| walk.item(argument, 0, 0))?;
    Ok(signature)
}

/// The signature of arguments.
///
/// # Errors
/// [`Unfit`] where they have none.
pub(crate) fn signature_of(arguments: &[MessageItem]) -> Result<String, Unfit> {
    let mut all = String::new();
    arguments.iter().try_for_each(|argument| write_signature(argument, 0, &mut all))?;
    if is_signature(&all) { Ok(all) } else { Err(Unfit::Signature) }
}

/// Whether `path` is an object path (D-Bus specification, "Valid Object Paths").
pub(super) fn is_object_path(path: &str) -> bool {
    let is_element = |element: &str| {
        !element.is_empty() && element.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_element))
}

fn write_signature(item: &MessageItem, depth: usize, out: &mut String) -> Result<(), Unfit> {
    match item {
        MessageItem::UnixFd(_) => return Err(Unfit::Descriptor),
        MessageItem::Array(array) => out.push_str(array.signature()),
        MessageItem::Dict(dict) => out.push_str(dict.signature()),
        MessageItem::Struct(fields) => {
            if depth >= MAX_DEPTH {
                return Err(Unfit::TooDeep { max: MAX_DEPTH });
            }
            if fields.is_empty() {
                return Err(Unfit::EmptyStruct);
            }
            out.push('(');
            fields.iter().try_for_each(|field| write_signature(field, depth + 1, out))?;
            out.push(')');
        }
        plain => out.push_str(&plain.signature()),
    }
    if out.len() > MAX_LEN { Err(Unfit::Signature) } else { Ok(()) }
}

/// Goes through arguments as they will lie in the message (D-Bus specification, "Marshaling").
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Bytes of the body so far.
    len: usize,
}

impl Walk {
    pub(super) fn item(&mut self, item: &MessageItem, depth: usize, variants: usize) -> Result<(), Unfit> {
        match item {
            MessageItem::Byte(_) => self.fixed(1),
            MessageItem::Int16(_) | MessageItem::UInt16(_) => self.fixed(2),
            MessageItem::Bool(_) | MessageItem::Int32(_) | MessageItem::UInt32(_) => self.fixed(4),
            MessageItem::Int64(_) | MessageItem::UInt64(_) | MessageItem::Double(_) => self.fixed(8),
            MessageItem::Str(text) => self.text(text, 4),
            MessageItem::ObjectPath(path) if !is_object_path(path) => Err(Unfit::Path),
            MessageItem::ObjectPath(path) => self.text(path, 4),
            MessageItem::Signature(signature) if !is_any_signature(signature) => Err(Unfit::Signature),
            MessageItem::Signature(signature) => self.text(signature, 1),
            MessageItem::UnixFd(_) => Err(Unfit::Descriptor),
            MessageItem::Struct(fields) => {
                let depth = deeper(depth)?;
                self.align(8)?;
                fields.iter().try_for_each(|field| self.item(field, depth, variants))
            }
            MessageItem::Variant(content) => {
                if variants >= MAX_VARIANTS {
                    return Err(Unfit::VariantsTooDeep { max: MAX_VARIANTS });
                }
                let depth = deeper(depth)?;
                let signature = signature_of(std::slice::from_ref(content))?;
                self.text(&signature, 1)?;
                self.item(content, depth, variants + 1)
            }
            MessageItem::Array(array) => {
                let depth = deeper(depth)?;
                self.array(array.signature())?;
                array.iter().try_for_each(|item| self.item(item, depth, variants))
            }
            MessageItem::Dict(dict) => {
                let depth = deeper(deeper(depth)?)?;
                self.array(dict.signature())?;
                dict.iter().try_for_each(|(key, value)| {
                    self.align(8)?;
                    self.item(key, depth, variants)?;
                    self.item(value, depth, variants)
                })
            }
        }
    }

    /// What stands before an array's elements.
    fn array(&mut self, signature: &str) -> Result<(), Unfit> {
        self.array_of(signature.as_bytes().get(1).copied())
    }

    /// The same, of elements whose signature begins so.
    pub(super) fn array_of(&mut self, code: Option<u8>) -> Result<(), Unfit> {
        self.fixed(4)?;
        self.align(match code {
            Some(b'(' | b'{' | b'x' | b't' | b'd') => 8,
            Some(b'n' | b'q') => 2,
            Some(b'y' | b'g' | b'v') => 1,
            _ => 4,
        })
    }

    /// A length of `width` bytes, a text, a zero byte.
    pub(super) fn text(&mut self, text: &str, width: usize) -> Result<(), Unfit> {
        if text.contains('\0') {
            return Err(Unfit::ZeroByte);
        }
        self.fixed(width)?;
        self.add(text.len() + 1)
    }

    pub(super) fn fixed(&mut self, width: usize) -> Result<(), Unfit> {
        self.align(width)?;
        self.add(width)
    }

    pub(super) fn align(&mut self, to: usize) -> Result<(), Unfit> {
        self.add(self.len.next_multiple_of(to) - self.len)
    }

    pub(super) const fn add(&mut self, bytes: usize) -> Result<(), Unfit> {
        // It was at most MAX_BODY before, and no text is near the end of the numbers.
        self.len += bytes;
        if self.len > MAX_BODY { Err(Unfit::TooLong { max: MAX_BODY }) } else { Ok(()) }
    }
}

/// Puts in what was gone through before, and not refused.
pub(super) fn put(iter: &mut IterAppend<'_>, item: &MessageItem) {
    match item {
        MessageItem::Array(array) if **array.signature() == *"ay" => {
            let byte =
                |item: &MessageItem| if let MessageItem::Byte(byte) = item { Some(*byte) } else { None };
            let bytes: Vec<u8> = array.iter().filter_map(byte).collect();
            iter.append(&bytes[..]);
        }
        MessageItem::Struct(fields) => {
            iter.append_struct(|inner| fields.iter().for_each(|field| put(inner, field)))
        }
        MessageItem::Variant(content) => {
            let signature: Signature<'static> = content.signature();
            iter.append_variant(&signature, |inner| put(inner, content));
        }
        other => iter.append(other),
    }
}

fn deeper(depth: usize) -> Result<usize, Unfit> {
    if depth >= MAX_DEPTH { Err(Unfit::TooDeep { max: MAX_DEPTH }) } else { Ok(depth + 1) }
}

/// As a value a signature may name descriptors too: it is a text, no descriptor.
fn is_any_signature(text: &str) -> bool {
    is_signature(&text.replace('h', "u"))
}
