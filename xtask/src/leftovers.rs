//! What a test run must not leave behind: network namespaces, interfaces, pins. Processes: see
//! [`crate::process::end_orphans`].

use std::{collections::BTreeSet, fs, path::Path};

/// What is there at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at this machine.
    pub(crate) fn take() -> Self {
        let mut things = BTreeSet::new();
        for name in names(Path::new("/run/netns")) {
            things.insert(format!("network namespace {name}"));
        }
        for name in names(Path::new("/sys/class/net")) {
            things.insert(format!("interface {name}"));
        }
        pins(Path::new("/sys/fs/bpf"), &mut things);
        Self(things)
    }

    /// What has come since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<String> {
        self.0.difference(&earlier.0).cloned().collect()
    }
}

fn pins(folder: &Path, things: &mut BTreeSet<String>) {
    for name in names(folder) {
        let path = folder.join(name);
        things.insert(format!("pin {}", path.display()));
        if path.is_dir() {
            pins(&path, things);
        }
    }
}

/// The names in a folder; none when there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_left_behind() {
        let snapshot = |things: &[&str]| Snapshot(things.iter().map(ToString::to_string).collect());
        let before = snapshot(&["interface lo", "network namespace other"]);
        let after = snapshot(&["interface lo", "network namespace lab-1", "pin /sys/fs/bpf/vip-lb"]);
        assert_eq!(after.since(&before), ["network namespace lab-1", "pin /sys/fs/bpf/vip-lb"]);
        assert!(before.since(&before).is_empty());
    }

    #[test]
    fn the_loopback_interface_is_seen() {
        assert!(Snapshot::take().0.contains("interface lo"));
    }
}
