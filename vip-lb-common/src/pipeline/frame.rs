//! The link layer in front of a packet that leaves, goes back, or goes up to the stack.

use super::Link;
use crate::{
    Packet, Verdict, View,
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

/// The tags of a frame, carried over to its new front.
pub(crate) struct Tags([u32; 2]);

impl Tags {
    /// Reads them before the front moves.
    #[inline(always)]
    pub(crate) fn read(packet: &impl Packet, link: &Link) -> Result<Self, Verdict> {
        let mut tags = [0; 2];
        // A tag and its type lie where an untagged frame has its EtherType: the tag's own type comes first.
        if link.network > ETHERNET_LEN {
            tags[0] = packet.view::<VLAN_LEN>(ETHERNET_LEN - 2, Verdict::ShortFrame)?.word(0);
        }
        if link.network > ETHERNET_LEN + VLAN_LEN {
            tags[1] = packet.view::<VLAN_LEN>(ETHERNET_LEN + 2, Verdict::ShortFrame)?.word(0);
        }
        Ok(Self(tags))
    }

    /// Writes tags and EtherType.
    #[inline(always)]
    pub(crate) fn write_types(
        &self,
        packet: &impl Packet,
        ethernet: &Ethernet<'_>,
        link: &Link,
        ether_type: u16,
    ) -> Result<(), Verdict> {
        // Constant offsets in each arm: the verifier follows no arithmetic on the tags' length.
        if link.network == ETHERNET_LEN {
            ethernet.set_ether_type(ether_type);
            return Ok(());
        }
        let first: View<'_, { VLAN_LEN + 2 }> = packet.view(ETHERNET_LEN - 2, Verdict::ShortFrame)?;
        first.set_word(0, self.0[0]);
        if link.network == ETHERNET_LEN + VLAN_LEN {
            first.set_be16(VLAN_LEN, ether_type);
            return Ok(());
        }
        let second: View<'_, { VLAN_LEN + 2 }> = packet.view(ETHERNET_LEN + 2, Verdict::ShortFrame)?;
        second.set_word(0, self.0[1]);
        second.set_be16(VLAN_LEN, ether_type);
        Ok(())
    }
}
