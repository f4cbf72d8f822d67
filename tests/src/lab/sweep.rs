//! Removes what labs left whose process was killed before it could clean up.

use std::{fs, path::Path, time::Duration};

use super::{bpffs, command, wait_for};

/// A file of this name in a lab's folder means that somebody wants it to stay.
pub(super) const KEEP: &str = "keep";

/// Where vip-lb records what it changed on interfaces, by the path of the pins.
const CHANGES: &str = "/run/vip-lb/changes";

/// Ends the processes in the namespaces of labs whose process does not live any more, and deletes those namespaces,
/// folders, pins and records. Best effort: a new lab has names of its own anyway.
pub(super) fn remove_abandoned() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((lab, _)) = name.split_once('-') else {
            continue;
        };
        if !is_abandoned(lab) {
            continue;
        }
        end_processes(&name);
        let _ = command::run("ip", &["netns", "del", &name]);
        let _ = fs::remove_dir_all(std::env::temp_dir().join(lab));
        remove_pins(lab);
    }
}

/// Removes what a lab has pinned, and the record of what was changed on its interfaces. A pinned link is detached by that.
pub(super) fn remove_pins(lab: &str) {
    for pins in fs::read_dir(bpffs::MOUNT_POINT).into_iter().flatten().flatten() {
        let pins_name = pins.file_name();
        if pins_name.to_string_lossy().split('-').next() == Some(lab) {
            let _ = fs::remove_dir_all(pins.path());
        }
    }
    for record in fs::read_dir(CHANGES).into_iter().flatten().flatten() {
        let pins = record.file_name().to_string_lossy().replace('%', "/");
        if pins.rsplit('/').next().and_then(|pins| pins.split('-').next()) == Some(lab) {
            let _ = fs::remove_dir_all(record.path());
        }
    }
}

/// `vl<pid>x<n>` of a process that is gone, and not kept on purpose.
fn is_abandoned(lab: &str) -> bool {
    let Some((pid, number)) = lab.strip_prefix("vl").and_then(|rest| rest.split_once('x')) else {
        return false;
    };
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(pid)
        && all_digits(number)
        && !Path::new("/proc").join(pid).exists()
        && !std::env::temp_dir().join(lab).join(KEEP).exists()
}

fn end_processes(namespace: &str) {
    let pids = || command::run("ip", &["netns", "pids", namespace]).unwrap_or_default();
    for pid in pids().split_whitespace() {
        if let Ok(pid) = pid.parse::<i32>() {
            // SAFETY: kill takes two numbers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    let _ = wait_for("abandoned processes to end", Duration::from_secs(2), || {
        Ok(pids().trim().is_empty().then_some(()))
    });
}

#[cfg(test)]
mod tests {
    use super::is_abandoned;

    #[test]
    fn only_labs_of_dead_processes_are_abandoned() {
        let own = format!("vl{}x0", std::process::id());
        // Beyond the kernel's largest pid, 4194304.
        for (lab, abandoned) in [
            ("vl4999999x0", true),
            (own.as_str(), false),
            ("vl4999999", false),
            ("vlx1", false),
            ("web", false),
        ] {
            assert_eq!(is_abandoned(lab), abandoned, "{lab}");
        }
    }
}
