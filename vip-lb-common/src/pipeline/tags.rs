//! VLAN tags of frames that go back to where they came from, or up to the stack.

use super::Link;
use crate::{
    Packet, Verdict, View,
    headers::{ETHERNET_LEN, Ethernet, VLAN_LEN},
};

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
