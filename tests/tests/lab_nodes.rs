//! Two edge nodes with the same configuration send the same flow to the same backend.

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{Family, Mode, Site, SiteOptions, Transport, who_answers};

#[test]
fn any_node_picks_the_same_backend() -> Result<()> {
    for family in Family::BOTH {
        let mut options = SiteOptions::new(Mode::L2, family)?;
        options.edges = 2;
        let config = options.config(&[100, 100, 200]);
        let site = Site::start(options, &config)?;
        let ports: Vec<u16> = (20_000..20_200).collect();
        for transport in [Transport::Tcp, Transport::Udp] {
            let mut mappings = Vec::new();
            for edge in &site.lab.edges {
                site.lab.route_vips_through(edge)?;
                mappings.push(who_answers(&site.lab.client.namespace, site.echo(), transport, &ports)?);
            }
            ensure!(mappings[0].len() == ports.len(), "{} of {} ports asked", mappings[0].len(), ports.len());
            let differing: Vec<_> =
                mappings[0].iter().filter(|(port, name)| mappings[1].get(port) != Some(name)).collect();
            ensure!(differing.is_empty(), "{transport:?} over {family:?} differs for {differing:?}");
        }
        site.succeeded();
    }
    Ok(())
}
