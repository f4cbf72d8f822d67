//! `differential`: the test of that name, with more packets, a seed, or one frame.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{lab, process, setup};

/// From this many packets on, building in release mode takes less time than it saves.
const MANY: u64 = 1_000_000;

/// `cargo xtask differential`.
#[derive(Debug, clap::Args)]
pub(crate) struct Differential {
    /// How many packets to generate; without it as many as CI does.
    #[arg(long, value_name = "N")]
    packets: Option<u64>,
    /// The packets of an earlier run again, by the seed that it printed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// One frame alone, in hex; `decap:` in front is for the decapsulator.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["packets", "seed", "json"])]
    frame: Option<String>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it; its exit code is the test's.
pub(crate) fn run(differential: &Differential) -> Result<u8> {
    process::require_root("differential", "it loads XDP programs")?;
    setup::run(setup::Options { cargo_deny: false })?;
    let mut command = process::cargo(&["test", "--package=vip-lb-tests", "--test=program_differential"]);
    let many = differential.packets.is_some_and(|packets| packets >= MANY);
    command.args(many.then_some("--release"));
    command.args([
        "--",
        "--exact",
        "--nocapture",
        "kernel_host_and_other_parsers_agree_on_generated_packets",
    ]);
    for (name, value) in variables(differential)? {
        command.env(name, value);
    }
    Ok(lab::exit_code(process::run(&mut command)?))
}

/// How the test is told what to do.
fn variables(differential: &Differential) -> Result<Vec<(&'static str, String)>> {
    let Differential { packets, seed, frame, json } = differential;
    let mut variables = Vec::new();
    variables.extend(packets.map(|packets| ("VIP_LB_TEST_PACKETS", packets.to_string())));
    variables.extend(seed.map(|seed| ("VIP_LB_TEST_SEED", seed.to_string())));
    variables.extend(frame.clone().map(|frame| ("VIP_LB_TEST_FRAME", frame)));
    if let Some(path) = json {
        let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
        variables.push(("VIP_LB_TEST_JSON", path.display().to_string()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_is_told_by_variables() {
        let none = Differential { packets: None, seed: None, frame: None, json: None };
        assert!(variables(&none).unwrap().is_empty());
        let json = Some(PathBuf::from("out.json"));
        let variables =
            variables(&Differential { packets: Some(5), seed: Some(7), frame: None, json }).unwrap();
        assert_eq!(variables[0], ("VIP_LB_TEST_PACKETS", "5".to_owned()));
        assert_eq!(variables[1], ("VIP_LB_TEST_SEED", "7".to_owned()));
        let (name, path) = &variables[2];
        assert!(
            *name == "VIP_LB_TEST_JSON" && path.starts_with('/') && path.ends_with("/out.json"),
            "{path}"
        );
    }
}
