//! What frames of others say of who has an address: ARP of its owner (RFC 826), and neighbour advertisements and solicitations (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::announcement::{ADVERTISEMENT, ICMPV6, SOLICITATION, arp_request, neighbour_message};

const ETHERNET: usize = 14;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Options of neighbour discovery that have a link-layer address (RFC 4861 section 4.6.1).
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;

/// Somebody says that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// The hardware address that it is to be found at.
    pub mac: [u8; 6],
}

impl Claim {
    /// What an Ethernet frame without tag says, if it says that.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let source = *frame.get(6..)?.first_chunk::<6>()?;
        match *frame.get(12..)?.first_chunk::<2>()? {
            ARP => of_arp(frame.get(ETHERNET..)?),
            IPV6 => of_neighbour_discovery(frame.get(ETHERNET..)?, source),
            _ => None,
        }
    }
}

/// Requests and replies alike: the sender has the address that it gives as its own. Probes give none.
fn of_arp(arp: &[u8]) -> Option<Claim> {
    let arp = arp.first_chunk::<28>()?;
    // Ethernet, IPv4, their lengths; request or reply.
    if arp[..7] != [0, 1, 8, 0, 6, 4, 0] || !matches!(arp[7], 1 | 2) {
        return None;
    }
    let (mac, address) = (*arp[8..].first_chunk()?, *arp[14..].first_chunk::<4>()?);
    (address != [0; 4]).then(|| Claim { address: Ipv4Addr::from(address).into(), mac })
}

fn of_neighbour_discovery(packet: &[u8], source_mac: [u8; 6]) -> Option<Claim> {
    let (header, message) = packet.split_first_chunk::<40>()?;
    // Only neighbours can send this hop limit (RFC 4861 section 7.1).
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != 255 {
        return None;
    }
    let (fixed, options) = message.split_first_chunk::<24>()?;
    let (address, option) = match (fixed[0], fixed[1]) {
        (ADVERTISEMENT, 0) => (*fixed[8..].first_chunk::<16>()?, TARGET_ADDRESS),
        (SOLICITATION, 0) => (*header[8..].first_chunk::<16>()?, SOURCE_ADDRESS),
        _ => return None,
    };
    let mac = link_layer_address(options, option).unwrap_or(source_mac);
    (address != [0; 16]).then(|| Claim { address: Ipv6Addr::from(address).into(), mac })
}

fn link_layer_address(mut options: &[u8], wanted: u8) -> Option<[u8; 6]> {
    while let [kind, length, rest @ ..] = options {
        // In units of eight bytes with these two.
        let length = usize::from(*length) * 8;
        if *kind == wanted && length == 8 {
            return rest.first_chunk().copied();
        }
        options = options.get(length.max(2)..)?;
    }
    None
}

/// The frame that asks whether anybody else has an address, without saying that this node has it: an ARP probe (RFC 5227 section 2.1.1), or a
/// solicitation as for the detection of duplicates (RFC 4862 section 5.4.2).
pub(super) fn probe(address: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_request(mac, Ipv4Addr::UNSPECIFIED, address),
        IpAddr::V6(address) => {
            let group = crate::network::solicited_node(address);
            let [.., a, b, c, d] = group.octets();
            let mut message = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0].to_vec();
            message.extend(address.octets());
            neighbour_message([0x33, 0x33, a, b, c, d], mac, Ipv6Addr::UNSPECIFIED, group, message)
        }
    }
}

/// Kernel instructions ([classic BPF](https://docs.kernel.org/networking/filter.html)) that let frames in that may be claims to addresses, and no
/// others: what a host with much other traffic pays for them must be little.
pub(super) fn filter(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<libc::sock_filter> {
    /// With more addresses all claims come in: a filter has its limit (`net.core.optmem_max`).
    const MANY: usize = 400;
    const TAKE: u32 = 0xffff;
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(address.to_bits()),
            // The end of it tells nearly all apart.
            IpAddr::V6(address) => v6.push(address.to_bits() as u32),
        }
    }
    let one_of = |known: &[u32]| -> Vec<libc::sock_filter> {
        if v4.len() + v6.len() > MANY {
            return vec![give(TAKE)];
        }
        let each = known.iter().flat_map(|&address| [unless(address, 1), give(TAKE)]);
        each.chain([give(0)]).collect()
    };
    let (owners, targets) = (one_of(&v4), one_of(&v6));
    let arp = [vec![load(libc::BPF_W, 28)], owners].concat();
    let advertisement = [vec![load(libc::BPF_W, 74)], targets.clone()].concat();
    let solicitation = [vec![load(libc::BPF_W, 34)], targets].concat();
    [
        // The tag of a frame, which the kernel has taken off (SKF_AD_VLAN_TAG_PRESENT): its VLAN's own device has it as well.
        vec![load(libc::BPF_W, (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32)],
        vec![unless(0, 1), jump(1), give(0)],
        vec![load(libc::BPF_H, 12), unless(0x0806, 1), jump(1), jump(arp.len() as u32)],
        arp,
        vec![load(libc::BPF_H, 12), unless(0x86dd, 1), jump(1), give(0)],
        vec![load(libc::BPF_B, 20), unless(ICMPV6.into(), 1), jump(1), give(0)],
        vec![
            load(libc::BPF_B, 54),
            unless(ADVERTISEMENT.into(), 1),
            jump(1),
            jump(advertisement.len() as u32),
        ],
        advertisement,
        vec![load(libc::BPF_B, 54), unless(SOLICITATION.into(), 1), jump(1), give(0)],
        solicitation,
    ]
    .concat()
}

fn load(size: u32, offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, offset)
}

/// Skips so many instructions unless what was loaded is `value`.
fn unless(value: u32, skip: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, value)
}

fn jump(over: u32) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, over)
}

fn give(bytes: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, bytes)
}

fn instruction(code: u32, skip: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skip, k }
}

#[cfg(test)]
mod tests {
    use super::{
        super::announcement::{self, ALL_NODES_MAC, BROADCAST},
        *,
    };

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    /// What the kernel would make of it, for the instructions that are used.
    fn passes(filter: &[libc::sock_filter], frame: &[u8], tagged: bool) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let of = filter[at];
            let number = |bytes: Option<&[u8]>| {
                bytes.map(|bytes| bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
            };
            let (code, offset) = (u32::from(of.code), of.k as usize);
            at += 1;
            if code == libc::BPF_RET {
                return of.k != 0;
            } else if code == libc::BPF_JMP {
                at += of.k as usize;
            } else if code == libc::BPF_JMP | libc::BPF_JEQ {
                at += usize::from(if loaded == of.k { of.jt } else { of.jf });
            } else if of.k as i32 == libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT {
                loaded = tagged.into();
            } else {
                let size = [(libc::BPF_W, 4), (libc::BPF_H, 2), (libc::BPF_B, 1)];
                let (_, size) = *size.iter().find(|(size, _)| code & 0x18 == *size).unwrap();
                // A load beyond the end refuses the frame.
                let Some(value) = number(frame.get(offset..offset + size)) else { return false };
                loaded = value;
            }
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn announcements_and_answers_are_claims_and_probes_are_none() {
        for vip in ["192.0.2.10", "2001:db8::10"].map(address) {
            let announced = announcement::frame(vip, MAC);
            assert_eq!(Claim::of(&announced), Some(Claim { address: vip, mac: MAC }), "{vip}");
            assert_eq!(Claim::of(&probe(vip, MAC)), None, "{vip}");
            for shorter in 0..announced.len() {
                let _ = Claim::of(&announced[..shorter]);
            }
        }
    }

    #[test]
    fn an_arp_reply_and_a_question_of_the_owner_are_claims() {
        let mut frame = arp_request(MAC, "192.0.2.10".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let claim = Some(Claim { address: address("192.0.2.10"), mac: MAC });
        assert_eq!(Claim::of(&frame), claim);
        frame[21] = 2;
        assert_eq!(Claim::of(&frame), claim);
        frame[21] = 3;
        assert_eq!(Claim::of(&frame), None, "RARP");
    }

    #[test]
    fn neighbour_discovery_names_the_owner_by_its_option_or_its_frame() {
        let vip = address("2001:db8::10");
        let announced = announcement::frame(vip, MAC);
        let bare = announced[..announced.len() - 8].to_vec();
        assert_eq!(Claim::of(&bare), Some(Claim { address: vip, mac: MAC }));
        let mut routed = announced.clone();
        routed[21] = 254;
        assert_eq!(Claim::of(&routed), None, "not from this link");
        let IpAddr::V6(own) = vip else { unreachable!() };
        let mut message = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0].to_vec();
        message.extend(own.octets());
        message.extend([1, 1, 2, 0, 0, 0, 0, 8]);
        let asked = neighbour_message(ALL_NODES_MAC, MAC, own, own, message);
        assert_eq!(Claim::of(&asked), Some(Claim { address: vip, mac: [2, 0, 0, 0, 0, 8] }));
    }

    #[test]
    fn the_filter_lets_claims_to_its_addresses_in_and_nothing_else() {
        let ours = ["192.0.2.10", "192.0.2.11", "2001:db8::10"].map(address);
        let filter = filter(ours);
        for vip in ours {
            let frame = announcement::frame(vip, MAC);
            assert!(passes(&filter, &frame, false), "{vip}");
            assert!(!passes(&filter, &frame, true), "{vip} behind a tag");
            assert!(!passes(&filter, &probe(vip, MAC), false), "a probe for {vip}");
            assert!(!passes(&filter, &frame[..30], false), "a short frame for {vip}");
        }
        for other in ["192.0.2.12", "2001:db8::12"].map(address) {
            assert!(!passes(&filter, &announcement::frame(other, MAC), false), "{other}");
        }
        assert!(!passes(&filter, &[0; 60], false));
        let many = super::filter((0..500_u32).map(|number| Ipv4Addr::from_bits(number).into()));
        assert!(passes(&many, &announcement::frame(address("192.0.2.12"), MAC), false));
        assert!(many.len() < 50);
    }

    #[test]
    fn a_probe_is_for_all_and_adds_up() {
        let frame = probe(address("192.0.2.10"), MAC);
        assert_eq!((&frame[..6], &frame[28..32]), (&BROADCAST[..], &[0; 4][..]));
        let frame = probe(address("2001:db8::12:3456"), MAC);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[38..54], address_octets("ff02::1:ff12:3456"));
        assert_eq!((frame.len(), frame[54], frame[21]), (78, SOLICITATION, 255));
    }

    fn address_octets(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }
}
