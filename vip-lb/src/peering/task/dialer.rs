//! The connection to a peer, by which it is told.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc, watch},
    time::{interval, sleep, timeout},
};
use tracing::{debug, info};

use super::{ALIVE, LOST, PeerEvent, QUEUE, Queue, Setup, Shared, Way, now, receive, send, wall_clock};
use crate::peering::{
    channel::{Receiver, Sender},
    handshake::{self, Session},
    message::{self, Acknowledgement},
};

/// How long a host may take to take a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Until the next try, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Connects to a peer, again and again.
pub(super) async fn keep_connected(setup: Arc<Setup>, shared: Arc<Shared>, peer: IpAddr) {
    let Some(is_there) = shared.peers().get(&peer).map(|peer| peer.is_there.clone()) else { return };
    let mut pause = PAUSE.0;
    loop {
        let begun = now();
        let why = match connect(&setup, peer).await {
            Ok(stream) => tell(&setup, &shared, peer, stream).await,
            Err(error) => format!("this node cannot connect to it: {error}"),
        };
        shared
            .change(peer, |peer| {
                peer.queue = None;
                peer.tells = Way::Closed { why };
            })
            .await;
        if now().saturating_duration_since(begun) > LOST {
            pause = PAUSE.0;
        }
        pause = rest(pause, &is_there).await;
    }
}

/// Waits before the next try, and says how long to wait before the one after it. A peer that has connected itself is there, and is not to wait: it may not
/// take part before it has heard what it should know.
async fn rest(pause: Duration, is_there: &Notify) -> Duration {
    tokio::select! {
        () = sleep(jittered(pause)) => (pause * 2).min(PAUSE.1),
        () = is_there.notified() => PAUSE.0,
    }
}

async fn connect(setup: &Setup, peer: IpAddr) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The address by which the peer knows this node, where it is of the same family.
    if let Some(own) = setup.address.filter(|own| own.is_ipv4() == peer.is_ipv4()) {
        socket.bind((own, 0).into())?;
    }
    let stream = timeout(CONNECT, socket.connect((peer, setup.port).into()))
        .await
        .unwrap_or_else(|_| Err(io::Error::other("it does not answer")))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Tells a peer what there is, as long as the connection lasts. Returns why it did not.
async fn tell(setup: &Setup, shared: &Shared, peer: IpAddr, stream: TcpStream) -> String {
    let (from, to) = stream.into_split();
    let Session { peer: found, receiver, sender } =
        match handshake::dial(from, to, &setup.secret, &shared.own).await {
            Ok(session) => session,
            Err(refusal) => return refusal.to_string(),
        };
    let name = found.name;
    info!(%peer, name, "this node tells a peer");
    let (messages, queue) = mpsc::channel(QUEUE);
    let (taken, is_taken) = watch::channel(0);
    shared
        .change(peer, |peer| {
            peer.name = Some(name.clone());
            peer.tells = Way::Open { since: wall_clock() };
            peer.queue = Some(Queue { messages, told: 0, taken: is_taken });
        })
        .await;
    // Nobody hears it when the daemon has ended.
    let _ = shared.events.send(PeerEvent::Connected { peer, name: name.clone() }).await;
    let Err(why) = tokio::select! {
        end = speak(sender, queue) => end,
        end = listen(receiver, taken) => end,
    };
    info!(%peer, name, why, "this node tells a peer no more");
    why
}

async fn speak<W: AsyncWrite + Unpin>(
    mut sender: Sender<W>,
    mut queue: mpsc::Receiver<Vec<u8>>,
) -> Result<Infallible, String> {
    let mut alive = interval(ALIVE);
    loop {
        let content = tokio::select! {
            _ = alive.tick() => message::encode(0, None),
            told = queue.recv() => told.ok_or("it is not to be told any more")?,
        };
        send(&mut sender, &content).await?;
    }
}

async fn listen<R: AsyncRead + Unpin>(
    mut receiver: Receiver<R>,
    taken: watch::Sender<u64>,
) -> Result<Infallible, String> {
    loop {
        match serde_json::from_slice::<Acknowledgement>(&receive(&mut receiver).await?) {
            Ok(said) => {
                taken.send_if_modified(|taken| std::mem::replace(taken, said.taken.max(*taken)) < said.taken);
            }
            Err(error) => debug!(%error, "a peer answers what this release does not understand"),
        }
    }
}

/// Half of it at least, and once and a half at most: nodes that were parted together do not come back in step.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let parts = RandomState::new().build_hasher().finish() % 1000;
    pause / 2 + pause * u32::try_from(parts).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_is_there_is_not_left_waiting() {
        let is_there = Notify::new();
        assert_eq!(rest(Duration::from_millis(1), &is_there).await, Duration::from_millis(2));
        is_there.notify_one();
        let long = Duration::from_secs(3600);
        assert_eq!(timeout(long / 2, rest(long, &is_there)).await, Ok(PAUSE.0));
        assert_eq!(rest(Duration::ZERO, &is_there).await, Duration::ZERO, "it counts once");
    }
}
