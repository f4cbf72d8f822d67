//! A datagram is answered as expected; where nothing is expected, it is only not refused.
//!
//! A service that never answers looks like one that is well, but for the ICMP error of its host, and hosts send few of
//! these: Linux one a second to each address (`icmp_ratelimit`, ip-sysctl). So silence soon after such an error is no
//! sign of health.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{Dial, Limit, contains, dial, shown};
use crate::{config::model::Dialogue, health::Outcome};

/// How long after a refusal silence counts as one: some more than hosts that limit ICMP errors leave between two.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// What is read of a datagram.
const MAX_ANSWER: usize = 16 * 1024;

/// Who refused a datagram lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Refusals {
    fn note(&self, address: SocketAddr, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| now - *at < REFUSED_FOR);
        last.insert(address, now);
    }

    fn are_recent(&self, address: SocketAddr, now: Instant) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&address).is_some_and(|at| now - *at < REFUSED_FOR)
    }
}

/// Sends a datagram and judges what becomes of it. Returns how long the probe took.
pub(super) async fn ask(
    dial: &Dial,
    Dialogue { send, expect }: &Dialogue,
    refusals: &Refusals,
    limit: Limit,
) -> Result<Duration, Outcome> {
    let socket = dial.udp()?;
    let begun = Instant::now();
    let answer = match exchange(&socket, send, |_| true, limit).await {
        Err(outcome @ Outcome::Unreachable { .. }) => {
            refusals.note(dial.to, Instant::now());
            return Err(outcome);
        }
        answer => answer?,
    };
    match (answer, expect) {
        (Some(answer), Some(expect)) if !contains(&answer, expect) => {
            let reason = format!("answered {}, expected {}", shown(&answer), shown(expect));
            Err(Outcome::Unhealthy { reason })
        }
        (None, Some(_)) => Err(silence(limit)),
        (None, None) if refusals.are_recent(dial.to, begun) => {
            let reason = format!("no answer within {:?}, and refused before", limit.timeout);
            Err(Outcome::Unreachable { reason })
        }
        _ => Ok(limit.spent()),
    }
}

/// That nobody answered: a host that is gone and a service that hangs look alike.
pub(super) fn silence(limit: Limit) -> Outcome {
    Outcome::Unreachable { reason: format!("no answer within {:?}", limit.timeout) }
}

/// Sends a datagram and waits for one that `is_answer`; `None` if there is none in time.
///
/// # Errors
///
/// That the datagram was refused, or could not be sent.
pub(super) async fn exchange(
    socket: &UdpSocket,
    datagram: &[u8],
    is_answer: impl Fn(&[u8]) -> bool,
    limit: Limit,
) -> Result<Option<Vec<u8>>, Outcome> {
    let answered = async {
        socket.send(datagram).await?;
        let mut answer = vec![0; MAX_ANSWER];
        loop {
            let length = socket.recv(&mut answer).await?;
            if is_answer(&answer[..length]) {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    };
    match timeout_at(limit.deadline, answered).await {
        Ok(answer) => answer.map(Some).map_err(|error| dial::failed(&error)),
        Err(_) => Ok(None),
    }
}
