//! What is found on a node: data alone.

use std::net::IpAddr;

use crate::{
    config::{Config, model::AttachMode},
    dataplane::Occupant,
    network::{Channels, HostAddress, Interface, NextHop, Offload, XdpFeatures, XdpProgram},
    privileges::Privileges,
};

/// Everything that is known of a node.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The machine.
    pub host: Host,
    /// The configuration, if there is one to hold the host against.
    pub config: Option<Config>,
    /// The interfaces: those of the configuration, in its order, or all Ethernet ones that are up.
    pub interfaces: Vec<InterfaceFacts>,
    /// The way to each backend of the configuration.
    pub paths: Vec<BackendPath>,
    /// All addresses of the host.
    pub addresses: Vec<HostAddress>,
    /// `net.ipv4.ip_local_port_range`, first and last.
    pub local_ports: Option<(u16, u16)>,
    /// Whether the host is a router of IPv4 (`net.ipv4.ip_forward`).
    pub routes: bool,
    /// Interfaces whose reverse path filter of IPv4 is strict: their own `rp_filter` and that of `all`, the larger of which counts, make 1.
    pub strict: Vec<String>,
}

/// The machine itself.
#[derive(Clone, Debug)]
pub struct Host {
    /// The kernel's release, as `uname -r` has it.
    pub release: String,
    /// Its first two numbers.
    pub version: Option<(u32, u32)>,
    /// Whether it describes its types (`/sys/kernel/btf/vmlinux`).
    pub has_btf: bool,
    /// `net.core.bpf_jit_enable`; `None` where it is not to be seen, as in network namespaces.
    pub jit: Option<i64>,
    /// Why pins cannot be where they are to be; `None` if they can.
    pub pins: Option<String>,
    /// What this process may do.
    pub privileges: Privileges,
    /// Bytes that are free or can be freed (`MemAvailable`).
    pub memory: Option<u64>,
    /// Bytes that the maps will take; `None` where they are there already.
    pub map_memory: Option<u64>,
    /// Whether something keeps the clock right (adjtimex(2)).
    pub is_clock_synchronised: Option<bool>,
    /// Processors that are online.
    pub cpus: u32,
}

/// One interface.
#[derive(Clone, Debug)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// What the configuration accepts, if it names the interface.
    pub wanted: AttachMode,
    /// What it is, or why it is not.
    pub device: Result<Interface, String>,
    /// What its driver says of XDP.
    pub features: Option<XdpFeatures>,
    /// The program on it.
    pub program: Option<Program>,
    /// Its queues.
    pub channels: Option<Channels>,
    /// The queues that packets are spread over.
    pub indirection: Option<Vec<u32>>,
    /// Offloads that matter.
    pub offloads: Vec<Offload>,
}

/// An XDP program on an interface.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is.
    pub program: XdpProgram,
    /// Whose it is.
    pub occupant: Occupant,
}

/// The way to a backend.
#[derive(Clone, Debug)]
pub struct BackendPath {
    /// The backend's own address.
    pub address: IpAddr,
    /// Where packets to it go.
    pub answer: PathAnswer,
}

/// What the kernel says of the way to a backend.
#[derive(Clone, Debug)]
pub enum PathAnswer {
    /// There is one.
    Found {
        /// Its first step.
        next_hop: NextHop,
        /// The interface that frames leave by.
        egress: String,
        /// What that one's driver says of XDP.
        features: Option<XdpFeatures>,
        /// The MTU of that interface; the route's may be smaller.
        interface_mtu: u32,
    },
    /// There is none, and this is why.
    Missing(String),
}
