//! Tells a client that its packet does not fit the way to its backend, once another header is in front of it.

use super::{Fate, Job, Tags};
use crate::{
    Packet, Tables, Verdict,
    abi::Address,
    checksum::Sum,
    headers::{
        Ethernet, ICMP_LEN, IPV4_LEN, IPV6_LEN, Icmp, Ipv4, Ipv6, OUTER_TTL, OuterV4, outer_checksum_base,
        protocol,
    },
    tables::IcmpUse,
};

/// "Fragmentation needed and DF set" (RFC 792).
const FRAGMENTATION_NEEDED: u16 = 3 << 8 | 4;
/// "Packet too big" (RFC 4443 section 3.2).
const PACKET_TOO_BIG: u16 = 2 << 8;
/// Bytes of the packet that are quoted at most. RFC 1812 section 4.3.2.3 and RFC 4443 section 3.2 would have more, which no receiver needs: the
/// longest IPv4 header and eight bytes of what follows are 68, and hosts find the connection by these.
const QUOTE_LEN: usize = 128;
const WORD: usize = 4;

/// Turns the packet into its own answer, from the VIP to the client: "fragmentation needed" with the MTU of the next hop (RFC 1191 section 4,
/// RFC 1812 section 4.3.2.4) or "packet too big" (RFC 4443 section 3.2). An IPv4 packet that may be fragmented gets it too: it would have to be
/// fragmented here, which XDP cannot, and Linux clients heed the answer all the same.
#[inline(always)]
pub(super) fn answer<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &Job) -> Result<Fate, Verdict> {
    let Job { link, network, destination: vip, .. } = job;
    let client = network.source;
    let rate = tables.service_options(job.service.id).map_or(0, |options| options.icmp_rate);
    if !is_host(&client) || !tables.may_send(job.service.id, IcmpUse::Answer, rate) {
        return Err(Verdict::TooBig);
    }
    let quoted = (network.len as usize).min(QUOTE_LEN) & !(WORD - 1);
    let message_len = ICMP_LEN + quoted;
    let ip_len = if network.is_v4 { IPV4_LEN } else { IPV6_LEN };

    let macs = Ethernet::of(packet, Verdict::TooBig)?.macs();
    let tags = Tags::read(packet, link)?;
    packet.grow_front(ip_len + ICMP_LEN).map_err(|_| Verdict::TooBig)?;
    packet.set_len(link.network + ip_len + message_len).map_err(|_| Verdict::TooBig)?;
    let ethernet = Ethernet::of(packet, Verdict::TooBig)?;
    ethernet.set_macs(&macs);
    ethernet.swap_addresses();
    tags.write_types(packet, &ethernet, link, link.ether_type)?;

    let (kind, sum) = if network.is_v4 {
        let checksum_base = outer_checksum_base(v4_octets(vip), v4_octets(&client));
        Ipv4::at(packet, link.network, Verdict::TooBig)?.write_outer(&OuterV4 {
            traffic_class: 0,
            total_len: (IPV4_LEN + message_len) as u16,
            protocol: protocol::ICMP,
            checksum_base,
            source: *vip,
            destination: client,
        });
        (FRAGMENTATION_NEEDED, Sum::default())
    } else {
        let ip = Ipv6::at(packet, link.network, Verdict::TooBig)?;
        ip.set_head(0, 0, message_len as u16, protocol::ICMPV6, OUTER_TTL);
        ip.set_addresses(vip, &client);
        (PACKET_TOO_BIG, Sum::pseudo_header(vip, &client, message_len as u16, protocol::ICMPV6))
    };
    let message = link.network + ip_len;
    let sum = quote_sum(packet, message + ICMP_LEN, quoted, sum)?;
    Icmp::at(packet, message, Verdict::TooBig)?.write(kind, job.largest.into(), sum);
    Ok(Fate::from(Verdict::TooBigAnswered))
}

/// Adds the quote to the sum.
#[inline(always)]
fn quote_sum(packet: &impl Packet, at: usize, len: usize, mut sum: Sum) -> Result<Sum, Verdict> {
    for offset in (0..QUOTE_LEN).step_by(WORD) {
        if offset >= len {
            break;
        }
        sum = sum.add_u32(packet.view::<WORD>(at + offset, Verdict::TooBig)?.be32(0));
    }
    Ok(sum)
}

/// Whether an address can be that of a single host, which alone is told of errors (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
#[inline(always)]
fn is_host(address: &Address) -> bool {
    if address.is_v4() {
        let [first, ..] = v4_octets(address);
        first != 0 && first < 224
    } else {
        !address.is(&Address::UNSPECIFIED) && address.octets()[0] != 0xff
    }
}

#[inline(always)]
fn v4_octets(address: &Address) -> [u8; 4] {
    address.words()[3].to_ne_bytes()
}
