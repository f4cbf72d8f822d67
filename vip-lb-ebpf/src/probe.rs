//! Probes through the VIP, and their answers.
//!
//! A pair of virtual Ethernet devices belongs to the checks of this node. Their sockets are bound to its outer end and marked with the
//! backend that they ask about. [`vip_lb_probe_out`] writes the mark into the frame, [`vip_lb_probe`] at the inner end sends the packet to
//! that backend by the stages that clients' packets take, and [`vip_lb_probe_in`] on the interfaces of the node brings answers back to the
//! pair. So the VIP need not be an address of the node, may be one, and no routing table, ARP or conntrack of the host has a say.

use aya_ebpf::{
    bindings::{
        __sk_buff, TC_ACT_OK, TC_ACT_SHOT,
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    btf_maps::{Array, LruHashMap},
    helpers::{bpf_redirect, bpf_skb_pull_data, bpf_skb_store_bytes},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use vip_lb_common::{
    abi::{BackendRef, ProbeDevice, ProbeKey},
    pipeline::{self, Stage},
    probe,
};

use crate::{
    STAGE, code_of,
    maps::Maps,
    packet::{SkbPacket, XdpPacket},
    vip_lb_deliver, vip_lb_nat, vip_lb_nat_bind, vip_lb_translate,
    watch::Nobody,
};

/// Probes under way.
#[btf_map]
static PROBES: LruHashMap<ProbeKey, u32, 16_384> = LruHashMap::new();
/// The pair; one value.
#[btf_map]
static PROBE_DEVICE: Array<ProbeDevice, 1> = Array::new();

/// Bytes that are looked at: the headers of an ICMP error and of what it quotes. Those of a jumbled packet may lie apart from the first ones.
const HEADERS: u32 = 160;

/// At the inner end of the pair: sends a probe to its backend.
#[xdp]
#[inline(always)]
pub fn vip_lb_probe(ctx: XdpContext) -> u32 {
    let mut code = vip_lb_probe_begin(ctx.ctx);
    if code == STAGE | Stage::Nat as u32 {
        code = vip_lb_nat(ctx.ctx);
    }
    if code == STAGE | Stage::NatBind as u32 {
        code = vip_lb_nat_bind(ctx.ctx);
    }
    if code == STAGE | Stage::Translate as u32 {
        code = vip_lb_translate(ctx.ctx);
    }
    if code == STAGE | Stage::Deliver as u32 {
        code = vip_lb_deliver(ctx.ctx);
    }
    // What would need another stage, or go to the stack, is no probe that this node sends.
    if code < STAGE && code != XDP_PASS { code } else { XDP_DROP }
}

/// Which backend, and how.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_probe_begin(ctx: *mut xdp_md) -> u32 {
    let mut packet = XdpPacket::new(ctx);
    let next = pipeline::probe(&mut packet, &Maps(Nobody));
    code_of(&packet, &next)
}

/// At the outer end of the pair. Answers that the driver redirects to it from an interface of the node arrive only if a program is there
/// (veth(4): it switches to its XDP ring then).
#[xdp]
#[inline(always)]
pub fn vip_lb_probe_back(_: XdpContext) -> u32 {
    XDP_PASS
}

/// What sockets send by the outer end of the pair: notes which answers they wait for, and for whom the packet is. All else that the stack
/// would send there is nobody's.
#[classifier]
#[inline(always)]
pub fn vip_lb_probe_out(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context outlives the program's run.
    let mark = unsafe { (*skb).mark };
    if mark == 0 {
        return TC_ACT_SHOT;
    }
    pull_headers(skb);
    let Some(key) = probe::sent(&SkbPacket::new(skb)) else {
        return TC_ACT_SHOT;
    };
    if PROBES.insert(key, 1, 0).is_err() {
        return TC_ACT_SHOT;
    }
    if replace_destination(skb, &BackendRef::probe_address(mark)) { TC_ACT_OK } else { TC_ACT_SHOT }
}

/// What comes in by an interface of the node, and its program left to the host: answers to probes go to the pair.
#[classifier]
#[inline(always)]
pub fn vip_lb_probe_in(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    pull_headers(skb);
    let Some(key) = probe::answered(&SkbPacket::new(skb)) else {
        return TC_ACT_OK;
    };
    // SAFETY: only its presence matters.
    if unsafe { PROBES.get(key) }.is_none() {
        return TC_ACT_OK;
    }
    let Some(device) = PROBE_DEVICE.get(0) else {
        return TC_ACT_OK;
    };
    if !replace_destination(skb, &device.mac) {
        return TC_ACT_OK;
    }
    // SAFETY: the helper takes any number; one that names no interface drops the packet.
    unsafe { bpf_redirect(device.inner, 0) as i32 }
}

#[inline(always)]
fn pull_headers(skb: *mut __sk_buff) {
    // SAFETY: the context outlives the program's run. Where they cannot be pulled, they are not found.
    unsafe {
        let len = (*skb).len;
        bpf_skb_pull_data(skb, if len < HEADERS { len } else { HEADERS });
    }
}

/// Writes the destination MAC address.
#[inline(always)]
fn replace_destination(skb: *mut __sk_buff, mac: &[u8; 6]) -> bool {
    // SAFETY: six bytes, at the start of the frame.
    unsafe { bpf_skb_store_bytes(skb, 0, mac.as_ptr().cast(), 6, 0) == 0 }
}
