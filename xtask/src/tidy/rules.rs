//! The rules, each over one file.

use super::File;

/// A longer source file is split.
const LINES_AT_MOST: usize = 600;

/// Left-over work, in two halves so that this file does not contain it.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("unimple", "mented!")];

/// Paths that exist on one machine only.
const MACHINE_PATHS: [&str; 2] = [concat!("/ro", "ot/"), concat!("/tm", "p/w/")];

/// The only places whose code may name aya: everything else goes through `dataplane`.
const AYA_AT_HOME: [&str; 4] = ["vip-lb-ebpf/", "vip-lb/src/dataplane/", "vip-lb/build.rs", "tests/"];

/// Crates of aya as they are named in code.
const AYA: [&str; 5] = ["aya", "aya_ebpf", "aya_log", "aya_log_ebpf", "aya_build"];

/// A relative link in a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) target: String,
}

/// What is wrong with a file.
pub(super) fn check(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let File { path, text } = file;
    if path.ends_with(".rs") {
        if !begins_with_its_purpose(text) {
            faults.push(format!("{path}:1: a module begins with a `//!` line that says what it is for"));
        }
        let lines = text.lines().count();
        if lines > LINES_AT_MOST {
            faults.push(format!("{path}: {lines} lines; split what is longer than {LINES_AT_MOST}"));
        }
        if !AYA_AT_HOME.iter().any(|home| path.starts_with(home)) {
            let named = |line: &str| AYA.iter().any(|name| names_crate(line, name));
            faults.extend(at(file, named, "aya is named only in vip-lb-ebpf and vip-lb/src/dataplane"));
        }
    }
    if is_example(path) && !text.starts_with('#') {
        faults.push(format!("{path}:1: an example begins with a comment that says what it shows"));
    }
    // The lock file is cargo's.
    if path != "Cargo.lock" {
        let unfinished = |line: &str| UNFINISHED.iter().any(|mark| contains_word(line, mark));
        faults.extend(at(file, unfinished, "finish it, or write down the gap in words"));
        let machine = |line: &str| MACHINE_PATHS.iter().any(|path| contains_path(line, path));
        faults.extend(at(file, machine, "a path of one machine"));
    }
    faults
}

/// The relative links of a Markdown file, without their anchors.
pub(super) fn links(file: &File) -> Vec<Link> {
    let mut links = Vec::new();
    if !file.path.ends_with(".md") {
        return links;
    }
    let mut in_code = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push(Link { line: index + 1, target: target.to_owned() });
            }
        }
    }
    links
}

fn at(file: &File, wrong: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let lines = file.text.lines().enumerate().filter(|(_, line)| wrong(line));
    lines.map(|(index, line)| format!("{}:{}: {what}: {}", file.path, index + 1, line.trim())).collect()
}

fn begins_with_its_purpose(text: &str) -> bool {
    text.lines()
        .next()
        .and_then(|line| line.strip_prefix("//!"))
        .is_some_and(|purpose| !purpose.trim().is_empty())
}

fn is_example(path: &str) -> bool {
    path.starts_with("examples/") && (path.ends_with(".yaml") || path.ends_with(".yml"))
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(is_word) && !line[start + word.len()..].starts_with(is_word)
    })
}

/// The path itself, not the end of a longer one.
fn contains_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        !line[..start].ends_with(|c: char| is_word(c) || matches!(c, '.' | '-' | '}' | '/'))
    })
}

/// `use aya;`, `use aya::..`, `aya::Ebpf`, `extern crate aya`, outside of comments.
fn names_crate(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(name).any(|(start, _)| {
        let (before, after) = (&code[..start], &code[start + name.len()..]);
        let imported = before.trim_end().ends_with("use") || before.trim_end().ends_with("crate");
        let rest = after.trim_start();
        !before.ends_with(|c: char| is_word(c) || c == '"')
            && (rest.starts_with("::") || (imported && !after.starts_with(is_word)))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
