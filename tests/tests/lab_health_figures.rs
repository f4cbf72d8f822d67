//! Short versions of what `cargo xtask bench --suite health` measures. Times are printed and not asserted: the machine may be busy.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::{
    health::{flood, losses, modes, scale, times},
    lab::{Mode, patience},
};
use xtask::figures::Figure;

#[test]
fn a_backend_that_loses_the_vip_is_out_and_returns_with_it() -> Result<()> {
    let figures = times(3, &mut |line| println!("{line}"))?;
    ensure!(figures.len() == 4 && figures.iter().all(|figure| figure.value > 0.0), "{figures:?}");
    Ok(())
}

#[test]
fn every_fault_of_a_backend_is_noticed_with_and_without_translation() -> Result<()> {
    as_promised(&modes(&[Mode::L2, Mode::Nat], &mut |line| println!("{line}"))?)
}

#[test]
fn neither_losses_nor_a_flood_take_a_backend_out() -> Result<()> {
    let time = Duration::from_secs(8) * patience();
    as_promised(&losses(time, &mut |line| println!("{line}"))?)?;
    as_promised(&flood(time, &mut |line| println!("{line}"))?)
}

#[test]
fn hundreds_of_backends_are_checked_through_the_vip() -> Result<()> {
    let figures = scale(300, Duration::from_secs(5), &mut |line| println!("{line}"))?;
    // Whether probes are in time depends on what else the machine does.
    ensure!(figures.iter().any(|figure| figure.name == "health.scale_late"), "{figures:?}");
    Ok(())
}

fn as_promised(figures: &[Figure]) -> Result<()> {
    let missed: Vec<_> = figures.iter().filter(|figure| !figure.ok).collect();
    ensure!(missed.is_empty(), "{missed:?}");
    Ok(())
}
