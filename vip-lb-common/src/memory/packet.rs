//! Packets in memory.

use crate::{Packet, Verdict};

/// Headroom that a packet starts with, as XDP_PACKET_HEADROOM in the kernel.
const HEADROOM: usize = 256;
/// Room behind the packet, as in a page that holds an Ethernet frame.
const TAILROOM: usize = 2048;

/// A frame in memory with room in front and behind.
#[derive(Clone, Debug)]
pub struct MemoryPacket {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    ingress: u32,
}

impl MemoryPacket {
    /// A copy of `frame`, as if it came in by interface `ingress`.
    pub fn new(frame: &[u8], ingress: u32) -> Self {
        let mut bytes = vec![0; HEADROOM + frame.len() + TAILROOM];
        bytes[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        Self { bytes, start: HEADROOM, end: HEADROOM + frame.len(), ingress }
    }

    /// The frame as it is now.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

// SAFETY: `start..end` lies inside the vector, which is neither moved nor resized after `new`.
unsafe impl Packet for MemoryPacket {
    fn start(&self) -> usize {
        self.bytes.as_ptr() as usize + self.start
    }

    fn end(&self) -> usize {
        self.bytes.as_ptr() as usize + self.end
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn grow_front(&mut self, bytes: usize) -> Result<(), Verdict> {
        self.start = self.start.checked_sub(bytes).ok_or(Verdict::NoHeadroom)?;
        Ok(())
    }

    fn shrink_front(&mut self, bytes: usize) -> Result<(), Verdict> {
        if bytes > self.end - self.start {
            return Err(Verdict::NoHeadroom);
        }
        self.start += bytes;
        Ok(())
    }

    fn set_len(&mut self, bytes: usize) -> Result<(), Verdict> {
        let (old, end) = (self.end, self.start + bytes);
        if end > self.bytes.len() {
            return Err(Verdict::NoHeadroom);
        }
        if end > old {
            self.bytes[old..end].fill(0);
        }
        self.end = end;
        Ok(())
    }
}
