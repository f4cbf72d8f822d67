//! The link layer in front of a translated packet.

use crate::{
    Packet, Verdict,
    headers::{ETHERNET_LEN, Ethernet, VLAN_LEN, ether_type},
};

/// Replaces all that is in front of the offset `ip` by an Ethernet header and at most one tag. A negative offset makes room for as many bytes
/// behind them. Returns the offset of what follows.
#[inline(always)]
pub(super) fn replace_front<P: Packet>(
    packet: &mut P,
    ip: isize,
    macs: &[u8; 12],
    tag: Option<u16>,
    ether_type: u16,
) -> Result<usize, Verdict> {
    let front = if tag.is_some() { ETHERNET_LEN + VLAN_LEN } else { ETHERNET_LEN };
    let more = front as isize - ip;
    if more > 0 {
        packet.grow_front(more as usize)?;
    } else if more < 0 {
        packet.shrink_front(-more as usize)?;
    }
    let ethernet = Ethernet::of(packet, Verdict::ShortFrame)?;
    ethernet.set_macs(macs);
    if let Some(control) = tag {
        let bytes = packet.view::<{ VLAN_LEN + 2 }>(ETHERNET_LEN - 2, Verdict::ShortFrame)?;
        bytes.set_be16(0, ether_type::VLAN);
        bytes.set_be16(2, control);
        bytes.set_be16(4, ether_type);
    } else {
        ethernet.set_ether_type(ether_type);
    }
    Ok(front)
}
