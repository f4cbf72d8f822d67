//! The balancer on a network interface with a real driver: a virtual machine with a virtio device of several queues, attached natively.
//! A veth forgives what drivers do not. Needs QEMU, and the package lists when the kernel is not in the cache yet.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, HttpReport, LoadOptions, LongConnections, Mode, Site, SiteOptions, VirtualEdge,
    status::{Backend, Interface, Service, wait_service},
};
use xtask::guest::Kernel;

/// The machine is emulated, all else is not.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn on_kernel_6_12() -> Result<()> {
    a_virtio_device_forwards("6.12")
}

#[test]
#[ignore = "`cargo xtask kernels` runs it; one kernel is enough for every day"]
fn on_kernel_6_1() -> Result<()> {
    a_virtio_device_forwards("6.1")
}

fn a_virtio_device_forwards(series: &str) -> Result<()> {
    let kernel = Kernel::debian(series, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernels"))?;
    // Backends that decapsulate get along without it as well.
    let options = SiteOptions { edges: 0, ..SiteOptions::new(Mode::Ipip, Family::V4)? };
    let weights = [100, 100, 200];
    let encapsulated = patient(&options, &weights);
    let rewritten = patient(&SiteOptions { mode: Mode::L2, ..options.clone() }, &weights);
    let mut site = Site::start(options, &encapsulated)?;
    let edge = VirtualEdge::boot(&site, &kernel, &encapsulated)?;
    let native = Interface { name: VirtualEdge::DEVICE.to_owned(), mode: "native".to_owned() };
    ensure!(edge.status()?.interfaces == [native], "{:?}", edge.status()?.interfaces);
    wait_complete(&edge)?;

    spread_over_all(&site, "ipip")?;
    edge.reload(&rewritten)?;
    wait_complete(&edge)?;
    spread_over_all(&site, "l2")?;
    let queues = edge.xdp_packets_by_queue()?;
    // The device also receives on the queues that the driver takes to send from XDP.
    ensure!(queues.iter().filter(|packets| **packets > 0).count() >= 2, "one queue does it all: {queues:?}");

    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 24)?;
    ensure!(connections.by_backend().len() == 3, "{:?}", connections.by_backend());
    site.kill_servers("backend-2");
    for service in ["web", "echo"] {
        wait_service(
            || edge.status(),
            service,
            "backend-2 to be removed",
            LIMIT,
            |service| service.backend("backend-2").is_some_and(Backend::is_removed),
        )?;
    }
    let rest = requests(&site, "after a removal")?;
    ensure!(!rest.by_backend().contains_key("backend-2"), "{:?}", rest.by_backend());
    connections.exchange(3)?;
    let broken = connections.broken();
    ensure!(broken.iter().all(|connection| connection.backend == "backend-2"), "{broken:?}");
    println!("kernel {}: XDP packets by queue {queues:?}", kernel.release);
    Ok(())
}

/// The daemon of the emulated machine is slow to check, all others are not slow to answer.
fn patient(options: &SiteOptions, weights: &[u16]) -> vip_lb_tests::lab::config::ConfigFile {
    let mut config = options.config(weights);
    for service in config.services_mut() {
        if let Some(health) = &mut service.health {
            health.interval = "3s".to_owned();
            health.timeout = "3s".to_owned();
        }
    }
    config
}

fn wait_complete(edge: &VirtualEdge) -> Result<()> {
    for service in ["web", "echo"] {
        wait_service(|| edge.status(), service, "all backends in the ring", LIMIT, Service::is_complete)
            .with_context(|| edge.run("tail -n 20 /tmp/vip-lb.log").unwrap_or_default())?;
    }
    Ok(())
}

fn spread_over_all(site: &Site, mode: &str) -> Result<()> {
    let report = requests(site, mode)?;
    ensure!(report.by_backend().len() == 3, "{mode}: {:?}", report.by_backend());
    Ok(())
}

fn requests(site: &Site, when: &str) -> Result<HttpReport> {
    let options = LoadOptions { timeout: Duration::from_secs(20), ..LoadOptions::count(site.web(), 300) };
    let report = HttpLoad::run(&site.lab.client.namespace, options)?;
    ensure!(report.failed().count() == 0, "requests failed ({when}): {:?}", report.errors());
    Ok(report)
}
