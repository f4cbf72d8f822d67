//! A packet in a program.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
};
use vip_lb_common::{Packet, Verdict};

/// The frame behind an XDP context.
pub(crate) struct XdpPacket {
    ctx: *mut xdp_md,
}

impl XdpPacket {
    #[inline(always)]
    pub(crate) fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }
}

// The bounds are read anew for every view. LLVM, told that they are what they were, would drop a second check of the same bytes and
// compute a pointer that the verifier has not seen checked.

// SAFETY: the kernel keeps `data..data_end` readable and writable while the program runs, and the verifier voids every pointer into it when
// a helper moves it.
unsafe impl Packet for XdpPacket {
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context outlives the program's run.
        unsafe { (&raw const (*self.ctx).data).read_volatile() as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (&raw const (*self.ctx).data_end).read_volatile() as usize }
    }

    #[inline(always)]
    fn total_len(&self) -> usize {
        // SAFETY: as above. The helper is there from kernel 5.18 on, and changes nothing.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as usize }
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: usize) -> Result<(), Verdict> {
        // SAFETY: as above.
        moved(unsafe { bpf_xdp_adjust_head(self.ctx, -(bytes as i32)) })
    }

    #[inline(always)]
    fn shrink_front(&mut self, bytes: usize) -> Result<(), Verdict> {
        // SAFETY: as above.
        moved(unsafe { bpf_xdp_adjust_head(self.ctx, bytes as i32) })
    }

    #[inline(always)]
    fn set_len(&mut self, bytes: usize) -> Result<(), Verdict> {
        let change = bytes as i32 - self.total_len() as i32;
        // SAFETY: as above.
        moved(unsafe { bpf_xdp_adjust_tail(self.ctx, change) })
    }
}

#[inline(always)]
fn moved(result: i64) -> Result<(), Verdict> {
    if result == 0 { Ok(()) } else { Err(Verdict::NoHeadroom) }
}

/// The frame behind the context of a classifier. Its bytes stay as many as they are.
pub(crate) struct SkbPacket {
    skb: *mut __sk_buff,
}

impl SkbPacket {
    #[inline(always)]
    pub(crate) fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }
}

// SAFETY: as for [`XdpPacket`].
unsafe impl Packet for SkbPacket {
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context outlives the program's run.
        unsafe { (&raw const (*self.skb).data).read_volatile() as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (&raw const (*self.skb).data_end).read_volatile() as usize }
    }

    #[inline(always)]
    fn total_len(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.skb).len as usize }
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).ingress_ifindex }
    }

    #[inline(always)]
    fn grow_front(&mut self, _: usize) -> Result<(), Verdict> {
        Err(Verdict::NoHeadroom)
    }

    #[inline(always)]
    fn shrink_front(&mut self, _: usize) -> Result<(), Verdict> {
        Err(Verdict::NoHeadroom)
    }

    #[inline(always)]
    fn set_len(&mut self, _: usize) -> Result<(), Verdict> {
        Err(Verdict::NoHeadroom)
    }
}
