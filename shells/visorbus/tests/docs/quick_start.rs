//! Every command of the quick start works, in its order.

use crate::page;
use crate::script::{Desk, Step, steps};

#[test]
fn the_quick_start_works_as_written() {
    let shown = steps(&page("quick-start.md"));
    assert!(shown.len() >= 15, "{shown:?}");
    let mut all = vec![Step::new(
        "await() { timeout 60 tail --lines=+1 --follow=name --retry \"$1\" 2> /dev/null | grep --max-count=1 -e \"$2\"; }",
    )];
    all.extend(shown.iter().map(|step| step.command.as_str()).flat_map(in_one_shell));
    Desk::new().run(&all, false);
}

/// A command of several terminals, where there is one: what goes on is put into the background until the next of its kind,
/// or ended when it has shown something.
fn in_one_shell(command: &str) -> Vec<Step> {
    let typed = command.replace("/dev/pts/3", "$line");
    let lines: Vec<String> = match typed.as_str() {
        // The first is how this was built; the second has tests of its own.
        "cargo install --path shells/visorbus" | "visorbus demo" => Vec::new(),
        "visorbus top" => vec![format!("{typed} --once")],
        _ if typed.starts_with("visorbus serve") => vec![
            "[ -z \"$hub\" ] || { visorbus shutdown; wait $hub; }".to_owned(),
            format!("{typed} 2> hub.txt & hub=$!"),
            "await hub.txt 'visorbus serves on' || { cat hub.txt; false; }".to_owned(),
        ],
        _ if typed.contains("demo-node") => {
            vec![format!("{typed} > board.txt &"), "line=$(await board.txt /dev/pts/)".to_owned()]
        }
        _ if typed.starts_with("visorbus subscribe") => vec![format!("{typed} --count 1")],
        // The board is there a moment after the hub, and has told what it offers a moment later.
        _ if typed.starts_with("visorbus hardware show") => {
            vec![typed.replace("show", "wait"), typed]
        }
        _ if typed.starts_with("visorbus call") => vec![
            "visorbus services --watch > offered.txt & offered=$!".to_owned(),
            "await offered.txt imu/info; kill $offered".to_owned(),
            typed,
        ],
        _ => vec![typed],
    };
    lines.iter().map(|line| Step::new(line)).collect()
}
