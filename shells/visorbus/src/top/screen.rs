//! The terminal while it is ours: raw, on its other screen, and given back whatever happens.

use std::io;
use std::time::Duration;

use crossterm::event::{self, KeyEvent, KeyEventKind};
use ratatui::backend::Backend;
use ratatui::{DefaultTerminal, Frame};
use visorbus_hub::{Error, Result};

/// A terminal that is drawn on. Dropping it gives it back as it was; a panic does too, before its message is printed.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// `Internal` when it is none, or cannot be drawn on.
    pub(crate) fn take() -> Result<Self> {
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            failed(&error)
        })?;
        Ok(Self { terminal })
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// `Internal` when the terminal is gone.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(draw).map(|_| ()).map_err(|error| failed(&error))
    }

    /// Has all of it drawn anew: what a terminal shows that had another size for a moment, nobody knows.
    ///
    /// # Errors
    /// `Internal` when the terminal is gone.
    pub(crate) fn clear(&mut self) -> Result<()> {
        // Not by the terminal's own `clear`, which asks where the cursor is: not every terminal answers that.
        self.terminal.backend_mut().clear().map_err(|error| failed(&error))?;
        // What was drawn last is forgotten.
        self.terminal.swap_buffers();
        Ok(())
    }

    /// What was done at the terminal, waited for as long as `time`.
    ///
    /// # Errors
    /// `Internal` when the terminal is gone.
    pub(crate) fn event(&self, time: Duration) -> Result<Option<Event>> {
        let next = || if event::poll(time)? { event::read().map(Some) } else { Ok(None) };
        Ok(match next().map_err(|error| failed(&error))? {
            Some(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Some(Event::Key(key)),
            Some(event::Event::Resize(..)) => Some(Event::Resized),
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What can be done at a terminal.
pub(crate) enum Event {
    Key(KeyEvent),
    /// It has another size, or is to be drawn again.
    Resized,
}

fn failed(error: &io::Error) -> Error {
    Error::Internal(format!("the terminal cannot be drawn on: {error}"))
}
