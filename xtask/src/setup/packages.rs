//! The Debian packages that the labs, the benchmark and the guests need.

use crate::toolchain;

/// One package and why it is needed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Debian's name of it.
    pub(crate) name: &'static str,
    /// The command that is there when it is installed.
    pub(crate) command: &'static str,
    /// Who uses it.
    pub(crate) why: &'static str,
}

const fn package(name: &'static str, command: &'static str, why: &'static str) -> Package {
    Package { name, command, why }
}

/// All of them.
pub(crate) const PACKAGES: &[Package] = &[
    package("iproute2", "ip", "network namespaces, links, addresses and routes of the labs"),
    package("iputils-ping", "ping", "echo requests to a VIP, over both families"),
    package("ethtool", "ethtool", "offloads of the lab's interfaces, which XDP does not see"),
    package("nginx-light", "nginx", "the HTTP servers behind a VIP"),
    package("curl", "curl", "HTTP clients"),
    package("wrk", "wrk", "many HTTP connections at once"),
    package("iperf3", "iperf3", "long-lived TCP and UDP flows"),
    package("tshark", "tshark", "reads what `vip-lb capture` writes"),
    package("bpftool", "bpftool", "reads the pinned maps as an operator does"),
    package("python3-scapy", "scapy", "a second opinion on the frames that come out"),
    package("prometheus", "promtool", "checks metrics and alert rules as a Prometheus server reads them"),
    package("tmux", "tmux", "the terminal that `vip-lb top` is tried in"),
    package("python3-pip", "pip3", "installs the validator of OpenAPI documents, and a server of gRPC"),
    package("dnsmasq-base", "dnsmasq", "a DNS server whose health is checked"),
    package("openssl", "openssl", "certificates of the lab's servers"),
    package("python3-jsonschema", "jsonschema", "a second opinion on what the configuration's schema admits"),
    package("ipvsadm", "ipvsadm", "Linux IPVS, which vip-lb is compared with"),
    package("keepalived", "keepalived", "the other node of a virtual router"),
    package(
        "frr",
        "vtysh",
        "its vrrpd, another node of a virtual router; its bgpd, which takes routes of VIPs to a router",
    ),
    package("bird2", "bird", "takes routes of VIPs to a router, and is the router"),
    package("nftables", "nft", "a firewall on a node that keeps adverts of VRRP from its programs"),
    package("haproxy", "haproxy", "what noticing failures is compared with"),
    package("qemu-system-x86", "qemu-system-x86_64", "other kernels, and counting instructions"),
    package("busybox-static", "busybox", "the userland of the guests"),
    package("xz-utils", "xz", "unpacks the kernel modules of the guests"),
    package("procps", "sysctl", "settings of the stack, as the doctor's commands change them"),
    package("mandoc", "mandoc", "reads the man pages"),
    package("systemd", "systemd-analyze", "verifies and rates the service's unit"),
];

/// What `dist` needs besides.
pub(crate) const DIST: &[Package] = &[
    package("binutils", "strip", "takes debugging symbols out of the binary"),
    package("dpkg", "dpkg-deb", "builds the package"),
    package("lintian", "lintian", "checks the package by Debian's rules"),
    package("mmdebstrap", "mmdebstrap", "makes a clean system to install it into"),
];

/// The packages of a table that are not there, by a function that says whether a command is.
pub(crate) fn missing(table: &[Package], present: impl Fn(&str) -> bool) -> Vec<&Package> {
    table.iter().filter(|package| !present(package.command)).collect()
}

/// The packages of a table that this machine lacks.
pub(crate) fn missing_here(table: &'static [Package]) -> Vec<&'static Package> {
    missing(table, |command| toolchain::find_command(command).is_some())
}

/// What to install by hand where there is no apt.
pub(crate) fn by_hand(missing: &[&Package]) -> String {
    let mut text = String::from("install these commands with your system's package manager:\n");
    for package in missing {
        let Package { name, command, why } = package;
        text.push_str(&format!("  {command:<19} (Debian: {name}): {why}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        let names = |present: &[&str]| -> Vec<&str> {
            missing(PACKAGES, |command| present.contains(&command))
                .iter()
                .map(|package| package.name)
                .collect()
        };
        let everything: Vec<&str> = PACKAGES.iter().map(|package| package.command).collect();
        assert_eq!(names(&[]).len(), PACKAGES.len());
        assert!(names(&everything).is_empty());

        let all_but_nginx: Vec<&str> = everything.into_iter().filter(|command| *command != "nginx").collect();
        assert_eq!(names(&all_but_nginx), ["nginx-light"]);
    }

    #[test]
    fn no_package_is_listed_twice() {
        let names: BTreeSet<_> = PACKAGES.iter().map(|package| package.name).collect();
        let commands: BTreeSet<_> = PACKAGES.iter().map(|package| package.command).collect();
        assert_eq!((names.len(), commands.len()), (PACKAGES.len(), PACKAGES.len()));
    }

    #[test]
    fn by_hand_names_command_package_and_reason() {
        let text = by_hand(&missing(PACKAGES, |command| command != "ip"));
        assert!(text.contains("ip ") && text.contains("iproute2") && text.contains("namespaces"), "{text}");
        assert!(!text.contains("nginx"), "{text}");
    }
}
