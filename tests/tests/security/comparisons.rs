//! Tags and secrets are compared in constant time, by construction: there are six places that compare one, all by
//! `subtle`, and no other code has the bytes in its hands to compare.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_tag_is_compared_in_constant_time_at_one_of_six_places() {
    let places: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| code(text).any(|(_, line)| line.contains(".ct_eq(") || line.contains("::ct_eq(")))
        .map(|(path, _)| path)
        .collect();
    let known = [
        // A token's tag: everything that checks one goes through `Tag::is`.
        "core/src/auth/key.rs",
        // What each end shows in the handshake of a link, and the tag of each of its frames.
        "core/src/secure/accepting.rs",
        "core/src/secure/cipher.rs",
        "core/src/secure/connecting.rs",
        // Whether a link key is still the one that is known.
        "core/src/secure/key.rs",
        // The hash of an API key.
        "shells/auth/src/accounts/api_key.rs",
    ];
    assert_eq!(places, known, "another place compares secrets: is it right, and is it needed?");
}

#[test]
fn nothing_that_is_secret_is_compared_by_the_ordinary_operators() {
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|(path, text)| {
            code(text)
                .filter(|(_, line)| compares_a_secret(line))
                .map(move |(_, line)| format!("{path}: {}", line.trim()))
        })
        .filter(|found| !ALLOWED.iter().any(|allowed| found.contains(allowed)))
        .collect();
    assert!(found.is_empty(), "compared byte by byte until they differ: {found:#?}");
}

#[test]
fn the_search_finds_what_it_is_for() {
    for bad in
        ["if tag == expected {", "a.tag != b", "return self.secret == other.secret;", "proof[..] == *shown"]
    {
        assert!(compares_a_secret(bad), "{bad}");
    }
    for good in ["tag.len() != 16", "if tagged == true", "tags == 3", "x == untagged", "let tag = a == b;"] {
        assert!(!compares_a_secret(good), "{good}");
    }
    assert!(sources().len() > 60, "the sources are where they are looked for");
}

/// Whether one side of a comparison is called like something secret.
fn compares_a_secret(line: &str) -> bool {
    let sides = ["==", "!="].iter().flat_map(|operator| line.match_indices(operator));
    sides.into_iter().any(|(at, operator)| {
        let left =
            line[..at].trim_end().trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '_' || c == ']'));
        let left =
            left.strip_suffix(']').and_then(|left| left.rsplit_once('[')).map_or(left, |(name, _)| name);
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let left = left.rsplit(|c| !word(c)).next().unwrap_or_default();
        let right = line[at + operator.len()..].trim_start_matches(|c: char| !word(c));
        let path: Vec<&str> =
            right.split(|c: char| !(word(c) || c == '.')).next().unwrap_or_default().split('.').collect();
        let is_called = right[path.join(".").len()..].starts_with('(');
        let right = path.last().copied().filter(|_| !is_called).unwrap_or_default();
        [left, right].iter().any(|name| SECRETS.contains(name))
    })
}

/// The lines of a file that are neither comments nor tests, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate();
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The sources that have secrets in their hands, by path, without their tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    let shells = ["auth", "client", "hub", "mcu", "unix", "visorbus", "websocket"]
        .map(|shell| format!("shells/{shell}"));
    for crate_of in ["core", "hal"].into_iter().chain(shells.iter().map(String::as_str)) {
        walk(&root.join(crate_of).join("src"), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            walk(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}

/// What something secret is called here.
const SECRETS: &[&str] = &[
    "tag",
    "mac",
    "proof",
    "confirmation",
    "digest",
    "expected",
    "secret",
    "password",
    "sha256",
    "hash",
    "key_bytes",
];

/// What only looks like it.
const ALLOWED: &[&str] = &[
    // Two that the store itself has read, to see whether one was changed meanwhile.
    "user.password == old.password",
    // Who is at the other end of a link, and the id of a request.
    "self.proof() == Some(&",
    "self.proof != Some(id)",
    "self.proof != id",
    // A checksum against damage, of what nobody but the owner can write.
    "envelope.sha256 != checksum(",
    // Of a page and of a type, which everybody is told.
    "tag == \"*\" || ",
    "*hash == 0 && schema.len() > 0",
];
