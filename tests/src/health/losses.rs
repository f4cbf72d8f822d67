//! Packets that get lost on the way are no failure of a backend.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use xtask::figures::Figure;

use super::{
    moments::{Change, Moment, changes},
    start_with_usual_checks,
};
use crate::lab::{StackCounters, interrupt};

/// Of ten thousand packets that a node sends.
const LOST: u32 = 100;

/// `health.false_removals`: how many backends left the ring while every hundredth packet in each direction was lost, of clients and of checks.
///
/// # Errors
///
/// A lab cannot be built, or no packet was lost.
pub fn losses(time: Duration, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let site = start_with_usual_checks()?;
    let edge = &site.lab.edges[0];
    for node in site.lab.backends.iter().chain([edge]) {
        site.lab.switch.lose(&node.name, LOST)?;
    }
    let resent = || StackCounters::read(&edge.namespace)?.get("TcpRetransSegs");
    let (began, before) = (Moment::now()?, resent()?);
    let mut left = time;
    while !left.is_zero() {
        interrupt::check()?;
        let step = left.min(Duration::from_secs(1));
        thread::sleep(step);
        left -= step;
    }
    let resent = resent()? - before;
    let removals = changes(&site, Change::Removal, began)?.len();
    tell(&format!("1 % lost for {time:?}: {removals} removals; checks sent {resent} segments again"));
    // Of fewer than some hundred packets none may be among the lost.
    ensure!(resent > 0 || time < Duration::from_secs(60), "no packet was lost");
    site.succeeded();
    Ok(vec![Figure::new("health.false_removals", removals as f64, "removals").aim("== 0")?])
}
