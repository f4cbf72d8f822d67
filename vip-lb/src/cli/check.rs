//! `vip-lb check`: what is wrong with a configuration file.

use std::{fmt::Display, path::Path};

use serde::Serialize;

use super::{arguments::CheckArgs, exit::Exit, output};
use crate::config::{self, ConfigErrors, InvalidConfig, Issue};

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let findings = Findings::of(&args.file);
    if args.json {
        output::print_json(&findings.as_json(&args.file))?;
    } else {
        output::print(&findings.text(&args.file)?)?;
    }
    Ok(if findings.errors.is_empty() { Exit::Success } else { Exit::InvalidConfig })
}

/// What was found in a file; it is valid if there are no errors.
struct Findings<T> {
    errors: Vec<T>,
    warnings: Vec<T>,
}

impl Findings<Issue> {
    fn of(file: &Path) -> Self {
        match config::load(file) {
            Ok(loaded) => Self { errors: Vec::new(), warnings: loaded.warnings },
            Err(ConfigErrors { errors }) => Self { errors, warnings: Vec::new() },
        }
    }
}

impl<T: Display + Serialize> Findings<T> {
    fn text(&self, file: &Path) -> Result<String, InvalidConfig> {
        if !self.errors.is_empty() {
            let mistakes = self.errors.iter().map(ToString::to_string).collect();
            return Err(InvalidConfig { path: file.to_owned(), mistakes });
        }
        let mut text = format!("{} is valid\n", file.display());
        for warning in &self.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        Ok(text)
    }

    fn as_json<'a>(&'a self, file: &'a Path) -> Report<'a, T> {
        Report { file, valid: self.errors.is_empty(), errors: &self.errors, warnings: &self.warnings }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a, T> {
    file: &'a Path,
    valid: bool,
    errors: &'a [T],
    warnings: &'a [T],
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_valid_file_is_said_to_be_so_with_its_warnings() {
        let findings = Findings { errors: vec![], warnings: vec!["a.yaml:3:5: weight: doubtful"] };
        let text = findings.text(Path::new("a.yaml")).unwrap();
        assert_eq!(text, "a.yaml is valid\nwarning: a.yaml:3:5: weight: doubtful\n");
        assert_eq!(
            serde_json::to_value(findings.as_json(Path::new("a.yaml"))).unwrap(),
            json!({"file": "a.yaml", "valid": true, "errors": [], "warnings": ["a.yaml:3:5: weight: doubtful"]})
        );
    }

    #[test]
    fn mistakes_make_it_invalid() {
        let findings = Findings { errors: vec!["a.yaml:3:5: one", "a.yaml:9:1: two"], warnings: vec![] };
        let error = findings.text(Path::new("a.yaml")).unwrap_err();
        assert_eq!(error.mistakes, ["a.yaml:3:5: one", "a.yaml:9:1: two"]);
        let json = serde_json::to_value(findings.as_json(Path::new("a.yaml"))).unwrap();
        assert_eq!(json["valid"], false);
        assert_eq!(json["errors"], json!(["a.yaml:3:5: one", "a.yaml:9:1: two"]));
    }
}
