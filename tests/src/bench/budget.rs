//! Budgets: figures that must not grow unnoticed. Both kinds are the same in every run, so a test may hold them.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// How far the instructions of a packet may exceed their budget.
const TOLERANCE: f64 = 0.02;

/// How far what a verifier looks at may exceed its budget. It moves with the compiler's choices and the kernel's patch release.
pub const VERIFIED_TOLERANCE: f64 = 0.10;

/// What was measured, and what it may be; the contents of `tests/budgets.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Instructions for each packet, by case or floor, on the kernel that `cargo xtask bench --instructions` boots.
    pub instructions: BTreeMap<String, f64>,
    /// Instructions that the verifier looked at, by kernel series (`6.12`) and program.
    pub verified: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Counts {
    /// The budgets of this project.
    ///
    /// # Errors
    ///
    /// When the file in the repository is malformed.
    pub fn budgets() -> Result<Self> {
        serde_json::from_str(include_str!("../../budgets.json")).context("parse tests/budgets.json")
    }
}

/// Where a budget is not kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Violation {
    /// A figure exceeds its budget by more than is allowed: 2 % of a packet's instructions, 10 % of what a verifier looks at.
    Exceeded {
        /// Which.
        figure: String,
        /// What was measured.
        measured: f64,
        /// What it may be.
        budget: f64,
    },
    /// A figure has no budget.
    Missing {
        /// Which.
        figure: String,
        /// What was measured.
        measured: f64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exceeded { figure, measured, budget } => {
                let percent = (measured / budget - 1.0) * 100.0;
                write!(f, "{figure}: {measured} exceeds the budget of {budget} by {percent:.1} %")
            }
            Self::Missing { figure, measured } => {
                write!(f, "{figure}: {measured}, but tests/budgets.json has no budget for it")
            }
        }
    }
}

/// Holds what was measured against the budgets. Budgets of what was not measured are left alone, kernels without any are not held to
/// those of others.
pub fn check_budgets(measured: &Counts, budgets: &Counts) -> Vec<Violation> {
    let mut violations = compare("instructions", &measured.instructions, &budgets.instructions, TOLERANCE);
    for (kernel, programs) in &measured.verified {
        if let Some(budgets) = budgets.verified.get(kernel) {
            let what = format!("verified on {kernel}");
            violations.extend(compare(&what, programs, budgets, VERIFIED_TOLERANCE));
        }
    }
    violations
}

fn compare(
    what: &str,
    measured: &BTreeMap<String, f64>,
    budgets: &BTreeMap<String, f64>,
    tolerance: f64,
) -> Vec<Violation> {
    let violation = |(name, &measured): (&String, &f64)| {
        let figure = format!("{name} ({what})");
        match budgets.get(name) {
            None => Some(Violation::Missing { figure, measured }),
            Some(&budget) if measured > budget * (1.0 + tolerance) => {
                Some(Violation::Exceeded { figure, measured, budget })
            }
            Some(_) => None,
        }
    };
    measured.iter().filter_map(violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: f64, kernel: &str, verified: f64) -> Counts {
        let of = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        Counts {
            instructions: of("settled_tcp_l2", instructions),
            verified: BTreeMap::from([(kernel.to_owned(), of("vip_lb", verified))]),
        }
    }

    fn text(measured: &Counts) -> Vec<String> {
        let budgets = counts(300.0, "6.12", 10_000.0);
        check_budgets(measured, &budgets).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_percent_are_allowed_to_packets_and_ten_to_verifiers() {
        assert!(text(&counts(306.0, "6.12", 11_000.0)).is_empty());
        assert!(text(&counts(1.0, "6.12", 1.0)).is_empty());
        assert_eq!(
            text(&counts(307.0, "6.12", 11_001.0)),
            [
                "settled_tcp_l2 (instructions): 307 exceeds the budget of 300 by 2.3 %",
                "vip_lb (verified on 6.12): 11001 exceeds the budget of 10000 by 10.0 %",
            ]
        );
    }

    #[test]
    fn a_new_figure_needs_a_budget_and_another_kernel_has_none() {
        let mut measured = counts(300.0, "6.18", 99_999.0);
        measured.instructions.insert("new_case".to_owned(), 7.0);
        assert_eq!(
            text(&measured),
            ["new_case (instructions): 7, but tests/budgets.json has no budget for it"]
        );
    }

    #[test]
    fn every_case_and_floor_has_a_budget_and_nothing_else_does() {
        use crate::bench::cases::{CASES, Floor};

        let budgets = Counts::budgets().unwrap();
        let mut expected: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        expected.extend(Floor::ALL.map(Floor::name));
        expected.sort_unstable();
        assert_eq!(budgets.instructions.keys().collect::<Vec<_>>(), expected);
    }
}
