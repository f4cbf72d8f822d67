//! The pages that list what the code has list all of it, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use vip_lb::{api::model::Occurrence, doctor::Check};
use vip_lb_common::Verdict;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The first cells of the rows between the two headings.
fn first_cells<'p>(page: &'p str, heading: &str, next: &str) -> impl Iterator<Item = &'p str> {
    let (_, section) = page.split_once(heading).unwrap();
    let (section, _) = section.split_once(next).unwrap();
    section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).skip(1)
}

#[test]
fn every_verdict_has_its_row_in_troubleshooting() {
    let page = read("docs/troubleshooting.md");
    let cells: String = first_cells(&page, "\n## Counters\n", "\n## ").collect();
    let rows: BTreeSet<&str> = cells.split('`').skip(1).step_by(2).collect();
    assert_eq!(rows, Verdict::ALL.iter().map(|verdict| verdict.name()).collect());
}

#[test]
fn every_map_has_its_row_in_the_architecture() {
    let page = read("ARCHITECTURE.md");
    let program = read("vip-lb-ebpf/src/maps.rs") + &read("vip-lb-ebpf/src/probe.rs");
    let rows: BTreeSet<&str> =
        first_cells(&page, "\n## Maps\n", "\n## ").flat_map(|cell| cell.split(", ")).collect();
    let declared = program.split("#[btf_map]\nstatic ").skip(1).filter_map(|rest| rest.split(':').next());
    assert_eq!(rows, declared.collect());
}

#[test]
fn every_event_has_its_row_in_the_manual_of_commands() {
    let page = read("docs/cli.md");
    let cells: String = first_cells(&page, "\n## events\n", "\n## ").collect();
    let rows: BTreeSet<&str> = cells.split('`').skip(1).step_by(2).collect();
    let schema = schemars::schema_for!(Occurrence).to_value();
    let events = schema["oneOf"].as_array().unwrap().iter();
    assert_eq!(rows, events.map(|event| event["properties"]["event"]["const"].as_str().unwrap()).collect());
}

#[test]
fn every_check_of_the_doctor_has_its_row() {
    let page = read("docs/doctor.md");
    let cells: String = first_cells(&page, "\n## What is looked at\n", "\n## ").collect();
    let rows: BTreeSet<&str> = cells.split('`').skip(1).step_by(2).collect();
    assert_eq!(rows, Check::ALL.iter().map(|check| check.name()).collect());
}
