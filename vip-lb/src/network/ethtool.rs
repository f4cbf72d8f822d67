//! Offloads that a program on an interface cannot live with: VLAN tags on receive, checksums on transmit.
//!
//! An interface with this offload takes the VLAN tag out of a frame before XDP sees it, and the program then
//! answers or forwards without the tag. The tag of 802.1Q and that of 802.1ad (the outer of two) are features
//! of their own.
//!
//! On a veth pair the sender's transmit offload leaves the tag out of the frame already: there it has to be
//! off, too.

use std::{io, os::fd::AsRawFd};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use thiserror::Error;

// linux/sockios.h and linux/ethtool.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// Sets all transmit checksum offloads of an interface at once.
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETH_SS_FEATURES: u32 = 4;
pub(super) const ETH_GSTRING_LEN: usize = 32;

/// The kernel's names of the two features (net/ethtool/common.c).
const CTAG: &str = "rx-vlan-hw-parse";
const STAG: &str = "rx-vlan-stag-hw-parse";

/// The offloads that take VLAN tags out of received frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanRxFeatures {
    /// The tag of IEEE 802.1Q (EtherType 0x8100).
    pub ctag: bool,
    /// The service tag of IEEE 802.1ad (EtherType 0x88a8).
    pub stag: bool,
}

/// What came of turning the offload off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VlanRxOffload {
    /// There was nothing to do.
    AlreadyOff,
    /// It was on and now is off, as read back. Holds what was turned off, for [`restore_vlan_rx_offload`].
    TurnedOff(VlanRxFeatures),
    /// It is still on, at least in part, and this is why.
    Refused(String),
}

/// The kernel does not say what an interface's features are.
#[derive(Debug, Error)]
#[error("cannot {attempt} the features of interface `{interface}`")]
pub struct OffloadError {
    attempt: &'static str,
    /// The interface's name.
    pub interface: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// Turns the offload off, and reads back whether it is. Needs `CAP_NET_ADMIN` if it is on.
pub fn turn_off_vlan_rx_offload(interface: &str) -> Result<VlanRxOffload, OffloadError> {
    let reading = |source| error("read", interface, source);
    let device = Device::open(interface).map_err(reading)?;
    let bits = device.bits().map_err(reading)?;
    let before = device.read(&bits).map_err(reading)?;
    if before.active == VlanRxFeatures::default() {
        return Ok(VlanRxOffload::AlreadyOff);
    }
    if let Err(source) = device.write(&bits, before.active, false) {
        return Ok(VlanRxOffload::Refused(source.to_string()));
    }
    let after = device.read(&bits).map_err(reading)?;
    if after.active == VlanRxFeatures::default() {
        return Ok(VlanRxOffload::TurnedOff(before.active));
    }
    // Half of it is no use to anybody, and nobody would know to restore it.
    let turned_off = VlanRxFeatures {
        ctag: before.active.ctag && !after.active.ctag,
        stag: before.active.stag && !after.active.stag,
    };
    device.write(&bits, turned_off, true).map_err(|source| error("restore", interface, source))?;
    Ok(VlanRxOffload::Refused(refusal(before, after)))
}

/// Turns on again what [`turn_off_vlan_rx_offload`] turned off. The driver decides whether it obeys.
pub fn restore_vlan_rx_offload(interface: &str, features: VlanRxFeatures) -> Result<(), OffloadError> {
    let restoring = |source| error("restore", interface, source);
    let device = Device::open(interface).map_err(restoring)?;
    let bits = device.bits().map_err(restoring)?;
    device.write(&bits, features, true).map_err(restoring)
}

/// Lets the kernel compute all checksums before packets leave by the interface, and cut them to its MTU. Needs `CAP_NET_ADMIN`.
pub(super) fn turn_off_checksum_offload(interface: &str) -> io::Result<()> {
    // struct ethtool_value { cmd, data }
    Device::open(interface)?.call(&mut [ETHTOOL_STXCSUM, 0])
}

fn error(attempt: &'static str, interface: &str, source: io::Error) -> OffloadError {
    OffloadError { attempt, interface: interface.to_owned(), source }
}

fn refusal(before: State, after: State) -> String {
    let describe = |name: &str, is_changeable: bool| {
        if is_changeable {
            format!("the driver keeps {name} on")
        } else {
            format!("{name} is fixed to on by the driver")
        }
    };
    let mut reasons = Vec::new();
    if after.active.ctag {
        reasons.push(describe(CTAG, before.changeable.ctag));
    }
    if after.active.stag {
        reasons.push(describe(STAG, before.changeable.stag));
    }
    reasons.join(", ")
}

/// The state of the two features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    active: VlanRxFeatures,
    changeable: VlanRxFeatures,
}

/// The numbers that this kernel gives the two features, and how many features it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    ctag: Option<usize>,
    stag: Option<usize>,
    count: usize,
}

impl Bits {
    /// From the names of all features, each in a field padded with zeros.
    fn from_names(names: &[u8]) -> Self {
        let (fields, _) = names.as_chunks::<ETH_GSTRING_LEN>();
        let number = |name: &str| {
            fields.iter().position(|field| {
                field.split(|byte| *byte == 0).next().is_some_and(|text| text == name.as_bytes())
            })
        };
        Self { ctag: number(CTAG), stag: number(STAG), count: fields.len() }
    }

    fn blocks(&self) -> usize {
        self.count.div_ceil(32)
    }

    /// Reads both features from one word of each block.
    fn get(&self, word: impl Fn(usize) -> Option<u32>) -> VlanRxFeatures {
        let is_set = |bit: Option<usize>| {
            bit.and_then(|bit| Some(word(bit / 32)? >> (bit % 32) & 1)).is_some_and(|value| value == 1)
        };
        VlanRxFeatures { ctag: is_set(self.ctag), stag: is_set(self.stag) }
    }

    /// The features as a mask of blocks.
    fn mask(&self, features: VlanRxFeatures) -> Vec<u32> {
        let mut mask = vec![0; self.blocks()];
        for (bit, is_set) in [(self.ctag, features.ctag), (self.stag, features.stag)] {
            if let (Some(bit), true) = (bit, is_set) {
                mask[bit / 32] |= 1 << (bit % 32);
            }
        }
        mask
    }
}

/// An interface as `SIOCETHTOOL` addresses it.
pub(super) struct Device {
    socket: Socket,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Device {
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        if interface.is_empty() || interface.len() >= name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Self { socket: Socket::new(Domain::UNIX, Type::DGRAM, None)?, name })
    }

    fn bits(&self) -> io::Result<Bits> {
        self.names().map(|names| Bits::from_names(&names))
    }

    /// The names of all features, each in a field padded with zeros.
    pub(super) fn names(&self) -> io::Result<Vec<u8>> {
        // struct ethtool_sset_info { cmd, reserved, u64 sset_mask, data[1] }
        let [low, high] = split(1_u64 << ETH_SS_FEATURES);
        let mut info = [ETHTOOL_GSSET_INFO, 0, low, high, 0];
        self.call(&mut info)?;
        let count = info[4];
        // struct ethtool_gstrings { cmd, string_set, len, data[] }
        let mut strings = vec![0_u32; 3 + count as usize * ETH_GSTRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count]);
        self.call(&mut strings)?;
        Ok(strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect())
    }

    fn read(&self, bits: &Bits) -> io::Result<State> {
        let blocks = self.features(bits.count)?;
        Ok(State {
            active: bits.get(|block| Some(blocks.get(block)?[2])),
            changeable: bits.get(|block| Some(blocks.get(block)?[0])),
        })
    }

    /// All features in blocks of 32: `{ available, requested, active, never_changed }`.
    pub(super) fn features(&self, count: usize) -> io::Result<Vec<[u32; 4]>> {
        let blocks = count.div_ceil(32);
        // struct ethtool_gfeatures { cmd, size, blocks[] }
        let mut request = vec![0; 2 + 4 * blocks];
        request[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
        self.call(&mut request)?;
        Ok(request[2..].as_chunks::<4>().0.to_vec())
    }

    fn write(&self, bits: &Bits, features: VlanRxFeatures, on: bool) -> io::Result<()> {
        // struct ethtool_sfeatures { cmd, size, { valid, requested }[] }
        let mut request = vec![ETHTOOL_SFEATURES, bits.blocks() as u32];
        for block in bits.mask(features) {
            request.extend([block, if on { block } else { 0 }]);
        }
        self.call(&mut request)
    }

    /// Calls the kernel with a command block, which it reads and writes in the length that the block itself
    /// says.
    pub(super) fn call(&self, block: &mut [u32]) -> io::Result<()> {
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: block.as_mut_ptr().cast() },
        };
        // SAFETY: the request and the block it points to live through the call, and every caller sizes its
        // block for what its command writes.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        // A positive result says which wishes were not granted; reading back says the same.
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A 64-bit field as the two words it takes in memory.
fn split(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in list {
            let mut field = [0; ETH_GSTRING_LEN];
            field[..name.len()].copy_from_slice(name.as_bytes());
            bytes.extend(field);
        }
        bytes
    }

    #[test]
    fn features_are_found_by_their_whole_name() {
        let bits = Bits::from_names(&names(&["tx", "rx-vlan-hw-parse-not", STAG, CTAG]));
        assert_eq!(bits, Bits { ctag: Some(3), stag: Some(2), count: 4 });
        assert_eq!(Bits::from_names(&names(&["tx"])), Bits { ctag: None, stag: None, count: 1 });
    }

    #[test]
    fn a_mask_is_read_as_it_was_made_in_every_block() {
        let bits = Bits { ctag: Some(8), stag: Some(40), count: 65 };
        for features in [
            VlanRxFeatures::default(),
            VlanRxFeatures { ctag: true, stag: false },
            VlanRxFeatures { ctag: false, stag: true },
            VlanRxFeatures { ctag: true, stag: true },
        ] {
            let mask = bits.mask(features);
            assert_eq!(mask, [u32::from(features.ctag) << 8, u32::from(features.stag) << 8, 0]);
            assert_eq!(bits.get(|block| mask.get(block).copied()), features);
        }
    }

    #[test]
    fn a_kernel_without_the_feature_has_it_off() {
        let bits = Bits { ctag: None, stag: None, count: 32 };
        assert_eq!(bits.get(|_| Some(u32::MAX)), VlanRxFeatures::default());
        assert_eq!(bits.mask(VlanRxFeatures { ctag: true, stag: true }), [0]);
    }

    #[test]
    fn a_refusal_says_which_feature_and_whose_doing_it_is() {
        let on = VlanRxFeatures { ctag: true, stag: true };
        let before = State { active: on, changeable: VlanRxFeatures { ctag: false, stag: true } };
        assert_eq!(
            refusal(before, before),
            "rx-vlan-hw-parse is fixed to on by the driver, the driver keeps rx-vlan-stag-hw-parse on"
        );
    }
}
