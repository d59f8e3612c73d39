//! Every example program of the guide reads a setting, changes it, and hears of a change by another.

use std::process::Stdio;

use crate::page;
use crate::script::{Desk, Step, programs, steps};

/// How a program is started, without what it sets; what it says when it has read, and when it has heard.
struct Example {
    command: String,
    reads: &'static str,
    hears: &'static str,
}

/// Each example is started once to change the setting, while another instance of it hears that, and of a change by the
/// command line.
#[test]
fn every_client_of_the_guide_reads_changes_and_hears_of_others() {
    let examples = programs().join("examples");
    let missing = format!("{} is not built: cargo build -p visorbus --examples", examples.display());
    assert!(examples.join("settings_unix").exists(), "{missing}");
    let page = page("clients.md");
    let shown = [
        (
            "settings_unix.rs",
            format!(
                "VISORBUS_SOCKET=$XDG_RUNTIME_DIR/visorbus/bus.sock {}/settings_unix display/brightness",
                examples.display()
            ),
            "is 70",
            "is now",
        ),
        (
            "settings_websocket.rs",
            format!(
                "VISORBUS_URL=ws://127.0.0.1:7400 {}/settings_websocket display/brightness",
                examples.display()
            ),
            "is 70",
            "is now",
        ),
        (
            "settings_dbus.rs",
            format!("{}/settings_dbus session display brightness", examples.display()),
            "70",
            "is now",
        ),
        (
            "settings.mjs",
            "node docs/examples/settings.mjs ws://127.0.0.1:7400 display/brightness".to_owned(),
            "is 70",
            "is now",
        ),
        (
            "settings_websocket.py",
            "python3 docs/examples/settings_websocket.py ws://127.0.0.1:7400 display/brightness".to_owned(),
            "is 70",
            "is now",
        ),
        (
            "settings_dbus.py",
            "python3 docs/examples/settings_dbus.py display brightness".to_owned(),
            "is 70",
            "is now",
        ),
    ];
    let mut all = Desk::hub_with_board();
    all.push(Step::new(
        "token() { visorbus auth token mint --subject \"$1\" --scope 'request:config/**' --scope 'subscribe:config/**' \
         --scope 'request:bus/*'; }",
    ));
    for (number, (file, command, reads, hears)) in shown.into_iter().enumerate() {
        assert!(page.contains(file), "{file} is not in the page");
        let example = Example { command, reads, hears };
        all.extend(example.steps(number));
    }
    let desk = Desk::new();
    desk.run(&all, false);
}

impl Example {
    fn steps(&self, number: usize) -> Vec<Step> {
        let Self { command, reads, hears } = self;
        // A user of a desktop is known by the policy; a token of the same subject twice would be one name twice.
        let (heard, by_itself, by_another) = (format!("heard{number}"), 20 + number, 40 + number);
        let start = |token: &str, value: &str, to: &str| match command.contains("dbus") {
            true => format!("{command}{value} > {to} 2>&1 &"),
            false => format!("export VISORBUS_TOKEN=$(token {token})\n{command}{value} > {to} 2>&1 &"),
        };
        let shown = |step: String| Step::new(&step);
        vec![
            shown("visorbus config reset display.brightness".to_owned()),
            shown(start("panel", "", &heard) + " listener=$!"),
            shown(format!("await {heard} \"{reads}\" || {{ cat {heard}; false; }}")),
            shown("unset VISORBUS_TOKEN".to_owned()),
            shown(format!("visorbus config set display.brightness {by_another}")),
            shown(format!("await {heard} '{hears}.*{by_another}' || {{ cat {heard}; false; }}")),
            shown("kill $listener; wait $listener 2> /dev/null; true".to_owned()),
            // Now one that changes, and hears it itself; a command hears it too.
            shown(
                "visorbus config watch display > watch.txt 2>&1 & watch=$!\nawait watch.txt watching"
                    .to_owned(),
            ),
            shown(start("panel", &format!(" {by_itself}"), "changes") + " changer=$!"),
            shown(format!("await watch.txt '= {by_itself}' || {{ cat changes; false; }}")),
            shown(format!("await changes '{hears}.*{by_itself}' || {{ cat changes; false; }}")),
            shown(
                "unset VISORBUS_TOKEN; kill $changer $watch; wait $changer $watch 2> /dev/null; true"
                    .to_owned(),
            ),
        ]
    }
}

#[test]
fn the_commands_of_the_clients_page_work() {
    let mut all = Desk::hub_with_board();
    let shown = steps(&page("clients.md"));
    assert!(shown.len() >= 6, "{shown:?}");
    // What goes on until Ctrl-C hears the change of the step after it.
    let (goes_on, done): (Vec<_>, Vec<_>) =
        shown.into_iter().partition(|step| step.command.starts_with("visorbus subscribe"));
    all.extend(done);
    for step in goes_on {
        all.push(Step::new(&format!("{} --count 1 > heard & heard=$!", step.command)));
        all.push(Step::new("until visorbus config set display.brightness $((RANDOM % 100)) && ! kill -0 $heard 2> /dev/null; do :; done"));
        all.push(Step::new("wait $heard; cat heard"));
    }
    Desk::new().run(&all, false);
}

/// The programs that the tests of this page need.
#[test]
fn what_the_clients_page_needs_is_here() {
    for (program, arguments) in
        [("node", &["--version"] as &[&str]), ("python3", &["-c", "import jeepney, websockets.sync.client"])]
    {
        let ran = std::process::Command::new(program).args(arguments).stdout(Stdio::null()).status();
        assert!(
            ran.is_ok_and(|status| status.success()),
            "{program} {arguments:?}: tests/run --only tools installs it"
        );
    }
}
