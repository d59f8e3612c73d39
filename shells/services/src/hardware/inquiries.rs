//! Asks boards what they tell of themselves, on a thread of its own: one that does not answer holds up the asking alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use visorbus_hub::{HubHandle, OwnedMessage, OwnedPayload, Value};

use super::boards::{Inquiry, merge_told};
use super::device::{Device, Property};
use super::inventory::Inventory;

/// The thread's work.
pub(crate) struct Inquiries {
    pub(crate) hub: HubHandle,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) waiting: Receiver<Inquiry>,
}

impl Inquiries {
    /// Until nobody can ask for more.
    pub(crate) fn run(self) {
        while let Ok(first) = self.waiting.recv() {
            // Each board once, however often it was asked for.
            let boards: BTreeSet<Inquiry> = std::iter::once(first).chain(self.waiting.try_iter()).collect();
            for Inquiry(id) in boards {
                self.ask(&id);
            }
        }
    }

    fn ask(&self, id: &str) {
        let Some(device) = self.inventory.device(id) else { return };
        // What comes of a command that begins from here on may be for the next question.
        let commanded = self.inventory.take_commanded(id);
        let told: Vec<Property> = QUESTIONS
            .iter()
            .filter_map(|(command, prefix)| Some(properties(&self.answer(&device, command)?, prefix)))
            .flatten()
            .collect();
        if !told.is_empty() {
            self.inventory.update(id, commanded, |device| merge_told(device, told));
        } else if commanded {
            // The next answer tells of it.
            self.inventory.note_commanded(id);
        }
    }

    /// What the board answers; one that offers no such thing is not asked.
    fn answer(&self, device: &Device, command: &str) -> Option<Answer> {
        let address = device.command(command)?.address.clone();
        let question = OwnedMessage::request(address, OwnedPayload::Json("null".to_owned()));
        // One that does not answer is asked again after the next look.
        let answer = self.hub.request(question, PATIENCE).ok()?;
        answer.payload.parse().ok()
    }
}

/// What a board answers, by name.
type Answer = serde_json::Map<String, serde_json::Value>;

/// What is told, as properties.
fn properties(answer: &Answer, prefix: &str) -> Vec<Property> {
    let told = answer.iter().filter(|(_, value)| !value.is_null());
    told.take(MOST_TOLD).filter_map(|(name, value)| property(&format!("{prefix}{name}"), value)).collect()
}

/// `uptime_us` is the uptime in µs. What is too long to be shown, and no text, is none.
fn property(name: &str, value: &serde_json::Value) -> Option<Property> {
    let name = shown(name).replace('_', "-");
    let unit = UNITS.iter().find(|(ending, _)| name.ends_with(ending));
    let (name, unit) = match unit {
        Some((ending, unit)) => (name.trim_end_matches(ending).to_owned(), (*unit).to_owned()),
        None => (name, String::new()),
    };
    let value = match Value::from(value.clone()) {
        Value::Text(text) => Value::Text(shown(&text)),
        Value::Texts(texts) => Value::Texts(texts.iter().take(MOST_TOLD).map(|text| shown(text)).collect()),
        Value::Json(json) if json.len() > LONGEST_JSON => return None,
        Value::Json(json) => Value::Json(shown(&json)),
        other => other,
    };
    // What a board counts and measures moves; its texts do not.
    let reading = !matches!(value, Value::Text(_) | Value::Texts(_) | Value::Bool(_));
    Some(Property { name, value, unit, reading })
}

/// What a board says may be shown on a terminal.
fn shown(text: &str) -> String {
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(LONGEST_TEXT).map(printable).collect()
}

/// What boards are asked, and what the names of what they answer begin with.
const QUESTIONS: [(&str, &str); 2] = [("info", ""), ("battery", "battery.")];

/// What the names of fields end with, where they say what they are counted in.
const UNITS: [(&str, &str); 4] = [("-us", "µs"), ("-ms", "ms"), ("-hz", "Hz"), ("-percent", "%")];

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(1);

const MOST_TOLD: usize = 32;
/// Characters.
const LONGEST_TEXT: usize = 256;
/// Bytes, and so no more characters than a text has: what [`shown`] makes of it is JSON still.
const LONGEST_JSON: usize = LONGEST_TEXT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_board_tells_is_bounded_and_can_do_nothing_on_a_terminal() {
        let mut answer: Answer = (0..100).map(|number| (format!("f{number}"), number.into())).collect();
        assert_eq!(properties(&answer, "").len(), MOST_TOLD);
        answer.clear();
        answer.insert("firmware".to_owned(), "\u{1b}[2J".repeat(1000).into());
        answer.insert("uptime_us".to_owned(), 5.into());
        answer.insert("pulse".to_owned(), serde_json::Value::Null);
        let told = properties(&answer, "a.");
        assert_eq!(told.len(), 2, "nothing is no property");
        let Value::Text(text) = &told[0].value else { panic!("{told:?}") };
        assert!(text.chars().count() == LONGEST_TEXT && !text.contains('\u{1b}') && !told[0].reading);
        assert_eq!((told[1].name.as_str(), told[1].unit.as_str()), ("a.uptime", "µs"));
        assert!(told[1].reading);

        answer.clear();
        answer.insert("list".to_owned(), vec!["\u{1b}[2J"; 1000].into());
        answer.insert("long".to_owned(), serde_json::json!({ "a": "x".repeat(1000) }));
        answer.insert("short".to_owned(), serde_json::json!({ "a": "\u{9b}2J" }));
        let told = properties(&answer, "");
        let Value::Texts(texts) = &told[0].value else { panic!("{told:?}") };
        assert!(texts.len() == MOST_TOLD && !texts[0].contains('\u{1b}'));
        let names: Vec<&str> = told.iter().map(|told| told.name.as_str()).collect();
        assert_eq!(names, ["list", "short"], "what is too long is left out");
        let Value::Json(json) = &told[1].value else { panic!("{told:?}") };
        assert!(!json.contains('\u{9b}'), "{json}");
    }
}
