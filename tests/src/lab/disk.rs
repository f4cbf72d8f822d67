//! A file system that takes nothing, for what is written to files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::command;

/// Rubbish that leaves no room, in pages and in part of one: bytes.
const RUBBISH: [usize; 2] = [1 << 20, 1];

/// A small file system of its own, until this is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    is_made: bool,
}

impl Disk {
    /// At this path, in a folder that is made for it, or over one that is there, whose files are out of sight then.
    ///
    /// # Errors
    ///
    /// It cannot be mounted.
    pub fn mount(path: &Path) -> Result<Self> {
        let is_made = !path.exists();
        if is_made {
            fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        }
        let disk = Self { path: path.to_owned(), is_made };
        command::run("mount", &["-t", "tmpfs", "-o", "size=64k", "vip-lb-test", disk.text()?])?;
        Ok(disk)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it may be written, or not.
    ///
    /// # Errors
    ///
    /// It cannot be mounted so.
    pub fn set_read_only(&self, is_read_only: bool) -> Result<()> {
        let how = if is_read_only { "remount,ro" } else { "remount,rw" };
        command::run("mount", &["-o", how, self.text()?]).map(drop)
    }

    /// Leaves no room.
    pub fn fill(&self) {
        for size in RUBBISH {
            // What does not fit as a whole fits in part, which is what is wanted.
            let _ = fs::write(self.rubbish(size), vec![7; size]);
        }
    }

    /// Makes room again.
    ///
    /// # Errors
    ///
    /// What filled it cannot be removed.
    pub fn empty(&self) -> Result<()> {
        for path in RUBBISH.map(|size| self.rubbish(size)) {
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn rubbish(&self, size: usize) -> PathBuf {
        self.path.join(format!("rubbish-{size}"))
    }

    fn text(&self) -> Result<&str> {
        self.path.to_str().context("a path in UTF-8")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Ok(path) = self.text() {
            // Lazily: somebody may be writing.
            let _ = command::run("umount", &["-l", path]);
        }
        if self.is_made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}
