//! A wire on which every frame takes another time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{link::Switch, raw_link::RawLink};
use crate::program::Dice;

/// So often a wire without frames looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Frames that wait at a time in one direction; what comes then is lost, as from the queue of a router.
const LONGEST_QUEUE: usize = 10_000;

/// Delays each frame between a node and the switch, in each direction, by a random time between nothing and a limit, so that later frames
/// overtake earlier ones (tc-netem(8) calls it jitter). Ends when dropped; the node is cut off then.
#[derive(Debug)]
pub struct Jitter {
    shared: Arc<Shared>,
    directions: Vec<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    end: AtomicBool,
    delayed: AtomicU64,
}

impl Jitter {
    /// Puts the wire between a port and its switch.
    ///
    /// # Errors
    ///
    /// There is no such port, or no socket at it.
    pub fn between(switch: &Switch, port: &str, limit: Duration) -> Result<Self> {
        let [near, far] = switch.take_apart(port)?;
        let ends = [near, far].map(|device| RawLink::both_ways(switch.namespace(), &device).map(Arc::new));
        let [near, far] = ends;
        let (near, far) = (near?, far?);
        let shared = Arc::new(Shared::default());
        let directions = [(&near, &far), (&far, &near)]
            .into_iter()
            .map(|(from, to)| {
                let (from, to, shared) = (Arc::clone(from), Arc::clone(to), Arc::clone(&shared));
                std::thread::Builder::new()
                    .name("jitter".to_owned())
                    .spawn(move || carry(&from, &to, limit, &shared))
                    .context("start the thread of a wire")
            })
            .collect::<Result<_>>()?;
        Ok(Self { shared, directions })
    }

    /// Frames that have been carried, both directions together.
    #[must_use]
    pub fn delayed(&self) -> u64 {
        self.shared.delayed.load(Ordering::Relaxed)
    }
}

impl Drop for Jitter {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        for direction in self.directions.drain(..) {
            // A wire whose devices are gone has nothing to say.
            let _ = direction.join();
        }
    }
}

fn carry(from: &RawLink, to: &RawLink, limit: Duration, shared: &Shared) -> io::Result<()> {
    let mut dice = Dice::from_environment();
    let mut under_way = BinaryHeap::new();
    while !shared.end.load(Ordering::Relaxed) {
        let until_next =
            under_way.peek().map_or(LOOK, |Reverse((due, _, _)): &Reverse<(Instant, u64, Vec<u8>)>| {
                due.saturating_duration_since(Instant::now()).min(LOOK)
            });
        // The socket takes no time of zero, and the kernel rounds up to its tick.
        if let Some(frame) = from.receive(until_next.max(Duration::from_micros(100)))?
            && under_way.len() < LONGEST_QUEUE
        {
            let part = dice.next_word() as f64 / u64::MAX as f64;
            under_way.push(Reverse((Instant::now() + limit.mul_f64(part), dice.next_word(), frame)));
        }
        while under_way.peek().is_some_and(|Reverse((due, _, _))| *due <= Instant::now()) {
            let Some(Reverse((_, _, frame))) = under_way.pop() else { break };
            // A full ring loses frames, as it does on any wire.
            let _lost = to.send(&frame);
            shared.delayed.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
