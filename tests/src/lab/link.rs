//! Veth pairs, and the switch that joins them.

use anyhow::{Context, Result};

use super::{namespace::Namespace, xdp_pass};

/// A pair of virtual Ethernet interfaces, set up so that XDP sees on them what it would see on a wire.
#[derive(Debug)]
pub struct Veth;

impl Veth {
    /// Makes a pair with one end in each namespace, both up.
    ///
    /// On both ends: no checksum or segmentation offload, because XDP drops what an offload left to be done;
    /// no VLAN offload, which would hide tags from XDP; GRO on, because frames sent by XDP over a veth are delivered only
    /// when the peer runs NAPI. An end that faces a program which sends back what comes in needs [`Switch::face_xdp`] too.
    ///
    /// # Errors
    ///
    /// `ip` or `ethtool` failed.
    pub fn connect(left: (&Namespace, &str), right: (&Namespace, &str)) -> Result<()> {
        let (left_ns, left_dev) = left;
        let (right_ns, right_dev) = right;
        left_ns.ip(&[
            "link",
            "add",
            left_dev,
            "type",
            "veth",
            "peer",
            "name",
            right_dev,
            "netns",
            right_ns.name(),
        ])?;
        for (namespace, device) in [left, right] {
            let features = "tx off gso off tso off gro on rxvlan off txvlan off";
            let mut arguments = vec!["-K", device];
            arguments.extend(features.split(' '));
            namespace.run("ethtool", &arguments)?;
            namespace.ip(&["link", "set", device, "up"])?;
        }
        Ok(())
    }
}

/// A bridge in a namespace of its own: one Ethernet segment.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
}

impl Switch {
    /// Makes a switch without ports.
    ///
    /// # Errors
    ///
    /// The namespace or the bridge cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        namespace.ip(&["link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0"])?;
        // The switch is a wire, not a host: it must not answer or speak for itself.
        namespace.sysctl("net/ipv6/conf/br0/disable_ipv6", "1")?;
        namespace.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { namespace })
    }

    /// Connects a node's new interface `device` to the port `port`.
    ///
    /// # Errors
    ///
    /// `ip` or `ethtool` failed.
    pub fn connect(&self, node: &Namespace, device: &str, port: &str) -> Result<()> {
        Veth::connect((&self.namespace, port), (node, device))
            .with_context(|| format!("connect {} to the switch", node.name()))?;
        self.namespace.sysctl(&format!("net/ipv6/conf/{port}/disable_ipv6"), "1")?;
        self.namespace.ip(&["link", "set", port, "master", "br0"])?;
        Ok(())
    }

    /// Makes a port that a virtual machine can be connected to, a TAP of several queues.
    ///
    /// # Errors
    ///
    /// The kernel makes no TAP.
    pub fn add_tap(&self, port: &str) -> Result<()> {
        self.namespace.ip(&["tuntap", "add", "dev", port, "mode", "tap", "multi_queue"])?;
        self.namespace.sysctl(&format!("net/ipv6/conf/{port}/disable_ipv6"), "1")?;
        self.namespace.ip(&["link", "set", port, "master", "br0", "up"])?;
        Ok(())
    }

    /// Prepares a port for a node whose XDP program sends frames back.
    ///
    /// # Errors
    ///
    /// The kernel does not take the program.
    pub fn face_xdp(&self, port: &str) -> Result<()> {
        xdp_pass::attach(&self.namespace, port)
    }

    /// Loses so many of ten thousand packets that come in by a port.
    ///
    /// # Errors
    ///
    /// The kernel does not take the program.
    pub fn lose(&self, port: &str, of_ten_thousand: u32) -> Result<()> {
        xdp_pass::attach_loss(&self.namespace, port, of_ten_thousand)
    }

    /// Takes a port off the switch and gives the switch another in its place, so that a wire of one's own can join the two devices, whose names
    /// are returned: the port, and the one that leads to the switch. Both show segments as they came.
    ///
    /// # Errors
    ///
    /// `ip` or `ethtool` failed.
    pub(super) fn take_apart(&self, port: &str) -> Result<[String; 2]> {
        // Names of devices have up to 15 characters.
        let [wire, behind] = ["-w", "-b"].map(|end| format!("{port}{end}"));
        Veth::connect((&self.namespace, &wire), (&self.namespace, &behind))?;
        for device in [port, &wire, &behind] {
            self.namespace.sysctl(&format!("net/ipv6/conf/{device}/disable_ipv6"), "1")?;
        }
        for device in [port, &wire] {
            self.namespace.run("ethtool", &["-K", device, "gro", "off"])?;
        }
        self.namespace.ip(&["link", "set", port, "nomaster"])?;
        self.namespace.ip(&["link", "set", &behind, "master", "br0"])?;
        Ok([port.to_owned(), wire])
    }

    /// Pulls the cable of a port, or puts it back in.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn set_port(&self, port: &str, up: bool) -> Result<()> {
        self.namespace.ip(&["link", "set", port, if up { "up" } else { "down" }])?;
        Ok(())
    }

    /// Has a port carry nothing in either direction, or all again. Nobody sees a link go or come, and the switch goes on sending to that port what it
    /// has learnt to be there.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn set_silent(&self, port: &str, silent: bool) -> Result<()> {
        // BR_STATE_DISABLED and BR_STATE_FORWARDING of linux/if_bridge.h.
        let state = if silent { "0" } else { "3" };
        self.namespace.run("bridge", &["link", "set", "dev", port, "state", state])?;
        Ok(())
    }

    /// The namespace the bridge lives in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Leaves the switch behind.
    pub fn keep(&mut self) {
        self.namespace.keep();
    }
}
