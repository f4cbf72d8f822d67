//! The XDP programs of vip-lb: entry points, maps and helper calls. What they decide is in `vip-lb-common`.

#![no_std]
#![no_main]
#![expect(
    unreachable_pub,
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "entry points are reached by the kernel, in the form that the macro asks for, which drops their docs"
)]

mod cells;
mod maps;
mod packet;
mod probe;
mod ring;
mod watch;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use vip_lb_common::{
    Action, Packet as _, Verdict, decap,
    pipeline::{self, Desk, Fate, Next, Stage, Watch},
    watch::AS_ANSWER,
};

use crate::{
    maps::{DecapMaps, Maps},
    packet::XdpPacket,
    watch::{Nobody, Noted, Seen, vip_lb_ends, vip_lb_show, vip_lb_watch},
};

/// The load balancer, attached to the interfaces of a node.
#[xdp(frags)]
#[inline(always)]
pub fn vip_lb(ctx: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(ctx.ctx);
    if let Next::Done(fate) = pipeline::plain(&mut packet, &Maps(Nobody)) {
        return act(&packet, &fate, || pass(ctx.ctx));
    }
    // One after the other rather than one from the other: a called function's stack adds to its caller's.
    let mut code = vip_lb_general(ctx.ctx, 0);
    let mut watched = 0;
    if code == WATCH {
        if vip_lb_ends(ctx.ctx, 0) != 0 {
            watched = vip_lb_watch(ctx.ctx);
        }
        code = vip_lb_general(ctx.ctx, 1);
    }
    if code == STAGE | Stage::Own as u32 {
        code = vip_lb_own(ctx.ctx);
        // Asked here, so that nothing else pays for it.
        if code == STAGE | Stage::Advert as u32 {
            code = vip_lb_advert(ctx.ctx);
        }
    }
    if code == STAGE | Stage::Fragment as u32 {
        code = vip_lb_fragment(ctx.ctx);
    }
    if code == STAGE | Stage::IcmpError as u32 {
        code = vip_lb_icmp_error(ctx.ctx);
    }
    if code == STAGE | Stage::Clamp as u32 {
        code = vip_lb_clamp(ctx.ctx);
    }
    if code == STAGE | Stage::Nat as u32 {
        code = vip_lb_nat(ctx.ctx);
    }
    if code == STAGE | Stage::NatSteer as u32 {
        code = vip_lb_nat_steer(ctx.ctx);
    }
    if code == STAGE | Stage::NatBind as u32 {
        code = vip_lb_nat_bind(ctx.ctx);
    }
    if code == STAGE | Stage::Sample as u32 {
        code = vip_lb_sample(ctx.ctx);
    }
    if code == STAGE | Stage::Translate as u32 {
        code = vip_lb_translate(ctx.ctx);
    }
    if code == STAGE | Stage::TranslateError as u32 {
        code = vip_lb_translate_error(ctx.ctx);
    }
    if code == STAGE | Stage::Deliver as u32 {
        code = vip_lb_deliver(ctx.ctx);
    }
    if code == STAGE | Stage::TooBig as u32 {
        code = vip_lb_too_big(ctx.ctx);
    }
    if code == XDP_PASS {
        code = pass(ctx.ctx);
    }
    if watched != 0 {
        let is_answer = if watched >> AS_ANSWER == 0 { 0 } else { vip_lb_ends(ctx.ctx, 1) };
        vip_lb_show(ctx.ctx, code, is_answer);
    }
    code
}

/// Greater than all XDP actions: with the number of a [`Stage`], whose [`Job`] is kept, what to call next.
const STAGE: u32 = 0x100;

/// Those who watch packets are to see this one.
const WATCH: u32 = 0x200;

#[inline(always)]
fn code_of(packet: &XdpPacket, next: &Next) -> u32 {
    match next {
        // Whom it is for is asked at the end, once for all functions.
        Next::Done(fate) => act(packet, fate, || XDP_PASS),
        // Only the first function leaves a packet to this one.
        Next::General => XDP_DROP,
        Next::Watch => WATCH,
        Next::Stage(stage, job) => {
            maps::keep(job);
            STAGE | *stage as u32
        }
        Next::Then(stage) => STAGE | *stage as u32,
    }
}

/// What is no plain packet. A global function, which the verifier walks through once and for itself instead of once for each
/// state that it may be called in (kernel 5.6).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_general(ctx: *mut xdp_md, seen: u32) -> u32 {
    let mut packet = XdpPacket::new(ctx);
    let watch = if seen == 0 { Watch::Due } else { Watch::Done };
    let next = pipeline::general(&mut packet, &Maps(Seen(seen != 0)), watch);
    code_of(&packet, &next)
}

/// To an address of this node itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_own(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::own)
}

/// An advert of VRRP.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_advert(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, |packet, tables, desk| pipeline::advert(packet, tables, &desk.job))
}

/// A later fragment.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_fragment(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, |packet, tables, desk| pipeline::fragment(packet, tables, &mut desk.job))
}

/// An ICMP error to a VIP.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_icmp_error(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, |packet, tables, desk| pipeline::icmp_error(packet, tables, &mut desk.job))
}

/// To a service with translated backends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_nat(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::nat)
}

/// Without an entry, or to be noted before it is sent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_nat_steer(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::nat_steer)
}

/// To have its entries written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_nat_bind(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::nat_bind)
}

/// Of a flow that is looked at closely, perhaps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_sample(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::sample)
}

/// To other addresses and ports.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_translate(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::translate)
}

/// An ICMP error about what is translated.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_translate_error(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, pipeline::translate_error)
}

/// A SYN to a service that limits the size of segments.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_clamp(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, |packet, tables, desk| pipeline::clamp(packet, tables, &desk.job))
}

/// A flow's packet that is no plain one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_deliver(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, |packet, tables, desk| pipeline::deliver(packet, tables, &mut desk.job))
}

/// A packet that does not fit the path to its backend.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_too_big(ctx: *mut xdp_md) -> u32 {
    at_desk(ctx, |packet, tables, desk| pipeline::too_big(packet, tables, &desk.job.bounded()))
}

#[inline(always)]
fn at_desk(ctx: *mut xdp_md, stage: impl FnOnce(&mut XdpPacket, &Maps<Noted>, &mut Desk) -> Next) -> u32 {
    // Hidden from LLVM, which drops an argument that nobody uses. The verifier wants every global function's.
    let mut packet = XdpPacket::new(core::hint::black_box(ctx));
    let Some((desk, sighting)) = maps::desk() else {
        return XDP_DROP;
    };
    let next = stage(&mut packet, &Maps(Noted(sighting)), desk);
    code_of(&packet, &next)
}

/// What is handed to the stack, nearly all of which was sent to this host itself.
#[inline(always)]
fn pass(ctx: *mut xdp_md) -> u32 {
    if pipeline::is_to_router(&XdpPacket::new(ctx)) { vip_lb_take_in(ctx) } else { XDP_PASS }
}

/// To the hardware address of a virtual router.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vip_lb_take_in(ctx: *mut xdp_md) -> u32 {
    pipeline::take_in(&XdpPacket::new(core::hint::black_box(ctx)), &Maps(Nobody));
    XDP_PASS
}

/// The one place that knows XDP actions.
#[inline(always)]
fn act(packet: &XdpPacket, fate: &Fate, pass: impl FnOnce() -> u32) -> u32 {
    match fate.verdict {
        // Asked first, because nearly every packet of a VIP ends so.
        Verdict::ForwardedL2 | Verdict::ForwardedIpip => forward(packet, fate.egress),
        verdict => match verdict.action() {
            Action::Pass => pass(),
            Action::Drop => XDP_DROP,
            Action::Reply => XDP_TX,
            Action::Forward => forward(packet, fate.egress),
        },
    }
}

#[inline(always)]
fn forward(packet: &XdpPacket, egress: u32) -> u32 {
    if egress == packet.ingress() {
        XDP_TX
    } else {
        // SAFETY: the helper takes any number; one that names no interface drops the packet.
        unsafe { bpf_redirect(egress, 0) as u32 }
    }
}

/// The decapsulator, attached to the interfaces of a backend.
#[xdp(frags)]
#[inline(always)]
pub fn vip_lb_decap(ctx: XdpContext) -> u32 {
    let verdict = decap::process(&mut XdpPacket::new(ctx.ctx), &DecapMaps);
    maps::count_verdict(verdict);
    match verdict.action() {
        Action::Pass => XDP_PASS,
        Action::Drop | Action::Reply | Action::Forward => XDP_DROP,
    }
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
