//! `vip-lb explain` says where a packet goes, and there it went: 250 flows for each transport and family.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{Family, Mode, Site, SiteOptions, Transport, status::Explanation, who_answers};

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

#[test]
fn packets_of_other_kinds() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let options = SiteOptions::new(Mode::L2, family)?;
        let config = options.config(&[100, 100, 200]);
        let site = Site::start(options, &config)?;
        let client = site.lab.client.address(family).to_string();
        let vip = site.echo().ip().to_string();
        let explained = |from: &str, to: &str, packet: &str| -> Result<Explanation> {
            site.daemon().ask_json(&["explain", from, to, "--packet", packet])
        };
        site.lab.client.namespace.run("ping", &["-c", "1", "-W", "2", &vip]).context("ping the VIP")?;
        let resolved = if family == Family::V4 { "arp_answered" } else { "neighbour_answered" };
        for (packet, verdict) in [("echo", "echo_answered"), ("who-has", resolved)] {
            let explanation = explained(&client, &vip, packet)?;
            ensure!(explanation.verdict.name == verdict, "{packet} ends as {}", explanation.verdict.name);
            let counted = site.daemon().counter(verdict)?;
            ensure!(counted > 0, "{packet} is explained as {verdict}, but none ended so");
        }
        let ports: Vec<u16> = (20_000..20_020).collect();
        let answers = who_answers(&site.lab.client.namespace, site.echo(), Transport::Tcp, &ports)?;
        for (port, answered) in answers {
            let from = SocketAddr::from((site.lab.client.address(family), port)).to_string();
            for packet in ["fin", "too-big", "time-exceeded"] {
                let explanation = explained(&from, &site.echo().to_string(), packet)?;
                let chosen =
                    explanation.backend.with_context(|| format!("no backend for {packet} of {from}"))?;
                ensure!(chosen.name == answered, "{packet} of {from}: {} for {answered}", chosen.name);
            }
        }
        site.succeeded();
    }
    Ok(())
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
