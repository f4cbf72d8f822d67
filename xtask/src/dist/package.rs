//! The Debian package, put together by dpkg-deb.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{fresh, packaging};
use crate::{process, progress::Step};

/// What lintian says and is meant so: the binary is static on purpose and may be loaded anywhere, which looks like a library without others;
/// the configuration holds the seed, which is a secret; and the first version closes no bug of Debian's.
pub(super) const ACCEPTED: &str = "statically-linked-binary,embedded-library,shared-library-lacks-prerequisites,\
                                   non-standard-file-perm,initial-upload-closes-no-bugs";

/// Pages and examples that are installed with it.
const DOCUMENTATION: &str = "usr/share/doc/vip-lb";

/// What is read by people: folders of the workspace, the files of which kind, and where they go below [`DOCUMENTATION`].
const DOCUMENTS: [(&str, &str, &str); 6] = [
    ("docs", "md", ""),
    ("examples", "yaml", "examples"),
    ("packaging/bird", "conf", "examples/bird"),
    ("packaging/frr", "conf", "examples/frr"),
    ("packaging/prometheus", "yml", "examples/prometheus"),
    ("packaging/grafana", "json", "examples/grafana"),
];

/// Files of such folders that are no use on a host.
const LEFT_OUT: [&str; 1] = ["packaging/prometheus/alerts_test.yml"];

/// Files of `packaging` that have a place of their own, and their modes. The configuration holds the seed, which is a secret.
const INSTALLED: [(&str, &str, u32); 2] = [
    ("vip-lb.service", "lib/systemd/system/vip-lb.service", 0o644),
    ("vip-lb.yaml", "etc/vip-lb/vip-lb.yaml", 0o640),
];

/// What dpkg runs, of `packaging/debian`.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What else it is told, of the same folder.
const CONTROL: &str = "control.in";
const CONFFILES: &str = "conffiles";
const COPYRIGHT: &str = "copyright";

/// A package to be made.
pub(super) struct Package<'a> {
    /// The static binary.
    pub(super) binary: &'a Path,
    /// Where everything is put together.
    pub(super) folder: &'a Path,
}

impl Package<'_> {
    /// Builds it. Returns the package's path.
    pub(super) fn build(&self, step: &mut Step) -> Result<PathBuf> {
        let tree = self.folder.join("tree");
        fresh(&tree)?;
        let place = |path: &str| tree.join(path);
        let own = packaging();

        let binary = place("usr/sbin/vip-lb");
        copy(self.binary, &binary, 0o755)?;
        process::succeed(Command::new("strip").arg(&binary))?;
        for (from, to, mode) in INSTALLED {
            copy(&own.join(from), &place(to), mode)?;
        }

        let man = place("usr/share/man/man8");
        process::output(Command::new(&binary).args(["generate", "man"]).arg(&man))?;
        compress(&man)?;
        for (shell, path) in [
            ("bash", "usr/share/bash-completion/completions/vip-lb"),
            ("zsh", "usr/share/zsh/vendor-completions/_vip-lb"),
            ("fish", "usr/share/fish/vendor_completions.d/vip-lb.fish"),
        ] {
            let script = process::output(Command::new(&binary).args(["generate", "completions", shell]))?;
            write(&place(path), &script, 0o644)?;
        }
        self.documentation(&tree)?;
        self.control(&tree)?;

        let deb = self.folder.join(format!("vip-lb_{}_{}.deb", version(), architecture()?));
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "--build"]).arg(&tree).arg(&deb);
        step.run("packing", &mut build)?;
        Ok(deb)
    }

    fn documentation(&self, tree: &Path) -> Result<()> {
        let workspace = process::workspace();
        let documentation = tree.join(DOCUMENTATION);
        for (from, to) in documents(workspace)? {
            copy(&workspace.join(from), &documentation.join(to), 0o644)?;
        }
        copy(&workspace.join("README.md"), &documentation.join("README.md"), 0o644)?;
        let changes = workspace.join("CHANGELOG.md");
        copy(&changes, &documentation.join("CHANGELOG.md"), 0o644)?;
        let changelog = documentation.join("changelog");
        write(&changelog, &debian_changelog(&changes)?, 0o644)?;
        gzip(&changelog)?;
        // Debian's text of a licence is indented by a space, with a point for an empty line.
        let licence = fs::read_to_string(workspace.join("LICENSE-MIT"))?;
        let licence: Vec<String> = licence
            .lines()
            .map(|line| if line.trim().is_empty() { " .".to_owned() } else { format!(" {line}") })
            .collect();
        let copyright = fs::read_to_string(packaging().join("debian").join(COPYRIGHT))?;
        write(&documentation.join("copyright"), &copyright.replace("@MIT@", &licence.join("\n")), 0o644)
    }

    fn control(&self, tree: &Path) -> Result<()> {
        let own = packaging().join("debian");
        let control = fs::read_to_string(own.join(CONTROL))?
            .replace("@VERSION@", version())
            .replace("@ARCHITECTURE@", &architecture()?)
            .replace("@SIZE@", &kibibytes(tree)?.to_string());
        let sums = checksums(tree)?;
        write(&tree.join("DEBIAN/control"), &control, 0o644)?;
        write(&tree.join("DEBIAN/md5sums"), &sums, 0o644)?;
        copy(&own.join(CONFFILES), &tree.join("DEBIAN").join(CONFFILES), 0o644)?;
        for script in SCRIPTS {
            copy(&own.join(script), &tree.join("DEBIAN").join(script), 0o755)?;
        }
        Ok(())
    }
}

/// What is read by people: paths in the workspace, and below [`DOCUMENTATION`].
fn documents(workspace: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut all = Vec::new();
    for (folder, extension, to) in DOCUMENTS {
        for entry in fs::read_dir(workspace.join(folder)).with_context(|| format!("list {folder}"))? {
            let path = entry?.path();
            let name = path.file_name().context("a file without a name")?;
            let from = Path::new(folder).join(name);
            let is_left_out = LEFT_OUT.iter().any(|left_out| from == Path::new(left_out));
            if path.extension().is_some_and(|found| found == extension) && !is_left_out {
                all.push((from, Path::new(to).join(name)));
            }
        }
    }
    Ok(all)
}

/// Debian's own form of a changelog (Debian Policy section 4.4), which leads to the one that people write.
fn debian_changelog(changes: &Path) -> Result<String> {
    let control = fs::read_to_string(packaging().join("debian").join(CONTROL))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/debian/control.in names no maintainer")?;
    let changed = process::output(Command::new("date").args(["--rfc-email", "--reference"]).arg(changes))?;
    Ok(format!(
        "vip-lb ({}) unstable; urgency=medium\n\n  * What has changed is in CHANGELOG.md.\n\n -- {maintainer}  {}\n",
        version(),
        changed.trim()
    ))
}

/// The workspace's version, which this program shares.
pub(super) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Debian's name of this architecture.
fn architecture() -> Result<String> {
    Ok(process::output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned())
}

/// As `md5sums` of a package has them: of all files but the configuration's.
fn checksums(tree: &Path) -> Result<String> {
    let mut find = Command::new("sh");
    find.args(["-ec", "find usr lib -type f -print0 | sort -z | xargs -0 md5sum"]).current_dir(tree);
    process::output(&mut find)
}

fn kibibytes(tree: &Path) -> Result<u64> {
    let said = process::output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    said.split_whitespace().next().context("du says nothing")?.parse().context("du says no number")
}

/// Compresses every file of a folder.
fn compress(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        mode(&path, 0o644)?;
        gzip(&path)?;
    }
    Ok(())
}

/// Without name and time, so that the same content makes the same file.
fn gzip(path: &Path) -> Result<()> {
    process::succeed(Command::new("gzip").args(["-9", "-n"]).arg(path))
}

fn copy(from: &Path, to: &Path, permissions: u32) -> Result<()> {
    make_room(to)?;
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    mode(to, permissions)
}

fn write(path: &Path, text: &str, permissions: u32) -> Result<()> {
    make_room(path)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    mode(path, permissions)
}

fn make_room(path: &Path) -> Result<()> {
    let folder = path.parent().context("a path without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn mode(path: &Path, permissions: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(permissions))
        .with_context(|| format!("set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn files(folder: &Path, under: &Path, all: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files(&path, under, all);
            } else {
                all.insert(path.strip_prefix(under).expect("below it").to_owned());
            }
        }
    }

    #[test]
    fn every_example_and_every_file_of_packaging_is_shipped_or_left_out_on_purpose() {
        let workspace = process::workspace();
        let mut found = BTreeSet::new();
        for folder in ["examples", "packaging"] {
            files(&workspace.join(folder), workspace, &mut found);
        }
        let documents = documents(workspace).expect("what is read by people");
        let shipped = documents.iter().map(|(from, _)| from.clone());
        let installed = INSTALLED.iter().map(|(from, ..)| Path::new("packaging").join(from));
        let debian = SCRIPTS.iter().chain(&[CONTROL, CONFFILES, COPYRIGHT]);
        let debian = debian.map(|name| Path::new("packaging/debian").join(name));
        let known: BTreeSet<PathBuf> =
            shipped.chain(installed).chain(debian).chain(LEFT_OUT.iter().map(PathBuf::from)).collect();
        let forgotten: Vec<_> = found.difference(&known).collect();
        assert_eq!(forgotten, Vec::<&PathBuf>::new(), "neither in the package nor left out");
        let docs = |path: &&PathBuf| path.starts_with("docs");
        let gone: Vec<_> = known.difference(&found).filter(|path| !docs(path)).collect();
        assert_eq!(gone, Vec::<&PathBuf>::new(), "named, and not there");
    }

    #[test]
    fn no_two_documents_have_one_place() {
        let documents = documents(process::workspace()).expect("what is read by people");
        let places: BTreeSet<_> = documents.iter().map(|(_, to)| to).collect();
        assert_eq!(places.len(), documents.len());
        assert!(places.contains(&PathBuf::from("examples/grafana/vip-lb.json")));
    }
}
