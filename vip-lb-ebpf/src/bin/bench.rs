//! What the benchmark measures with, and measures against. No part of the load balancer.
//!
//! `BPF_PROG_TEST_RUN` with a repeat count does not restore the packet between iterations, and knows one packet only. So the
//! timed program is [`bench_wrap`]: it puts the next packet of a set into the frame and tail-calls the program under test.
//! Behind the same wrapper [`bench_null`] costs nothing, the floors as little as any balancer without a flow table can. All of
//! them take frames of several buffers, as the load balancer does: a program array takes both kinds, but not mixed.

#![no_std]
#![no_main]
#![expect(
    unreachable_pub,
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "entry points are reached by the kernel, in the form that the macro asks for, which drops their docs"
)]

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    btf_maps::{Array, HashMap, ProgramArray},
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Bytes that a packet of the set may have.
const PACKET_ROOM: usize = 156;

/// One packet of the set.
#[repr(C)]
pub struct BenchPacket {
    /// Its bytes.
    pub len: u32,
    /// The frame.
    pub frame: [u8; PACKET_ROOM],
}

/// Where the wrapper is.
#[repr(C)]
pub struct BenchState {
    /// Address of the first byte of the frame in the first iteration; 0 before it.
    pub start: u64,
    /// Scratch: the address now. The verifier lets a pointer be stored; read back it is a number that can be subtracted.
    pub now: u64,
    /// The next packet.
    pub next: u32,
    /// Packets of the set.
    pub packets: u32,
    /// Iterations in which the packet could not be restored.
    pub errors: u64,
    /// Iterations.
    pub iterations: u64,
}

/// The program under test.
#[btf_map]
static BENCH_TARGET: ProgramArray<1> = ProgramArray::new();
/// The wrapper's state; one value.
#[btf_map]
static BENCH_STATE: Array<BenchState, 1> = Array::new();
/// The packet set; sized when it is loaded.
#[btf_map]
static BENCH_PACKETS: Array<BenchPacket, 1> = Array::new();

#[xdp(frags)]
pub fn bench_wrap(ctx: XdpContext) -> u32 {
    let Some(state) = BENCH_STATE.get_ptr_mut(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: one CPU runs the benchmark, so nobody else has the value.
    let state = unsafe { &mut *state };
    if restore(&ctx, state).is_some() {
        // SAFETY: a tail call that succeeds does not return, and there is nothing to drop.
        unsafe { BENCH_TARGET.tail_call(&ctx, 0) };
    }
    state.errors += 1;
    XDP_ABORTED
}

/// The baseline: all the wrapper's work and nothing else.
#[xdp(frags)]
pub fn bench_null(_: XdpContext) -> u32 {
    XDP_DROP
}

/// Floor: the same program again, which must come out at nothing. That is the check of a run.
#[xdp(frags)]
pub fn floor_drop(_: XdpContext) -> u32 {
    XDP_DROP
}

/// Floor: exchange the MAC addresses and send the packet back.
#[xdp(frags)]
pub fn floor_swap(ctx: XdpContext) -> u32 {
    let Some(frame) = frame::<14>(ctx.ctx) else {
        return XDP_DROP;
    };
    let (destination, source) = (frame.mac(0), frame.mac(6));
    frame.set_mac(0, source);
    frame.set_mac(6, destination);
    XDP_TX
}

/// Floor: parse, look the VIP up, pick a backend from a ring, write its MAC address.
#[xdp(frags)]
pub fn floor_ring_mac(ctx: XdpContext) -> u32 {
    match picked(ctx.ctx) {
        Ok((frame, backend)) => {
            frame.set_mac(6, frame.mac(0));
            frame.set_mac(0, backend.mac());
            XDP_TX
        }
        Err(action) => action,
    }
}

/// Floor: the same, with an outer IPv4 header.
#[xdp(frags)]
pub fn floor_ring_ipip(ctx: XdpContext) -> u32 {
    match picked(ctx.ctx) {
        Ok((_, backend)) => encapsulate(ctx.ctx, backend),
        Err(action) => action,
    }
}

/// Puts the next packet of the set into the frame, whatever the program under test has made of the last one.
#[inline(always)]
fn restore(ctx: &XdpContext, state: &mut BenchState) -> Option<()> {
    let packet = BENCH_PACKETS.get_ptr_mut(state.next)?;
    // SAFETY: nobody writes the set while it is measured.
    let packet = unsafe { &mut *packet };
    state.next = if state.next + 1 >= state.packets { 0 } else { state.next + 1 };
    state.iterations += 1;
    // SAFETY: the context outlives the program's run; `now` is read back where the kernel sees a number, no pointer.
    let moved = unsafe {
        (&raw mut state.now).write_volatile(data(ctx.ctx) as u64);
        let now = (&raw const state.now).read_volatile();
        if state.start == 0 {
            state.start = now;
        }
        state.start as i64 - now as i64
    };
    // SAFETY: helpers that check what they are given.
    unsafe {
        if moved != 0 && bpf_xdp_adjust_head(ctx.ctx, moved as i32) != 0 {
            return None;
        }
        // Two comparisons, which LLVM must not fold into one of a difference: the verifier would not follow.
        let len = core::hint::black_box(packet.len);
        if len < 14 {
            return None;
        }
        let len = core::hint::black_box(len);
        if len > PACKET_ROOM as u32 {
            return None;
        }
        let change = len as i32 - core::hint::black_box(data_end(ctx.ctx) - data(ctx.ctx)) as i32;
        if change != 0 && bpf_xdp_adjust_tail(ctx.ctx, change) != 0 {
            return None;
        }
        (bpf_xdp_store_bytes(ctx.ctx, 0, (&raw mut packet.frame).cast(), len) == 0).then_some(())
    }
}

/// A backend of the floors.
#[repr(C, align(4))]
#[derive(Clone, Copy)]
pub struct FloorBackend {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: u16,
    /// Its number, which becomes the end of its IPv4 address.
    pub number: u32,
}

impl FloorBackend {
    #[inline(always)]
    fn mac(&self) -> (u32, u16) {
        let at = self.mac.as_ptr();
        // SAFETY: six bytes, at an address aligned to four.
        unsafe { (*at.cast::<u32>(), *at.add(4).cast::<u16>()) }
    }
}

/// Key of FLOOR_VIPS: address, port and protocol.
#[repr(C, align(8))]
pub struct FloorService {
    /// Protocol in the first byte, port in network order in the upper two, as one word.
    pub port_and_protocol: u32,
    /// Address in network order.
    pub address: u32,
}

const FLOOR_SLOTS: usize = 65_537;

/// Services of the floors.
#[btf_map]
static FLOOR_VIPS: HashMap<FloorService, FloorBackend, 1024> = HashMap::new();
/// The floors' one ring: indices into FLOOR_BACKENDS.
#[btf_map]
static FLOOR_RING: Array<u32, FLOOR_SLOTS> = Array::new();
/// Backends of the floors.
#[btf_map]
static FLOOR_BACKENDS: Array<FloorBackend, 4096> = Array::new();

const TCP: u8 = 6;

/// The packet, checked, and its backend.
#[inline(always)]
fn picked<'a>(ctx: *mut xdp_md) -> Result<(Frame<54>, &'a FloorBackend), u32> {
    let frame = frame::<54>(ctx).ok_or(XDP_PASS)?;
    if frame.half_word(12) != 0x0800_u16.to_be()
        || frame.byte(14) & 0x0f != 5
        || frame.byte(23) != TCP
        || frame.half_word(20) & 0x3fff_u16.to_be() != 0
    {
        return Err(XDP_PASS);
    }
    let (source, destination, ports) = (frame.word(26), frame.word(30), frame.word(34));
    let service =
        FloorService { port_and_protocol: (ports & 0xffff_0000) | TCP as u32, address: destination };
    // SAFETY: only the presence matters.
    if unsafe { FLOOR_VIPS.get(&service) }.is_none() {
        return Err(XDP_PASS);
    }
    let mut hash = source.wrapping_mul(2_654_435_761) ^ ports.wrapping_mul(2_246_822_519);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(3_266_489_917);
    hash ^= hash >> 13;
    let index = *FLOOR_RING.get(hash % FLOOR_SLOTS as u32).ok_or(XDP_DROP)?;
    let backend = FLOOR_BACKENDS.get(index).ok_or(XDP_DROP)?;
    Ok((frame, backend))
}

#[inline(always)]
fn encapsulate(ctx: *mut xdp_md, backend: &FloorBackend) -> u32 {
    const FIRST: u32 = 0x4500_0000;
    const FLAGS: u32 = 0x4000;
    const TTL_AND_PROTOCOL: u32 = 0x4004_0000;
    const SOURCE: u32 = 0x0a00_0001;
    const NETWORK: u32 = 0x0a4d_0000;

    // SAFETY: the helper checks what it is given.
    if unsafe { bpf_xdp_adjust_head(ctx, -20) } != 0 {
        return XDP_DROP;
    }
    let len = core::hint::black_box(data_end(ctx) - data(ctx)) as u32 - 14;
    let Some(frame) = frame::<54>(ctx) else {
        return XDP_DROP;
    };
    let own = frame.mac(20);
    let sum = 0x4500
        + len
        + 0x4000
        + 0x4004
        + (SOURCE >> 16)
        + (SOURCE & 0xffff)
        + (NETWORK >> 16)
        + (backend.number & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = sum + (sum >> 16);
    frame.set_word(14, (FIRST | (len & 0xffff)).to_be());
    frame.set_word(18, FLAGS.to_be());
    frame.set_word(22, (TTL_AND_PROTOCOL | (!sum & 0xffff)).to_be());
    frame.set_word(26, SOURCE.to_be());
    frame.set_word(30, (NETWORK | (backend.number & 0xffff)).to_be());
    frame.set_mac(0, backend.mac());
    frame.set_mac(6, own);
    frame.set_half_word(12, 0x0800_u16.to_be());
    XDP_TX
}

/// `N` bytes at the front of a packet.
#[derive(Clone, Copy)]
struct Frame<const N: usize>(*mut u8);

impl<const N: usize> Frame<N> {
    #[inline(always)]
    fn byte(self, offset: usize) -> u8 {
        self.load(offset)
    }

    #[inline(always)]
    fn half_word(self, offset: usize) -> u16 {
        self.load(offset)
    }

    #[inline(always)]
    fn word(self, offset: usize) -> u32 {
        self.load(offset)
    }

    #[inline(always)]
    fn set_half_word(self, offset: usize, value: u16) {
        self.store(offset, value);
    }

    #[inline(always)]
    fn set_word(self, offset: usize, value: u32) {
        self.store(offset, value);
    }

    #[inline(always)]
    fn mac(self, offset: usize) -> (u32, u16) {
        (self.word(offset), self.half_word(offset + 4))
    }

    #[inline(always)]
    fn set_mac(self, offset: usize, (low, high): (u32, u16)) {
        self.set_word(offset, low);
        self.set_half_word(offset + 4, high);
    }

    // As in `vip_lb_common::packet`: the machines read any address directly, LLVM does not know, so the access claims to be aligned.

    #[inline(always)]
    fn load<T: Copy>(self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= N);
        // SAFETY: `frame` checked N bytes.
        unsafe { *self.0.add(offset).cast::<T>() }
    }

    #[inline(always)]
    fn store<T: Copy>(self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= N);
        // SAFETY: `frame` checked N bytes.
        unsafe { *self.0.add(offset).cast::<T>() = value };
    }
}

#[inline(always)]
fn frame<const N: usize>(ctx: *mut xdp_md) -> Option<Frame<N>> {
    let (start, end) = (data(ctx), data_end(ctx));
    (start + N <= end).then_some(Frame(start as *mut u8))
}

#[inline(always)]
fn data(ctx: *mut xdp_md) -> usize {
    // SAFETY: the context outlives the program's run.
    unsafe { (&raw const (*ctx).data).read_volatile() as usize }
}

#[inline(always)]
fn data_end(ctx: *mut xdp_md) -> usize {
    // SAFETY: as above.
    unsafe { (&raw const (*ctx).data_end).read_volatile() as usize }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never in a loaded program: the verifier rejects one that could get here.
    loop {}
}

/// Helpers that only GPL programs may call are open to this one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
