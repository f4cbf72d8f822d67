//! Counts lost packets exactly: what one stack of the lab sent and no other one received.
//!
//! Every packet of a lab is from one of its hosts to another one of them: requests, answers and health checks. The balancer
//! forwards them beneath the stack of its host, which counts none of them. So the sum of what all stacks have sent is the sum of what
//! they have delivered, as soon as nothing is under way; a packet that the balancer dropped, or that came to its host's stack because the
//! program was not there for a moment, is missing. Retransmissions are no matter, because both sides count them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::lab::{Lab, StackCounters, interrupt, patience};

/// For so long, times [`patience`], a difference may be packets that are still under way on a busy machine.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two readings.
const PAUSE: Duration = Duration::from_millis(15);

/// A balance at one moment: IPv4 packets sent and not delivered since the lab began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Balance(i64);

impl Balance {
    /// Takes the balance while nobody sends but the health checks. `expected` is what it was before, if it was taken.
    ///
    /// # Errors
    ///
    /// The counters cannot be read.
    pub(super) fn take(lab: &Lab, expected: Option<Self>) -> Result<Self> {
        let started = Instant::now();
        let mut balance = read(lab)?;
        // Reading too early finds packets that have not arrived yet, never fewer: the lowest is right.
        while Some(balance) != expected && started.elapsed() < SETTLE * patience() {
            interrupt::check()?;
            thread::sleep(PAUSE);
            balance = balance.min(read(lab)?);
        }
        Ok(balance)
    }

    /// Packets that were lost since an earlier balance.
    ///
    /// # Errors
    ///
    /// More came than were sent: something else than this lab's hosts sends.
    pub(super) fn since(self, earlier: Self) -> Result<u64> {
        let lost = self.0 - earlier.0;
        ensure!(lost >= 0, "{} packets more were received than sent", -lost);
        Ok(lost.unsigned_abs())
    }
}

/// What was received is read first: a packet that arrives in between counts as sent only.
fn read(lab: &Lab) -> Result<Balance> {
    let nodes = || [&lab.client].into_iter().chain(&lab.edges).chain(&lab.backends);
    let sum = |name: &str| -> Result<i64> {
        nodes().map(|node| StackCounters::read(&node.namespace)?.get(name)).sum()
    };
    let received = sum("IpInDelivers")?;
    Ok(Balance(sum("IpOutRequests")? - received))
}
