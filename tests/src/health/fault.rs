//! What can be wrong with a backend so that clients get nothing, made on a real one.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{FALL, INTERVAL, SERVICE, TROUBLED};
use crate::lab::{
    Family, Mode, Namespace, Node, Site,
    config::ConfigFile,
    edge_address, nat_source, patience,
    status::{Backend, Service},
    vip,
};

/// A second interface of the backend on the same segment.
const OTHER: &str = "other";
/// Where the service is that stops listening on one of its addresses.
const CHECKED: u16 = 81;
/// Until a configuration is in force.
const LIMIT: Duration = Duration::from_secs(20);

/// Something that is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The VIP is on no interface.
    VipMissing,
    /// Nobody unpacks what comes by tunnel.
    NotUnpacked,
    /// The service listens on the backend's own address only.
    OwnAddressOnly,
    /// It listens on the VIP only: no fault, but a check of the own address takes it for one.
    VipOnly,
    /// The reverse path filter drops what comes in.
    ReversePath,
    /// Nobody listens.
    PortClosed,
    /// The host does not answer at all.
    HostGone,
    /// The process hangs, and the kernel still accepts connections for it.
    Hung,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::VipMissing,
        Self::NotUnpacked,
        Self::OwnAddressOnly,
        Self::VipOnly,
        Self::ReversePath,
        Self::PortClosed,
        Self::HostGone,
        Self::Hung,
    ];

    /// Whether it can be in this mode: a translated backend neither has the VIP nor unpacks anything.
    #[must_use]
    pub fn is_of(self, mode: Mode) -> bool {
        match self {
            Self::VipMissing | Self::OwnAddressOnly | Self::VipOnly => mode != Mode::Nat,
            Self::NotUnpacked => matches!(mode, Mode::Ipip | Mode::Gue),
            Self::ReversePath | Self::PortClosed | Self::HostGone | Self::Hung => true,
        }
    }

    /// For people, and in names of figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VipMissing => "vip_missing",
            Self::NotUnpacked => "not_unpacked",
            Self::OwnAddressOnly => "own_address_only",
            Self::VipOnly => "vip_only",
            Self::ReversePath => "rp_filter",
            Self::PortClosed => "port_closed",
            Self::HostGone => "host_gone",
            Self::Hung => "hung",
        }
    }
}

/// A site whose first backend gets into trouble.
#[derive(Debug)]
pub(super) struct Scene<'s> {
    site: &'s mut Site,
    base: ConfigFile,
    own: Option<TcpListener>,
    of_vip: Option<TcpListener>,
}

impl<'s> Scene<'s> {
    /// Adds what faults need.
    pub(super) fn prepare(site: &'s mut Site) -> Result<Self> {
        let base = serde_yaml::from_str(&site.daemon().config_text()?).context("read the configuration")?;
        let node = site.lab.backend(TROUBLED);
        let backend = &node.namespace;
        site.lab.switch.connect(backend, OTHER, &format!("{TROUBLED}-{OTHER}"))?;
        let edge = &site.lab.edges[0].namespace;
        let mac = edge.ip(&["-br", "link", "show", "dev", Node::DEVICE])?;
        let mac = mac.split_whitespace().nth(2).context("the edge node's MAC address")?;
        for address in sources() {
            backend.ip(&["neigh", "replace", &address, "lladdr", mac, "dev", OTHER, "nud", "permanent"])?;
        }
        Ok(Self { site, base, own: None, of_vip: None })
    }

    /// Has all be well, and be asked for by a check that will see the fault.
    pub(super) fn begin(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::OwnAddressOnly | Fault::VipOnly => {
                self.listen()?;
                self.ask("vip")?;
            }
            _ => {}
        }
        if fault == Fault::VipOnly {
            // To clients all is well without the own address, and to a check through the VIP.
            self.own = None;
            thread::sleep(INTERVAL * (FALL + 2) * patience());
            self.ensure_up()?;
            self.listen()?;
            self.ask("direct")?;
        }
        Ok(())
    }

    /// Has the usual checks be made again.
    pub(super) fn end(&mut self, fault: Fault) -> Result<()> {
        if matches!(fault, Fault::OwnAddressOnly | Fault::VipOnly) {
            self.site.daemon().reload(&self.base)?;
            self.wait_until_up()?;
        }
        Ok(())
    }

    pub(super) fn site(&self) -> &Site {
        self.site
    }

    /// Makes a fault.
    pub(super) fn make(&mut self, fault: Fault) -> Result<()> {
        let backend = &self.site.lab.backend(TROUBLED).namespace;
        match fault {
            Fault::VipMissing => backend.ip(&["addr", "del", &vip_prefix(), "dev", "lo"]).map(drop),
            Fault::NotUnpacked => {
                self.site.stop_decap(TROUBLED);
                Ok(())
            }
            Fault::OwnAddressOnly => {
                self.of_vip = None;
                Ok(())
            }
            Fault::VipOnly => {
                self.own = None;
                Ok(())
            }
            Fault::ReversePath => {
                for address in sources() {
                    backend.ip(&["route", "add", &format!("{address}/32"), "dev", OTHER])?;
                }
                filter(backend, "1")
            }
            Fault::PortClosed => {
                self.site.kill_servers(TROUBLED);
                Ok(())
            }
            Fault::HostGone => self.site.lab.set_cable(self.site.lab.backend(TROUBLED), false),
            Fault::Hung => self.site.http_server(TROUBLED)?.set_running(false),
        }
    }

    /// Undoes it.
    pub(super) fn mend(&mut self, fault: Fault) -> Result<()> {
        let backend = &self.site.lab.backend(TROUBLED).namespace;
        match fault {
            Fault::VipMissing => backend.ip(&["addr", "add", &vip_prefix(), "dev", "lo"]).map(drop),
            Fault::NotUnpacked => self.site.start_decap(TROUBLED, None),
            Fault::OwnAddressOnly | Fault::VipOnly => self.listen(),
            Fault::ReversePath => {
                filter(backend, "0")?;
                for address in sources() {
                    backend.ip(&["route", "del", &format!("{address}/32"), "dev", OTHER])?;
                }
                Ok(())
            }
            Fault::PortClosed => self.site.start_servers(TROUBLED),
            Fault::HostGone => self.site.lab.set_cable(self.site.lab.backend(TROUBLED), true),
            Fault::Hung => self.site.http_server(TROUBLED)?.set_running(true),
        }
    }

    /// Listens on both addresses.
    fn listen(&mut self) -> Result<()> {
        let node = self.site.lab.backend(TROUBLED);
        let listen = |address: IpAddr| -> Result<TcpListener> {
            let to = SocketAddr::new(address, CHECKED);
            node.namespace.enter(move || TcpListener::bind(to))?.with_context(|| format!("listen on {to}"))
        };
        if self.own.is_none() {
            self.own = Some(listen(node.address(Family::V4))?);
        }
        if self.of_vip.is_none() {
            self.of_vip = Some(listen(vip(Family::V4))?);
        }
        Ok(())
    }

    /// Has the service be asked for connections.
    fn ask(&self, via: &str) -> Result<()> {
        let mut config = self.base.clone();
        for health in config.services_mut().filter_map(|service| service.health.as_mut()) {
            health.kind = "tcp".to_owned();
            health.path = None;
            health.port = Some(CHECKED);
            health.via = Some(via.to_owned());
        }
        self.site.daemon().reload(&config)?;
        self.wait_until_up()
    }

    fn wait_until_up(&self) -> Result<()> {
        let is_up = |service: &Service| service.backend(TROUBLED).is_some_and(is_up);
        self.site.daemon().wait_service(SERVICE, "the backend to be up", LIMIT, is_up).map(drop)
    }

    fn ensure_up(&self) -> Result<()> {
        let status = self.site.daemon().status()?;
        let backend = status.service(SERVICE)?.backend(TROUBLED).context("the backend is gone")?;
        ensure!(is_up(backend), "{backend:?}");
        Ok(())
    }
}

fn is_up(backend: &Backend) -> bool {
    backend.is_in_ring() && backend.health.state == "up"
}

/// Addresses that probes reach backends from.
fn sources() -> [String; 2] {
    [edge_address(0, Family::V4), nat_source(0, Family::V4)].map(|address| address.to_string())
}

fn vip_prefix() -> String {
    format!("{}/32", vip(Family::V4))
}

fn filter(backend: &Namespace, strictness: &str) -> Result<()> {
    for device in ["all", Node::DEVICE] {
        backend.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), strictness)?;
    }
    Ok(())
}
