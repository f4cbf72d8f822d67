//! Whatever the text, reading it ends in a configuration or in errors that say something.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index};
use vip_lb::config::{self, ConfigErrors};

fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    ["l2.yaml", "ipip.yaml", "udp-source-affinity.yaml", "pair.yaml"]
        .map(|name| fs::read_to_string(folder.join(name)).unwrap())
        .to_vec()
}

/// Pieces that mean something to YAML or to a configuration.
const PIECES: &[&str] = &[
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "<<: *a",
    "\"",
    "'",
    "#",
    "|\n",
    "---\n",
    "~",
    "0",
    "-1",
    "65536",
    "1e999",
    "99999999999999999999",
    "null",
    "none",
    "health: none\n",
    "weight: 0",
    "fe80::1",
    "\t",
    "\u{feff}",
    "!!int ",
    "? ",
    "ü",
    "\0",
    "%",
    "`",
    "@",
];

fn well_formed(errors: &ConfigErrors, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(!errors.errors.is_empty(), "refused without a reason");
    let mut before = (None, None);
    for issue in &errors.errors {
        let here = (issue.line, issue.column);
        prop_assert!(before <= here, "{issue} is out of order");
        before = here;
        prop_assert!(
            issue.line.is_none_or(|line| line <= text.lines().count() as u64 + 1),
            "{issue} is past the end"
        );
        let line = issue.to_string();
        prop_assert!(!line.contains(char::is_control), "{line:?} is one line");
        prop_assert!(line.starts_with("c.yaml") && line.contains(": found ") && line.contains(", expected "));
    }
    Ok(())
}

fn reads(text: &str) -> Result<(), TestCaseError> {
    match config::parse(text, Path::new("c.yaml")) {
        Ok(loaded) => prop_assert!(!loaded.config.node.interfaces.is_empty()),
        Err(errors) => well_formed(&errors, text)?,
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_read_without_a_panic(text in any::<String>()) {
        reads(&text)?;
    }

    #[test]
    fn a_heap_of_pieces_is_read_without_a_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        reads(&pieces.concat())?;
    }

    #[test]
    fn a_mutated_example_is_read_without_a_panic(
        example in prop::sample::select(examples()),
        edits in prop::collection::vec((any::<Index>(), 0usize..12, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = example.chars().collect();
        for (index, cut, piece) in edits {
            let start = index.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, piece.chars());
        }
        reads(&text.into_iter().collect::<String>())?;
    }
}
