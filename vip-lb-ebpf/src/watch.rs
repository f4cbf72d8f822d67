//! Shows packets to those who watch: before they enter the general way, and after they have left it.

use aya_ebpf::{
    bindings::{xdp_action::XDP_DROP, xdp_md},
    helpers::{bpf_ktime_get_ns, bpf_xdp_load_bytes},
};
use vip_lb_common::{
    Packet as _, Tables as _,
    abi::{SNAP, Sighting, Vip, WATCHERS},
    headers::ETHERNET_LEN,
    pipeline::{Fate, Step},
    watch::{AS_ANSWER, Ends},
};

use crate::{
    maps::{self, CAME_MASK, Maps},
    packet::XdpPacket,
};

/// Hears what the pipeline does with a packet.
pub(crate) trait Witness {
    /// A step of its way.
    fn step(&self, step: &Step);
    /// Its end.
    fn end(&self, fate: &Fate);
}

/// Nobody hears of a plain packet's way: one that is watched goes the general way.
pub(crate) struct Nobody;

impl Witness for Nobody {
    #[inline(always)]
    fn step(&self, _: &Step) {}

    #[inline(always)]
    fn end(&self, _: &Fate) {}
}

/// Notes the way of a packet if it is seen; the note is looked for only then.
pub(crate) struct Seen(pub(crate) bool);

impl Witness for Seen {
    #[inline(always)]
    fn step(&self, step: &Step) {
        if self.0
            && let Some(sighting) = maps::sighting()
        {
            Noted(sighting).step(step);
        }
    }

    #[inline(always)]
    fn end(&self, fate: &Fate) {
        if self.0
            && let Some(sighting) = maps::sighting()
        {
            Noted(sighting).end(fate);
        }
    }
}

/// Notes the way of a packet if anybody sees it. Points to this CPU's own value.
pub(crate) struct Noted(pub(crate) *mut Sighting);

impl Witness for Noted {
    #[inline(always)]
    fn step(&self, step: &Step) {
        if let Step::Destination { .. } = step {
            return;
        }
        // SAFETY: this CPU's own value, valid while the program runs; no reference to it is held elsewhere.
        let sighting = unsafe { &mut *self.0 };
        if sighting.watchers != 0 {
            sighting.note(step);
        }
    }

    #[inline(always)]
    fn end(&self, fate: &Fate) {
        // SAFETY: as above.
        let sighting = unsafe { &mut *self.0 };
        if sighting.watchers != 0 {
            sighting.seal(fate);
        }
    }
}

/// Notes the ends of a packet, exchanged unless `reversed` is 0. Returns 0 if it has none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_ends(ctx: *mut xdp_md, reversed: u32) -> u32 {
    let packet = XdpPacket::new(core::hint::black_box(ctx));
    let (Some(shown), Ok(ends)) = (maps::shown(), Ends::of(&packet)) else {
        return 0;
    };
    // SAFETY: this CPU's own value.
    unsafe { (*shown).ends = if reversed == 0 { ends } else { ends.reversed() } };
    1
}

/// Notes a packet as it came, if anybody wants to see it; [`vip_lb_ends`] has noted its ends. Returns 0 if nobody does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_watch(ctx: *mut xdp_md) -> u32 {
    let ctx = core::hint::black_box(ctx);
    let packet = XdpPacket::new(ctx);
    let (Some(sighting), Some(shown)) = (maps::sighting(), maps::shown()) else {
        return 0;
    };
    // SAFETY: this CPU's own value.
    let ends = unsafe { (*shown).ends };
    let ingress = packet.ingress();
    // What comes to this node's own address may be the answer to what is asked for.
    let own = Maps(Nobody).vip(&ends.destination).is_some_and(|vip| vip.flags & Vip::OWN != 0);
    let (mut watchers, mut snap) = (0, 0);
    for index in 0..WATCHERS as u32 {
        let Some(watcher) = maps::watcher(index) else { continue };
        if watcher.wants_ends(&ends, ingress) {
            watchers |= 1 << index;
        } else if own && watcher.every != 0 {
            watchers |= 1 << (AS_ANSWER + index);
        } else {
            continue;
        }
        snap = snap.max(watcher.snap);
    }
    if watchers == 0 {
        return 0;
    }
    let came_len = packet.total_len();
    // SAFETY: as above.
    let bytes = unsafe { (&raw mut (*shown).bytes).cast() };
    let came = copy(ctx, came_len.min(snap.into()), bytes);
    let noted = Sighting {
        // SAFETY: the helper reads a clock.
        at: unsafe { bpf_ktime_get_ns() },
        watchers,
        source: ends.source,
        destination: ends.destination,
        source_port: ends.source_port,
        destination_port: ends.destination_port,
        protocol: ends.protocol,
        ingress,
        came_len: came_len as u32,
        came: came as u16,
        snap,
        ..Sighting::NONE
    };
    // SAFETY: as above.
    unsafe { *sighting = noted };
    watchers
}

/// Shows a packet that [`vip_lb_watch`] noted, and that ended with an XDP action. `is_answer` is not 0 if [`vip_lb_ends`] has noted the ends of
/// what leaves, exchanged.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_show(ctx: *mut xdp_md, action: u32, is_answer: u32) -> u32 {
    let ctx = core::hint::black_box(ctx);
    let packet = XdpPacket::new(ctx);
    let (Some(sighting), Some(shown)) = (maps::sighting(), maps::shown()) else {
        return 0;
    };
    // SAFETY: this CPU's own values. From map to map: the stack has no room for it.
    unsafe { (*shown).sighting = *sighting };
    // The next packet is seen only if somebody wants to.
    // SAFETY: as above.
    unsafe { (*sighting).watchers = 0 };
    // SAFETY: as above; distinct parts of it.
    let (seen, answer) = unsafe { (&mut (*shown).sighting, &(*shown).ends) };
    let as_answer = if is_answer == 0 { 0 } else { seen.watchers >> AS_ANSWER };
    let mut watchers = 0;
    for index in 0..WATCHERS as u32 {
        let bit = 1 << index;
        let Some(watcher) = maps::watcher(index) else { continue };
        let wanted =
            seen.watchers & bit != 0 || as_answer & bit != 0 && watcher.wants_ends(answer, watcher.interface);
        if wanted && watcher.wants(seen.verdict) && maps::may_show(index, watcher, seen.at) {
            watchers |= bit;
        }
    }
    if watchers == 0 {
        return 0;
    }
    seen.watchers = watchers;
    // SAFETY: as above.
    let bytes: *mut u8 = unsafe { (&raw mut (*shown).bytes).cast() };
    // At most SNAP. A mask is what the verifier of kernel 6.1 still knows of it where the bytes are copied.
    let came = usize::from(seen.came) & CAME_MASK;
    if action != XDP_DROP {
        let left_len = packet.total_len();
        seen.left_len = left_len as u32;
        // SAFETY: there is room for SNAP bytes behind any number that the mask lets through.
        seen.left = copy(ctx, left_len.min(seen.snap.into()), unsafe { bytes.add(came) }) as u16;
    }
    let bytes = came + (usize::from(seen.left) & CAME_MASK);
    if bytes > 2 * SNAP {
        return 0;
    }
    let len = size_of::<Sighting>() + bytes;
    maps::send(shown, len, watchers);
    1
}

/// Copies the first bytes of a packet, at most [`SNAP`], and says how many.
#[inline(always)]
fn copy(ctx: *mut xdp_md, len: usize, bytes: *mut u8) -> usize {
    let len = bounded(len);
    // Every frame has as many. That the length is not 0 the verifier of kernel 6.1 does not see by comparing it with 0.
    if len < ETHERNET_LEN {
        return 0;
    }
    // SAFETY: there is room for SNAP bytes. The helper reads from all buffers of a frame (kernel 5.18).
    let copied = unsafe { bpf_xdp_load_bytes(ctx, 0, bytes.cast(), len as u32) };
    if copied == 0 { len } else { 0 }
}

/// At most [`SNAP`]. Hidden from LLVM, which would move the comparison to where the verifier does not see it.
#[inline(always)]
fn bounded(len: usize) -> usize {
    let len = core::hint::black_box(len);
    if len > SNAP { SNAP } else { len }
}
