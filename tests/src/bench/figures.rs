//! From measurements to figures: their names, units and aims.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use super::{
    balancer,
    budget::{Counts, VERIFIED_TOLERANCE},
    cases::{CASES, MAX_RATIO, MAX_VERIFIED},
    run::{Bench, Measurement, Subject},
};
use xtask::figures::Figure;

/// The figures of two timed runs: one with a single flow, one with many.
///
/// # Errors
///
/// When a subject is missing in one of the runs.
pub fn of_times(one: &[Measurement], many: &[Measurement]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (few, many_flows) in one.iter().zip(many) {
        let name = few.subject.name();
        for (flows, measurement) in [("1_flow", few), ("100k_flows", many_flows)] {
            let median = rounded(measurement.quartiles().median, 1.0);
            figures.push(Figure::new(&format!("bench.{name}.{flows}.ns"), median, "ns"));
        }
        if let Subject::Case(case) = few.subject
            && let Some(floor) = case.floor
        {
            let ratio = few
                .ratio_to(of(one, Subject::Floor(floor))?)
                .max(many_flows.ratio_to(of(many, Subject::Floor(floor))?));
            let figure = Figure::new(&format!("bench.{name}.ratio_to_floor"), rounded(ratio, 100.0), "");
            figures.push(figure.aim(&format!("<= {MAX_RATIO}"))?);
        }
    }
    Ok(figures)
}

/// The figures of counts.
///
/// # Errors
///
/// Never: the aims are well formed.
pub fn of_counts(counts: &Counts) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, &count) in &counts.instructions {
        let figure = Figure::new(&format!("bench.{name}.instructions"), count, "instructions");
        let aim = CASES.iter().find(|case| case.name == name).and_then(|case| case.instructions);
        figures.push(match aim {
            Some(aim) => figure.aim(&format!("<= {aim}"))?,
            None => figure,
        });
    }
    for (name, &count) in counts.verified.values().flatten() {
        let figure = Figure::new(&format!("bench.{name}.verified_insns"), count, "instructions");
        figures.push(figure.aim(&format!("<= {MAX_VERIFIED}"))?);
    }
    Ok(figures)
}

/// What a run in a machine whose clock counts instructions says.
///
/// # Errors
///
/// When the kernel does not say what it verified.
pub fn instructions(bench: &mut Bench, measurements: &[Measurement]) -> Result<Counts> {
    Ok(Counts {
        instructions: measurements
            .iter()
            .map(|measurement| {
                let count = rounded(measurement.quartiles().median, 1.0);
                (measurement.subject.name().to_owned(), count)
            })
            .collect(),
        ..verified(bench)?
    })
}

/// What the verifier of this kernel looked at.
///
/// # Errors
///
/// When the kernel does not say (before 5.16).
pub fn verified(bench: &mut Bench) -> Result<Counts> {
    on_this_kernel(bench.verified_instructions()?)
}

/// What the verifier of this kernel looks at when it is given the balancer's object, and nothing else is done.
///
/// # Errors
///
/// When the kernel does not take a program, or does not say (before 5.16).
pub fn verified_alone(object: &[u8]) -> Result<Counts> {
    on_this_kernel(balancer::verified_of(object)?)
}

fn on_this_kernel(programs: Vec<(String, f64)>) -> Result<Counts> {
    let programs = programs.into_iter().collect();
    Ok(Counts { instructions: BTreeMap::new(), verified: BTreeMap::from([(kernel_series()?, programs)]) })
}

/// The figures of what verifiers looked at, by kernel and program, with their budgets as aims.
///
/// # Errors
///
/// Never: the aims are well formed.
pub fn of_kernels(counts: &Counts, budgets: &Counts) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (kernel, programs) in &counts.verified {
        for (program, &count) in programs {
            let figure = Figure::new(&format!("kernels.{kernel}.{program}.insns"), count, "instructions");
            let budget = budgets.verified.get(kernel).and_then(|programs| programs.get(program));
            figures.push(match budget {
                Some(budget) => {
                    figure.aim(&format!("<= {}", (budget * (1.0 + VERIFIED_TOLERANCE)).floor()))?
                }
                None => figure,
            });
        }
    }
    Ok(figures)
}

/// The first two numbers of the running kernel's release.
fn kernel_series() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(release.trim().split('.').take(2).collect::<Vec<_>>().join("."))
}

fn of(measurements: &[Measurement], subject: Subject) -> Result<&Measurement> {
    measurements
        .iter()
        .find(|measurement| measurement.subject == subject)
        .with_context(|| format!("find what {} took", subject.name()))
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::Floor;

    fn measurement(subject: Subject, rounds: &[f64]) -> Measurement {
        Measurement { subject, rounds: rounds.to_vec() }
    }

    #[test]
    fn the_worse_ratio_to_the_own_floor_is_the_figure() {
        let case = Subject::Case(CASES.iter().find(|case| case.name == "settled_tcp_l2").unwrap());
        let run = |case_ns: f64| {
            [
                measurement(Subject::Floor(Floor::RingMac), &[50.0, 50.0, 40.0]),
                measurement(Subject::Floor(Floor::RingIpip), &[90.0, 90.0, 90.0]),
                measurement(case, &[case_ns, case_ns, 400.0]),
            ]
        };
        let figures = of_times(&run(55.0), &run(75.0)).unwrap();
        let shown: Vec<_> = figures
            .iter()
            .filter(|figure| figure.name.contains("settled"))
            .map(|figure| (figure.name.as_str(), figure.value, figure.ok))
            .collect();
        assert_eq!(
            shown,
            [
                ("bench.settled_tcp_l2.1_flow.ns", 55.0, true),
                ("bench.settled_tcp_l2.100k_flows.ns", 75.0, true),
                ("bench.settled_tcp_l2.ratio_to_floor", 1.5, false),
            ]
        );
    }

    #[test]
    fn counts_are_held_against_the_aims() {
        let counts = Counts {
            instructions: BTreeMap::from([
                ("settled_tcp_l2".to_owned(), 351.0),
                ("floor_swap".to_owned(), 15.0),
            ]),
            verified: BTreeMap::from([(
                "6.12".to_owned(),
                BTreeMap::from([("vip_lb".to_owned(), 20_000.0)]),
            )]),
        };
        let figures = of_counts(&counts).unwrap();
        let shown: Vec<_> = figures.iter().map(|figure| (figure.name.as_str(), figure.ok)).collect();
        assert_eq!(
            shown,
            [
                ("bench.floor_swap.instructions", true),
                ("bench.settled_tcp_l2.instructions", false),
                ("bench.vip_lb.verified_insns", true),
            ]
        );
    }
}
