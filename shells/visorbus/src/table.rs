//! Tables for people: as wide as the terminal that they are shown on, and with aligned columns where they go into a file or
//! another program.

use std::io::{self, IsTerminal};

use comfy_table::{ContentArrangement, Table, presets};

use crate::output::{BOLD, paint, table};

/// The rows below their header; `none` where there are no rows.
pub(crate) fn draw(header: &[&str], rows: &[Vec<String>], none: &str) -> String {
    let width = terminal_width();
    let text = match width {
        Some(width) => drawn(header, rows, width),
        None => table(header, rows),
    };
    let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
    let body = if rows.is_empty() { none } else { body };
    format!("{}\n{body}", paint(width.is_some(), BOLD, head))
}

/// Columns side by side within `width`: cells that have no room go on below.
fn drawn(header: &[&str], rows: &[Vec<String>], width: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(header).add_rows(rows);
    let columns = header.len();
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if number + 1 < columns { 2 } else { 0 }));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `None` where nobody looks on.
fn terminal_width() -> Option<u16> {
    let out = io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
    // A terminal that does not know how wide it is says 0.
    size.map(|size| if size.ws_col == 0 { USUAL_WIDTH } else { size.ws_col.max(LEAST_WIDTH) })
}

const USUAL_WIDTH: u16 = 80;

/// In less no table can be read.
const LEAST_WIDTH: u16 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["board/imu", "1", "ready"]), row(["x", "234", &"long words ".repeat(20)])]
    }

    #[test]
    fn a_table_is_no_wider_than_its_terminal_and_loses_no_word() {
        let text = drawn(&["ID", "N", "STATE"], &rows(), 60);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert_eq!(text.matches("long").count(), 20, "{text}");
        assert!(text.starts_with("ID"), "{text}");
    }

    #[test]
    fn where_nobody_looks_on_each_row_is_one_line() {
        let text = table(&["ID", "N", "STATE"], &rows());
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
