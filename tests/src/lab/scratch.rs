//! A temporary folder with a name that no other lab has.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use super::sweep;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A folder that goes away with its owner. Its name, `vl<pid>x<n>`, is also the prefix of the lab's namespaces and pins.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes the folder.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub fn new() -> Result<Self> {
        let name = format!("vl{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { name, path, kept: false })
    }

    /// The name shared by everything of this lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder behind.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
            // Also those of commands that a test has run by themselves.
            sweep::remove_pins(self.name());
        }
    }
}
