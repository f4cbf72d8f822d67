//! The connections: one to each peer, and one of each peer.
//!
//! What is told goes into a queue per peer, which is emptied as fast as the peer takes it in; a queue that is full takes no more. Whatever waits there
//! when a connection ends is lost: the daemon hears of every new one, and tells all over again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    channel::{Receiver, Sender},
    handshake::Identity,
    message::{self, Message},
    secret::Secret,
};
use crate::config::model::Share;

mod dialer;
mod listener;

pub use listener::Refused;

/// Between signs of life.
const ALIVE: Duration = Duration::from_secs(1);
/// A peer that is silent for so long is lost.
pub const LOST: Duration = Duration::from_secs(5);
/// Messages that wait for a peer at most.
const QUEUE: usize = 64;

/// With whom this node speaks, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The name of this node.
    pub name: String,
    /// Of the group.
    pub secret: Secret,
    /// Of all nodes.
    pub port: u16,
    /// The address of this node that peers know it by; none for whichever the host takes.
    pub address: Option<IpAddr>,
    /// The others.
    pub peers: Vec<IpAddr>,
    /// What is shared with them: who begins to share something is told all of it.
    pub share: BTreeSet<Share>,
}

/// What the daemon hears.
#[derive(Debug)]
pub enum PeerEvent {
    /// A peer can be told everything from here on, and knows nothing.
    Connected {
        /// Its address in `node.peers`.
        peer: IpAddr,
        /// Its name.
        name: String,
    },
    /// A peer says something.
    Heard(Heard),
    /// A peer says something that this release does not understand.
    NotUnderstood(TakenIn),
    /// Something else is to be seen at the peers.
    Changed,
}

/// What a peer says.
#[derive(Debug)]
pub struct Heard {
    /// Its address in `node.peers`.
    pub peer: IpAddr,
    /// Its name.
    pub name: String,
    /// What it says.
    pub message: Message,
    taken: TakenIn,
}

impl Heard {
    /// What it says, and how to tell it that this was taken in.
    #[must_use]
    pub fn open(self) -> (Message, TakenIn) {
        (self.message, self.taken)
    }
}

/// Something that a peer said, and that is being taken in.
#[derive(Debug)]
pub struct TakenIn {
    number: u64,
    /// What the peer knows to have been taken in.
    taken: watch::Sender<u64>,
}

impl TakenIn {
    /// Has the peer know that it was, and all that it said before.
    pub fn tell(self) {
        self.taken.send_replace(self.number);
    }
}

/// What became of something to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// It is on its way, under this number.
    Number(u64),
    /// Too much waits for that peer. To be tried again later.
    Full,
    /// There is no connection to that peer. Once there is one, [`PeerEvent::Connected`] says so.
    Away,
}

/// A peer as it is seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its address in `node.peers`.
    pub address: IpAddr,
    /// Its name, once it has said so.
    pub name: Option<String>,
    /// Whether it hears this node.
    pub tells: Way,
    /// Whether this node hears it.
    pub hears: Way,
}

/// One of the two connections with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It lasts.
    Open {
        /// Since when.
        since: SystemTime,
    },
    /// There is none.
    Closed {
        /// Why, a lower-case phrase.
        why: String,
    },
}

impl PeerView {
    /// Whether both hear each other.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.since().is_some()
    }

    /// Since when both hear each other.
    #[must_use]
    pub fn since(&self) -> Option<SystemTime> {
        match (&self.tells, &self.hears) {
            (Way::Open { since }, Way::Open { since: other }) => Some(*since.max(other)),
            _ => None,
        }
    }
}

/// All connections with peers. Dropped, they end.
pub struct Peering {
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    dialers: Vec<JoinHandle<()>>,
    listener: listener::Listening,
}

/// What the tasks and the daemon know in common.
struct Shared {
    own: Identity,
    peers: Mutex<BTreeMap<IpAddr, Peer>>,
    refused: Mutex<BTreeMap<Refused, u64>>,
    events: mpsc::Sender<PeerEvent>,
}

struct Peer {
    name: Option<String>,
    tells: Way,
    hears: Way,
    /// To be told; none without a connection.
    queue: Option<Queue>,
    /// Of the connection by which it is heard: a newer one replaces it.
    hearing: u64,
    /// Told when it has connected to this node.
    is_there: Arc<Notify>,
}

struct Queue {
    messages: mpsc::Sender<Vec<u8>>,
    /// The number of the last message.
    told: u64,
    /// The number of the last one that was taken in.
    taken: watch::Receiver<u64>,
}

impl Peering {
    /// Begins to listen, and to look for the peers. What happens is told to `events`.
    ///
    /// # Errors
    ///
    /// The port cannot be had.
    pub fn start(setup: Setup, events: mpsc::Sender<PeerEvent>) -> anyhow::Result<Self> {
        let peer = || Peer {
            name: None,
            tells: Way::Closed { why: "this node is about to connect to it".to_owned() },
            hears: Way::Closed { why: "it has not connected to this node".to_owned() },
            queue: None,
            hearing: 0,
            is_there: Arc::default(),
        };
        let setup = Arc::new(setup);
        let shared = Arc::new(Shared {
            own: Identity::new(&setup.name)?,
            peers: Mutex::new(setup.peers.iter().map(|&address| (address, peer())).collect()),
            refused: Mutex::default(),
            events,
        });
        let listener = listener::listen(setup.clone(), shared.clone())?;
        let dialers = setup
            .peers
            .iter()
            .map(|&peer| tokio::spawn(dialer::keep_connected(setup.clone(), shared.clone(), peer)));
        Ok(Self { dialers: dialers.collect(), setup, shared, listener })
    }

    /// By what it was started.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Puts something into the queue of a peer.
    ///
    /// # Errors
    ///
    /// It is too large for a frame, and is not told.
    pub fn tell(&self, peer: IpAddr, message: &Message) -> Result<Tell, TooLarge> {
        let mut peers = self.shared.peers();
        let Some(queue) = peers.get_mut(&peer).and_then(|peer| peer.queue.as_mut()) else {
            return Ok(Tell::Away);
        };
        let Ok(place) = queue.messages.try_reserve() else {
            // Its receiver goes a moment before the peer is known to be lost.
            return Ok(if queue.messages.is_closed() { Tell::Away } else { Tell::Full });
        };
        let number = queue.told + 1;
        let content = message::encode(number, Some(message));
        if content.len() > super::channel::LARGEST {
            return Err(TooLarge(content.len()));
        }
        place.send(content);
        queue.told = number;
        Ok(Tell::Number(number))
    }

    /// Tells all that can be told now; those whose queues are full are returned.
    ///
    /// # Errors
    ///
    /// As of [`Self::tell`].
    pub fn tell_all(&self, message: &Message) -> Result<Vec<IpAddr>, TooLarge> {
        let mut full = Vec::new();
        for &peer in &self.setup.peers {
            if self.tell(peer, message)? == Tell::Full {
                full.push(peer);
            }
        }
        Ok(full)
    }

    /// How many more messages the queue of a peer takes at the moment; 0 without a connection.
    #[must_use]
    pub fn room(&self, peer: IpAddr) -> usize {
        let peers = self.shared.peers();
        let queue = peers.get(&peer).and_then(|peer| peer.queue.as_ref());
        queue.filter(|queue| !queue.messages.is_closed()).map_or(0, |queue| queue.messages.capacity())
    }

    /// The number of the last message that a peer has taken in over its present connection; none without one.
    #[must_use]
    pub fn taken_in(&self, peer: IpAddr) -> Option<u64> {
        let peers = self.shared.peers();
        let queue = peers.get(&peer)?.queue.as_ref()?;
        let taken = *queue.taken.borrow();
        Some(taken)
    }

    /// Waits until a peer has taken in all that it was told until now. False once the connection has ended.
    pub fn all_taken_in(&self, peer: IpAddr) -> impl Future<Output = bool> + use<> {
        let peers = self.shared.peers();
        let queue = peers.get(&peer).and_then(|peer| peer.queue.as_ref());
        let waiting = queue.map(|queue| (queue.told, queue.taken.clone()));
        drop(peers);
        async move {
            let Some((told, mut taken)) = waiting else { return false };
            taken.wait_for(|&taken| taken >= told).await.is_ok()
        }
    }

    /// The peers, in the order of the configuration.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        let peers = self.shared.peers();
        let view = |address: &IpAddr| {
            let peer = peers.get(address)?;
            let Peer { name, tells, hears, .. } = peer;
            Some(PeerView {
                address: *address,
                name: name.clone(),
                tells: tells.clone(),
                hears: hears.clone(),
            })
        };
        self.setup.peers.iter().filter_map(view).collect()
    }

    /// Connections of others that came to nothing, by why.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<Refused, u64> {
        lock(&self.shared.refused).clone()
    }

    /// Ends all connections, and waits until somebody else can listen on the port.
    pub async fn stop(mut self) {
        self.dialers.iter().for_each(JoinHandle::abort);
        self.listener.stop().await;
    }
}

impl Drop for Peering {
    fn drop(&mut self) {
        self.dialers.iter().for_each(JoinHandle::abort);
    }
}

/// Why something cannot be told: its bytes are too many for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes is too large for peers")]
pub struct TooLarge(pub usize);

impl Shared {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Peer>> {
        lock(&self.peers)
    }

    /// Changes what is known of a peer, and tells the daemon if that is to be seen.
    async fn change(&self, peer: IpAddr, change: impl FnOnce(&mut Peer)) {
        let is_news = {
            let mut peers = self.peers();
            let Some(peer) = peers.get_mut(&peer) else { return };
            let before = (peer.name.clone(), peer.tells.clone(), peer.hears.clone());
            change(peer);
            before != (peer.name.clone(), peer.tells.clone(), peer.hears.clone())
        };
        if is_news {
            // Nobody hears it when the daemon has ended.
            let _ = self.events.send(PeerEvent::Changed).await;
        }
    }

    fn refuse(&self, why: Refused) {
        *lock(&self.refused).entry(why).or_default() += 1;
    }
}

/// What the other end says next; or why there is nothing more to hear, a lower-case phrase.
async fn receive<R: AsyncRead + Unpin>(receiver: &mut Receiver<R>) -> Result<Vec<u8>, String> {
    in_time(receiver.receive()).await?.map_err(|error| error.to_string())
}

/// Says something to the other end; or why that is not possible any more, a lower-case phrase.
async fn send<W: AsyncWrite + Unpin>(sender: &mut Sender<W>, content: &[u8]) -> Result<(), String> {
    in_time(sender.send(content)).await?.map_err(|error| format!("the connection broke: {error}"))
}

async fn in_time<T>(done: impl Future<Output = T>) -> Result<T, String> {
    timeout(LOST, done).await.map_err(|_| format!("it was silent for {} s", LOST.as_secs()))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One address, however it is written: sockets of both families show those of IPv4 as of IPv6.
fn plain(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[expect(clippy::disallowed_methods, reason = "the tasks are the edge where the clock is read")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the tasks are the edge where the clock is read")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
