//! The connections of peers, by which they are heard.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{interval, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{ALIVE, Heard, PeerEvent, Setup, Shared, TakenIn, Way, plain, receive, send, wall_clock};
use crate::peering::{
    channel::{Receiver, Sender},
    handshake::{self, Refusal, Session},
    message::{self, Acknowledgement, Understood},
};

/// Connections that have not said yet who they are. One more, and the oldest of them is ended: whoever keeps some open keeps nobody out.
const STRANGERS: usize = 16;
/// How long a connection that was refused may take to hear why.
const FAREWELL: Duration = Duration::from_millis(500);
/// Connections that wait for the listener.
const BACKLOG: i32 = 64;

/// Why a connection came to nothing, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// No peer has that address.
    Stranger,
    /// Too many said nothing.
    Crowd,
    /// What it said, or did not; see [`Refusal::name`].
    Said(&'static str),
}

impl Refused {
    /// As counters name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Crowd => "crowd",
            Self::Said(why) => why,
        }
    }
}

/// The task that listens.
pub(super) struct Listening {
    task: JoinHandle<()>,
}

impl Listening {
    /// Ends it, and waits until the port is free.
    pub(super) async fn stop(&mut self) {
        self.task.abort();
        // That it was told to end is what it says.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn listen(setup: Arc<Setup>, shared: Arc<Shared>) -> anyhow::Result<Listening> {
    let (listener, address) = bind(setup.address, setup.port)
        .with_context(|| format!("cannot listen for peers on port {}", setup.port))?;
    info!(%address, "listening for peers");
    Ok(Listening { task: tokio::spawn(take_connections(listener, setup, shared)) })
}

/// On all addresses, of both families where the host has both.
fn bind(address: Option<IpAddr>, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let addresses = address.map_or_else(|| any.to_vec(), |address| vec![address]);
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let address = SocketAddr::new(address, port);
        match bind_to(address) {
            Ok(listener) => return Ok((listener, address)),
            // Where IPv6 is switched off.
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Former connections that linger are no reason to wait.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}

async fn take_connections(listener: TcpListener, setup: Arc<Setup>, shared: Arc<Shared>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    let strangers = Arc::new(Mutex::new(VecDeque::<AbortHandle>::new()));
    let mut number = 0;
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(taken) => taken,
            Err(error) => {
                // Out of descriptors, mostly: those who connect wait.
                debug!(%error, "cannot take a connection");
                sleep(FAREWELL).await;
                continue;
            }
        };
        let peer = plain(from);
        if !setup.peers.contains(&peer) {
            debug!(from = %peer, "refused a connection: no peer has that address");
            shared.refuse(Refused::Stranger);
            continue;
        }
        number += 1;
        let (setup, shared, known) = (setup.clone(), shared.clone(), strangers.clone());
        let counted = shared.clone();
        // Held until it is listed: it may have said who it is before that.
        let mut strangers = super::lock(&strangers);
        let handle =
            connections.spawn(async move { hear(&setup, &shared, peer, number, stream, &known).await });
        strangers.retain(|stranger| !stranger.is_finished());
        strangers.push_back(handle);
        if strangers.len() > STRANGERS
            && let Some(oldest) = strangers.pop_front()
        {
            counted.refuse(Refused::Crowd);
            oldest.abort();
        }
    }
}

async fn hear(
    setup: &Setup,
    shared: &Shared,
    peer: IpAddr,
    number: u64,
    stream: TcpStream,
    strangers: &Mutex<VecDeque<AbortHandle>>,
) {
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    let session = match handshake::accept(&mut from, &mut to, &setup.secret, &shared.own).await {
        Ok(session) => session,
        Err(refusal) => {
            shared.refuse(Refused::Said(refusal.name()));
            return refuse(shared, peer, &refusal, from, to).await;
        }
    };
    let own = tokio::task::id();
    super::lock(strangers).retain(|stranger| stranger.id() != own);
    let Session { peer: found, receiver, sender } = session;
    let name = found.name;
    shared
        .change(peer, |peer| {
            peer.name = Some(name.clone());
            peer.hears = Way::Open { since: wall_clock() };
            peer.hearing = number;
            peer.is_there.notify_one();
        })
        .await;
    info!(%peer, name, "this node hears a peer");
    let (taken, is_taken) = watch::channel(0);
    let Err(why) = tokio::select! {
        end = attend(shared, peer, &name, receiver, taken) => end,
        end = acknowledge(sender, is_taken) => end,
    };
    info!(%peer, name, why, "this node hears a peer no more");
    shared
        .change(peer, |peer| {
            // Unless it is heard by another connection already.
            if peer.hearing == number {
                peer.hears = Way::Closed { why };
            }
        })
        .await;
}

/// Lets it be known why a peer is not heard, here and there.
async fn refuse(
    shared: &Shared,
    peer: IpAddr,
    refusal: &Refusal,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    debug!(%peer, %refusal, "refused a connection");
    // Whoever only knocks, or is cut off, says nothing about the peer.
    if !matches!(refusal, Refusal::Silent | Refusal::Broken(_) | Refusal::Unwanted | Refusal::Malformed) {
        let why = refusal.to_string();
        shared
            .change(peer, |peer| {
                if let Way::Closed { why: known } = &mut peer.hears {
                    if *known != why {
                        warn!(why, "a peer is not heard");
                    }
                    *known = why;
                }
            })
            .await;
    }
    // What it still says must not have the answer thrown away on its way (RFC 9293 section 3.10.7: a reset ends all).
    let _ = to.shutdown().await;
    let mut rest = [0; 512];
    let _ =
        timeout(FAREWELL, async { while from.read(&mut rest).await.is_ok_and(|length| length > 0) {} }).await;
}

async fn attend<R: AsyncRead + Unpin>(
    shared: &Shared,
    peer: IpAddr,
    name: &str,
    mut receiver: Receiver<R>,
    taken: watch::Sender<u64>,
) -> Result<Infallible, String> {
    loop {
        let content = receive(&mut receiver).await?;
        let taken_in = |number| TakenIn { number, taken: taken.clone() };
        let event = match message::decode(&content) {
            Ok(Understood::Alive) => continue,
            Ok(Understood::Message(number, message)) => {
                PeerEvent::Heard(Heard { peer, name: name.to_owned(), message, taken: taken_in(number) })
            }
            Ok(Understood::Unknown(number, why)) => {
                debug!(%peer, why, "a peer says what this release does not understand");
                // Not to be waited for, but for what was said before it.
                PeerEvent::NotUnderstood(taken_in(number))
            }
            Err(error) => return Err(format!("it says nothing that makes sense: {error}")),
        };
        shared.events.send(event).await.map_err(|_| "this daemon ends")?;
    }
}

async fn acknowledge<W: AsyncWrite + Unpin>(
    mut sender: Sender<W>,
    mut taken: watch::Receiver<u64>,
) -> Result<Infallible, String> {
    let mut alive = interval(ALIVE);
    loop {
        tokio::select! {
            _ = alive.tick() => {}
            changed = taken.changed() => changed.map_err(|_| "it is not heard any more")?,
        }
        let said = Acknowledgement { taken: *taken.borrow_and_update() };
        let content = serde_json::to_vec(&said).expect("a number is plain data");
        send(&mut sender, &content).await?;
    }
}
