//! What is wrong with a configuration file, and where.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    sketch::Sketch,
    tree::{Position, quoted},
};

/// One complaint about one place of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// The file as it was named.
    pub file: String,
    /// Line, counted from 1; `None` where the file as a whole is meant.
    pub line: Option<u64>,
    /// Column in characters, counted from 1.
    pub column: Option<u64>,
    /// Path of the key, such as `vips[0].services[1].backends[2].weight`; empty where the file as a whole is
    /// meant.
    pub key: String,
    /// What is there.
    pub found: String,
    /// What may be there.
    pub expected: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": found {}, expected {}", self.found, self.expected)
    }
}

/// Everything that is wrong with a configuration file, at least one issue, in the order of its lines.
///
/// Displayed as one line per issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigErrors {
    /// The issues, sorted by line and column.
    pub errors: Vec<Issue>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A place of the file with its key path: what a complaint points at.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) at: Option<Position>,
    pub(super) key: String,
}

impl Place {
    /// The file as a whole.
    pub(super) fn file() -> Self {
        Self { at: None, key: String::new() }
    }

    /// The place of a key below this one.
    pub(super) fn key(&self, name: &str, at: Position) -> Self {
        let plain =
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !name.is_empty();
        if plain {
            Self { at: Some(at), ..self.missing(name) }
        } else {
            Self { at: Some(at), key: format!("{}[{}]", self.key, quoted(name)) }
        }
    }

    /// Where a key that this mapping does not have is missed: at the mapping's beginning.
    pub(super) fn missing(&self, name: &str) -> Self {
        Self {
            at: self.at,
            key: if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) },
        }
    }

    /// The place of a list's item.
    pub(super) fn item(&self, index: usize, at: Position) -> Self {
        Self { at: Some(at), key: format!("{}[{index}]", self.key) }
    }

    /// How another issue refers to this place.
    pub(super) fn reference(&self) -> String {
        match self.at {
            Some(at) => format!("{} in line {}", self.key, at.line),
            None => self.key.clone(),
        }
    }
}

/// Collects what is found while a file is read.
#[derive(Debug)]
pub(super) struct Issues {
    file: String,
    errors: Vec<Issue>,
    warnings: Vec<Issue>,
    /// Set where nothing is read, and what is asked for is noted.
    sketch: Option<Sketch>,
}

impl Issues {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.display().to_string(), errors: Vec::new(), warnings: Vec::new(), sketch: None }
    }

    /// For a decoder that runs without a file.
    pub(super) fn sketching() -> Self {
        Self { sketch: Some(Sketch::new()), ..Self::new(Path::new("")) }
    }

    /// Where to note what is asked for, if nothing is read.
    pub(super) fn sketch(&mut self) -> Option<&mut Sketch> {
        self.sketch.as_mut()
    }

    /// The file is not valid.
    pub(super) fn error(&mut self, place: &Place, found: impl Into<String>, expected: impl Into<String>) {
        let issue = self.issue(place, found.into(), expected.into());
        self.errors.push(issue);
    }

    /// The file is valid, but hardly what was meant.
    pub(super) fn warning(&mut self, place: &Place, found: impl Into<String>, expected: impl Into<String>) {
        let issue = self.issue(place, found.into(), expected.into());
        self.warnings.push(issue);
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors { errors: sorted(self.errors) }
    }

    pub(super) fn into_warnings(self) -> Vec<Issue> {
        sorted(self.warnings)
    }

    fn issue(&self, place: &Place, found: String, expected: String) -> Issue {
        Issue {
            file: self.file.clone(),
            line: place.at.map(|at| at.line),
            column: place.at.map(|at| at.column),
            key: place.key.clone(),
            found,
            expected,
        }
    }
}

/// In the order of the file; what concerns the same place stays in the order of its discovery.
fn sorted(mut issues: Vec<Issue>) -> Vec<Issue> {
    issues.sort_by_key(|issue| (issue.line, issue.column));
    issues
}
