//! All stages one after the other, in one call: what userspace does. The kernel program has each part in a function of its own.

use super::{
    Desk, Fate, Next, Stage, Watch, advert, clamp, deliver, fragment, general, icmp_error, is_to_router, nat,
    nat_bind, nat_steer, own, plain, probe, sample, take_in, too_big, translate, translate_error,
};
use crate::{Action, Packet, Tables};

/// Decides a packet's fate, carries it out on the bytes and counts it. The kernel program does the same with each part in a function of
/// its own.
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Fate {
    let next = plain(packet, tables);
    let fate = go_through(packet, tables, next);
    if fate.verdict.action() == Action::Pass && is_to_router(packet) {
        take_in(packet, tables);
    }
    fate
}

/// What [`process`] does, for a probe of this node's own checks, whose frame names its backend ([`BackendRef::probe_address`](crate::abi::BackendRef::probe_address)).
pub fn process_probe<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Fate {
    let next = probe(packet, tables);
    go_through(packet, tables, next)
}

fn go_through<P: Packet, T: Tables>(packet: &mut P, tables: &T, mut next: Next) -> Fate {
    let mut desk = None;
    loop {
        next = match next {
            Next::Done(fate) => return fate,
            Next::General => general(packet, tables, Watch::Due),
            // Only the kernel's packets are watched.
            Next::Watch => general(packet, tables, Watch::Done),
            Next::Stage(stage, job) => run(packet, tables, stage, desk.insert(Desk::new(job))),
            Next::Then(stage) => run(packet, tables, stage, desk.as_mut().expect("a stage has a desk")),
        };
    }
}

fn run<P: Packet, T: Tables>(packet: &mut P, tables: &T, stage: Stage, desk: &mut Desk) -> Next {
    match stage {
        Stage::Own => own(packet, tables, desk),
        Stage::Fragment => fragment(packet, tables, &mut desk.job),
        Stage::IcmpError => icmp_error(packet, tables, &mut desk.job),
        Stage::Clamp => clamp(packet, tables, &desk.job),
        Stage::Nat => nat(packet, tables, desk),
        Stage::NatSteer => nat_steer(packet, tables, desk),
        Stage::NatBind => nat_bind(packet, tables, desk),
        Stage::Sample => sample(packet, tables, desk),
        Stage::Translate => translate(packet, tables, desk),
        Stage::TranslateError => translate_error(packet, tables, desk),
        Stage::Deliver => deliver(packet, tables, &mut desk.job),
        Stage::TooBig => too_big(packet, tables, &desk.job),
        Stage::Advert => advert(packet, tables, &desk.job),
    }
}
