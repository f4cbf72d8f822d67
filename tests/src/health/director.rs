//! keepalived and Linux IPVS in the place of the daemon.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{
    compare,
    lab::{Family, Keepalived, Lab, Namespace, Scratch, command, vip, wait_for},
};

const LIMIT: Duration = Duration::from_secs(20);

/// Whether this kernel has IPVS: it is asked for an empty table, which loads the module where there is one.
pub(super) fn is_possible() -> Result<bool> {
    let scratch = Scratch::new()?;
    let namespace = Namespace::new(&format!("{}-ipvs", scratch.name()))?;
    Ok(command::output_of(namespace.command("ipvsadm").args(["-L", "-n"])).is_ok())
}

/// Makes the first edge node the director of a service with direct return, checked at another port, and waits until all backends are in it.
/// Three checks two seconds apart must fail, each within a second: as HAProxy's.
pub(super) fn start(lab: &Lab, port: u16, checked: u16) -> Result<Keepalived> {
    let edge = lab.edges.first().context("an edge node")?;
    compare::make_director(&edge.namespace)?;
    let servers: String = lab
        .backends
        .iter()
        .map(|backend| {
            let address = backend.address(Family::V4);
            format!(
                " real_server {address} {port} {{\n  weight 1\n  TCP_CHECK {{\n   connect_port {checked}\n   connect_timeout 1\n   \
                 retry 2\n   delay_before_retry 2\n  }}\n }}\n"
            )
        })
        .collect();
    let config = format!(
        "virtual_server {} {port} {{\n delay_loop 2\n lvs_sched rr\n lvs_method DR\n protocol TCP\n{servers}}}\n",
        vip(Family::V4)
    );
    let keepalived = Keepalived::start(edge, &lab.scratch, &config)?;
    wait_for("keepalived to have all backends in service", LIMIT, || {
        let table = command::output_of(edge.namespace.command("ipvsadm").args(["-L", "-n"]))?;
        Ok((table.lines().filter(|line| line.contains(" Route ")).count() == lab.backends.len())
            .then_some(()))
    })
    .with_context(|| keepalived.log())?;
    Ok(keepalived)
}
