//! The file to begin with: every key with its words, and what it is without a line.

use std::fmt::Write;

use super::document::written;
use super::key::{Applies, Key, Kind};
use super::overrides::variable;
use super::schema::ConfigSchema;

/// The text of a file that changes nothing and shows everything: each key as a comment with its default, beneath what it
/// is for, what it may be, and when a change has its effect.
pub fn init_text(schema: &ConfigSchema) -> String {
    let mut text = String::from(HEAD);
    for category in schema.categories() {
        text.push('\n');
        comment(&mut text, category.description());
        line(&mut text, &format!("[{}]", category.name()));
        for key in category.keys() {
            text.push('\n');
            describe(&mut text, category.name(), key);
        }
    }
    text
}

fn describe(text: &mut String, category: &str, key: &Key) {
    comment(text, key.description());
    comment(text, &about(key));
    if let Some(example) = key.example_value() {
        comment(text, &format!("Example: {} = {}", key.name(), written(example)));
    }
    comment(text, &format!("Variable: {}", variable(category, key.name())));
    line(text, &format!("#{} = {}", key.name(), written(key.default())));
}

/// What may be there, and when it counts: `A whole number from 1 to 64, in ms.`
fn about(key: &Key) -> String {
    let mut about = key.expected();
    if !key.unit_name().is_empty() && !matches!(key.kind(), Kind::Bool) {
        let _ = write!(about, ", in {}", key.unit_name());
    }
    if let Some(first) = about.get(..1).map(str::to_uppercase) {
        about.replace_range(..1, &first);
    }
    about.push('.');
    if key.applies() == Applies::AtRestart {
        about.push_str(" Has its effect when the hub starts again.");
    }
    if key.is_only_in_file() {
        about.push_str(" Changed in this file alone.");
    }
    about
}

/// Words for people, as lines of at most 100 characters.
fn comment(text: &mut String, words: &str) {
    let mut current = String::from("#");
    for word in words.split_whitespace() {
        if current.len() > 1 && current.chars().count() + 1 + word.chars().count() > MAX_LINE {
            line(text, &current);
            current = String::from("#");
        }
        current.push(' ');
        current.push_str(word);
    }
    if current.len() > 1 {
        line(text, &current);
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

const MAX_LINE: usize = 100;
const HEAD: &str = "\
# The configuration of Visorbus. A line such as '#enabled = true' shows what holds without it: take the '#' away and
# change the value. Above this file stand the environment, and above that the command line. `visorbus config check`
# says what is wrong here; SIGHUP, or `visorbus reload`, has a running hub read it again.
";
