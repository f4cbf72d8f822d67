//! Servers that say who they are, for connections that last, and for asking which backend a certain flow reaches.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use super::{
    namespace::{NamedThread, Namespace},
    patience,
    topology::Node,
    udp_probes::hold_many,
};

/// What a datagram carries at most (RFC 768), to the nearest power of two above.
const LARGEST_DATAGRAM: usize = 1 << 16;

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Answers every line or datagram with its node's name, a space and what was sent, over TCP and UDP, on all addresses of its
/// node.
#[derive(Debug)]
pub struct EchoServer {
    _thread: NamedThread,
}

impl EchoServer {
    /// The port it listens on.
    pub const PORT: u16 = 7;

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// A socket cannot be bound.
    pub fn start(node: &Node) -> Result<Self> {
        Self::start_on(node, &[Self::PORT])
    }

    /// As [`Self::start`], on other ports.
    ///
    /// # Errors
    ///
    /// A socket cannot be bound.
    pub fn start_on(node: &Node, ports: &[u16]) -> Result<Self> {
        // A wildcard UDP socket would answer from the address the route prefers, not from the one that was asked.
        let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        addresses.extend(node.addresses());
        let sockets: Vec<SocketAddr> = addresses
            .iter()
            .flat_map(|&address| ports.iter().map(move |&port| (address, port).into()))
            .collect();
        let name = node.name.clone();
        let (ready, bound) = mpsc::channel::<io::Result<()>>();
        let thread = node.namespace.spawn(&format!("echo on {name}"), move || async move {
            match listen(&sockets).await {
                Ok((listeners, sockets)) => {
                    let _ = ready.send(Ok(()));
                    serve(&name, listeners, sockets).await;
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        bound
            .recv()
            .context("the echo server ended at once")?
            .with_context(|| format!("listen on the ports {ports:?} of {}", node.name))?;
        Ok(Self { _thread: thread })
    }

    /// Ends it; its connections are closed by the kernel.
    pub fn kill(self) {
        drop(self);
    }
}

/// Asks the echo service at `target` once from each of these source ports of the namespace, and returns who answered.
/// Ports that another socket holds are left out.
///
/// # Errors
///
/// A question had no answer, three times.
pub fn who_answers(
    from: &Namespace,
    target: SocketAddr,
    transport: Transport,
    ports: &[u16],
) -> Result<BTreeMap<u16, String>> {
    let answers = Arc::new(Mutex::new((BTreeMap::new(), None)));
    let results = Arc::clone(&answers);
    let ports = ports.to_vec();
    from.spawn("who answers", move || async move {
        for batch in ports.chunks(64) {
            let mut asked = JoinSet::new();
            for &port in batch {
                asked.spawn(async move { (port, ask(target, transport, port).await) });
            }
            while let Some(outcome) = asked.join_next().await {
                let mut results = results.lock().expect("no panic while locked");
                match outcome {
                    Ok((port, Ok(Some(name)))) => {
                        results.0.insert(port, name);
                    }
                    Ok((_, Ok(None))) => {}
                    Ok((port, Err(error))) => results.1 = Some(format!("from port {port}: {error}")),
                    Err(error) => results.1 = Some(error.to_string()),
                }
            }
        }
    })?
    .join();
    let answers = Arc::try_unwrap(answers).expect("the thread has ended").into_inner().expect("no panic");
    match answers {
        (_, Some(error)) => bail!("ask {target} over {transport:?} who answers {error}"),
        (names, None) => Ok(names),
    }
}

async fn listen(addresses: &[SocketAddr]) -> io::Result<(Vec<TcpListener>, Vec<UdpSocket>)> {
    let mut listeners = Vec::new();
    let mut sockets = Vec::new();
    for &address in addresses {
        listeners.push(TcpListener::bind(address).await?);
        let socket = UdpSocket::bind(address).await?;
        hold_many(&socket)?;
        sockets.push(socket);
    }
    Ok((listeners, sockets))
}

async fn serve(name: &str, listeners: Vec<TcpListener>, sockets: Vec<UdpSocket>) {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let name = name.to_owned();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve_stream(stream, name.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
    }
    for socket in sockets {
        let name = name.to_owned();
        tasks.spawn(async move {
            let mut buffer = vec![0; LARGEST_DATAGRAM];
            loop {
                // An ICMP error for an earlier answer shows up here and concerns nobody.
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let mut answer = format!("{name} ").into_bytes();
                answer.extend_from_slice(&buffer[..length]);
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

async fn serve_stream(stream: TcpStream, name: String) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if writer.write_all(format!("{name} {line}\n").as_bytes()).await.is_err() {
            break;
        }
    }
}

/// One question from a chosen source port; `None` if the port is taken.
async fn ask(target: SocketAddr, transport: Transport, port: u16) -> io::Result<Option<String>> {
    let any = unspecified(target);
    let local = SocketAddr::from((any, port));
    let answer = match transport {
        Transport::Udp => {
            let socket = match UdpSocket::bind(local).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
                other => other?,
            };
            socket.connect(target).await?;
            let mut buffer = [0; 512];
            let mut answer = Err(io::Error::from(io::ErrorKind::TimedOut));
            // Datagrams may be lost on a busy machine; which backend answers is what is asked here.
            for _ in 0..3 {
                socket.send(b"who\n").await?;
                if let Ok(received) =
                    timeout(Duration::from_secs(1) * patience(), socket.recv(&mut buffer)).await
                {
                    answer = received.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
                    break;
                }
            }
            answer?
        }
        Transport::Tcp => {
            let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            match socket.bind(local) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
                other => other?,
            }
            let asked = async {
                let stream = socket.connect(target).await?;
                // Closed by a reset: a port in TIME_WAIT could not ask the same question again.
                stream.set_zero_linger()?;
                let mut stream = BufReader::new(stream);
                stream.write_all(b"who\n").await?;
                let mut answer = String::new();
                stream.read_line(&mut answer).await?;
                io::Result::Ok(answer)
            };
            timeout(Duration::from_secs(4) * patience(), asked)
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??
        }
    };
    match answer.split_once(' ') {
        Some((name, _)) => Ok(Some(name.to_owned())),
        None => Err(io::Error::other(format!("an answer without a name: `{answer}`"))),
    }
}

fn unspecified(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
