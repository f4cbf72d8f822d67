//! Short versions of what `cargo xtask bench --suite failover` measures. Times are printed and not asserted: the machine may be busy.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::{
    failover::{Options, Scenario},
    lab::patience,
};
use xtask::figures::Figure;

fn play(scenario: Scenario) -> Result<Vec<Figure>> {
    let options = Options { runs: 2, connections: 200, overload: Duration::from_secs(3) * patience() };
    scenario.play(&options, &mut |line| println!("{line}"))
}

#[test]
fn what_is_moved_on_purpose_loses_nothing() -> Result<()> {
    as_promised(&play(Scenario::Handover)?)
}

#[test]
fn two_nodes_never_answer_at_once_when_a_daemon_is_killed_or_stopped() -> Result<()> {
    as_promised(&play(Scenario::Killed)?)
}

#[test]
fn one_node_answers_whoever_hears_whom() -> Result<()> {
    as_promised(&play(Scenario::Partition)?)
}

#[test]
fn a_node_that_is_cut_off_is_replaced() -> Result<()> {
    let figures = play(Scenario::Cut)?;
    ensure!(figures.len() == 6 && figures.iter().all(|figure| figure.value > 0.0), "{figures:?}");
    Ok(())
}

fn as_promised(figures: &[Figure]) -> Result<()> {
    let missed: Vec<_> = figures.iter().filter(|figure| !figure.ok).collect();
    ensure!(missed.is_empty(), "{missed:?}");
    Ok(())
}
