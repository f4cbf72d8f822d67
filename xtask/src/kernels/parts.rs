//! What is tried on each kernel, and the script that does it in a guest.

use std::time::Duration;

/// Something that a kernel must be able to do.
#[derive(Debug)]
pub(super) struct Part {
    /// One word, as the table shows it.
    pub(super) name: &'static str,
    /// The test target of the tests crate; `None` is the benchmark, which only loads and counts.
    pub(super) target: Option<&'static str>,
    /// Names of tests to run, all of them if there are none.
    tests: &'static [&'static str],
    /// It needs namespaces, servers and clients.
    lab: bool,
    /// It needs what Debian's kernels have and the running one may lack, so it is tried in guests only, and its tests are marked as ignored for everybody else.
    guests_only: bool,
    /// It is a part of `cargo xtask test` too.
    quick: bool,
    /// After this it has failed, in a guest.
    pub(super) limit: Duration,
}

/// Enough for every part where many others use the machine: an emulated processor that gets a tenth of a real one.
const LIMIT: Duration = Duration::from_secs(1800);

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Only what takes little time: the programs load, and kernel and host agree on random packets.
    Quick,
    /// The labs as well.
    Everything,
    /// Parts by their names.
    Named(Vec<String>),
}

/// Labs on this machine with another kernel in a guest of their own: a test of this target for each series, `on_kernel_6_12`.
pub(super) const VIRTIO: &str = "lab_virtio";

/// The name of such a test.
pub(super) fn virtio_test(series: &str) -> String {
    format!("on_kernel_{}", series.replace('.', "_"))
}

const fn program(name: &'static str, target: Option<&'static str>, quick: bool) -> Part {
    Part { name, target, tests: &[], lab: false, guests_only: false, quick, limit: LIMIT }
}

/// The target `lab_modes` has a test for each mode, by the mode's name.
const fn lab(name: &'static str, test: &'static [&'static str]) -> Part {
    Part {
        name,
        target: Some("lab_modes"),
        tests: test,
        lab: true,
        guests_only: false,
        quick: false,
        limit: LIMIT,
    }
}

/// A mode that is added gets a line here and a test of its name in `tests/tests/lab_modes.rs`.
pub(super) const PARTS: &[Part] = &[
    program("load", None, true),
    program("packets", Some("program_kernel"), false),
    // Guests have neither the corpus of the fuzzers nor Python.
    Part {
        tests: &["kernel_host_and_other_parsers_agree_on_generated_packets"],
        ..program("differential", Some("program_differential"), true)
    },
    lab("l2", &["l2"]),
    lab("ipip", &["ipip"]),
    lab("gue", &["gue"]),
    lab("nat", &["nat"]),
    // Older kernels are slow at what a daemon does that takes over.
    Part { target: Some("lab_restart"), ..lab("restart", &["l2_over_ipv4"]) },
    // Debian's kernels have dummies, which the running one may lack.
    Part {
        target: Some("lab_routes"),
        ..lab("routes", &["a_route_is_there_while_there_is_no_reason_against_it_over_ipv4"])
    },
    Part { target: Some("lab_vlan"), guests_only: true, ..lab("vlan", &[]) },
    Part { target: Some("lab_bond"), guests_only: true, ..lab("bond", &[]) },
    Part { target: Some("lab_virtual_mac"), ..lab("virtualmac", &[]) },
    Part {
        target: Some("lab_second_owner"),
        guests_only: true,
        ..lab("owners", &["a_host_in_a_vlan_is_named_with_it"])
    },
];

/// The names of all parts.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|part| part.name).chain(["virtio"])
}

impl Scope {
    /// The parts of a scope.
    pub(super) fn parts(&self) -> impl Iterator<Item = &'static Part> {
        PARTS.iter().filter(|part| match self {
            Self::Quick => part.quick,
            Self::Everything => true,
            Self::Named(names) => names.iter().any(|name| name == part.name),
        })
    }

    /// Those of them that the running kernel can try.
    pub(super) fn parts_here(&self) -> impl Iterator<Item = &'static Part> {
        self.parts().filter(|part| !part.guests_only)
    }

    /// Whether the labs with a guest of their own are tried too.
    pub(super) fn has_virtio(&self) -> bool {
        match self {
            Self::Quick => false,
            Self::Everything => true,
            Self::Named(names) => names.iter().any(|name| name == "virtio"),
        }
    }

    /// Whether namespaces, servers and clients are needed.
    pub(super) fn has_labs(&self) -> bool {
        self.parts().any(|part| part.lab)
    }
}

impl Part {
    /// The arguments for its program; the figures go to this file.
    pub(super) fn words(&self, figures: &str) -> Vec<String> {
        if self.target.is_none() {
            return vec!["--verified".to_owned(), format!("--json={figures}")];
        }
        let mut words = vec!["--test-threads=1".to_owned(), "--nocapture".to_owned()];
        if self.guests_only {
            words.push("--include-ignored".to_owned());
        }
        if !self.tests.is_empty() {
            words.push("--exact".to_owned());
        }
        words.extend(self.tests.iter().map(ToString::to_string));
        words
    }
}

/// Runs all parts one after the other, each to its end or its limit, and says how they ended. What a part wrote is shown only
/// if it failed.
pub(super) fn script(scope: &Scope, environment: &[(&str, String)], figures: &str) -> String {
    let mut script = String::new();
    for (name, value) in environment {
        script.push_str(&format!("export {name}={value}\n"));
    }
    script.push_str(
        "part() {\n\
         \tname=$1; limit=$2; shift 2\n\
         \tbegun=$(cut -d. -f1 /proc/uptime)\n\
         \ttimeout -k 5 \"$limit\" \"$@\" > /tmp/part.log 2>&1\n\
         \tcode=$?\n\
         \t[ $code -eq 0 ] || cat /tmp/part.log\n\
         \techo \"part $name ended with $code after $(($(cut -d. -f1 /proc/uptime) - begun)) s\"\n\
         }\n",
    );
    for part in scope.parts() {
        let program = part.target.unwrap_or("bench");
        let words = part.words(figures).join(" ");
        script.push_str(&format!("part {} {} /bin/{program} {words}\n", part.name, part.limit.as_secs()));
    }
    script
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_single_words_and_unique() {
        let names: BTreeSet<&str> = PARTS.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), PARTS.len());
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric())), "{names:?}");
    }

    #[test]
    fn every_lab_names_a_test_that_exists() {
        for part in PARTS.iter().filter(|part| part.lab) {
            let target = part.target.expect("a lab is a test target");
            let file = crate::process::workspace().join(format!("tests/tests/{target}.rs"));
            let labs = std::fs::read_to_string(&file).expect("the target's file");
            for test in part.tests {
                assert!(labs.contains(&format!("fn {test}()")), "{} has no test {test}", file.display());
            }
        }
    }

    #[test]
    fn the_script_runs_what_the_scope_asks_for() {
        let environment = [("VIP_LB_TEST_PATIENCE", "8".to_owned())];
        let script = |scope: Scope| script(&scope, &environment, "/tmp/f.json");
        let programs = script(Scope::Quick);
        assert!(programs.starts_with("export VIP_LB_TEST_PATIENCE=8\n"), "{programs}");
        assert!(programs.contains("part load 1800 /bin/bench --verified --json=/tmp/f.json\n"), "{programs}");
        assert!(!programs.contains("lab_modes"), "{programs}");
        let all = script(Scope::Everything);
        let line = "part l2 1800 /bin/lab_modes --test-threads=1 --nocapture --exact l2\n";
        assert!(all.contains(line), "{all}");
        let line_of_guests = "part vlan 1800 /bin/lab_vlan --test-threads=1 --nocapture --include-ignored\n";
        assert!(all.contains(line_of_guests), "{all}");
        assert!(Scope::Everything.parts_here().all(|part| part.name != "vlan"));
        let named = script(Scope::Named(vec!["l2".to_owned()]));
        assert!(named.contains(line) && !named.contains("bench"), "{named}");
    }
}
