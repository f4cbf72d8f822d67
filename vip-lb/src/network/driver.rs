//! What a driver says of its queues and offloads, by `SIOCETHTOOL`. Needs no privileges.

use std::io;

use super::ethtool::{Device, ETH_GSTRING_LEN};

// linux/ethtool.h.
const ETHTOOL_GRXFHINDIR: u32 = 0x38;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// The queues of an interface; `combined` ones receive and send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that only receive, now.
    pub rx: u32,
    /// Queues that do both, now.
    pub combined: u32,
    /// The most that can be set.
    pub max_rx: u32,
    /// The most that can be set.
    pub max_combined: u32,
}

/// Whether an offload is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The kernel's name of it, as `ethtool -K` takes it.
    pub name: &'static str,
    /// Whether it is on.
    pub is_on: bool,
    /// Whether the driver lets it be changed.
    pub is_changeable: bool,
}

/// How many queues an interface has; `None` where its driver does not say.
#[must_use]
pub fn channels(interface: &str) -> Option<Channels> {
    // struct ethtool_channels { cmd, max_rx, max_tx, max_other, max_combined, rx, tx, other, combined }
    let mut block = [ETHTOOL_GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
    Device::open(interface).ok()?.call(&mut block).ok()?;
    let [_, max_rx, _, _, max_combined, rx, _, _, combined] = block;
    Some(Channels { rx, combined, max_rx, max_combined })
}

/// The queues that received packets are spread over, by the table that their hash is looked up in; `None` where the driver has none.
#[must_use]
pub fn indirection(interface: &str) -> Option<Vec<u32>> {
    let device = Device::open(interface).ok()?;
    // struct ethtool_rxfh_indir { cmd, size, ring_index[] }; a size of 0 asks for the size.
    let mut question = [ETHTOOL_GRXFHINDIR, 0];
    device.call(&mut question).ok()?;
    let size = question[1];
    let mut table = vec![0; 2 + size as usize];
    table[..2].copy_from_slice(&[ETHTOOL_GRXFHINDIR, size]);
    device.call(&mut table).ok()?;
    Some(table.split_off(2)).filter(|table| !table.is_empty())
}

/// The state of those of the offloads that this kernel knows.
///
/// # Errors
///
/// There is no such interface, or the kernel does not say.
pub fn offloads(interface: &str, names: &[&'static str]) -> io::Result<Vec<Offload>> {
    let device = Device::open(interface)?;
    let strings = device.names()?;
    let blocks = device.features(strings.len() / ETH_GSTRING_LEN)?;
    Ok(names.iter().filter_map(|name| state(name, &strings, &blocks)).collect())
}

/// Blocks of 32 features are `{ available, requested, active, never_changed }`.
fn state(name: &'static str, strings: &[u8], blocks: &[[u32; 4]]) -> Option<Offload> {
    let (fields, _) = strings.as_chunks::<ETH_GSTRING_LEN>();
    let number = fields.iter().position(|field| {
        field.split(|byte| *byte == 0).next().is_some_and(|text| text == name.as_bytes())
    })?;
    let [available, _, active, never_changed] = *blocks.get(number / 32)?;
    let is_set = |word: u32| word >> (number % 32) & 1 == 1;
    Some(Offload { name, is_on: is_set(active), is_changeable: is_set(available) && !is_set(never_changed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offload_is_found_in_its_block() {
        let mut strings = vec![0; 40 * ETH_GSTRING_LEN];
        strings[35 * ETH_GSTRING_LEN..][..6].copy_from_slice(b"rx-lro");
        let mut blocks = [[0; 4]; 2];
        let read = |blocks: &[[u32; 4]]| {
            state("rx-lro", &strings, blocks).map(|offload| (offload.is_on, offload.is_changeable))
        };
        assert_eq!(read(&blocks), Some((false, false)));
        blocks[1] = [1 << 3, 0, 1 << 3, 0];
        assert_eq!(read(&blocks), Some((true, true)));
        blocks[1][3] = 1 << 3;
        assert_eq!(read(&blocks), Some((true, false)));
        assert_eq!(state("rx-gro-hw", &strings, &blocks), None);
    }

    #[test]
    fn the_loopback_has_features_but_no_queues_to_set() {
        assert_eq!(channels("lo"), None);
        assert_eq!(indirection("lo"), None);
        let names: Vec<_> = offloads("lo", &["rx-lro", "no-such"]).unwrap();
        assert_eq!(names.iter().map(|offload| offload.name).collect::<Vec<_>>(), ["rx-lro"]);
        assert!(offloads("no-such-device", &["rx-lro"]).is_err());
    }
}
