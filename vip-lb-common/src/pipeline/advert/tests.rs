//! What is noted of adverts.

use core::net::IpAddr;

use crate::{
    Verdict,
    abi::{Address, AdvertKey, AdvertStamp, Settings, Vip},
    hash::HashKey,
    memory::{MemoryPacket, MemoryTables},
    pipeline::process,
};

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect("an address").into()
}

fn tables() -> MemoryTables {
    let vip = Vip { flags: Vip::ADVERTS | Vip::ENDPOINT, ..Vip::default() };
    MemoryTables {
        settings: Some(Settings::new(HashKey::from_seed(b"0123456789abcdef0123456789abcdef"))),
        vips: ["224.0.0.18", "ff02::12"].map(|group| (address(group), vip)).into(),
        seconds: 5,
        ..MemoryTables::default()
    }
}

fn frame(tag: &[u8], ether_type: u16, ip: &[u8], addresses: &[&[u8]]) -> Vec<u8> {
    let head = [0x31, 51, 200, addresses.len() as u8, 0xf1, 0x2c, 0, 0];
    [&[2; 12][..], tag, &ether_type.to_be_bytes(), ip, &head, &addresses.concat()].concat()
}

fn v4(tag: &[u8]) -> Vec<u8> {
    let ip = [0x45, 0, 0, 32, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 2, 224, 0, 0, 18];
    frame(tag, 0x0800, &ip, &[&[192, 0, 2, 1]])
}

fn v6(addresses: &[&[u8]]) -> Vec<u8> {
    let [source, group] = ["fe80::2", "ff02::12"].map(address);
    let len = 8 + 16 * addresses.len() as u8;
    let head = [0x60, 0, 0, 0, 0, len, 112, 255];
    frame(&[], 0x86dd, &[&head[..], source.octets(), group.octets()].concat(), addresses)
}

fn noted(bytes: &[u8]) -> (AdvertKey, AdvertStamp) {
    let tables = tables();
    let mut packet = MemoryPacket::new(bytes, 7);
    assert_eq!(process(&mut packet, &tables).verdict, Verdict::AdvertNoted);
    assert_eq!(packet.frame(), bytes, "it goes on as it came");
    let adverts = tables.adverts.take();
    assert_eq!(adverts.len(), 1);
    adverts.into_iter().next().expect("one")
}

#[test]
fn who_spoke_where_and_when_is_noted() {
    let key = AdvertKey { source: address("10.0.0.2"), interface: 7, router: 51, ..AdvertKey::default() };
    let stamp = AdvertStamp {
        at: 5_000_000_000,
        address: address("192.0.2.1"),
        interval: 300,
        priority: 200,
        addresses: 1,
        reserved: 0,
    };
    assert_eq!(noted(&v4(&[])), (key, stamp));
    assert_eq!(noted(&v4(&[0x81, 0, 0xe1, 0x2c])), (AdvertKey { vlan: 300, ..key }, stamp));
    assert_eq!(noted(&v4(&[0x81, 0, 0xe0, 0])), (key, stamp), "a priority alone is no VLAN");
}

#[test]
fn the_address_that_is_noted_tells_routers_apart() {
    let [link_local, global] = ["fe80::1", "2001:db8::1"].map(address);
    for (addresses, expected) in [
        (&[global][..], global),
        (&[link_local, global], global),
        (&[global, link_local], global),
        (&[link_local], link_local),
    ] {
        let octets: Vec<&[u8]> = addresses.iter().map(|address| &address.octets()[..]).collect();
        let (key, stamp) = noted(&v6(&octets));
        assert_eq!((key.source, stamp.address), (address("fe80::2"), expected));
        assert_eq!(usize::from(stamp.addresses), addresses.len());
    }
}

#[test]
fn each_node_has_its_own_stamp_and_the_last_one_counts() {
    let mut tables = tables();
    let mut run = |bytes: &[u8], seconds| {
        tables.seconds = seconds;
        let _ = process(&mut MemoryPacket::new(bytes, 7), &tables);
        let mut all: Vec<_> = tables.adverts.borrow().iter().map(|(key, of)| (*key, *of)).collect();
        all.sort_by_key(|(key, _)| *key);
        all
    };
    let mut other = v4(&[]);
    other[29] = 3;
    run(&v4(&[]), 1);
    run(&other, 2);
    let mut resigned = v4(&[]);
    resigned[36] = 0;
    let all = run(&resigned, 3);
    let seen: Vec<_> = all.iter().map(|(key, of)| (key.source.octets()[15], of.at, of.priority)).collect();
    assert_eq!(seen, [(2, 3_000_000_000, 0), (3, 2_000_000_000, 200)]);
}
