//! The configuration file: whatever it holds, the end is a configuration or errors that name their places.

use std::path::Path;

use vip_lb::config::{self, ConfigErrors};

/// Reads a configuration. Bytes that are no UTF-8 do not get that far.
pub fn one(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match config::parse(text, Path::new("c.yaml")) {
        Ok(loaded) => {
            assert!(!loaded.config.node.interfaces.is_empty(), "a valid node has an interface");
            let again = config::parse(text, Path::new("c.yaml"));
            assert_eq!(again.as_ref(), Ok(&loaded), "the same text means the same");
        }
        Err(errors) => check(&errors, text),
    }
}

fn check(errors: &ConfigErrors, text: &str) {
    assert!(!errors.errors.is_empty(), "refused without a reason");
    let lines = text.lines().count() as u64;
    let mut before = (None, None);
    for issue in &errors.errors {
        let here = (issue.line, issue.column);
        assert!(before <= here, "{issue} is out of order");
        before = here;
        assert!(issue.line.is_none_or(|line| line <= lines + 1), "{issue} is past the end");
        let shown = issue.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?} is not one line");
        assert!(shown.starts_with("c.yaml"), "{shown} does not name the file");
        assert!(shown.contains(": found ") && shown.contains(", expected "), "{shown} says too little");
    }
}
