//! What the fuzzers run: plain functions that take bytes and panic where something is wrong.
//!
//! libFuzzer calls them from the targets of the crate in `fuzz/`, and `tests/tests/fuzz_corpus.rs` calls them over the committed corpus,
//! without libFuzzer and without another compiler.

pub mod config;
pub mod control;
pub mod decap;
pub mod pipeline;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Something that takes hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the libFuzzer target and of the folder of its corpus.
    pub name: &'static str,
    /// Takes one input. Panics where it shows a fault.
    pub one: fn(&[u8]),
    /// Files that its corpus has at least.
    pub files_at_least: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "pipeline", one: pipeline::one, files_at_least: 60 },
    Target { name: "decap", one: decap::one, files_at_least: 20 },
    Target { name: "config", one: config::one, files_at_least: 15 },
    Target { name: "control", one: control::one, files_at_least: 15 },
];

impl Target {
    /// The folder of its corpus.
    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(self.name)
    }

    /// The files of its corpus by name, with their bytes.
    ///
    /// # Errors
    ///
    /// Where they cannot be read.
    pub fn corpus(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let folder = self.folder();
        let read = || -> std::io::Result<Vec<_>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
            }
            files.sort();
            Ok(files)
        };
        read().with_context(|| format!("read the corpus in {}", folder.display()))
    }
}
