//! vip-lb and others in one virtual router, Debian's keepalived and FRR.

use anyhow::Result;
use vip_lb_tests::{
    failover::{Peer, elections},
    lab::Family,
};

#[test]
fn keepalived_over_ipv4() -> Result<()> {
    elections(Peer::Keepalived(Family::V4))
}

#[test]
fn keepalived_over_ipv6() -> Result<()> {
    elections(Peer::Keepalived(Family::V6))
}

#[test]
fn keepalived_as_a_unicast_peer() -> Result<()> {
    elections(Peer::KeepalivedUnicast)
}

#[test]
fn keepalived_with_a_virtual_mac_address_over_ipv4() -> Result<()> {
    elections(Peer::KeepalivedVirtualMac(Family::V4))
}

#[test]
fn keepalived_with_a_virtual_mac_address_over_ipv6() -> Result<()> {
    elections(Peer::KeepalivedVirtualMac(Family::V6))
}

#[test]
fn frr_and_vip_lb_with_a_virtual_mac_address_over_ipv4() -> Result<()> {
    elections(Peer::FrrVirtualMac(Family::V4))
}

#[test]
fn frr_and_vip_lb_with_a_virtual_mac_address_over_ipv6() -> Result<()> {
    elections(Peer::FrrVirtualMac(Family::V6))
}

#[test]
fn frr_over_ipv4() -> Result<()> {
    elections(Peer::Frr(Family::V4))
}

#[test]
fn frr_over_ipv6() -> Result<()> {
    elections(Peer::Frr(Family::V6))
}
