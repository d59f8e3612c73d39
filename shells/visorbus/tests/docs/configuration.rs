//! The reference of the options is the one that the program has.

use std::fmt::Write;
use std::fs;

use visorbus::settings;
use visorbus_hub::Value;
use visorbus_services::config::{Applies, Category, Key};

use crate::script::{Desk, steps};
use crate::{page, root};

#[test]
fn the_reference_of_the_options_is_what_the_schema_says() {
    let text = page(PAGE);
    let (before, rest) = text.split_once(BEGIN).expect("where the reference begins");
    let (found, after) = rest.split_once(END).expect("where it ends");
    let reference: String = settings::schema().categories().iter().map(category).collect();
    let reference = format!("\n{reference}");
    if std::env::var_os("VISORBUS_WRITE_FILES").is_some() {
        fs::write(root().join("docs").join(PAGE), format!("{before}{BEGIN}{reference}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        found, reference,
        "docs/{PAGE}: run this test with VISORBUS_WRITE_FILES=1 and look at the difference"
    );
}

#[test]
fn the_commands_of_the_page_work() {
    let shown = steps(&page(PAGE));
    assert!(shown.len() >= 7, "{shown:?}");
    Desk::new().run(&shown, false);
}

fn category(category: &Category) -> String {
    let mut text = format!("\n### `[{}]`\n\n{}\n\n", category.name(), cell(category.description()));
    text += "| key | default | may be | what it is for |\n|---|---|---|---|\n";
    for key in category.keys() {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            key.name(),
            default(key),
            may_be(key),
            cell(&what_for(key))
        );
    }
    text
}

/// The value without a line; a list one below the other.
fn default(key: &Key) -> String {
    match key.default() {
        Value::Texts(texts) if texts.len() > 1 => {
            let texts: Vec<String> = texts.iter().map(|text| format!("`{}`", cell(text))).collect();
            texts.join("<br>")
        }
        value => format!("`{}`", cell(&toml(value))),
    }
}

fn may_be(key: &Key) -> String {
    let unit = if key.unit_name().is_empty() { String::new() } else { format!(", {}", key.unit_name()) };
    let expected = key.expected().replace(['"'], "`");
    format!("{}{unit}", cell(&expected))
}

fn what_for(key: &Key) -> String {
    let mut text = key.description().to_owned();
    if let Some(example) = key.example_value() {
        let _ = write!(text, " Example: `{}`.", toml(example));
    }
    if key.applies() == Applies::AtRestart {
        text += " **At the next start.**";
    }
    if key.is_only_in_file() {
        text += " **In the file alone.**";
    }
    text
}

/// As the file has it.
fn toml(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Texts(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
            format!("[{}]", texts.join(", "))
        }
        other => other.to_string(),
    }
}

/// What may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

const PAGE: &str = "configuration.md";
const BEGIN: &str =
    "<!-- From here on written by a test: VISORBUS_WRITE_FILES=1 cargo test -p visorbus --test docs -->\n";
const END: &str = "\n<!-- To here. -->\n";
