//! Lowers the segment size that a SYN announces, so that what the other side sends fits the path to whoever announced it.

use super::{Job, Network, Next};
use crate::{
    Packet, Tables, Verdict, checksum,
    headers::{TCP_LEN, Tcp},
    packet::forget,
};

/// Kinds of TCP options (RFC 9293 section 3.1).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
/// Bytes of the option that announces the segment size.
const SEGMENT_SIZE_LEN: usize = 4;
/// Most bytes that options take.
const OPTIONS_LEN: usize = 40;

/// Clamps a SYN, or a translated backend's SYN-ACK, to what its service allows.
#[inline(always)]
pub(super) fn decide<T: Tables>(packet: &impl Packet, tables: &T, job: &Job) -> Result<Next, Verdict> {
    let limit = tables.service_options(job.service.id).map_or(0, |options| options.mss);
    if limit != 0 {
        clamp(packet, &job.bounded().network, limit)?;
    }
    Ok(Next::Then(job.then))
}

/// Lowers the segment size that a SYN or SYN-ACK announces to `limit` and mends its checksum. One that announces none gets none: the other
/// side then sends at most 536 bytes (IPv4) or 1220 (IPv6) in a segment (RFC 9293 section 3.7.1), less than any limit that makes sense.
/// Options that contradict themselves end the search: a receiver will not believe what follows them either.
#[inline(always)]
pub(super) fn clamp(packet: &impl Packet, network: &Network, limit: u16) -> Result<(), Verdict> {
    const SHORT: Verdict = Verdict::BadTransportHeader;

    let header_len = Tcp::at(packet, network.transport, SHORT)?.header_len();
    let end = header_len.wrapping_sub(TCP_LEN);
    if end > OPTIONS_LEN {
        return Ok(());
    }
    let options = network.transport + TCP_LEN;
    let mut at = 0;
    // No option is shorter than a byte. What the verifier knows of the offset is forgotten, so that every turn looks alike to it.
    for _ in 0..OPTIONS_LEN {
        at = forget(at, 0x3f);
        if at + SEGMENT_SIZE_LEN > end {
            break;
        }
        let option = packet.view::<SEGMENT_SIZE_LEN>(options + at, SHORT)?;
        let (kind, len) = (option.u8(0), option.u8(1) as usize);
        match kind {
            END => break,
            NO_OPERATION => at += 1,
            SEGMENT_SIZE if len == SEGMENT_SIZE_LEN => {
                let announced = option.be16(2);
                if announced > limit {
                    option.set_be16(2, limit);
                    // In an odd place its bytes belong to two words, the upper to the lower half of one and the lower to the upper of the next.
                    let word = |size: u16| if at % 2 == 0 { size } else { size.swap_bytes() };
                    let tcp = Tcp::at(packet, network.transport, SHORT)?;
                    tcp.set_checksum(checksum::replace(tcp.checksum(), word(announced), word(limit)));
                }
                break;
            }
            _ if len < 2 || at + len > end => break,
            _ => at += len,
        }
    }
    Ok(())
}
