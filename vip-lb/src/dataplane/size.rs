//! How much memory the maps take, before they are made.

use vip_lb_common::abi::{
    Backend, EVENT_BYTES, FlowEntry, FlowKey, Fragment, FragmentKey, IcmpAccount, MAX_BACKENDS, MAX_SERVICES,
    NatFlow, NatReply, NatReplyKey, Slot, Stats, Survivor, VIP_PLACES, VipPlace,
};

use crate::config::model::{RingSize, Tables};

/// `struct htab_elem` in front of the key (kernel/bpf/hashtab.c), on 64-bit machines.
const HASH_ELEMENT: usize = 48;
/// `struct bucket` of the same file.
const BUCKET: usize = 16;

/// Bytes that the maps of a configuration take from the start, but for the small ones. `rings` are the ring sizes of its services.
#[must_use]
pub fn map_memory(tables: &Tables, rings: impl Iterator<Item = RingSize>, cpus: usize) -> u64 {
    let hashes = [
        hash::<FlowKey, FlowEntry>(tables.flows),
        hash::<FlowKey, FlowEntry>(tables.newborn),
        hash::<FlowKey, Survivor>(tables.survivors),
        hash::<FragmentKey, Fragment>(tables.fragments),
        hash::<FlowKey, NatFlow>(tables.nat),
        hash::<NatReplyKey, NatReply>(tables.nat),
    ];
    let arrays = array::<VipPlace>(VIP_PLACES)
        + array::<Backend>(MAX_BACKENDS)
        + cpus as u64
            * (array::<Stats>(MAX_BACKENDS)
                + array::<Stats>(MAX_SERVICES)
                + array::<IcmpAccount>(MAX_SERVICES));
    let rings: u64 = rings.map(|ring| array::<Slot>(ring.slots() as usize)).sum();
    hashes.iter().sum::<u64>() + arrays + rings + EVENT_BYTES as u64
}

/// All elements of a hash map are made with it.
fn hash<K, V>(entries: u32) -> u64 {
    let element = HASH_ELEMENT + size_of::<K>().next_multiple_of(8) + size_of::<V>().next_multiple_of(8);
    let entries = u64::from(entries);
    entries * element as u64 + entries.next_power_of_two() * BUCKET as u64
}

fn array<V>(entries: usize) -> u64 {
    (entries * size_of::<V>().next_multiple_of(8)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_every_table_every_ring_and_every_cpu() {
        let base = Tables::default();
        let size = |tables: &Tables, rings: usize, cpus| {
            map_memory(tables, std::iter::repeat_n(RingSize::Small, rings), cpus)
        };
        let least = size(&base, 0, 1);
        for larger in [
            Tables { flows: base.flows * 2, ..base },
            Tables { newborn: base.newborn * 2, ..base },
            Tables { survivors: base.survivors * 2, ..base },
            Tables { nat: base.nat * 2, ..base },
            Tables { fragments: base.fragments * 2, ..base },
        ] {
            assert!(size(&larger, 0, 1) > least, "{larger:?}");
        }
        assert!(size(&base, 1, 1) > least);
        assert!(size(&base, 0, 2) > least);
        // As the manual of mode nat has it: 288 bytes for each connection.
        let nat = |nat| size(&Tables { nat, ..base }, 0, 1);
        assert_eq!(nat(1 << 20) - nat(1 << 19), 288 << 19);
    }
}
