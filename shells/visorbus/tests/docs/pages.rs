//! Every page is there, every link leads somewhere, and what the program is said to say it does say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{page, root};

#[test]
fn every_page_is_a_chapter_and_every_chapter_a_page() {
    let summary = page("SUMMARY.md");
    let chapters: BTreeSet<String> = links(&summary).into_iter().collect();
    let mut pages = pages();
    pages.remove("SUMMARY.md");
    assert_eq!(chapters, pages);
}

#[test]
fn every_link_of_the_guide_and_of_readme_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    let docs = pages().into_iter().map(|name| root().join("docs").join(name));
    for path in docs.chain([root().join("README.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text).into_iter().filter(|link| !is_elsewhere(link)) {
            checked += 1;
            if !leads_somewhere(&path, &link) {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
        for include in includes(&text) {
            checked += 1;
            if !path.with_file_name(&include).is_file() {
                wrong.push(format!("{} includes {include}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty() && checked > 60, "of {checked}: {wrong:#?}");
}

/// In the book and in the package there is nothing but the guide.
#[test]
fn no_link_of_the_guide_leads_out_of_it() {
    for name in pages() {
        let out: Vec<_> = links(&page(&name)).into_iter().filter(|link| link.starts_with("../")).collect();
        assert!(out.is_empty(), "{name}: name these as code: {out:?}");
    }
}

#[test]
fn what_the_troubleshooting_says_that_the_program_says_it_says() {
    let sources = sources();
    let page = page("troubleshooting.md");
    let phrases: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| in_backquotes(line.split(" | ").next().unwrap_or(line)))
        .filter(|phrase| !SAID_BY_OTHERS.contains(phrase))
        .collect();
    assert!(phrases.len() >= 15, "{phrases:?}");
    let unsaid: Vec<_> = phrases.iter().filter(|phrase| !sources.contains(&words(phrase))).collect();
    assert!(unsaid.is_empty(), "nothing says {unsaid:#?}");
}

#[test]
fn every_limit_of_the_page_stands_with_its_default() {
    let page = page("limits.md");
    let limits = visorbus::settings::schema();
    let limits = limits.category("limits").unwrap().keys().to_vec();
    for key in limits {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}` ", key.name())));
        let row = row.unwrap_or_else(|| panic!("no row of {}", key.name()));
        let shown = row.split('|').nth(2).unwrap().trim();
        let number = |text: &str| text.replace([' ', '\u{a0}'], "").parse::<i64>().unwrap();
        let shown = match shown.strip_suffix(" MiB") {
            Some(mebibytes) => number(mebibytes) << 20,
            None => number(shown),
        };
        assert_eq!(key.default().to_string(), shown.to_string(), "{row}");
    }
}

/// The pages of the guide, by their names.
fn pages() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md")).collect()
}

/// Where the links of a text lead, outside of blocks and of code in lines.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.map(|link| link.split_whitespace().next().unwrap_or(link).to_owned()).collect()
}

fn includes(text: &str) -> Vec<String> {
    let all = text.split("{{#include ").skip(1).filter_map(|rest| rest.split("}}").next());
    all.map(|path| path.split(':').next().unwrap_or(path).to_owned()).collect()
}

fn is_elsewhere(link: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme))
}

fn leads_somewhere(from: &Path, link: &str) -> bool {
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target = if path.is_empty() { from.to_owned() } else { from.with_file_name("").join(path) };
    let Some(heading) = heading else { return target.exists() };
    let Ok(text) = fs::read_to_string(&target) else { return false };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).any(|anchor| anchor == heading)
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn in_backquotes(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// All that the programs of this repository are made of, with single blanks.
fn sources() -> String {
    let mut text = String::new();
    let mut directories: Vec<PathBuf> =
        ["core/src", "hal/src", "shells"].iter().map(|below| root().join(below)).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "tests" && name != "node_modules" {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "js") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    // A text that goes over several lines has a backslash at their ends.
    words(&text.replace("\\\n", " "))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the system says.
const SAID_BY_OTHERS: [&str; 1] = ["Permission denied"];
