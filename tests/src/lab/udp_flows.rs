//! UDP flows that say a datagram every now and then.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use super::{
    namespace::{NamedThread, Namespace},
    pace::Pace,
    patience, wait_for,
};

/// Times [`patience`].
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of one flow. A datagram that is lost is no break; another backend is.
#[derive(Clone, Debug, Default)]
pub struct UdpFlow {
    /// Who answered first.
    pub backend: String,
    /// Datagrams that came back.
    pub echoes: u64,
    /// Datagrams that did not.
    pub lost: u64,
    /// When another backend answered, and which.
    pub moved: Option<(Instant, String)>,
}

/// Flows to an echo service.
#[derive(Debug)]
pub struct UdpFlows {
    states: Arc<Mutex<Vec<UdpFlow>>>,
    _thread: NamedThread,
}

impl UdpFlows {
    /// Begins flows at the usual pace and returns when each has been answered.
    ///
    /// # Errors
    ///
    /// One of them has no answer.
    pub fn open(from: &Namespace, target: SocketAddr, count: usize) -> Result<Self> {
        Self::open_at(from, target, count, &Pace::default())
    }

    /// As [`Self::open`], at a pace of its own.
    ///
    /// # Errors
    ///
    /// One of them has no answer.
    pub fn open_at(from: &Namespace, target: SocketAddr, count: usize, pace: &Pace) -> Result<Self> {
        let pace = pace.clone();
        let states = Arc::new(Mutex::new(vec![UdpFlow::default(); count]));
        let shared = Arc::clone(&states);
        let thread = from.spawn("udp flows", move || async move {
            let mut flows = JoinSet::new();
            for index in 0..count {
                flows.spawn(hold(target, index, pace.clone(), Arc::clone(&shared)));
            }
            while flows.join_next().await.is_some() {}
        })?;
        let flows = Self { states, _thread: thread };
        wait_for("UDP flows to be answered", Duration::from_secs(5), || {
            Ok(flows.states().iter().all(|flow| flow.echoes > 0).then_some(()))
        })
        .with_context(|| format!("open UDP flows to {target}"))?;
        Ok(flows)
    }

    /// All of them as they are now.
    #[must_use]
    pub fn states(&self) -> Vec<UdpFlow> {
        self.states.lock().expect("no panic while locked").clone()
    }

    /// Those that another backend has answered.
    #[must_use]
    pub fn moved(&self) -> Vec<UdpFlow> {
        self.states().into_iter().filter(|flow| flow.moved.is_some()).collect()
    }

    /// How many flows each backend answered first.
    #[must_use]
    pub fn by_backend(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for flow in self.states() {
            *counts.entry(flow.backend).or_default() += 1;
        }
        counts
    }

    /// Waits until every flow has been answered `count` more times.
    ///
    /// # Errors
    ///
    /// One of them is not.
    pub fn exchange(&self, count: u64) -> Result<()> {
        let before = self.states();
        wait_for("UDP flows to exchange datagrams", Duration::from_secs(5), || {
            let now = self.states();
            Ok(before.iter().zip(&now).all(|(before, now)| now.echoes >= before.echoes + count).then_some(()))
        })
    }
}

async fn hold(target: SocketAddr, index: usize, pace: Pace, states: Arc<Mutex<Vec<UdpFlow>>>) {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let Ok(socket) = UdpSocket::bind((any, 0)).await else {
        return;
    };
    if socket.connect(target).await.is_err() {
        return;
    }
    for number in 0_u64.. {
        let answer = timeout(PATIENCE * patience(), ask(&socket, number)).await;
        {
            let mut states = states.lock().expect("no panic while locked");
            let flow = &mut states[index];
            match answer {
                Ok(Ok(name)) => {
                    flow.echoes += 1;
                    if flow.backend.is_empty() {
                        flow.backend = name;
                    } else if flow.backend != name && flow.moved.is_none() {
                        flow.moved = Some((Instant::now(), name));
                    }
                }
                // A refusal by ICMP is a loss as well.
                Ok(Err(_)) | Err(_) => flow.lost += 1,
            }
        }
        pace.next().await;
    }
}

async fn ask(socket: &UdpSocket, number: u64) -> io::Result<String> {
    socket.send(number.to_string().as_bytes()).await?;
    let mut buffer = [0; 512];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        // The answer to an earlier datagram, given up already, may still arrive.
        if let Some((name, echoed)) = answer.split_once(' ')
            && echoed == number.to_string()
        {
            return Ok(name.to_owned());
        }
    }
}
