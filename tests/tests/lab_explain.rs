//! `vip-lb explain` says where a packet goes, and there it went: 250 flows for each transport and family.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{Family, Mode, Site, SiteOptions, Transport, who_answers};

#[test]
fn ipv4() -> Result<()> {
    explain_agrees(Mode::L2, Family::V4)
}

#[test]
fn ipv6() -> Result<()> {
    explain_agrees(Mode::Ipip, Family::V6)
}

#[test]
fn nat() -> Result<()> {
    explain_agrees(Mode::Nat, Family::V6)
}

fn explain_agrees(mode: Mode, family: Family) -> Result<()> {
    let options = SiteOptions::new(mode, family)?;
    let config = options.config(&[100, 100, 200]);
    let site = Site::start(options, &config)?;
    let source = site.lab.client.address(family);
    // A stride that is coprime to the ring spreads the ports over the whole range.
    let ports: Vec<u16> = (0..250_u16).map(|number| 1024 + number * 257).collect();
    for (transport, protocol) in [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")] {
        let answers = who_answers(&site.lab.client.namespace, site.echo(), transport, &ports)?;
        ensure!(answers.len() >= 240, "only {} ports could be used", answers.len());
        for (port, answered) in answers {
            let from = SocketAddr::from((source, port));
            let explanation = site.daemon().explain(from, site.echo(), protocol)?;
            let chosen = explanation.backend.with_context(|| {
                format!("no backend for {protocol} from {from}: {}", explanation.verdict.name)
            })?;
            ensure!(
                chosen.name == answered,
                "{protocol} from {from} went to {answered}, explained as {} ({})",
                chosen.name,
                chosen.reason
            );
        }
    }
    site.succeeded();
    Ok(())
}
