//! The balancer on a network interface with a real driver: a virtual machine with a virtio device of several queues, attached natively.
//! A veth forgives what drivers do not. Needs QEMU, and the package lists when the kernel is not in the cache yet.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use vip_lb_common::abi::VirtualMac;
use vip_lb_tests::lab::{
    ConfigFile, Family, HttpLoad, HttpReport, LoadOptions, LongConnections, Mode, Node, Site, SiteOptions,
    VirtualEdge, VrrpConfig,
    status::{Backend, Interface, Service, wait_service},
    vip, wait_for,
};
use xtask::guest::Kernel;

/// The machine is emulated, all else is not.
const LIMIT: Duration = Duration::from_secs(120);
const ROUTER: u8 = 54;

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
    takes_frames_to_a_virtual_mac_address(&site, &edge, rewritten)?;
    println!("kernel {}: XDP packets by queue {queues:?}", kernel.release);
    Ok(())
}

/// The card drops frames to addresses that it was not told of, as a veth does not.
fn takes_frames_to_a_virtual_mac_address(
    site: &Site,
    edge: &VirtualEdge,
    mut config: ConfigFile,
) -> Result<()> {
    let (client, address, mac) = (&site.lab.client.namespace, vip(Family::V4), VirtualMac::new(true, ROUTER));
    let (address, mac) = (address.to_string(), mac.to_string());
    client.ip(&["neigh", "replace", &address, "lladdr", &mac, "dev", Node::DEVICE, "nud", "permanent"])?;
    let options = LoadOptions { timeout: Duration::from_secs(2), ..LoadOptions::count(site.web(), 4) };
    let before = HttpLoad::run(client, options)?;
    ensure!(before.failed().count() == 4, "the card takes what is not for it: {:?}", before.by_backend());

    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        interval: Some("3s".to_owned()),
        virtual_mac: true,
        ..VrrpConfig::default()
    });
    edge.reload(&config)?;
    wait_for("the card to take frames to the virtual MAC address", LIMIT, || {
        let vips = edge.status()?.vips;
        let router = vips[0].vrrp.as_ref().context("a router")?;
        let told = router.virtual_mac.as_ref().context("a virtual MAC address")?;
        let by_macvlan = told.admitted && told.device.as_deref() == Some("vlb-v4-54");
        Ok((router.state == "active" && by_macvlan && told.address == mac).then_some(()))
    })?;
    requests(site, "to a virtual MAC address").map(drop)
}

/// The daemon of the emulated machine is slow to check, all others are not slow to answer.
fn patient(options: &SiteOptions, weights: &[u16]) -> ConfigFile {
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
