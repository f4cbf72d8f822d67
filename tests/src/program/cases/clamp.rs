//! Segment sizes that SYNs announce, lowered where the service says so.

use vip_lb_common::Verdict::{ForwardedIpip, ForwardedL2};

use super::{
    Case,
    forward::{by_l2, outer_v4},
    to_vip,
};
use crate::{
    packet::{Frame, eth},
    program::world::{CLAMP, CLIENT, CLIENT6, VIP, VIP6, port},
};

const HERE: u16 = 40_400;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, ip) in to_vip() {
        cases.extend([lowered(family, &ip), kept(family, &ip)].concat());
    }
    [cases, headers()].concat()
}

/// The option that announces a segment size.
fn size(size: u16) -> Vec<u8> {
    [&[2, 4][..], &size.to_be_bytes()].concat()
}

fn changed(name: String, syn: impl Fn(u8, &[u8]) -> Frame, before: &[u8], after: &[u8]) -> Case {
    Case::changed(name, &syn(64, before), ForwardedL2, &by_l2(syn(63, after).untagged()))
}

fn lowered(family: &str, ip: &Frame) -> Vec<Case> {
    let syn = |ttl, options: &[u8]| {
        ip.clone().ttl(ttl).tcp(HERE, port::CLAMPED).syn().option(options).payload(b"fast open")
    };
    let mut cases = Vec::new();
    for announced in [CLAMP + 1, 1460, 8960, 0xffff] {
        cases.push(changed(format!("{family}: {announced} is lowered"), syn, &size(announced), &size(CLAMP)));
    }
    // In every place that an option may have, even and odd, behind options of every length.
    for place in 0..=36 {
        let nops = vec![1; place];
        cases.push(changed(
            format!("{family}: a size behind {place} empty options"),
            syn,
            &[&nops[..], &size(1460)].concat(),
            &[&nops[..], &size(CLAMP)].concat(),
        ));
        if place >= 2 {
            let mut other = vec![0xee; place];
            (other[0], other[1]) = (254, place as u8);
            cases.push(changed(
                format!("{family}: a size behind an option of {place} bytes"),
                syn,
                &[&other[..], &size(1460)].concat(),
                &[&other[..], &size(CLAMP)].concat(),
            ));
        }
    }
    // As Linux sends them: size, SACK permitted, timestamps, no operation, window scale.
    let usual =
        |announced| [&size(announced)[..], &[4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]].concat();
    cases.push(changed(format!("{family}: the usual options"), syn, &usual(1460), &usual(CLAMP)));
    let last = |announced| [&usual(0)[4..], &[1, 1, 1], &size(announced)[..]].concat();
    cases.push(changed(format!("{family}: a size that comes last"), syn, &last(1460), &last(CLAMP)));
    // Checksums of every residue: the mending must carry end-around.
    for sequence in [0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x1234_5678, 0xffff_0001] {
        let syn = |ttl, options: &[u8]| syn(ttl, options).sequence(sequence);
        for place in [0, 1] {
            let nops = vec![1; place];
            cases.push(changed(
                format!("{family}: sequence number {sequence:#x}, size in place {place}"),
                syn,
                &[&nops[..], &size(0xfffe)].concat(),
                &[&nops[..], &size(CLAMP)].concat(),
            ));
        }
    }
    cases
}

/// SYNs that stay as they are.
fn kept(family: &str, ip: &Frame) -> Vec<Case> {
    let syn = |ttl, options: &[u8]| ip.clone().ttl(ttl).tcp(HERE, port::CLAMPED).syn().option(options);
    let options: [(&str, Vec<u8>); 15] = [
        ("no options", vec![]),
        ("no size", vec![4, 2, 1, 3, 3, 7]),
        ("the largest size allowed", size(CLAMP)),
        ("a small size", size(536)),
        ("size 0", size(0)),
        ("a size behind the end of options", [&[0][..], &size(1460)].concat()),
        ("a size in another option", [&[254, 8][..], &size(1460), &[0, 0]].concat()),
        ("an option of length 0", [&[254, 0][..], &size(1460)].concat()),
        ("an option of length 1", [&[254, 1][..], &size(1460)].concat()),
        ("an option beyond the header", [&[254, 9][..], &size(1460)].concat()),
        ("an option of 255 bytes", [&[254, 255][..], &size(1460)].concat()),
        ("a size of three bytes", vec![2, 3, 0xff]),
        ("a size of length 0", vec![2, 0, 0xff, 0xff]),
        ("a size beyond the header", vec![1, 1, 1, 1, 1, 2, 4, 0xff]),
        ("forty empty options", vec![1; 40]),
    ];
    let mut cases: Vec<Case> = options
        .iter()
        .map(|(name, options)| changed(format!("{family}: SYN with {name}"), syn, options, options))
        .collect();
    let payload = |ttl, _: &[u8]| syn(ttl, &[1; 3]).payload(&size(1460));
    cases.push(changed(format!("{family}: what looks like a size in the payload"), payload, &[], &[]));
    let ack = |ttl, options: &[u8]| ip.clone().ttl(ttl).tcp(HERE, port::CLAMPED).option(options);
    cases.push(changed(
        format!("{family}: a size in a segment that is no SYN"),
        ack,
        &size(1460),
        &size(1460),
    ));
    let free = |ttl, options: &[u8]| ip.clone().ttl(ttl).tcp(HERE, port::L2).syn().option(options);
    cases.push(changed(
        format!("{family}: a size to a service without limit"),
        free,
        &size(1460),
        &size(1460),
    ));
    let unlimited =
        |ttl, options: &[u8]| ip.clone().ttl(ttl).tcp(HERE, port::CLAMPED_TO_0).syn().option(options);
    cases.push(changed(format!("{family}: a limit of 0 is none"), unlimited, &size(1460), &size(1460)));
    cases
}

/// Other ways into the same stage.
fn headers() -> Vec<Case> {
    let ips = [
        ("two tags", eth().service_tag(7).tag(100).ipv4(CLIENT, VIP)),
        ("IPv6 with a tag", eth().tag(100).ipv6(CLIENT6, VIP6)),
        ("forty bytes of IPv4 options", eth().ipv4(CLIENT, VIP).option(&[1; 40])),
        ("extension headers", eth().ipv6(CLIENT6, VIP6).extension(crate::packet::Extension::HopByHop(2))),
        ("an IPv4 fragment", eth().ipv4(CLIENT, VIP).piece(0, true, 400)),
        ("an IPv6 fragment", eth().ipv6(CLIENT6, VIP6).piece(0, true, 400)),
    ];
    let mut cases: Vec<Case> = ips
        .into_iter()
        .map(|(name, ip)| {
            let syn =
                |ttl, options: &[u8]| ip.clone().ttl(ttl).tcp(HERE, port::CLAMPED).syn().option(options);
            let odd = |announced| [&[1][..], &size(announced)].concat();
            changed(format!("a size behind {name}"), syn, &odd(1460), &odd(CLAMP))
        })
        .collect();
    for (family, ip) in to_vip() {
        let syn =
            |ttl, announced| ip.clone().ttl(ttl).tcp(HERE, port::CLAMPED_IPIP).syn().option(&size(announced));
        cases.push(Case::changed(
            format!("{family}: a size on its way into a tunnel"),
            &syn(64, 1460),
            ForwardedIpip,
            &syn(63, CLAMP).inside(outer_v4(eth(), 0)),
        ));
    }
    cases
}
