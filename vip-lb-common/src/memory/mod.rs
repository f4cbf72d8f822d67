//! Packets and tables in memory, for everything that runs the pipeline outside the kernel.

mod packet;
mod tables;

pub use packet::MemoryPacket;
pub use tables::{Copied, MemoryFlow, MemoryNat, MemoryTables};
