//! Adverts of VRRP, whose times are noted, and what else comes to where they are sent.

use vip_lb_common::Verdict::{AdvertNoted, NotConfigured, NotVip};

use super::{Case, Tables};
use crate::{
    packet::{Extension, Frame, eth},
    program::world::{ADVERTS, ADVERTS6, PEER, SPEAKER},
};

const VRRP: u16 = 112;
/// Router 51, priority 200, one address, each second.
const HEADER: [u8; 8] = [0x31, 51, 200, 1, 0, 100, 0, 0];
const ADDRESS: [u8; 4] = [192, 0, 2, 1];
const ADDRESS6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SPEAKER6: &str = "fe80::2";

pub(super) fn cases() -> Vec<Case> {
    let v4 = |frame: Frame| frame.ipv4(PEER, ADVERTS).ttl(255).claim_next(VRRP);
    let v6 = |frame: Frame| frame.ipv6(SPEAKER6, ADVERTS6).ttl(255).claim_next(VRRP);
    let whole = [&HEADER[..], &ADDRESS].concat();
    let whole6 = [&HEADER[..], &ADDRESS6].concat();
    let noted = |name: &str, frame: &Frame| Case::new(name, frame, AdvertNoted).unsound();
    let passed = |name: &str, frame: &Frame| Case::new(name, frame, NotVip).unsound();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    vec![
        noted("advert", &v4(eth()).payload(&whole)),
        noted("advert, padded", &v4(eth()).payload(&whole).pad_to(60)),
        noted("advert behind a tag", &v4(eth().tag(7)).payload(&whole)),
        noted("advert behind a tag of VLAN 0", &v4(eth().tag(0)).payload(&whole)),
        noted("advert behind a tag with a priority", &v4(eth().tag(0xe007)).payload(&whole)),
        noted(
            "advert to this node alone",
            &eth().ipv4(PEER, SPEAKER).ttl(255).claim_next(VRRP).payload(&whole),
        ),
        noted("last word", &v4(eth()).payload(&with(2, 0))),
        noted("advert with authentication behind it", &v4(eth()).payload(&[&whole[..], &[0; 8]].concat())),
        noted("advert with reserved bits", &v4(eth()).payload(&with(4, 0xf0))),
        noted("advert over IPv6", &v6(eth()).payload(&whole6)),
        noted(
            "advert over IPv6 of a link-local address and another one",
            &v6(eth()).payload(&[&[0x31, 51, 200, 2, 0, 100, 0, 0][..], &LINK_LOCAL, &ADDRESS6].concat()),
        ),
        noted(
            "advert over IPv6 of a link-local address alone",
            &v6(eth()).payload(&[&HEADER[..], &LINK_LOCAL].concat()),
        ),
        noted(
            "advert over IPv6 that is cut short behind its first address",
            &v6(eth()).payload(&[&[0x31, 51, 200, 2, 0, 100, 0, 0][..], &LINK_LOCAL].concat()),
        ),
        passed("advert from farther away", &v4(eth()).ttl(254).payload(&whole)),
        passed("advert over IPv6 from farther away", &v6(eth()).ttl(254).payload(&whole6)),
        passed("advert of version 2", &v4(eth()).payload(&with(0, 0x21))),
        passed("advert of a type that nobody knows", &v4(eth()).payload(&with(0, 0x32))),
        passed("advert of no address", &v4(eth()).payload(&with(3, 0))),
        passed("advert with an interval of nothing", &v4(eth()).payload(&with(5, 0))),
        passed("advert without its address", &v4(eth()).payload(&HEADER).pad_to(60)),
        passed("advert over IPv6 without its address", &v6(eth()).payload(&HEADER).pad_to(90)),
        passed("advert cut short in its header", &v4(eth()).payload(&HEADER[..7])),
        passed("advert behind two tags", &v4(eth().service_tag(1).tag(7)).payload(&whole)),
        passed("advert behind a service tag", &v4(eth().service_tag(7)).payload(&whole)),
        passed("fragment of an advert", &v4(eth()).fragment(0, true).payload(&whole)),
        passed(
            "fragment of an advert over IPv6",
            &eth()
                .ipv6(SPEAKER6, ADVERTS6)
                .ttl(255)
                .extension(Extension::Fragment { offset: 0, more: true, id: 7 })
                .claim_next(VRRP)
                .payload(&whole6),
        ),
        passed("something else to the group", &eth().ipv4(PEER, ADVERTS).udp(1, 2)),
        passed("something else to the group over IPv6", &eth().ipv6(SPEAKER6, ADVERTS6).echo_request(1, 1)),
        passed("something else to who hears adverts", &eth().ipv4(PEER, SPEAKER).tcp(1, 22)),
        Case::new("advert before the daemon was there", &v4(eth()).payload(&whole), NotConfigured)
            .with(Tables::WithoutSettings)
            .unsound(),
    ]
}
