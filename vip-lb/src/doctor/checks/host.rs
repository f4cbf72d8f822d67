//! The machine.

use crate::{
    config::model::DEFAULT_PINS,
    doctor::{Check, Finding, Host},
    privileges::Privileges,
};

/// The oldest kernel that is tested, and the oldest that takes programs for frames of several buffers.
const TESTED: (u32, u32) = (6, 1);
const OLDEST: (u32, u32) = (5, 18);

/// What should be left of the free memory when the maps are made.
const LEFT_OVER_PERCENT: u64 = 10;

pub(super) fn all(host: &Host) -> Vec<Finding> {
    let mut findings = vec![kernel(host), btf(host)];
    findings.extend(jit(host));
    findings.push(bpffs(host));
    findings.extend(permission(&host.privileges));
    findings.extend(memory(host));
    findings.extend(clock(host));
    findings
}

fn kernel(host: &Host) -> Finding {
    let release = &host.release;
    match host.version {
        Some(version) if version >= TESTED => Finding::ok(Check::Kernel, format!("Linux {release}")),
        Some(version) if version >= OLDEST => Finding::warning(
            Check::Kernel,
            format!("Linux {release}"),
            "kernels older than 6.1 are not tested: their verifier may refuse the program",
        )
        .mended_by("apt-get install linux-image-amd64"),
        _ => Finding::problem(
            Check::Kernel,
            format!("Linux {release}"),
            "the program needs XDP for frames in several buffers, which came with 5.18, and is tested from 6.1 on",
        )
        .mended_by("apt-get install linux-image-amd64"),
    }
}

fn btf(host: &Host) -> Finding {
    if host.has_btf {
        return Finding::ok(Check::Btf, "the kernel describes its types");
    }
    Finding::note(
        Check::Btf,
        "/sys/kernel/btf/vmlinux does not exist",
        "the program does without it; bpftool and tracers cannot name the kernel's own types",
    )
}

fn jit(host: &Host) -> Option<Finding> {
    Some(match host.jit? {
        0 => Finding::warning(
            Check::Jit,
            "net.core.bpf_jit_enable is 0",
            "programs are interpreted, which costs several times as much for each packet",
        )
        .mended_by("sysctl -w net.core.bpf_jit_enable=1"),
        _ => Finding::ok(Check::Jit, "programs are compiled"),
    })
}

fn bpffs(host: &Host) -> Finding {
    match &host.pins {
        None => Finding::ok(Check::Bpffs, "pins lie on a BPF file system"),
        Some(reason) => Finding::problem(
            Check::Bpffs,
            reason.clone(),
            "program and maps are pinned there, so that they outlive the daemon; without it nothing starts",
        )
        .mended_by(format!(
            "mount -t bpf bpf {}",
            std::path::Path::new(DEFAULT_PINS).parent().unwrap_or(std::path::Path::new("/")).display()
        )),
    }
}

fn permission(privileges: &Privileges) -> Vec<Finding> {
    let gates = privileges.closed_gates();
    if gates.is_empty() {
        return vec![Finding::ok(Check::Permission, "this process may use BPF")];
    }
    gates
        .into_iter()
        .map(|gate| {
            let found = format!("{}: {}", gate.what, gate.remedy);
            if gate.is_certain {
                Finding::problem(
                    Check::Permission,
                    found,
                    "the kernel answers EPERM when program and maps are loaded",
                )
            } else {
                Finding::note(
                    Check::Permission,
                    found,
                    "it may refuse bpf(2), which shows as EPERM only then",
                )
            }
        })
        .collect()
}

fn memory(host: &Host) -> Option<Finding> {
    let (needed, available) = (host.map_memory?, host.memory?);
    let figures = format!("the maps take {}, of {} that are free", mebibytes(needed), mebibytes(available));
    Some(if needed > available {
        Finding::problem(
            Check::Memory,
            figures,
            "the maps are made whole at the start, which fails, or drives other programs out of memory; make \
             `node.tables` smaller",
        )
    } else if available - needed < available / 100 * LEFT_OVER_PERCENT {
        Finding::warning(
            Check::Memory,
            figures,
            "hardly anything is left for the rest of the host; make `node.tables` smaller",
        )
    } else {
        Finding::ok(Check::Memory, figures)
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn clock(host: &Host) -> Option<Finding> {
    Some(if host.is_clock_synchronised? {
        Finding::ok(Check::Clock, "the clock is kept right")
    } else {
        Finding::warning(
            Check::Clock,
            "nothing keeps the clock right",
            "times in the log and in `status` cannot be compared with those of other nodes; packets do not depend on it",
        )
        .mended_by("timedatectl set-ntp true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn host() -> Host {
        let privileges =
            Privileges { capabilities: u64::MAX, is_initial_user_namespace: true, ..Privileges::default() };
        Host {
            release: "6.1.0-31-amd64".into(),
            version: Some((6, 1)),
            has_btf: true,
            jit: Some(1),
            pins: None,
            privileges,
            memory: Some(1 << 30),
            map_memory: Some(1 << 27),
            is_clock_synchronised: Some(true),
            cpus: 2,
        }
    }

    #[test]
    fn a_host_as_it_should_be_has_nothing_but_good_news() {
        let findings = all(&host());
        assert_eq!(findings.len(), 7);
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    }

    #[test]
    fn each_fault_is_found_by_its_check_alone() {
        type Break = fn(&mut Host);
        let cases: [(Check, Level, Option<&str>, Break); 11] = [
            (Check::Kernel, Level::Warning, Some("apt-get"), |h| h.version = Some((5, 18))),
            (Check::Kernel, Level::Problem, Some("apt-get"), |h| h.version = Some((5, 17))),
            (Check::Kernel, Level::Problem, Some("apt-get"), |h| h.version = None),
            (Check::Btf, Level::Note, None, |h| h.has_btf = false),
            (Check::Jit, Level::Warning, Some("sysctl -w"), |h| h.jit = Some(0)),
            (Check::Bpffs, Level::Problem, Some("mount -t bpf bpf /sys/fs/bpf"), |h| {
                h.pins = Some("no".into());
            }),
            (Check::Permission, Level::Problem, None, |h| h.privileges.capabilities = 0),
            (Check::Permission, Level::Note, None, |h| h.privileges.has_seccomp_filter = true),
            (Check::Memory, Level::Problem, None, |h| h.map_memory = Some(2 << 30)),
            (Check::Memory, Level::Warning, None, |h| h.map_memory = Some((1 << 30) - (1 << 20))),
            (Check::Clock, Level::Warning, Some("timedatectl"), |h| h.is_clock_synchronised = Some(false)),
        ];
        for (check, level, fix, make_wrong) in cases {
            let mut host = host();
            make_wrong(&mut host);
            let bad: Vec<_> = all(&host).into_iter().filter(|finding| finding.level != Level::Ok).collect();
            assert_eq!(bad.len(), 1, "{check:?}: {bad:?}");
            assert_eq!((bad[0].check, bad[0].level), (check, level));
            assert!(bad[0].why.is_some(), "{check:?}");
            match fix {
                Some(beginning) => assert!(bad[0].fix.as_ref().unwrap().starts_with(beginning), "{bad:?}"),
                None => assert_eq!(bad[0].fix, None, "{check:?}"),
            }
        }
    }

    #[test]
    fn what_is_not_known_is_not_spoken_of() {
        let host = Host { jit: None, memory: None, is_clock_synchronised: None, ..host() };
        let checks: Vec<_> = all(&host).iter().map(|finding| finding.check).collect();
        assert_eq!(checks, [Check::Kernel, Check::Btf, Check::Bpffs, Check::Permission]);
    }
}
