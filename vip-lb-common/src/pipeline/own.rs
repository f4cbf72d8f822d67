//! Packets to an address of this node itself that other nodes or backends send to.

use super::{Desk, Fate, Job, Next, Stage, Watch, concluded, local, nat};
use crate::{Packet, Tables, Verdict, abi::Vip, decap, headers::protocol};

/// Translates backends' answers, unwraps what peers tunnel to a backend on this host, and leads adverts of VRRP to where they are noted. All else is ordinary traffic, or nobody's where
/// the address is vip-lb's alone.
#[inline(always)]
pub(super) fn decide<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    desk: &mut Desk,
) -> Result<Next, Verdict> {
    let vip = tables.vip(&desk.job.destination).ok_or(Verdict::NotVip)?;
    if vip.flags & Vip::ADVERTS != 0 && desk.job.network.protocol == protocol::VRRP {
        return Ok(Next::Then(Stage::Advert));
    }
    if vip.flags & Vip::NAT_SOURCE != 0
        && let Some(next) = nat::reply::find(packet, tables, desk)?
    {
        return Ok(next);
    }
    let Job { link, network, .. } = desk.job.bounded();
    // Tunnelled packets are taken out of their tunnel whole: the stack reassembles fragments of them.
    let result = if vip.flags & Vip::ENDPOINT != 0 && network.piece.is_whole() {
        decap::unwrap_for_local_backend(packet, tables, &link, &network).map(Fate::from)
    } else {
        Err(Verdict::NotVip)
    };
    match result {
        Err(Verdict::NotVip) if vip.flags & Vip::ANSWER == 0 => Err(Verdict::NotVip),
        Err(Verdict::NotVip) if network.piece.is_later() => Err(Verdict::FragmentWithoutFirst),
        Err(Verdict::NotVip) if matches!(network.protocol, protocol::ICMP | protocol::ICMPV6) => {
            let fate = local::icmp(packet, tables, &link, &vip, &network, Watch::Done)?;
            Ok(concluded(tables, fate))
        }
        Err(Verdict::NotVip) => Err(Verdict::NatUnknown),
        result => result.map(|fate| concluded(tables, Some(fate))),
    }
}
