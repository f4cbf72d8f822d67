//! The configuration: one YAML file, read into raw types with their positions, validated into [`model`].
//!
//! The way of a file: text -> `tree` (values with line and column) -> `decode` and `raw` (typed fields, every
//! one of which may be missing) -> `validate` -> [`Config`]. Each step notes what is wrong and goes on, so
//! that all of it is reported at once.

mod decode;
mod invalid;
mod issue;
mod kinds;
pub mod model;
mod ports;
mod raw;
mod schema;
mod seed;
mod sketch;
mod tree;
mod validate;

use std::{fs, path::Path};

pub use invalid::InvalidConfig;
pub use issue::{ConfigErrors, Issue};
use issue::{Issues, Place};
pub use model::Config;
pub use schema::schema;
pub use validate::{MAX_BACKENDS, MAX_SERVICES};

/// A valid file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What is allowed but hardly meant, in the order of its lines.
    pub warnings: Vec<Issue>,
}

/// Reads and validates a file. A node without a name gets this machine's host name.
///
/// # Errors
///
/// Everything that is wrong with the file, or why it cannot be read.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    parse(&read(path)?, path)
}

/// Reads the text of a file, which [`parse`] validates.
///
/// # Errors
///
/// Why it cannot be read, or that it is not text.
pub fn read(path: &Path) -> Result<String, ConfigErrors> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|error| not_utf8(path, error.as_bytes(), error.utf8_error().valid_up_to())),
        Err(error) => {
            let mut issues = Issues::new(path);
            issues.error(&Place::file(), format!("no readable file ({error})"), "a YAML file");
            Err(issues.into_errors())
        }
    }
}

/// Validates the text of a file; `file` is only its name in errors. A node without a name gets this machine's
/// host name.
///
/// # Errors
///
/// Everything that is wrong with the text. Of errors of YAML's syntax only the first one can be known.
pub fn parse(text: &str, file: &Path) -> Result<Loaded, ConfigErrors> {
    let mut issues = Issues::new(file);
    let config = match tree::read(text) {
        Ok(root) => {
            let raw = raw::decode(&root, &mut issues);
            raw.and_then(|raw| validate::validate(&raw, &host_name(), &mut issues))
        }
        Err(error) => {
            let place = Place { at: error.at, key: String::new() };
            issues.error(&place, format!("a syntax error ({})", error.reason), "YAML");
            None
        }
    };
    match config {
        Some(config) if !issues.has_errors() => Ok(Loaded { config, warnings: issues.into_warnings() }),
        _ => Err(issues.into_errors()),
    }
}

fn not_utf8(path: &Path, bytes: &[u8], valid: usize) -> ConfigErrors {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) as u64 + 1;
    let mut issues = Issues::new(path);
    let place = Place { at: Some(tree::Position { line, column }), key: String::new() };
    issues.error(&place, format!("the byte {:#04x}", bytes[valid]), "text in UTF-8");
    issues.into_errors()
}

/// Name of this machine, as `uname -n` prints it.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}
