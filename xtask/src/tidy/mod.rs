//! `tidy`: rules of this repository that no other tool checks. Also runs as a test of this package.

mod rules;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::process;

/// A file of the repository, with its text.
struct File {
    /// Relative to the workspace.
    path: String,
    text: String,
}

/// Checks every file that git tracks or would track, and returns what is wrong, one line each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = files(root)?;
    let mut faults: Vec<String> = files.iter().flat_map(rules::check).collect();
    for file in &files {
        faults.extend(rules::links(file).into_iter().filter_map(|link| {
            let target = Path::new(&file.path).parent()?.join(&link.target);
            (!root.join(target).exists())
                .then(|| format!("{}:{}: no such file: {}", file.path, link.line, link.target))
        }));
    }
    Ok(faults)
}

fn files(root: &Path) -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = process::output(&mut git).context("list the files of the repository")?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        // A file that was deleted is listed until that is committed, and a link or a binary has no rules.
        let full = root.join(path);
        if !full.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let faults = check(process::workspace()).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
