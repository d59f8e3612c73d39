//! Tables for people: as wide as the terminal that they are shown on, and with aligned columns where they go into a file or
//! another program.

use std::io::{self, IsTerminal};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

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
    let whole = whole_columns(header, rows, width.into());
    for (number, column) in table.column_iter_mut().enumerate() {
        let gap = if number + 1 < columns { GAP } else { 0 };
        column.set_padding((0, gap));
        if let Some(longest) = whole.get(number) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(longest + gap)));
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// How wide the first columns have to be so that no word in them is broken: as many as there is room for, beside some for
/// the others.
fn whole_columns(header: &[&str], rows: &[Vec<String>], width: usize) -> Vec<u16> {
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        let words = cells.chain([header[column]]).flat_map(str::split_whitespace);
        words.map(|word| word.chars().count()).max().unwrap_or(0)
    };
    let mut left = width;
    let mut whole = Vec::new();
    for column in 0..header.len() {
        let others = (header.len() - column - 1) * LEAST_COLUMN;
        let longest = longest(column);
        // After the name, a word that is as long as that is a value that may as well go on below.
        let is_value = column > 0 && longest > width / 3;
        if is_value || longest + usize::from(GAP) + others > left {
            break;
        }
        left -= longest + usize::from(GAP);
        whole.push(u16::try_from(longest).unwrap_or(u16::MAX));
    }
    whole
}

/// Columns of the terminal that standard output is; `None` where nobody looks on.
pub(crate) fn terminal_width() -> Option<u16> {
    let out = io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
    // A terminal that does not know how wide it is says 0.
    size.map(|size| if size.ws_col == 0 { USUAL_WIDTH } else { size.ws_col.max(LEAST_WIDTH) })
}

const USUAL_WIDTH: u16 = 80;
/// Between two columns.
const GAP: u16 = 2;
/// What a column needs at least, with the gap beside it.
const LEAST_COLUMN: usize = 6;

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
    fn names_are_not_broken_where_there_is_room_for_them() {
        let name = "monitoring.scan_interval_ms";
        let rows = [["a", "b"].as_slice(), &[name, &"long words ".repeat(20)]];
        let rows = rows.map(|row| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        for width in 40..100 {
            let text = drawn(&["OPTION", "WHAT IT IS FOR"], &rows, width);
            assert!(text.contains(name), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
        }
        // Where there is none, all is there all the same.
        let many = vec![vec!["a-long-name".to_owned(); 12]];
        let text = drawn(&["A"; 12], &many, 60);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert_eq!(text.matches('m').count(), 12, "{text}");
    }

    #[test]
    fn where_nobody_looks_on_each_row_is_one_line() {
        let text = table(&["ID", "N", "STATE"], &rows());
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
