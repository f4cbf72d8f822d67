//! What `cargo xtask compare` plays, without IPVS beside it: no event breaks what is promised.

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::{
    compare::{Event, VipLb, play},
    lab::Mode,
};

#[test]
fn tunnels_keep_what_is_promised() -> Result<()> {
    promises_are_kept(Mode::Ipip)
}

#[test]
fn translation_keeps_what_is_promised() -> Result<()> {
    promises_are_kept(Mode::Nat)
}

fn promises_are_kept(mode: Mode) -> Result<()> {
    let mut balancer = VipLb::start(mode)?;
    for event in Event::ALL {
        let damage = play(event, &mut balancer).with_context(|| event.describe())?;
        let damage = damage.context("vip-lb knows all events")?;
        println!("{}: {damage:?}", event.describe());
        ensure!(damage.reasons.is_empty() || !event.is_promised(mode), "{}: {damage:?}", event.describe());
    }
    balancer.succeeded();
    Ok(())
}
