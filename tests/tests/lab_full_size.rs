//! A long stream of segments that fill the path once they are encapsulated. How long is told by `VIP_LB_TEST_IPERF_SECONDS`.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{Family, IperfServer, Mode, Site, SiteOptions, backend_address, iperf, vip};

/// Of each stream, unless the variable says otherwise.
const SECONDS: u32 = 5;
/// Of each stream that goes to the backend itself.
const STRAIGHT_SECONDS: u32 = 2;
/// Well below what the lab carries on two busy cores.
const MEGABITS: u32 = 200;

#[test]
fn nothing_is_sent_again_through_ipip() -> Result<()> {
    nothing_is_sent_again(Mode::Ipip, 20)
}

#[test]
fn nothing_is_sent_again_through_gue() -> Result<()> {
    nothing_is_sent_again(Mode::Gue, 28)
}

fn nothing_is_sent_again(mode: Mode, headers: u32) -> Result<()> {
    let seconds = match std::env::var("VIP_LB_TEST_IPERF_SECONDS") {
        Ok(text) => {
            text.parse().with_context(|| format!("VIP_LB_TEST_IPERF_SECONDS is {text}, no number"))?
        }
        Err(_) => SECONDS,
    };
    let options = SiteOptions::new(mode, Family::V4)?;
    let mut config = options.config(&[100]);
    // iperf3 has a connection for the data and one to talk about it: one backend has both.
    config.add_service("web", "iperf", IperfServer::PORT, &[0]);
    let site = Site::start(options, &config)?;
    let _server = IperfServer::start(&site.lab.backends[0])?;
    let client = &site.lab.client.namespace;
    // A probe for a lost tail sends a segment again when an acknowledgement is late, and on a busy machine it is, with a round trip of microseconds.
    client.sysctl("net/ipv4/tcp_early_retrans", "0")?;
    let balanced = SocketAddr::from((vip(Family::V4), IperfServer::PORT));
    let direct = SocketAddr::from((backend_address(0, Family::V4), IperfServer::PORT));

    // The first connection is told what fits the tunnel, at the cost of what it had sent until then.
    iperf(client, balanced, 1, MEGABITS)?;
    let told = site.daemon().counter("too_big_answered")?;
    ensure!(told > 0);

    // What the lab loses by itself is not our loss.
    let without = iperf(client, direct, STRAIGHT_SECONDS, MEGABITS)?;
    let with = iperf(client, balanced, seconds, MEGABITS)?;
    eprintln!(
        "{mode:?}:\n  through vip-lb in {seconds} s {with:?}\n  straight in {STRAIGHT_SECONDS} s {without:?}"
    );
    ensure!(without.retransmits == 0, "the lab does not carry this rate: {without:?}");
    ensure!(with.retransmits == 0, "{with:?}");
    ensure!(with.segment == without.segment - headers, "{with:?} is not full size: {without:?}");
    ensure!(with.bits_per_second > 0.5e6 * f64::from(MEGABITS), "{with:?}");
    ensure!(site.daemon().counter("too_big_answered")? == told);
    site.succeeded();
    Ok(())
}
