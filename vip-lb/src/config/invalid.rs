//! The error that a command ends with when its configuration is not valid.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

/// A configuration file with mistakes: `check` and `run` end with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a valid configuration", path.display())]
pub struct InvalidConfig {
    /// The file.
    pub path: PathBuf,
    /// One line per mistake.
    pub mistakes: Vec<String>,
}

impl InvalidConfig {
    /// The mistakes in a file, as [`ConfigErrors::errors`](crate::config::ConfigErrors::errors) lists them.
    pub fn new(path: &Path, mistakes: &[impl Display]) -> Self {
        Self { path: path.to_owned(), mistakes: mistakes.iter().map(ToString::to_string).collect() }
    }
}
