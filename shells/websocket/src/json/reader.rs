//! A strict reader of JSON (RFC 8259): one pass over the text, borrowed from it. Beside the grammar it refuses what
//! readers understand differently: keys that come twice, halves of surrogate pairs, and depth without end.

use std::borrow::Cow;

use super::fault::Fault;

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// Reads one text from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    /// Keys of the objects that are being passed over, the innermost ones last.
    keys: Vec<Cow<'t, str>>,
}

impl<'t> Reader<'t> {
    pub(crate) const fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0, keys: Vec::new() }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => {
                Err(Fault::not_json(self.at, "one message ends here and more follows: send one a time"))
            }
        }
    }

    /// Reads an object with these fields, in any order; `each` reads the value of the field whose number it is told.
    pub(crate) fn object(
        &mut self,
        what: &str,
        fields: &[&str],
        mut each: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        let mut seen = 0_u32;
        self.entries(what, |reader, key| {
            let Some(field) = fields.iter().position(|known| **known == *key) else {
                return Err(Fault::content(format!(
                    "there is no such field; {what} has {}",
                    fields.join(", ")
                )));
            };
            if seen & (1 << field) != 0 {
                return Err(Fault::content(TWICE));
            }
            seen |= 1 << field;
            each(reader, field)
        })
    }

    /// Reads one of these variants: its name as a string, or an object whose one key it is; `each` is told its number
    /// and reads the value if there is one.
    pub(crate) fn variant(
        &mut self,
        what: &str,
        names: &[&str],
        mut each: impl FnMut(&mut Self, usize, bool) -> Result<()>,
    ) -> Result<()> {
        let unknown = || Fault::content(format!("there is no such {what}; there are {}", names.join(", ")));
        if self.peek() == Some(b'"') {
            let name = self.string(what)?;
            let variant = names.iter().position(|known| **known == *name).ok_or_else(unknown)?;
            return each(self, variant, false).map_err(|fault| fault.within(&name));
        }
        let mut count = 0;
        self.entries("this", |reader, key| {
            let variant = names.iter().position(|known| **known == *key).ok_or_else(unknown)?;
            count += 1;
            if count > 1 {
                return Err(Fault::content(format!("there is one {what} already, this is a second one")));
            }
            each(reader, variant, true)
        })?;
        match count {
            0 => Err(Fault::content(format!("this is empty: one of {} has to be in it", names.join(", ")))),
            _ => Ok(()),
        }
    }

    /// Reads a string. It is borrowed unless something in it is escaped.
    pub(crate) fn string(&mut self, what: &str) -> Result<Cow<'t, str>> {
        self.literal(what).map(unquote)
    }

    /// Reads a string and gives it as it stands in the text, quotes and all.
    pub(crate) fn literal(&mut self, what: &str) -> Result<&'t str> {
        self.expect(b'"', what, "a string")?;
        let from = self.at;
        self.skip_string()?;
        Ok(&self.text[from..self.at])
    }

    /// Reads a whole number from 0 to `max`.
    pub(crate) fn number(&mut self, what: &str, max: u64) -> Result<u64> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.mismatch(what, "a number"));
        }
        let from = self.at;
        self.skip_number()?;
        let number = self.text[from..self.at].parse().ok().filter(|number| *number <= max);
        number.ok_or_else(|| Fault::content(format!("{what} is a whole number from 0 to {max}")))
    }

    pub(crate) fn boolean(&mut self, what: &str) -> Result<bool> {
        match self.peek() {
            Some(b't') => self.word("true").map(|()| true),
            Some(b'f') => self.word("false").map(|()| false),
            _ => Err(self.mismatch(what, "true or false")),
        }
    }

    /// Passes over a value of any kind and gives it as it stands in the text, without white space around it.
    pub(crate) fn raw(&mut self) -> Result<&'t str> {
        self.peek();
        let from = self.at;
        self.skip()?;
        Ok(&self.text[from..self.at])
    }

    /// Passes over a value, and gives a reader that begins there.
    pub(crate) fn later(&mut self) -> Result<Self> {
        self.peek();
        let later = Self { text: self.text, at: self.at, depth: self.depth, keys: Vec::new() };
        self.skip()?;
        Ok(later)
    }

    /// The next byte that is no white space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Reads an object; `each` is told a key and reads its value.
    fn entries(&mut self, what: &str, mut each: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        self.expect(b'{', what, "an object")?;
        self.descend()?;
        if self.peek() == Some(b'}') {
            return self.ascend();
        }
        loop {
            let key = self.key()?;
            each(self, &key).map_err(|fault| fault.within(&key))?;
            if self.is_last(b'}')? {
                return self.ascend();
            }
        }
    }

    fn key(&mut self) -> Result<Cow<'t, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes is expected"));
        }
        let from = self.at;
        self.skip_string()?;
        let key = unquote(&self.text[from..self.at]);
        if self.peek() != Some(b':') {
            return Err(self.unexpected("a colon is expected"));
        }
        self.at += 1;
        Ok(key)
    }

    /// Takes the comma, or sees the bracket that closes.
    fn is_last(&mut self, close: u8) -> Result<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == close => Ok(true),
            _ => Err(self.unexpected("a comma or the closing bracket is expected")),
        }
    }

    /// Takes the opening bracket.
    fn descend(&mut self) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::content(format!("more than {MAX_DEPTH} brackets are open here")));
        }
        (self.depth, self.at) = (self.depth + 1, self.at + 1);
        Ok(())
    }

    /// Takes the closing bracket.
    #[expect(clippy::unnecessary_wraps, reason = "the end of functions that fail")]
    const fn ascend(&mut self) -> Result<()> {
        (self.depth, self.at) = (self.depth - 1, self.at + 1);
        Ok(())
    }

    // As deep as brackets may be.
    fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => self.skip_object(),
            Some(b'[') => self.skip_list(),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.unexpected("a value is expected")),
        }
    }

    fn skip_object(&mut self) -> Result<()> {
        self.descend()?;
        if self.peek() == Some(b'}') {
            return self.ascend();
        }
        let first = self.keys.len();
        loop {
            let key = self.key()?;
            if let Err(fault) = self.skip() {
                return Err(fault.within(&key));
            }
            self.keys.push(key);
            if self.is_last(b'}')? {
                break;
            }
        }
        self.check_keys(first)?;
        self.keys.truncate(first);
        self.ascend()
    }

    /// No key from `first` on may be there twice.
    fn check_keys(&mut self, first: usize) -> Result<()> {
        let keys = &mut self.keys[first..];
        let twice = if keys.len() <= FEW {
            (1..keys.len()).find(|at| keys[..*at].contains(&keys[*at]))
        } else {
            // Whatever the keys are, this takes no longer than n log n.
            keys.sort_unstable();
            (1..keys.len()).find(|at| keys[at - 1] == keys[*at])
        };
        twice.map_or(Ok(()), |at| Err(Fault::content(TWICE).within(&keys[at])))
    }

    fn skip_list(&mut self) -> Result<()> {
        self.descend()?;
        if self.peek() == Some(b']') {
            return self.ascend();
        }
        for index in 0.. {
            self.skip().map_err(|fault| fault.at_item(index))?;
            if self.is_last(b']')? {
                break;
            }
        }
        self.ascend()
    }

    fn skip_string(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.skip_escape()?,
                Some(0x20..) => self.at += 1,
                Some(_) => return Err(self.unexpected("a control character stands in a string: escape it")),
                None => return Err(self.unexpected("the text ends in a string")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn skip_escape(&mut self) -> Result<()> {
        match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit(self.at)? {
                0xd800..=0xdbff => {
                    // Only the second half of a pair may follow.
                    let is_pair = self.text.as_bytes()[self.at + 6..].starts_with(b"\\u")
                        && (0xdc00..=0xdfff).contains(&self.unit(self.at + 6)?);
                    self.at += 12;
                    if is_pair { Ok(()) } else { Err(Fault::content(HALF)) }
                }
                0xdc00..=0xdfff => Err(Fault::content(HALF)),
                _ => {
                    self.at += 6;
                    Ok(())
                }
            },
            _ => Err(self.unexpected("there is no such escape in a string")),
        }
    }

    /// The code unit of the `\u` at `at`.
    fn unit(&self, at: usize) -> Result<u16> {
        let digits = self.text.as_bytes().get(at + 2..at + 6);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let unit = digits.map(|digits| digits.iter().fold(0, |unit, digit| unit << 4 | hex(*digit)));
        unit.ok_or_else(|| Fault::not_json(at, "four hexadecimal digits are expected after \\u"))
    }

    fn skip_number(&mut self) -> Result<()> {
        self.take_if(|byte| byte == b'-');
        match self.text.as_bytes().get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.unexpected("a digit is expected")),
        }
        if self.take_if(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.take_if(|byte| matches!(byte, b'e' | b'E')) {
            self.take_if(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let from = self.at;
        while self.take_if(|byte| byte.is_ascii_digit()) {}
        if self.at == from { Err(self.unexpected("a digit is expected")) } else { Ok(()) }
    }

    fn take_if(&mut self, is_it: impl Fn(u8) -> bool) -> bool {
        let taken = self.text.as_bytes().get(self.at).is_some_and(|byte| is_it(*byte));
        self.at += usize::from(taken);
        taken
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value is expected"));
        }
        self.at += word.len();
        Ok(())
    }

    fn expect(&mut self, first: u8, what: &str, kind: &str) -> Result<()> {
        if self.peek() == Some(first) { Ok(()) } else { Err(self.mismatch(what, kind)) }
    }

    /// There is another kind of value, or none.
    #[cold]
    fn mismatch(&mut self, what: &str, kind: &str) -> Fault {
        match self.peek() {
            Some(b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                Fault::content(format!("{what} is {kind}, and not what stands here"))
            }
            _ => self.unexpected("a value is expected"),
        }
    }

    #[cold]
    fn unexpected(&self, expected: &str) -> Fault {
        Fault::not_json(self.at, expected)
    }
}

/// Passes over one document: what is wrong with it as JSON.
pub(crate) fn check(text: &str) -> Result<()> {
    let mut reader = Reader::new(text);
    reader.skip()?;
    reader.end()
}

/// What a string says that was passed over, with its quotes.
pub(crate) fn unquote(literal: &str) -> Cow<'_, str> {
    let inner = &literal[1..literal.len() - 1];
    let Some(escaped) = inner.find('\\') else { return Cow::Borrowed(inner) };
    // As long as it can get: what is secret in it is never moved and left behind.
    let mut text = String::with_capacity(inner.len());
    let (plain, mut rest) = inner.split_at(escaped);
    text.push_str(plain);
    while let Some(escape) = rest.as_bytes().get(1) {
        let (character, len) = match escape {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => unescape(rest.as_bytes()),
            other => (char::from(*other), 2),
        };
        text.push(character);
        rest = &rest[len..];
        let next = rest.find('\\').unwrap_or(rest.len());
        text.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Cow::Owned(text)
}

/// The character of the `\u` that `escape` begins with, and how many bytes stand for it.
fn unescape(escape: &[u8]) -> (char, usize) {
    let unit =
        |at: usize| escape[at..at + 4].iter().fold(0, |unit, digit| unit << 4 | u32::from(hex(*digit)));
    let (code, len) = match unit(2) {
        high @ 0xd800..=0xdbff => (0x1_0000 + ((high - 0xd800) << 10) + (unit(8) - 0xdc00), 12),
        code => (code, 6),
    };
    // Halves of pairs were refused before.
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), len)
}

/// The value of a hexadecimal digit.
const fn hex(digit: u8) -> u16 {
    (match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }) as u16
}

/// Brackets that may be open at one place.
pub(crate) const MAX_DEPTH: usize = 64;
/// Keys that are compared with each other; more are sorted.
const FEW: usize = 16;
const TWICE: &str = "this key is there twice: leave one of them out";
const HALF: &str =
    "a string has half of a surrogate pair (\\ud800 to \\udfff): write both, or the character itself";

#[cfg(test)]
mod tests {
    use super::super::fault::{Class, shown};
    use super::*;

    #[test]
    fn what_json_is_does_not_differ_from_what_serde_says() {
        for text in [
            "0",
            "-0",
            "1e999",
            "1.5E+3",
            "12",
            "\"\"",
            "\"\\u00e9\\ud83d\\ude00\"",
            "[]",
            "{}",
            " [ 1 , {\"a\":null} ] ",
            "\"/\\/\"",
            "true",
            "false",
            "null",
            "\"\u{7f}\u{2028}\"",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "NaN",
            "Infinity",
            "-Infinity",
            "nul",
            "nulll",
            "tru",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\t\"",
            "\"a",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" 1}",
            "{\"a\":}",
            "[1 2]",
            "[",
            "{",
            "]",
            "",
            " ",
            "1 2",
            "/**/1",
            "\u{feff}1",
            "[1}",
            "\"\\\"",
            "{\"a\":1]",
            "0x1",
            "1_000",
            "--1",
            "\u{a0}1",
        ] {
            // Numbers as they stand, as here.
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
            let ours = check(text);
            assert_eq!(ours.is_ok(), theirs, "{text}: {ours:?}");
            assert!(ours.is_ok() || ours.unwrap_err().class() == Class::NotJson, "{text}");
        }
    }

    #[test]
    fn strings_are_read_as_serde_reads_them() {
        for literal in [
            r#""plain""#,
            r#""a\"b\\c\/d\b\f\n\r\t""#,
            r#""\u0041\u00e9\u20ac\ud83d\ude00 and é""#,
            r#""\u0000""#,
            r#""""#,
            r#""\\u0041""#,
            r#""😀\n😀""#,
        ] {
            let ours = Reader::new(literal).string("it").unwrap().into_owned();
            assert_eq!(ours, serde_json::from_str::<String>(literal).unwrap(), "{literal}");
        }
    }

    #[test]
    fn halves_of_surrogate_pairs_are_refused() {
        for literal in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#"{"\udfff":1}"#,
            r#""\uD83D \uDE00""#,
        ] {
            assert_eq!(check(literal).unwrap_err().class(), Class::Content, "{literal}");
        }
    }

    #[test]
    fn keys_that_come_twice_are_refused_however_they_are_written_and_however_many_there_are() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"[{"b":{"c":1,"d":2,"c":3}}]"#] {
            assert!(check(text).unwrap_err().to_string().contains("twice"), "{text}");
        }
        assert_eq!(check(r#"[0,{"b":{"c":1,"c":3}}]"#).unwrap_err().to_string(), format!("[1].b.c: {TWICE}"));
        assert!(check(r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#).is_ok());
        let many: Vec<_> = (0..1000).map(|key| format!("\"{key}\":{{\"{key}\":0}}")).collect();
        assert!(check(&format!("{{{}}}", many.join(","))).is_ok());
        assert!(check(&format!("{{{},\"500\":1}}", many.join(","))).is_err());
    }

    #[test]
    fn brackets_may_be_64_deep_and_no_deeper() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(check(&nested(MAX_DEPTH + 1)).unwrap_err().class(), Class::Content);
        assert_eq!(check(&"{\"a\":".repeat(1_000_000)).unwrap_err().class(), Class::Content);
    }

    #[test]
    fn a_secret_that_is_a_key_is_not_said_back() {
        let fault = Reader::new(r#"{"vb1.secret":1}"#).object("it", &["a"], |_, _| Ok(())).unwrap_err();
        assert_eq!(fault.to_string(), "[\"(a secret)\"]: there is no such field; it has a");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), 48);
    }
}
