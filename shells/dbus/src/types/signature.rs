//! Signatures as texts (D-Bus specification, "Type System"): whether one is valid, and its complete types one by one.

/// Whether `text` is zero or more complete types, without file descriptors, which no interface here takes.
pub(crate) fn is_signature(text: &str) -> bool {
    split(text).is_some()
}

/// Whether `text` is exactly one complete type.
pub(crate) fn is_single_type(text: &str) -> bool {
    split(text).is_some_and(|types| types.len() == 1)
}

/// The complete types of a signature; `None` when it is not valid.
pub(crate) fn split(text: &str) -> Option<Vec<&str>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (mut at, mut types) = (0, Vec::new());
    while at < text.len() {
        let end = complete(text.as_bytes(), at, 0, 0)?;
        types.push(text.get(at..end)?);
        at = end;
    }
    Some(types)
}

/// Whether `code` is the code of a type that a dictionary may have as key.
pub(crate) const fn is_basic(code: u8) -> bool {
    matches!(code, b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g')
}

/// Where the complete type that begins at `at` ends.
fn complete(text: &[u8], at: usize, arrays: usize, structs: usize) -> Option<usize> {
    match *text.get(at)? {
        b'v' => Some(at + 1),
        b'a' if arrays < MAX_NESTED => match *text.get(at + 1)? {
            b'{' => entry(text, at + 2, arrays + 1, structs),
            _ => complete(text, at + 1, arrays + 1, structs),
        },
        b'(' if structs < MAX_NESTED => fields(text, at + 1, arrays, structs + 1),
        code if is_basic(code) => Some(at + 1),
        _ => None,
    }
}

/// A struct has at least one field.
fn fields(text: &[u8], at: usize, arrays: usize, structs: usize) -> Option<usize> {
    let mut end = complete(text, at, arrays, structs)?;
    while *text.get(end)? != b')' {
        end = complete(text, end, arrays, structs)?;
    }
    Some(end + 1)
}

/// The key is basic.
fn entry(text: &[u8], at: usize, arrays: usize, structs: usize) -> Option<usize> {
    if structs >= MAX_NESTED || !is_basic(*text.get(at)?) {
        return None;
    }
    let end = complete(text, at + 1, arrays, structs + 1)?;
    (*text.get(end)? == b'}').then_some(end + 1)
}

/// Bytes of a signature.
pub(crate) const MAX_LEN: usize = 255;
/// Arrays within each other, and structs within each other.
const MAX_NESTED: usize = 32;
