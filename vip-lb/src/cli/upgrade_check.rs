//! `vip-lb upgrade-check`: what a start of this binary would do with what is pinned.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vip_lb_common::HashKey;

use super::{arguments::UpgradeCheckArgs, exit::Exit, output};
use crate::{
    config::{self, InvalidConfig, model::DEFAULT_PINS},
    dataplane::{self, Examination, Way},
};

/// The answer.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether this binary can take over, or start where there is nothing to take over.
    can_take_over: bool,
    /// `fresh`, `adopt`, `migrate` or `refuse`.
    way: &'static str,
    /// Why not, and what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    /// What a migration does, one line for each step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<&'static str>,
    /// What is pinned.
    pinned: Pinned,
    /// What was asked.
    binary: Binary,
}

#[derive(Debug, Serialize)]
struct Pinned {
    folder: PathBuf,
    /// Absent where nothing is written into the maps.
    layout: Option<u32>,
    /// Where the program is attached.
    interfaces: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Binary {
    version: &'static str,
    layout: u32,
    /// Instructions that this kernel's verifier walked through; absent if it refuses the program, or does not say (before 5.16).
    verified_instructions: Option<u32>,
}

/// Says it.
///
/// # Errors
///
/// The configuration is not valid, or what is pinned cannot be looked at.
pub(super) fn run(args: &UpgradeCheckArgs) -> anyhow::Result<Exit> {
    let loaded = match &args.config {
        Some(path) => {
            Some(config::load(path).map_err(|errors| InvalidConfig::new(path, &errors.errors))?.config.node)
        }
        None => None,
    };
    let configured = loaded.as_ref().map(|node| node.pins.clone());
    let folder = args.pins.clone().or(configured).unwrap_or_else(|| PathBuf::from(DEFAULT_PINS));
    let seed = loaded.map(|node| HashKey::from_seed(&node.seed.0));
    let report = report(&folder, seed)?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&in_words(&report))?;
    }
    Ok(if report.can_take_over { Exit::Success } else { Exit::Failure })
}

fn report(folder: &Path, seed: Option<HashKey>) -> anyhow::Result<Report> {
    let Examination { pinned_layout, layout, interfaces, hash, way } = dataplane::examine(folder)?;
    let mut reasons = Vec::new();
    let mut steps = Vec::new();
    let way = match way {
        Ok(Way::Fresh) => "fresh",
        Ok(Way::Adopt) => "adopt",
        Ok(Way::Migrate(of_migration)) => {
            steps = of_migration;
            "migrate"
        }
        Err(refusal) => {
            reasons.push(refusal.to_string());
            "refuse"
        }
    };
    if let (Some(pinned), Some(configured)) = (hash, seed)
        && pinned != configured
    {
        reasons.push(format!(
            "the maps under {} were made with another seed, and flows would move: give back the former `node.seed`, or run \
             `vip-lb unload` first, which ends forwarding",
            folder.display()
        ));
    }
    let mut verified_instructions = None;
    match dataplane::verify_program() {
        Ok(cost) => verified_instructions = cost.verified_instructions,
        Err(error) => reasons.push(format!("{:#}", anyhow::Error::new(error))),
    }
    Ok(Report {
        can_take_over: reasons.is_empty(),
        way: if reasons.is_empty() { way } else { "refuse" },
        reasons,
        steps,
        pinned: Pinned { folder: folder.to_owned(), layout: pinned_layout, interfaces },
        binary: Binary { version: env!("CARGO_PKG_VERSION"), layout, verified_instructions },
    })
}

fn in_words(report: &Report) -> String {
    let folder = report.pinned.folder.display();
    let on = match &report.pinned.interfaces[..] {
        [] => "attached nowhere".to_owned(),
        interfaces => format!("attached to {}", interfaces.join(", ")),
    };
    let mut text = match report.pinned.layout {
        Some(layout) => format!("pinned under {folder}: layout {layout}, {on}\n"),
        None => format!("nothing is pinned under {folder}\n"),
    };
    let Binary { version, layout, verified_instructions } = &report.binary;
    text.push_str(&format!("this binary: version {version}, layout {layout}"));
    if let Some(instructions) = verified_instructions {
        text.push_str(&format!(", taken by this kernel ({instructions} instructions verified)"));
    }
    text.push('\n');
    text.push_str(match report.way {
        "fresh" => "it can start: there is nothing to take over\n",
        "adopt" => "it can take over: maps are used as they are, the program is swapped in one step\n",
        "migrate" => "it can take over: maps are brought to its layout, the program is swapped in one step\n",
        _ => "it cannot take over; forwarding goes on as it is\n",
    });
    for step in &report.steps {
        text.push_str(&format!("  {step}\n"));
    }
    for reason in &report.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(way: &'static str, layout: Option<u32>) -> Report {
        Report {
            can_take_over: way != "refuse",
            way,
            reasons: Vec::new(),
            steps: Vec::new(),
            pinned: Pinned { folder: "/pins".into(), layout, interfaces: vec!["eth0".to_owned()] },
            binary: Binary { version: "0.1.0", layout: 3, verified_instructions: Some(20_000) },
        }
    }

    #[test]
    fn people_read_what_will_happen() {
        let adopted = in_words(&sample("adopt", Some(3)));
        assert!(adopted.starts_with("pinned under /pins: layout 3, attached to eth0\n"), "{adopted}");
        assert!(adopted.contains("it can take over: maps are used as they are"), "{adopted}");
        let migrated = in_words(&Report { steps: vec!["more room"], ..sample("migrate", Some(2)) });
        assert!(migrated.ends_with("in one step\n  more room\n"), "{migrated}");
        let refused = Report { reasons: vec!["layout 9: do this".to_owned()], ..sample("refuse", Some(9)) };
        assert!(in_words(&refused).ends_with("forwarding goes on as it is\n  layout 9: do this\n"));
        assert!(in_words(&sample("fresh", None)).starts_with("nothing is pinned under /pins\n"));
    }

    #[test]
    fn scripts_read_the_same() {
        let json = serde_json::to_value(sample("adopt", Some(3))).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "can_take_over": true,
                "way": "adopt",
                "pinned": {"folder": "/pins", "layout": 3, "interfaces": ["eth0"]},
                "binary": {"version": "0.1.0", "layout": 3, "verified_instructions": 20_000},
            })
        );
    }
}
