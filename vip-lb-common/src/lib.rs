//! What the kernel program and the daemon of vip-lb share.
//!
//! * [`abi`]: keys and values of the BPF maps, laid out so that both sides and `bpftool` read them alike.
//! * [`verdict`]: the closed list of all ways a packet can end; also the index of its counter.
//! * [`packet`] and [`tables`]: the two traits the pipeline is generic over, bounds-checked bytes and lookups.
//! * [`watch`]: who sees packets on their way.
//! * [`pipeline`]: the stages, from the first byte to the verdict. The kernel program runs them over the XDP
//!   context and BPF maps, `vip-lb explain` over the same maps from userspace, tests over `Vec<u8>` and plain
//!   collections. What is explained and tested is what runs.

#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod abi;
pub mod checksum;
pub mod decap;
pub mod hash;
pub mod headers;
#[cfg(any(test, feature = "std"))]
pub mod memory;
pub mod packet;
pub mod pipeline;
pub mod probe;
pub mod tables;
pub mod verdict;
pub mod watch;

pub use hash::{FlowHash, HashKey};
pub use packet::{Packet, View};
pub use tables::Tables;
pub use verdict::{Action, Verdict};
