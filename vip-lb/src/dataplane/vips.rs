//! The VIPs: all in VIPS, and again in VIP_INDEX, where the packet path finds most of them without hashing.

use std::{collections::HashMap as Table, net::IpAddr};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use vip_lb_common::abi::{Address, Vip, VipPlace};

use super::{
    loader::{LoadError, take},
    maps::{found, removed},
    raw::Raw,
};

/// VIPS and VIP_INDEX, kept alike.
pub(super) struct Vips {
    all: HashMap<MapData, Raw<Address>, Raw<Vip>>,
    index: Array<MapData, Raw<VipPlace>>,
    /// The VIPs of each place, the first of which is in it.
    places: Table<u32, Vec<(Address, Vip)>>,
}

impl Vips {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { all: take(bpf, "VIPS")?, index: take(bpf, "VIP_INDEX")?, places: Table::new() })
    }

    /// Reads what is in VIPS and mends the index after it: its last writer may have been interrupted.
    pub(super) fn read(&mut self) -> anyhow::Result<Vec<(IpAddr, Vip)>> {
        let mut vips = Vec::new();
        for entry in &self.all {
            let (Raw(address), Raw(vip)) = entry.context("cannot read VIPS")?;
            vips.push((address, vip));
        }
        for &(address, vip) in &vips {
            self.places.entry(address.vip_place()).or_default().push((address, vip));
        }
        for place in self.places.keys().copied().collect::<Vec<_>>() {
            self.publish(place)?;
        }
        Ok(vips.into_iter().map(|(address, vip)| (address.into(), vip)).collect())
    }

    pub(super) fn insert(&mut self, address: IpAddr, vip: Vip) -> anyhow::Result<()> {
        let key = Address::from(address);
        self.all.insert(Raw(key), Raw(vip), 0).with_context(|| format!("cannot write VIP {address}"))?;
        let place = self.places.entry(key.vip_place()).or_default();
        match place.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = vip,
            None => place.push((key, vip)),
        }
        self.publish(key.vip_place())
    }

    pub(super) fn remove(&mut self, address: IpAddr) -> anyhow::Result<()> {
        let key = Address::from(address);
        removed(self.all.remove(&Raw(key))).with_context(|| format!("cannot remove VIP {address}"))?;
        self.places.entry(key.vip_place()).or_default().retain(|(known, _)| *known != key);
        self.publish(key.vip_place())
    }

    pub(super) fn get(&self, address: &Address) -> anyhow::Result<Option<Vip>> {
        found(self.all.get(&Raw(*address), 0)).context("cannot read VIPS")
    }

    /// Brings a place of the index up to date.
    ///
    /// The kernel copies an array's value word by word, and a packet may see half of it. So packets are sent to VIPS while the new entry
    /// is written behind an address that no packet has, and the address comes last.
    fn publish(&mut self, place: u32) -> anyhow::Result<()> {
        let last = VipPlace::of(self.places.get(&place).map_or(&[], Vec::as_slice));
        let in_vips = |vip: Vip| VipPlace {
            address: Address::UNSPECIFIED,
            vip: Vip { flags: vip.flags & !Vip::PLACED | Vip::SHARED, ..vip },
        };
        let (away, behind) = (in_vips(Vip::default()), in_vips(last.vip));
        for value in [away, behind, last] {
            self.index.set(place, Raw(value), 0).context("cannot write VIP_INDEX")?;
        }
        Ok(())
    }
}
