//! `visorbus top`: a live view of the hub at a terminal.

mod draw;
mod feed;
mod screen;
mod snapshot;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use visorbus_hub::{Error, Result};

use crate::client::Client;
use crate::output::print;
use crate::{args, interrupt, table};
use feed::{Feed, News};
use screen::{Event, Screen};
use snapshot::Snapshot;
use view::View;

/// Shows the hub until somebody ends it.
pub(crate) fn run(args: &args::Top, json: bool) -> Result<()> {
    if args.once {
        return once(args, json);
    }
    if json || !(stdin().is_terminal() && stdout().is_terminal()) {
        let text = "`visorbus top` needs a terminal to draw on: --once prints it once as text, and \
                    `visorbus monitor watch --json` goes on for programs";
        return Err(Error::Message(text.to_owned()));
    }
    // Before there is any other thread, so that none of them is ended by a signal.
    interrupt::leave_tidy()?;
    let client = Client::connect(&args.client)?;
    let (news, arriving) = channel();
    let feed = Feed::new(client, args.interval.clamp(SHORTEST, LONGEST));
    // What is wrong from the start is said before the screen is taken.
    let first = feed.look()?;
    let signalled = news.clone();
    interrupt::instead(move || drop(signalled.send(News::End)));
    thread::spawn(move || feed.run(&news));
    let mut screen = Screen::take()?;
    let mut view = View::new(first);
    follow(&mut screen, &mut view, &arriving)
}

/// Draws what there is whenever that is something else, until a key, a signal, or the terminal's end.
fn follow(screen: &mut Screen, view: &mut View, arriving: &Receiver<News>) -> Result<()> {
    loop {
        screen.draw(|frame| draw::draw(frame, view))?;
        // Nothing is drawn again before something has come.
        let mut changed = false;
        while !changed {
            match arriving.recv_timeout(Duration::ZERO) {
                Ok(News::End) => return Ok(()),
                Ok(News::Snapshot(snapshot)) => changed = view.take(*snapshot),
                Ok(News::Silence(error)) => changed = view.miss(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("the thread that asks the hub has ended".to_owned()));
                }
            }
            match screen.event(TICK)? {
                Some(Event::Key(key)) if view.press(key) => changed = true,
                Some(Event::Resized) => {
                    screen.clear()?;
                    changed = true;
                }
                _ => {}
            }
            if view.is_over() {
                return Ok(());
            }
        }
    }
}

/// Prints the view as text.
fn once(args: &args::Top, json: bool) -> Result<()> {
    let feed = Feed::new(Client::connect(&args.client)?, args.interval);
    let snapshot = feed.look()?;
    if json {
        return print(&serde_json::to_string(&snapshot).map_err(|e| Error::Internal(e.to_string()))?);
    }
    print(&as_text(snapshot, table::terminal_width().unwrap_or(WIDTH)))
}

/// The view of all that there is, without colours.
fn as_text(snapshot: Snapshot, width: u16) -> String {
    let view = View::new(snapshot);
    let backend = TestBackend::new(width, draw::height(&view));
    let Ok(mut terminal) = Terminal::new(backend);
    let Ok(_) = terminal.draw(|frame| draw::draw(frame, &view));
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(width.into()).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    // The last line is what the keys do.
    let mut lines: Vec<String> = lines.collect();
    lines.pop();
    lines.join("\n").trim_end().to_owned()
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// For so long keys are waited for before the news are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Columns of what is printed once where no terminal says how many it has.
const WIDTH: u16 = 100;
