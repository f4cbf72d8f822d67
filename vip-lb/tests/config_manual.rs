//! What `docs/configuration.md` shows is what happens.

use std::{collections::BTreeSet, fs, path::Path};

use vip_lb::config;

fn manual() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")).unwrap()
}

/// The first block of the given language.
fn block<'m>(manual: &'m str, language: &str) -> &'m str {
    let (_, rest) = manual.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

fn errors(text: &str) -> String {
    config::parse(text, Path::new("vip-lb.yaml")).unwrap_err().to_string()
}

#[test]
fn its_first_file_is_valid() {
    let manual = manual();
    let loaded = config::parse(block(&manual, "yaml"), Path::new("vip-lb.yaml"));
    assert_eq!(loaded.unwrap_or_else(|errors| panic!("{errors}")).warnings, []);
}

#[test]
fn its_errors_are_those_of_its_first_file_with_two_mistakes() {
    let manual = manual();
    let wrong =
        block(&manual, "yaml").replace("port: 80", "port: 70000").replace("web-2,", "web-2, wieght: 5,");
    assert_eq!(errors(&wrong), block(&manual, "text").trim_end());
}

/// The keys are taken from the errors that list them, at every level of the file.
#[test]
fn it_knows_every_key() {
    let text = "x: 1
node: {x: 1, seed: a long enough seed, interfaces: [{x: 1, name: eth0}], nat: {x: 1}, peering: {x: 1}, api: {x: 1}, tables: {x: 1}, watchdog: {x: 1}}
hosts: [{x: 1, address: 10.0.0.1, state: drain}]
vips:
  - x: 1
    address: 198.51.100.10
    vrrp: {x: 1, track: [{x: 1}]}
    route: {x: 1}
    services: [{x: 1, name: a, port: 1, mode: l2, health: {x: 1}, backends: [{x: 1, name: a, address: 10.0.0.1}]}]
";
    let errors = errors(text);
    let lists: Vec<&str> =
        errors.lines().filter_map(|line| line.split_once("expected one of ")).map(|(_, keys)| keys).collect();
    assert_eq!(lists.len(), 16, "a list for every level: {errors}");
    let keys: BTreeSet<&str> = lists.iter().flat_map(|keys| keys.split(", ")).collect();
    let manual = manual();
    for key in keys {
        assert!(manual.contains(&format!("`{key}`")), "{key} is not in the manual");
    }
}
