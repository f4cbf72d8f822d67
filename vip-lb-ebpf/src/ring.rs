//! Slots of a ring by their index.

use vip_lb_common::{
    FlowHash,
    abi::{Ring, Slot},
};

/// The slot at `index`. LLVM knows that a hash scaled to N slots is below N and would drop the check; the verifier does not
/// know and needs it.
#[inline(always)]
pub(crate) fn in_ring<const N: usize>(ring: *mut Ring<N>, index: u32) -> Option<*mut Slot> {
    let index = core::hint::black_box(index) as usize;
    if index >= N {
        return None;
    }
    // SAFETY: the ring is one map value of N slots.
    Some(unsafe { ring.cast::<Slot>().add(index) })
}

/// The slot of a flow, and its index.
#[inline(always)]
pub(crate) fn in_ring_of<const N: usize>(ring: *mut Ring<N>, hash: FlowHash) -> Option<(u32, *mut Slot)> {
    let index = hash.slot(N as u32);
    in_ring(ring, index).map(|slot| (index, slot))
}
