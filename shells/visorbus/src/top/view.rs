//! What somebody has chosen to see, and what the keys change of it.

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use visorbus_hub::Error;

use crate::top::snapshot::{Row, Snapshot};

/// What is shown.
pub(crate) struct View {
    pub(crate) snapshot: Snapshot,
    /// Why there is nothing newer, and since when.
    pub(crate) silence: Option<(Instant, Error)>,
    pub(crate) paused: bool,
    pub(crate) focus: Focus,
    /// How the two tables are shown.
    pub(crate) peers: Shown,
    pub(crate) addresses: Shown,
    over: bool,
}

impl View {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            silence: None,
            paused: false,
            focus: Focus::Peers,
            // By what comes from a peer, and by what goes to an address.
            peers: Shown { columns: &PEER_COLUMNS, sorted: 2, ..Shown::default() },
            addresses: Shown { columns: &ADDRESS_COLUMNS, sorted: 1, ..Shown::default() },
            over: false,
        }
    }

    /// Shows what is newer, unless it was halted; whether there is something else to be seen.
    pub(crate) fn take(&mut self, snapshot: Snapshot) -> bool {
        let was_silent = self.silence.take().is_some();
        if !self.paused {
            self.snapshot = snapshot;
        }
        was_silent || !self.paused
    }

    /// There is nothing newer.
    pub(crate) fn miss(&mut self, error: Error) -> bool {
        let since = self.silence.take().map_or_else(Instant::now, |(since, _)| since);
        self.silence = Some((since, error));
        true
    }

    /// Does what a key says; whether there is something else to be seen.
    pub(crate) fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => self.over = true,
            KeyCode::Char('c' | 'd') if control => self.over = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Tab | KeyCode::BackTab => self.focus = self.focus.other(),
            KeyCode::Char('s') | KeyCode::Right => self.focused().sort_by_next(1),
            KeyCode::Char('S') | KeyCode::Left => self.focused().sort_by_next(-1),
            KeyCode::Char('r') => self.focused().upward ^= true,
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::PageDown => self.scroll(10),
            KeyCode::PageUp => self.scroll(-10),
            KeyCode::Home => self.focused().first = 0,
            _ => return false,
        }
        true
    }

    /// Whether it was ended.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    /// The rows of the peers' table, sorted.
    pub(crate) fn peer_rows(&self) -> Vec<Row> {
        self.peers.sorted(self.snapshot.peer_rows())
    }

    /// The rows of the addresses' table, sorted.
    pub(crate) fn address_rows(&self) -> Vec<Row> {
        self.addresses.sorted(self.snapshot.address_rows())
    }

    fn focused(&mut self) -> &mut Shown {
        match self.focus {
            Focus::Peers => &mut self.peers,
            Focus::Addresses => &mut self.addresses,
        }
    }

    fn scroll(&mut self, by: isize) {
        let rows = match self.focus {
            Focus::Peers => self.snapshot.peer_rows().len(),
            Focus::Addresses => self.snapshot.address_rows().len(),
        };
        let shown = self.focused();
        shown.first = shown.first.saturating_add_signed(by).min(rows.saturating_sub(1));
    }
}

/// Which of the tables the keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    Peers,
    Addresses,
}

impl Focus {
    const fn other(self) -> Self {
        match self {
            Self::Peers => Self::Addresses,
            Self::Addresses => Self::Peers,
        }
    }
}

/// How a table is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub(crate) columns: &'static [Column],
    /// By which column it is sorted, and whether the least is first.
    pub(crate) sorted: usize,
    pub(crate) upward: bool,
    /// How many rows were scrolled past.
    pub(crate) first: usize,
}

impl Shown {
    fn sort_by_next(&mut self, step: isize) {
        let count = self.columns.len();
        self.sorted = (self.sorted + count).saturating_add_signed(step) % count;
        self.upward = false;
    }

    fn sorted(&self, mut rows: Vec<Row>) -> Vec<Row> {
        match self.columns.get(self.sorted).map(|column| column.of) {
            Some(Of::Number(number, _)) => {
                rows.sort_by(|a, b| {
                    b.numbers[number].total_cmp(&a.numbers[number]).then(a.name.cmp(&b.name))
                });
            }
            Some(Of::Kind) => rows.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name))),
            _ => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        if self.upward {
            rows.reverse();
        }
        rows
    }
}

/// A column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) of: Of,
}

/// What a column has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Name,
    Kind,
    /// One of the row's numbers, and how it is written.
    Number(usize, Form),
}

/// How a number is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Count,
    Bytes,
}

const fn column(title: &'static str, of: Of) -> Column {
    Column { title, of }
}

const PEER_COLUMNS: [Column; 9] = [
    column("PEER", Of::Name),
    column("BY", Of::Kind),
    column("IN/s", Of::Number(0, Form::Count)),
    column("OUT/s", Of::Number(1, Form::Count)),
    column("B-IN/s", Of::Number(2, Form::Bytes)),
    column("B-OUT/s", Of::Number(3, Form::Bytes)),
    column("QUEUED", Of::Number(4, Form::Bytes)),
    column("MISSED", Of::Number(5, Form::Count)),
    column("REFUSED", Of::Number(6, Form::Count)),
];

const ADDRESS_COLUMNS: [Column; 6] = [
    column("ADDRESS", Of::Name),
    column("MSG/s", Of::Number(0, Form::Count)),
    column("B/s", Of::Number(1, Form::Bytes)),
    column("DELIV/s", Of::Number(2, Form::Count)),
    column("MISSED", Of::Number(3, Form::Count)),
    column("TOTAL", Of::Number(4, Form::Count)),
];
