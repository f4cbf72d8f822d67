//! Each rule with files that keep it and files that break it.

use super::*;

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

fn faults(path: &str, text: &str) -> Vec<String> {
    check(&file(path, text))
}

#[test]
fn files_that_keep_the_rules_pass() {
    let long = "x\n".repeat(LINES_AT_MOST + 1);
    let cases = [
        ("vip-lb/src/config/mod.rs", "//! The configuration.\nfn f() {}\n"),
        ("vip-lb/src/dataplane/load.rs", "//! Loads.\nuse aya::Ebpf;\n"),
        ("vip-lb-ebpf/src/main.rs", "//! The program.\nuse aya_ebpf::macros::xdp;\n"),
        ("vip-lb/src/config/mod.rs", "//! Mentions it.\n// aya::Ebpf is at home in the dataplane\n"),
        (
            "vip-lb/src/a.rs",
            "//! A list.\nconst A: &[&str] = &[\"aya\"];\nlet playa = 1; let aya_like = playa;\n",
        ),
        ("examples/l2.yaml", "# Layer 2.\nvips: []\n"),
        ("README.md", long.as_str()),
        ("docs/a.md", "see /chroot/root/x, /tmp/wrk.lua and $X/root/"),
        ("Cargo.toml", "todo = \"warn\"\nunimplemented = \"warn\"\n"),
    ];
    for (path, text) in cases {
        assert_eq!(faults(path, text), Vec::<String>::new(), "{path}: {text:.40}");
    }
}

#[test]
fn files_that_break_a_rule_are_named_with_their_line() {
    let long = format!("//! Long.\n{}", "x\n".repeat(LINES_AT_MOST));
    let unfinished: Vec<String> =
        UNFINISHED.iter().map(|mark| format!("//! A.\nlet a = {mark} ;\n")).collect();
    let machine: Vec<String> = MACHINE_PATHS.iter().map(|path| format!("# A\ncp `{path}a` b\n")).collect();
    let mut cases = vec![
        ("vip-lb/src/a.rs", "fn f() {}\n", "vip-lb/src/a.rs:1: a module begins"),
        ("vip-lb/src/a.rs", "//!\nfn f() {}\n", "vip-lb/src/a.rs:1: a module begins"),
        ("vip-lb/src/a.rs", long.as_str(), "vip-lb/src/a.rs: 601 lines"),
        ("vip-lb/src/health/a.rs", "//! A.\nuse aya::Ebpf;\n", "vip-lb/src/health/a.rs:2: aya"),
        ("vip-lb/src/a.rs", "//! A.\nuse aya;\n", "vip-lb/src/a.rs:2: aya"),
        ("vip-lb-common/src/a.rs", "//! A.\nlet x = aya_ebpf :: f();\n", "vip-lb-common/src/a.rs:2: aya"),
        ("examples/l2.yaml", "vips: []\n", "examples/l2.yaml:1: an example begins"),
    ];
    cases.extend(unfinished.iter().map(|text| ("xtask/src/a.rs", text.as_str(), "xtask/src/a.rs:2: finish")));
    cases.extend(machine.iter().map(|text| ("docs/a.md", text.as_str(), "docs/a.md:2: a path")));
    for (path, text, expected) in cases {
        let faults = faults(path, text);
        assert_eq!(faults.len(), 1, "{path}: {text:.40}: {faults:?}");
        assert!(faults[0].starts_with(expected), "{faults:?}");
    }
}

#[test]
fn relative_links_are_found() {
    let text = "[a](docs/A.md) and [b](https://example.org/x)\n[c](../B.md#part) [d](#here)\n\
                ```\n[e](not/a/link)\n```\n![f](f.svg \"title\") [g](mailto:a@example.org)\n";
    let found: Vec<(usize, String)> =
        links(&file("README.md", text)).into_iter().map(|link| (link.line, link.target)).collect();
    let expected = [(1, "docs/A.md"), (2, "../B.md"), (6, "f.svg")];
    assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    assert!(links(&file("a.rs", text)).is_empty());
}
