//! When adverts of VRRP came: what the daemon asks before it takes another node for dead.
//!
//! They go on to the host as they came. Who hears them there says what follows from them; the time that is noted here tells whether there was anything
//! to be heard.

use super::{Job, Link, Network};
use crate::{
    Packet, Tables, Verdict, View,
    abi::{Address, AdvertKey, AdvertStamp},
    headers::{ETHERNET_LEN, Ipv4, Ipv6, VLAN_LEN, VRRP_LEN, Vrrp, ether_type},
};

/// Notes it, if it is an advert of version 3 that was sent on this link (RFC 9568 section 7.1). All else is other traffic, and so is what has two tags
/// or a service tag: no interface that a virtual router may have gets it.
#[inline(always)]
pub(super) fn note<P: Packet, T: Tables>(packet: &P, tables: &T, job: &Job) -> Result<Verdict, Verdict> {
    let Job { link, network, .. } = job.bounded();
    let ttl = if network.is_v4 {
        Ipv4::at(packet, network.offset, Verdict::NotVip)?.ttl()
    } else {
        Ipv6::at(packet, network.offset, Verdict::NotVip)?.hop_limit()
    };
    if ttl != Vrrp::TTL || !network.piece.is_whole() {
        return Err(Verdict::NotVip);
    }
    let vlan = vlan(packet, &link)?;
    let advert = Vrrp::at(packet, network.transport, Verdict::NotVip)?;
    if !advert.is_advert() || advert.addresses() == 0 || advert.interval() == 0 {
        return Err(Verdict::NotVip);
    }
    let key = AdvertKey {
        source: network.source,
        interface: packet.ingress(),
        vlan,
        router: advert.router(),
        reserved: 0,
    };
    let stamp = AdvertStamp {
        at: tables.nanoseconds(),
        address: address(packet, &network, advert.addresses())?,
        interval: advert.interval(),
        priority: advert.priority(),
        addresses: advert.addresses(),
        reserved: 0,
    };
    tables.note_advert(&key, &stamp);
    Ok(Verdict::AdvertNoted)
}

/// The first address that tells the virtual router from another one.
#[inline(always)]
fn address<P: Packet>(packet: &P, network: &Network, addresses: u8) -> Result<Address, Verdict> {
    let at = network.transport + VRRP_LEN;
    if network.is_v4 {
        if network.transport_len < VRRP_LEN + 4 {
            return Err(Verdict::NotVip);
        }
        let first: View<'_, 4> = packet.view(at, Verdict::NotVip)?;
        return Ok(Address::from_v4_word(first.word(0)));
    }
    if network.transport_len < VRRP_LEN + 16 {
        return Err(Verdict::NotVip);
    }
    let first: View<'_, 16> = packet.view(at, Verdict::NotVip)?;
    if addresses == 1 || !is_link_local(&first) || network.transport_len < VRRP_LEN + 32 {
        return Ok(v6(&first));
    }
    packet.view(at + 16, Verdict::NotVip).map(|second| v6(&second))
}

#[inline(always)]
fn v6(bytes: &View<'_, 16>) -> Address {
    Address::from_words([bytes.word(0), bytes.word(4), bytes.word(8), bytes.word(12)])
}

/// fe80::/10 (RFC 4291 section 2.4).
#[inline(always)]
fn is_link_local(bytes: &View<'_, 16>) -> bool {
    bytes.be16(0) & 0xffc0 == 0xfe80
}

/// The VLAN of a frame with one tag or none.
#[inline(always)]
fn vlan<P: Packet>(packet: &P, link: &Link) -> Result<u16, Verdict> {
    if link.network == ETHERNET_LEN {
        return Ok(0);
    }
    let tag: View<'_, VLAN_LEN> = packet.view(ETHERNET_LEN - 2, Verdict::NotVip)?;
    if link.network == ETHERNET_LEN + VLAN_LEN && tag.be16(0) == ether_type::VLAN {
        Ok(tag.be16(2) & 0xfff)
    } else {
        Err(Verdict::NotVip)
    }
}

#[cfg(test)]
mod tests;
