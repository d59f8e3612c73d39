//! One thing that was looked at.

use crate::output::{GREEN, RED, paint};

/// What was found, and what to do about it.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    text: String,
    mend: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, but not all of it, or not for long.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, state: State::Ok, text: text.into(), mend: String::new() }
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warn, text: text.into(), mend: mend.into() }
    }

    pub(super) fn fail(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Fail, text: text.into(), mend: mend.into() }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "check": self.check, "state": self.state.name(), "text": self.text, "mend": self.mend,
        })
    }

    /// A line, and below it what to do.
    pub(super) fn show(&self, terminal: bool) -> String {
        let (name, colour) = (self.state.name(), self.state.colour());
        let state = paint(terminal, colour, &format!("{name:<4}"));
        let line = format!("{state}  {:<8}  {}", self.check, self.text);
        if self.mend.is_empty() { line } else { format!("{line}\n{:16}-> {}", "", self.mend) }
    }
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => GREEN,
            Self::Warn => "33",
            Self::Fail => RED,
        }
    }
}
