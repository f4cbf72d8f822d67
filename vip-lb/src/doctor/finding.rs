//! What a check comes to.

use serde::Serialize;

/// Gives the checks their names, the same in text, JSON and the manual.
macro_rules! checks {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What is looked at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check {
            $($(#[$doc])+ $variant),+
        }

        impl Check {
            /// Every check.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

checks! {
    /// The kernel's version.
    Kernel = "kernel",
    /// The kernel's description of its own types.
    Btf = "btf",
    /// The compiler of BPF programs.
    Jit = "jit",
    /// The file system of the pins.
    Bpffs = "bpffs",
    /// Whether this process may use BPF.
    Permission = "permission",
    /// Memory for the maps.
    Memory = "memory",
    /// Synchronisation of the clock.
    Clock = "clock",
    /// Whether an interface is there, and up.
    Interface = "interface",
    /// What its driver can do with XDP.
    Driver = "driver",
    /// Another XDP program on it.
    Program = "program",
    /// Its receive queues.
    Queues = "queues",
    /// How packets are spread over the queues.
    Spread = "spread",
    /// Offloads that join packets before XDP sees them.
    Offloads = "offloads",
    /// Path MTU against what a mode adds.
    Mtu = "mtu",
    /// Whether somebody else has the VIP.
    Vip = "vip",
    /// Routes to backends.
    Route = "route",
    /// MAC addresses of backends or their routers.
    Neighbour = "neighbour",
    /// Interfaces that packets to backends leave by.
    Egress = "egress",
    /// Ports of translated connections against those of the host.
    NatPorts = "nat_ports",
    /// A backend's silence about the VIP.
    Arp = "arp",
    /// The filter that drops what came in the wrong way.
    ReversePath = "reverse_path",
    /// IPv6 where the VIP needs it.
    Ipv6 = "ipv6",
    /// The unpacking of tunnels.
    Decapsulation = "decapsulation",
    /// The VIP on a backend's loopback.
    Address = "address",
    /// The segment size that a backend announces.
    SegmentSize = "segment_size",
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing fails by it.
    Note,
    /// It works, but slower than it could, or not in every case.
    Warning,
    /// Packets are or will be lost, or the daemon does not start.
    Problem,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How bad it is.
    pub level: Level,
    /// What was found, with the name of what it is about.
    pub found: String,
    /// Why it matters, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The command that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(check: Check, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), why: None, fix: None }
    }

    /// Worth knowing.
    pub(super) fn note(check: Check, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self::bad(check, Level::Note, found, why)
    }

    /// Worse than it could be.
    pub(super) fn warning(check: Check, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self::bad(check, Level::Warning, found, why)
    }

    /// Wrong.
    pub(super) fn problem(check: Check, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self::bad(check, Level::Problem, found, why)
    }

    /// With the command that mends it.
    #[must_use]
    pub(super) fn mended_by(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }

    fn bad(check: Check, level: Level, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), why: Some(why.into()), fix: None }
    }
}

/// The worst of all findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing but notes.
    Ok,
    /// Warnings.
    Warnings,
    /// Problems.
    Problems,
}

impl Verdict {
    /// Of these findings.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.level).max() {
            Some(Level::Problem) => Self::Problems,
            Some(Level::Warning) => Self::Warnings,
            Some(Level::Ok | Level::Note) | None => Self::Ok,
        }
    }
}
