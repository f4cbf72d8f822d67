//! Which service of a VIP a packet is for.

use crate::{
    Tables, Verdict,
    abi::{PortKey, RangeKey, ServiceRef, Vip},
};

/// The service for a protocol and port: the VIP's own entries first, then PORTS, then RANGES, then the service of every port.
#[inline(always)]
pub(super) fn find<T: Tables>(tables: &T, vip: &Vip, protocol: u8, port: u16) -> Result<ServiceRef, Verdict> {
    for entry in &vip.services {
        if entry.port == port && entry.protocol == protocol {
            return Ok(entry.service);
        }
    }
    let at = |port| tables.port(&PortKey { vip: vip.id, port, protocol, kind: 0 });
    if vip.flags & Vip::MORE != 0
        && let Some(service) = at(port)
    {
        return Ok(service);
    }
    if vip.flags & Vip::RANGES != 0
        && let Some(service) = tables.range(&RangeKey::new(vip.id, protocol, port))
    {
        return Ok(service);
    }
    if vip.flags & Vip::ANY_PORT != 0
        && let Some(service) = at(0)
    {
        return Ok(service);
    }
    Err(unknown(vip, Verdict::UnknownService))
}

/// The verdict on a packet that is for no service: `dropped`, unless the VIP's unknown services are passed.
#[inline(always)]
pub(super) fn unknown(vip: &Vip, dropped: Verdict) -> Verdict {
    if vip.flags & Vip::PASS_UNKNOWN != 0 { Verdict::UnknownServicePassed } else { dropped }
}
