//! Introspection data as the D-Bus specification has it ("Introspection Data Format"), with descriptions as
//! `org.gtk.GDBus.DocString`, which GLib's tools read.

use std::fmt::Write as _;

/// An argument: its name, empty for none, and its signature.
pub(crate) type Argument<'a> = (&'a str, &'a str);

/// Writes one node.
#[derive(Debug)]
pub(crate) struct Xml {
    text: String,
}

impl Xml {
    /// A node without anything.
    pub(crate) fn new() -> Self {
        let mut text = String::with_capacity(4096);
        text.push_str(DOCTYPE);
        text.push_str("<node>\n");
        Self { text }
    }

    /// Opens an interface; all that follows until [`Xml::end_interface`] is in it.
    pub(crate) fn interface(&mut self, name: &str) {
        self.line(1, "interface", &[("name", name)], false);
    }

    pub(crate) fn end_interface(&mut self) {
        self.text.push_str("  </interface>\n");
    }

    /// A method with what it takes and gives, its description and annotations.
    pub(crate) fn method(
        &mut self,
        name: &str,
        takes: &[Argument<'_>],
        gives: &[Argument<'_>],
        notes: &[Argument<'_>],
    ) {
        self.line(2, "method", &[("name", name)], false);
        self.notes(3, notes);
        takes.iter().for_each(|argument| self.argument(argument, Some("in")));
        gives.iter().for_each(|argument| self.argument(argument, Some("out")));
        self.text.push_str("    </method>\n");
    }

    pub(crate) fn signal(&mut self, name: &str, carries: &[Argument<'_>], notes: &[Argument<'_>]) {
        self.line(2, "signal", &[("name", name)], false);
        self.notes(3, notes);
        carries.iter().for_each(|argument| self.argument(argument, None));
        self.text.push_str("    </signal>\n");
    }

    /// A property; `access` is `read`, `write` or `readwrite`.
    pub(crate) fn property(&mut self, name: &str, signature: &str, access: &str, notes: &[Argument<'_>]) {
        let attributes = [("name", name), ("type", signature), ("access", access)];
        self.line(2, "property", &attributes, false);
        self.notes(3, notes);
        self.text.push_str("    </property>\n");
    }

    /// A description of the interface that is open.
    pub(crate) fn note(&mut self, name: &str, value: &str) {
        self.notes(2, &[(name, value)]);
    }

    /// An object below this one.
    pub(crate) fn node(&mut self, name: &str) {
        self.line(1, "node", &[("name", name)], true);
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("</node>\n");
        self.text
    }

    fn argument(&mut self, (name, signature): &Argument<'_>, direction: Option<&str>) {
        let all = [("name", *name), ("type", *signature), ("direction", direction.unwrap_or_default())];
        let given: Vec<_> = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self.line(3, "arg", &given, true);
    }

    fn notes(&mut self, depth: usize, notes: &[Argument<'_>]) {
        for (name, value) in notes.iter().filter(|(_, value)| !value.is_empty()) {
            self.line(depth, "annotation", &[("name", name), ("value", value)], true);
        }
    }

    fn line(&mut self, depth: usize, element: &str, attributes: &[(&str, &str)], closed: bool) {
        let _ = write!(self.text, "{:1$}<{element}", "", 2 * depth);
        for (name, value) in attributes {
            let _ = write!(self.text, " {name}=\"");
            escape(value, &mut self.text);
            self.text.push('"');
        }
        self.text.push_str(if closed { "/>\n" } else { ">\n" });
    }
}

/// Appends a text as an attribute has it. What XML 1.0 cannot have at all becomes U+FFFD.
pub(crate) fn escape(text: &str, into: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\n' => into.push_str("&#10;"),
            '\t' => into.push_str("&#9;"),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => into.push('\u{fffd}'),
            other => into.push(other),
        }
    }
}

const DOCTYPE: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_attribute() {
        let mut xml = Xml::new();
        xml.interface("a.B");
        xml.method("M", &[("x", "u")], &[("", "s")], &[("doc", "\"/><evil a='&'>\n\u{1}")]);
        xml.end_interface();
        let text = xml.finish();
        assert!(text.contains("value=\"&quot;/&gt;&lt;evil a='&amp;'&gt;&#10;\u{fffd}\"/>"), "{text}");
        assert!(text.contains("      <arg type=\"s\" direction=\"out\"/>\n"), "{text}");
        assert_eq!(text.matches("<evil").count(), 0);
    }
}
