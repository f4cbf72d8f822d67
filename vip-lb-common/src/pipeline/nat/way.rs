//! The way back to a client: the one that it came by.

use super::super::Link;
use crate::{
    Packet, Verdict,
    abi::NatFlow,
    headers::{ETHERNET_LEN, VLAN_LEN, ether_type},
};

/// Half words of a MAC address.
type Halves = [u16; 3];

/// How a client's packet came in.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// MAC address of the router, or of a client on the link. In half words, because bytes would take a register each.
    router: Halves,
    /// The MAC address of this node that it was sent to.
    node: Halves,
    /// Tag control information; 0 without a tag.
    pub(super) vlan: u16,
    /// The interface.
    pub(super) ingress: u32,
}

impl Way {
    /// Reads it. A frame with a service tag, or more than one tag, has no way back: answers carry one customer tag at most.
    #[inline(always)]
    pub(super) fn of(packet: &impl Packet, link: &Link) -> Result<Self, Verdict> {
        let vlan = if link.network == ETHERNET_LEN {
            0
        } else {
            let tag = packet.view::<{ VLAN_LEN + 2 }>(ETHERNET_LEN - 2, Verdict::ShortFrame)?;
            if link.network != ETHERNET_LEN + VLAN_LEN || tag.be16(0) != ether_type::VLAN {
                return Err(Verdict::TagMismatch);
            }
            tag.be16(2)
        };
        let macs = packet.view::<ETHERNET_LEN>(0, Verdict::ShortFrame)?;
        let halves = |at| [macs.half_word(at), macs.half_word(at + 2), macs.half_word(at + 4)];
        Ok(Self { node: halves(0), router: halves(6), vlan, ingress: packet.ingress() })
    }

    /// The router, as the connection's entry has it.
    #[inline(always)]
    pub(super) fn router(&self) -> [u8; 6] {
        // SAFETY: six plain bytes.
        unsafe { core::mem::transmute::<Halves, [u8; 6]>(self.router) }
    }

    /// Whether the connection's entry has this way back to its client.
    #[inline(always)]
    pub(super) fn is_of(&self, flow: &NatFlow) -> bool {
        let [a, b, c] = self.router;
        // SAFETY: six plain bytes.
        let [d, e, f] = unsafe { core::mem::transmute::<[u8; 6], Halves>(flow.router) };
        let differs = (a ^ d) | (b ^ e) | (c ^ f) | (self.vlan ^ flow.vlan);
        differs as u32 | (self.ingress ^ flow.ingress) == 0
    }

    /// The twelve bytes that start frames which go back.
    #[inline(always)]
    pub(super) fn macs_back(&self) -> [u8; 12] {
        let ([a, b, c], [d, e, f]) = (self.router, self.node);
        // SAFETY: twelve plain bytes.
        unsafe { core::mem::transmute::<[u16; 6], [u8; 12]>([a, b, c, d, e, f]) }
    }
}
