//! Entries that packets change in place.

use vip_lb_common::{
    abi::{FlowEntry, NatFlow, NatReply},
    tables::{FlowCell, NatCell},
};

/// An entry of FLOWS or NEWBORN.
pub(crate) struct Cell(pub(crate) *mut FlowEntry);

impl FlowCell for Cell {
    #[inline(always)]
    fn get(&self) -> FlowEntry {
        // SAFETY: a map value, valid while the program runs. It may be recycled for another flow meanwhile; both name live backends.
        unsafe { *self.0 }
    }

    #[inline(always)]
    fn set_seen(&self, tick: u32) {
        // SAFETY: as above; one word.
        unsafe { (*self.0).seen = tick };
    }

    #[inline(always)]
    fn set_closing(&self, closing: bool) {
        // SAFETY: as above; one half word.
        unsafe { (*self.0).closing = u16::from(closing) };
    }
}

/// An entry of NAT_FLOWS or NAT_REPLIES.
pub(crate) struct Marked<T>(pub(crate) *mut T);

impl NatCell<NatFlow> for Marked<NatFlow> {
    #[inline(always)]
    fn get(&self) -> NatFlow {
        // SAFETY: a map value, valid while the program runs.
        unsafe { *self.0 }
    }

    #[inline(always)]
    fn touch(&self, tick: u32, marks: u16) {
        // SAFETY: as above.
        let flow = unsafe { &mut *self.0 };
        if flow.seen != tick || flow.marks | marks != flow.marks {
            flow.seen = tick;
            flow.marks |= marks;
        }
    }
}

impl NatCell<NatReply> for Marked<NatReply> {
    #[inline(always)]
    fn get(&self) -> NatReply {
        // SAFETY: a map value, valid while the program runs.
        unsafe { *self.0 }
    }

    #[inline(always)]
    fn touch(&self, tick: u32, marks: u16) {
        // SAFETY: as above.
        let reply = unsafe { &mut *self.0 };
        if reply.seen != tick || reply.marks | marks != reply.marks {
            reply.seen = tick;
            reply.marks |= marks;
        }
    }
}
