//! No connection state while nothing changes: with settled slots the flow tables stay empty under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{Family, HttpLoad, LoadOptions, LongConnections, Mode, Site, SiteOptions, UdpFlows};

const TABLES: [&str; 3] = ["FLOWS", "NEWBORN", "SURVIVORS"];

#[test]
fn flow_tables_fill_while_slots_are_open_and_are_empty_in_the_steady_state() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let mut config = options.config(&[100, 100, 200]);
    for service in config.services_mut() {
        // Slots close after one idle timeout without a change.
        service.idle_timeout = Some("1s".to_owned());
    }
    let site = Site::start(options, &config)?;
    settle(&site)?;
    tables_stay_empty(&site)?;

    // The tables are looked at in the right place: an opened slot shows in them.
    site.daemon().ask(&["drain", "echo/backend-1"])?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 40)?;
    let recorded = site.daemon().map_entries("FLOWS")?.len() + site.daemon().map_entries("NEWBORN")?.len();
    ensure!(recorded > 0, "40 connections over open slots and nothing recorded");
    drop(connections);
    site.daemon().ask(&["undrain", "echo/backend-1"])?;
    settle(&site)?;
    tables_stay_empty(&site)?;
    site.succeeded();
    Ok(())
}

fn settle(site: &Site) -> Result<()> {
    for service in ["web", "echo", "echo-udp"] {
        site.daemon().wait_service(service, "all slots to close", Duration::from_secs(30), |service| {
            service.is_complete()
                && service.open_slots == 0
                && service.recorded_flows + service.newborn + service.survivors == 0
        })?;
    }
    Ok(())
}

fn tables_stay_empty(site: &Site) -> Result<()> {
    let client = &site.lab.client.namespace;
    let connections = LongConnections::open(client, site.echo(), 20)?;
    let flows = UdpFlows::open(client, site.echo(), 20)?;
    let report = HttpLoad::run(client, LoadOptions::count(site.web(), 1000))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    connections.exchange(5)?;
    flows.exchange(5)?;
    for table in TABLES {
        let entries = site.daemon().map_entries(table)?;
        ensure!(entries.is_empty(), "{table} has {} entries, the first is {}", entries.len(), entries[0]);
    }
    Ok(())
}
