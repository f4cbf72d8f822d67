//! The host instantiation: the same pipeline over bytes and collections in memory.

use std::cell::UnsafeCell;

use vip_lb_common::{Packet, Verdict, decap, memory::MemoryTables, pipeline};

use super::{
    INGRESS, Outcome, Program, Scenario, State, XdpAction,
    state::{timeless, whenever, without_times},
};

/// Room in front of a frame: XDP_PACKET_HEADROOM.
const HEADROOM: usize = 256;
/// Part of the headroom that the kernel keeps for `struct xdp_frame`.
const KERNEL_KEEPS: usize = 40;
/// Room behind a frame.
const TAILROOM: usize = 320;
/// Fewest bytes that the kernel lets a frame be cut to.
const SHORTEST: usize = 14;

/// The pipeline on the host.
#[derive(Debug)]
pub struct Host {
    /// Its tables.
    pub tables: MemoryTables,
}

impl Host {
    /// Fills the tables.
    pub fn new(scenario: &Scenario) -> Self {
        Self { tables: scenario.memory() }
    }

    /// Runs a frame. `taken` bytes of its headroom are in use.
    ///
    /// # Panics
    ///
    /// Where the pipeline touched a byte outside the frame.
    pub fn run(&self, program: Program, frame: &[u8], taken: usize) -> Outcome {
        let mut packet = HostPacket::new(frame, taken);
        let (verdict, egress) = match program {
            Program::Balancer => {
                let fate = pipeline::process(&mut packet, &self.tables);
                (fate.verdict, fate.egress)
            }
            Program::Decapsulator => {
                let verdict = decap::process(&mut packet, &self.tables);
                *self.tables.verdicts.borrow_mut().entry(verdict).or_default() += 1;
                (verdict, 0)
            }
        };
        self.tables.steps.borrow_mut().clear();
        packet.assert_surroundings_untouched();
        Outcome { action: XdpAction::of(verdict, egress), verdict, frame: packet.frame().to_vec() }
    }

    /// What it wrote.
    pub fn state(&self) -> State {
        let tables = &self.tables;
        let counted = tables.service_stats.borrow();
        let mut unrecorded: Vec<_> = tables
            .rings
            .iter()
            .filter(|(service, _)| counted.contains_key(*service))
            .flat_map(|(&service, slots)| {
                let marked = |(index, slot): (usize, &vip_lb_common::abi::Slot)| {
                    (slot.unrecorded_at != 0).then_some((service, index as u32, slot.unrecorded_at))
                };
                slots.borrow().iter().enumerate().filter_map(marked).collect::<Vec<_>>()
            })
            .collect();
        unrecorded.sort_unstable();
        State {
            verdicts: tables
                .verdicts
                .borrow()
                .iter()
                .map(|(verdict, &count)| (verdict.name(), count))
                .collect(),
            services: counted.iter().map(|(&service, &stats)| (service, stats)).collect(),
            backends: tables.backend_stats.borrow().clone().into_iter().collect(),
            flows: tables.flows.borrow().clone(),
            newborn: tables.newborn.borrow().clone(),
            survivors: tables.survivors.borrow().clone(),
            fragments: timeless(tables.fragments.borrow().clone()),
            adverts: whenever(tables.adverts.borrow().clone()),
            samples: without_times(tables.samples.borrow().clone().into_iter()),
            nat_flows: tables.nat_flows.borrow().clone(),
            nat_replies: tables.nat_replies.borrow().clone(),
            unrecorded,
            recording: tables.recording.get(),
        }
    }
}

/// A frame between guard bytes, with the room and the limits that the kernel's test run gives it.
#[derive(Debug)]
pub struct HostPacket {
    buffer: Box<UnsafeCell<[u8]>>,
    start: usize,
    end: usize,
    first: usize,
    touched: (usize, usize),
}

impl HostPacket {
    /// A copy of `frame` that came in by [`INGRESS`]; `taken` bytes of its headroom are in use.
    pub fn new(frame: &[u8], taken: usize) -> Self {
        let end = HEADROOM + frame.len();
        let mut buffer: Vec<u8> = (0..end + TAILROOM).map(guard).collect();
        buffer[HEADROOM..end].copy_from_slice(frame);
        let buffer = buffer.into_boxed_slice();
        // SAFETY: `UnsafeCell` has the layout of what it holds.
        let buffer = unsafe { Box::from_raw(Box::into_raw(buffer) as *mut UnsafeCell<[u8]>) };
        Self { buffer, start: HEADROOM, end, first: KERNEL_KEEPS + taken, touched: (HEADROOM, end) }
    }

    /// The frame as it is now.
    pub fn frame(&self) -> &[u8] {
        &self.bytes()[self.start..self.end]
    }

    /// Panics where a byte changed that was never part of the frame.
    #[track_caller]
    pub fn assert_surroundings_untouched(&self) {
        for (index, &byte) in self.bytes().iter().enumerate() {
            let was_frame = (self.touched.0..self.touched.1).contains(&index);
            assert!(
                was_frame || byte == guard(index),
                "byte {} relative to the frame's start was overwritten",
                index as isize - HEADROOM as isize
            );
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the pipeline writes only while it borrows the packet, and no view of it is alive here.
        unsafe { &*self.buffer.get() }
    }

    fn move_to(&mut self, start: usize, end: usize) -> Result<(), Verdict> {
        let len = self.bytes().len();
        if start < self.first || end > len || end < start + SHORTEST {
            return Err(Verdict::NoHeadroom);
        }
        (self.start, self.end) = (start, end);
        self.touched = (self.touched.0.min(start), self.touched.1.max(end));
        Ok(())
    }
}

fn guard(index: usize) -> u8 {
    (index as u8).wrapping_mul(31) ^ 0xa5
}

// SAFETY: `start..end` lies inside the buffer, which is never moved or resized, and whose bytes may change behind shared references.
unsafe impl Packet for HostPacket {
    fn start(&self) -> usize {
        self.buffer.get().cast::<u8>() as usize + self.start
    }

    fn end(&self) -> usize {
        self.buffer.get().cast::<u8>() as usize + self.end
    }

    fn ingress(&self) -> u32 {
        INGRESS
    }

    fn grow_front(&mut self, bytes: usize) -> Result<(), Verdict> {
        let start = self.start.checked_sub(bytes).ok_or(Verdict::NoHeadroom)?;
        self.move_to(start, self.end)
    }

    fn shrink_front(&mut self, bytes: usize) -> Result<(), Verdict> {
        self.move_to(self.start + bytes, self.end)
    }

    fn set_len(&mut self, bytes: usize) -> Result<(), Verdict> {
        let old = self.end;
        self.move_to(self.start, self.start + bytes)?;
        // As bpf_xdp_adjust_tail does.
        for index in old..self.end {
            self.buffer.get_mut()[index] = 0;
        }
        Ok(())
    }
}
