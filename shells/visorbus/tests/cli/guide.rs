//! The firmware guide is true: its project is built from the page and run as the page says, and what it quotes stands where
//! it says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use visorbus_hal::piece_len;

use crate::place::Place;

/// What stands in the blocks of the guide.
#[derive(Default)]
struct Guide {
    /// Files of the reader's project, by path.
    files: BTreeMap<String, String>,
    /// Lines that another file of the repository is said to have.
    quotes: Vec<(String, String)>,
    /// What the reader types, in its order.
    commands: Vec<String>,
    /// What of that installs something.
    setup: Vec<String>,
}

impl Guide {
    fn read() -> Self {
        let mut guide = Self::default();
        let text = text();
        let mut lines = text.lines();
        let mut source = String::new();
        while let Some(line) = lines.next() {
            let Some(kind) = line.strip_prefix("```") else {
                if let Some((_, path)) = line.strip_suffix('`').and_then(|rest| rest.rsplit_once('`')) {
                    source = path.to_owned();
                }
                continue;
            };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            guide.take(kind, &source, &block);
        }
        guide
    }

    fn take(&mut self, kind: &str, source: &str, block: &[&str]) {
        let text = block.join("\n") + "\n";
        match kind {
            "console" => {
                let typed = block.iter().filter_map(|line| line.strip_prefix("$ "));
                self.commands.extend(typed.map(str::to_owned));
            }
            "sh" => self.setup.extend(block.iter().map(|line| (*line).to_owned())),
            _ if source.starts_with("thermo/") => {
                let before = self.files.insert(source.to_owned(), text);
                assert!(before.is_none(), "{source} stands there twice");
            }
            _ if source.starts_with("firmware-examples/") => self.quotes.push((source.to_owned(), text)),
            _ => panic!("nothing says what this block is: {text}"),
        }
    }

    /// Writes the reader's project beside a checkout of this repository; its folder. What has not changed since the last
    /// time stays, and is not built again.
    fn write(&self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide");
        let differs = |(path, text): (&String, &String)| {
            fs::read_to_string(folder.join(path)).is_ok_and(|found| found == *text)
        };
        let listed = self.files.keys().map(|path| format!("{path}\n")).collect::<String>();
        let unchanged = self.files.iter().all(differs);
        if !unchanged || fs::read_to_string(folder.join("files")).ok() != Some(listed.clone()) {
            let _ = fs::remove_dir_all(&folder);
            for (path, text) in &self.files {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            symlink(root(), folder.join("visorbus")).unwrap();
            symlink(target(), folder.join("thermo/target")).unwrap();
            fs::write(folder.join("files"), listed).unwrap();
        }
        let project = folder.join("thermo");
        // The versions that the examples are built with, which are here already.
        fs::copy(root().join("firmware-examples/Cargo.lock"), project.join("Cargo.lock")).unwrap();
        project
    }
}

fn text() -> String {
    fs::read_to_string(root().join("docs/firmware-guide.md")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where the firmware of the examples is built, so that nothing is built twice.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("firmware-examples/target"), |folder| root().join(folder))
}

#[test]
fn the_project_of_the_firmware_guide_comes_on_the_bus_as_written() {
    let guide = Guide::read();
    assert!(guide.files.len() >= 14 && guide.commands.len() >= 35, "{:?}", guide.commands);
    let project = guide.write();
    let place = Place::new();
    // Each command is shown before what it prints; where one does not build, nothing after it is worth waiting for.
    let shown = guide.commands.iter().map(|command| {
        let stop = if command.starts_with("cargo ") { " || exit 1" } else { "" };
        // What a reader lets come in two seconds takes longer on a busy machine: until the hub has it, or it has ended.
        let waits = "until visorbus peers | grep -q cli || ! kill -0 $ALARM; do :; done; ";
        let before = if command == "sleep 2" { waits } else { "" };
        format!("printf '%s\\n' {}\n{before}{command}{stop}\n", quoted(command))
    });
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null' EXIT\nexec 2>&1\n{}", shown.collect::<String>());
    fs::write(place.path().join("guide.sh"), script).unwrap();
    // Ends all that the script started if it hangs.
    let mut run = place.shell(&format!("timeout -k 5 1200 bash {}/guide.sh", place.path().display()));
    run.current_dir(&project).env_remove("CARGO_TARGET_DIR").env_remove("VISORBUS_DEVICE_KEY");
    run.env("CARGO_NET_OFFLINE", "true").stdin(Stdio::null());
    let output = run.output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    for (after, text) in EXPECTED {
        let rest = output.split_once(after).unwrap_or_else(|| panic!("no '{after}' in\n{output}")).1;
        // How wide a column is depends on what else is in it.
        let folded = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_there = rest.contains(text) || rest.lines().any(|line| folded(line).contains(text));
        assert!(is_there, "no '{text}' after '{after}' in\n{output}");
    }
    assert!(!output.contains("FAILED") && !output.contains("error: could not compile"), "{output}");
}

/// Beginnings of commands, and what comes after that.
const EXPECTED: [(&str, &str); 14] = [
    ("until visorbus services", "manager component (hub) hub"),
    ("visorbus call thermo/info; do", r#""fan":"NotCalled","limit":4000"#),
    ("visorbus services\n", "thermo/set-limit endpoint scope thermo.control thermo"),
    ("visorbus subscribe thermo/reading", r#""payload":{"centidegrees":"#),
    ("visorbus peers", "thermo "),
    ("visorbus publish thermo/ambient", r#"{"ambient":2150,"#),
    ("visorbus subscribe thermo/alarm", r#""topic":"thermo/alarm""#),
    ("wait $ALARM", r#""fan":"Refused""#),
    ("visorbus call fan/turn 10", "300\n"),
    ("grep Turns", r#""fan":{"Turns":"#),
    ("visorbus call thermo/set-limit 4000 --token", "this needs the scope 'thermo.control'"),
    ("visorbus call thermo/set-limit 20000", "message error: the limit goes from 0 to 100 degrees"),
    ("kill $BOARD", "nobody serves 'thermo'"),
    ("cargo test", "a_limit_that_is_passed_is_an_alarm_and_a_call_to_the_fan ... ok"),
];

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn what_the_firmware_guide_quotes_stands_where_it_says() {
    let guide = Guide::read();
    assert!(guide.quotes.len() >= 8);
    for (path, lines) in &guide.quotes {
        let file = fs::read_to_string(root().join(path)).unwrap();
        assert!(file.contains(lines.as_str()), "{path} has no\n{lines}");
    }
    let text = text();
    // Outside of blocks.
    let prose = text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let places = ["firmware-examples/", "shells/", "tests/"];
    for path in prose.filter(|word| places.iter().any(|place| word.starts_with(place))) {
        assert!(root().join(path).exists(), "there is no {path}");
    }
}

#[test]
fn the_firmware_guide_says_how_long_pieces_are() {
    let text = text();
    for (baud, say) in [(62_000, "62 000"), (115_200, "115 200"), (230_400, "230 400"), (268_000, "268 000")]
    {
        let row = text.lines().find(|line| line.starts_with("| ") && line.contains(say)).unwrap();
        assert!(row.ends_with(&format!("| {} |", piece_len(baud))), "{row}");
    }
    assert_eq!((piece_len(9_600), piece_len(3_000_000)), (piece_len(62_000), piece_len(268_000)));
}

#[test]
fn every_link_of_the_firmware_guide_leads_somewhere() {
    let text = text();
    let headings: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
    let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    for link in links {
        match link.strip_prefix('#') {
            Some(name) => assert!(headings.iter().any(|heading| heading == name), "{link}"),
            None => assert!(root().join("docs").join(link).exists(), "{link}"),
        }
    }
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
