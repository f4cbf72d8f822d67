//! What may keep a process from using BPF, and which of it does: for messages that name the closed gate.

use std::{fmt, fs};

use serde::Serialize;

/// linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Since this kernel memory of maps is not counted by RLIMIT_MEMLOCK any more.
const NO_MEMLOCK: (u32, u32) = (5, 11);

/// What is found of the process and of the kernel's settings about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// The effective capabilities, a bit for each (`CapEff` in proc_pid_status(5)).
    pub capabilities: u64,
    /// Whether the user namespace is the one that the machine started with.
    pub is_initial_user_namespace: bool,
    /// Whether a filter of system calls is installed (seccomp(2)).
    pub has_seccomp_filter: bool,
    /// `kernel.unprivileged_bpf_disabled`: 0 is allowed, 1 and 2 are not.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// The kernel's lockdown: `none`, `integrity` or `confidentiality`; `None` where it has none.
    pub lockdown: Option<String>,
    /// The security module's label of the process, where it confines it.
    pub confinement: Option<String>,
    /// The kernel's version.
    pub kernel: Option<(u32, u32)>,
    /// RLIMIT_MEMLOCK in bytes; `None` is unlimited.
    pub memlock: Option<u64>,
}

/// One thing that refuses, or may refuse, the bpf(2) calls of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// What it is, and how it is closed.
    pub what: String,
    /// What opens it.
    pub remedy: String,
    /// Whether it is closed for certain; otherwise it is what is left to suspect.
    pub is_certain: bool,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

impl Privileges {
    /// Reads them of this process.
    #[must_use]
    pub fn gather() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let security = |name: &str| fs::read_to_string(format!("/sys/kernel/security/{name}")).ok();
        Self {
            capabilities: field("CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
            is_initial_user_namespace: fs::read_to_string("/proc/self/uid_map")
                .is_ok_and(|map| maps_all(&map)),
            // Mode 2 is a filter, 1 leaves hardly any call at all.
            has_seccomp_filter: field("Seccomp") == Some("2"),
            unprivileged_bpf_disabled: fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            lockdown: security("lockdown").as_deref().and_then(chosen),
            confinement: fs::read_to_string("/proc/self/attr/current")
                .ok()
                .and_then(|label| confining(&label)),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().and_then(|text| version(&text)),
            memlock: memlock(),
        }
    }

    /// The gates that are closed, those that are closed for certain first.
    #[must_use]
    pub fn closed_gates(&self) -> Vec<Gate> {
        let mut gates = Vec::new();
        let mut close = |is_certain, what: String, remedy: &str| {
            gates.push(Gate { what, remedy: remedy.to_owned(), is_certain });
        };
        let missing = self.missing();
        if !missing.is_empty() {
            let mut what = format!("this process lacks {}", missing.join(", "));
            match self.unprivileged_bpf_disabled {
                Some(value @ 1..) if missing.contains(&"CAP_BPF") => {
                    what.push_str(&format!(
                        ", without which bpf(2) is closed (kernel.unprivileged_bpf_disabled is {value})"
                    ));
                }
                _ => {}
            }
            let remedy = "run it as root; a service gets them by CapabilityBoundingSet= of its unit, a container by \
                          --cap-add for each";
            close(true, what, remedy);
        }
        if !self.is_initial_user_namespace {
            close(
                true,
                "this process is in a user namespace of its own, whose capabilities do not count for bpf(2)"
                    .to_owned(),
                "run it outside, as root of the machine, or the container without user namespaces",
            );
        }
        if self.kernel.is_some_and(|kernel| kernel < NO_MEMLOCK)
            && let Some(limit) = self.memlock
        {
            close(
                false,
                format!("maps count as locked memory on this kernel, and the limit is {limit} bytes"),
                "raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
            );
        }
        if let Some(label) = &self.confinement {
            close(
                false,
                format!("a security module confines this process as {label:?}"),
                "look for refusals in `journalctl -k` or `ausearch -m avc`, and let its profile allow bpf",
            );
        }
        if self.has_seccomp_filter {
            close(
                false,
                "a seccomp filter decides about the system calls of this process".to_owned(),
                "let it allow bpf(2): SystemCallFilter= of the unit, or the container's seccomp profile",
            );
        }
        if let Some(lockdown) = self.lockdown.as_deref().filter(|lockdown| *lockdown == "confidentiality") {
            close(
                false,
                format!("the kernel is locked down ({lockdown})"),
                "boot with lockdown=integrity, or without Secure Boot",
            );
        }
        gates
    }

    /// The names of the capabilities that programs and maps need and that are not there. CAP_SYS_ADMIN stands for two of them
    /// (capabilities(7), since kernel 5.8), and is needed itself to open a ring, which is a map inside of a map, by its number
    /// (BPF_MAP_GET_FD_BY_ID).
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let has = |capability: u32| self.capabilities >> capability & 1 == 1;
        let needed = [
            ("CAP_BPF", CAP_BPF, true),
            ("CAP_NET_ADMIN", CAP_NET_ADMIN, false),
            ("CAP_PERFMON", CAP_PERFMON, true),
            ("CAP_SYS_ADMIN", CAP_SYS_ADMIN, false),
        ];
        needed
            .into_iter()
            .filter(|(_, capability, by_admin)| !(has(*capability) || *by_admin && has(CAP_SYS_ADMIN)))
            .map(|(name, ..)| name)
            .collect()
    }
}

/// Why this process is not permitted to use BPF, as the end of a message.
#[must_use]
pub fn explain_refusal() -> String {
    explain(&Privileges::gather())
}

fn explain(privileges: &Privileges) -> String {
    let gates = privileges.closed_gates();
    if gates.is_empty() {
        return ": not permitted, although capabilities, user namespace, seccomp, lockdown and security module would allow it; \
                see the kernel's log"
            .to_owned();
    }
    // What is certain needs no suspects.
    let certain = gates.iter().any(|gate| gate.is_certain);
    let told = gates.iter().filter(|gate| gate.is_certain || !certain).map(ToString::to_string);
    format!(": not permitted; {}", told.collect::<Vec<_>>().join("; "))
}

/// Whether a map of user ids maps all of them to themselves (user_namespaces(7)).
fn maps_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The label, if it is one that confines: AppArmor's `unconfined` and SELinux's `unconfined_t` and `kernel_t` do not.
fn confining(label: &str) -> Option<String> {
    let label = label.trim_end_matches('\0').trim();
    let is_free = ["", "unconfined", "kernel"].contains(&label)
        || label.split(':').any(|part| part == "unconfined_t" || part == "kernel_t")
        // AppArmor says how; a profile that only complains refuses nothing.
        || label.ends_with("(complain)")
        || label.ends_with("(unconfined)");
    (!is_free).then(|| label.to_owned())
}

/// The first two numbers of a release, as in `6.1.0-31-amd64`.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes into a live value of its type.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << CAP_BPF | 1 << CAP_NET_ADMIN | 1 << CAP_PERFMON | 1 << CAP_SYS_ADMIN;

    fn open() -> Privileges {
        Privileges {
            capabilities: ALL,
            is_initial_user_namespace: true,
            unprivileged_bpf_disabled: Some(2),
            lockdown: Some("none".into()),
            kernel: Some((6, 1)),
            memlock: Some(8 << 20),
            ..Privileges::default()
        }
    }

    #[test]
    fn each_gate_is_named_when_it_alone_is_closed() {
        type Close = fn(&mut Privileges);
        let cases: [(Close, &str); 8] = [
            (
                |p| p.capabilities = 1 << CAP_NET_ADMIN,
                "lacks CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, without which bpf(2) is closed",
            ),
            (|p| p.capabilities = 1 << CAP_SYS_ADMIN, "lacks CAP_NET_ADMIN"),
            (|p| p.capabilities = ALL & !(1 << CAP_SYS_ADMIN), "lacks CAP_SYS_ADMIN"),
            (|p| p.is_initial_user_namespace = false, "user namespace"),
            (|p| p.kernel = Some((5, 10)), "locked memory"),
            (|p| p.confinement = Some("docker-default (enforce)".into()), "docker-default"),
            (|p| p.has_seccomp_filter = true, "seccomp"),
            (|p| p.lockdown = Some("confidentiality".into()), "locked down"),
        ];
        assert_eq!(open().closed_gates(), []);
        assert!(explain(&open()).contains("kernel's log"));
        for (close, word) in cases {
            let mut privileges = open();
            close(&mut privileges);
            let gates = privileges.closed_gates();
            assert_eq!(gates.len(), 1, "{word}: {gates:?}");
            assert!(gates[0].what.contains(word), "{word}: {gates:?}");
            assert!(explain(&privileges).contains(word), "{word}");
        }
    }

    #[test]
    fn what_is_certain_leaves_suspects_out() {
        let privileges = Privileges { capabilities: 0, has_seccomp_filter: true, ..open() };
        let text = explain(&privileges);
        assert!(
            text.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN") && !text.contains("seccomp"),
            "{text}"
        );
    }

    #[test]
    fn what_the_kernel_writes_is_understood() {
        assert!(maps_all("         0          0 4294967295\n") && !maps_all("0 1000 1\n") && !maps_all(""));
        assert_eq!(chosen("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(chosen("none"), None);
        for free in ["unconfined\n", "", "\0", "system_u:system_r:unconfined_t:s0", "x (complain)", "kernel"]
        {
            assert_eq!(confining(free), None, "{free:?}");
        }
        assert_eq!(confining("vip-lb (enforce)\n").as_deref(), Some("vip-lb (enforce)"));
        for (release, expected) in
            [("6.1.0-31-amd64\n", Some((6, 1))), ("6.18.44-fc", Some((6, 18))), ("5", None), ("", None)]
        {
            assert_eq!(version(release), expected, "{release}");
        }
    }
}
