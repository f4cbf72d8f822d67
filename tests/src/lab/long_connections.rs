//! Connections that stay open and say a line every now and then.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    http_load::HttpLoad,
    namespace::{NamedThread, Namespace},
    pace::Pace,
    patience, wait_for,
};

/// Times [`patience`]. Several retransmissions fit: a lost packet breaks nothing, a lost connection does.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of one connection.
#[derive(Clone, Debug)]
pub struct LongConnection {
    /// The client's end.
    pub local: SocketAddr,
    /// Who answers.
    pub backend: String,
    /// Lines that came back.
    pub echoes: u64,
    /// When and why it ended, if it did.
    pub broken: Option<(Instant, String)>,
}

/// Open connections to an echo service.
#[derive(Debug)]
pub struct LongConnections {
    states: Arc<Mutex<Vec<State>>>,
    _thread: NamedThread,
}

#[derive(Clone, Debug)]
enum State {
    Opening,
    Open(LongConnection),
    Refused(String),
}

impl LongConnections {
    /// Opens connections at the usual pace and returns when each has echoed once.
    ///
    /// # Errors
    ///
    /// One of them could not be opened.
    pub fn open(from: &Namespace, target: SocketAddr, count: usize) -> Result<Self> {
        Self::open_at(from, target, count, &Pace::default())
    }

    /// As [`Self::open`], at a pace of its own.
    ///
    /// # Errors
    ///
    /// One of them could not be opened.
    pub fn open_at(from: &Namespace, target: SocketAddr, count: usize, pace: &Pace) -> Result<Self> {
        let pace = pace.clone();
        let states = Arc::new(Mutex::new(vec![State::Opening; count]));
        let shared = Arc::clone(&states);
        let thread = from.spawn("long connections", move || async move {
            let mut connections = JoinSet::new();
            for index in 0..count {
                connections.spawn(hold(target, index, pace.clone(), Arc::clone(&shared)));
            }
            while connections.join_next().await.is_some() {}
        })?;
        let opened = Self { states, _thread: thread };
        wait_for("long connections to open", PATIENCE * 2, || {
            let states = opened.states.lock().expect("no panic while locked");
            for state in states.iter() {
                match state {
                    State::Opening => return Ok(None),
                    State::Refused(why) => bail!("open a long connection to {target}: {why}"),
                    State::Open(_) => {}
                }
            }
            Ok(Some(()))
        })?;
        Ok(opened)
    }

    /// All of them as they are now.
    #[must_use]
    pub fn states(&self) -> Vec<LongConnection> {
        let states = self.states.lock().expect("no panic while locked");
        states
            .iter()
            .filter_map(|state| match state {
                State::Open(connection) => Some(connection.clone()),
                State::Opening | State::Refused(_) => None,
            })
            .collect()
    }

    /// Those that broke.
    #[must_use]
    pub fn broken(&self) -> Vec<LongConnection> {
        self.states().into_iter().filter(|connection| connection.broken.is_some()).collect()
    }

    /// How many connections each backend holds, broken ones not counted.
    #[must_use]
    pub fn by_backend(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for connection in self.states().into_iter().filter(|connection| connection.broken.is_none()) {
            *counts.entry(connection.backend).or_default() += 1;
        }
        counts
    }

    /// Waits until every connection that is not broken has echoed `lines` more lines, or broke: what was sent before
    /// this call has had its effect.
    ///
    /// # Errors
    ///
    /// A connection neither echoes nor breaks.
    pub fn exchange(&self, lines: u64) -> Result<()> {
        let before = self.states();
        wait_for("long connections to exchange lines", PATIENCE * 2, || {
            let now = self.states();
            let done = before
                .iter()
                .zip(&now)
                .all(|(before, now)| now.broken.is_some() || now.echoes >= before.echoes + lines);
            Ok(done.then_some(()))
        })
    }
}

/// That what was planned has cost nobody anything: no connection is broken, and of the requests of the load, which ends, none has failed.
///
/// # Errors
///
/// It has, and what.
pub fn nothing_lost(connections: &LongConnections, load: HttpLoad) -> Result<()> {
    let broken = connections.broken();
    ensure!(broken.is_empty(), "{broken:?}");
    let report = load.finish();
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    Ok(())
}

async fn hold(target: SocketAddr, index: usize, pace: Pace, states: Arc<Mutex<Vec<State>>>) {
    let set = |change: &dyn Fn(&mut State)| {
        change(&mut states.lock().expect("no panic while locked")[index]);
    };
    let opened = timeout(PATIENCE * patience(), TcpStream::connect(target))
        .await
        .unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => return set(&|state| *state = State::Refused(error.to_string())),
    };
    let local = match stream.local_addr() {
        Ok(local) => local,
        Err(error) => return set(&|state| *state = State::Refused(error.to_string())),
    };
    let mut stream = BufReader::new(stream);
    let mut number = 0_u64;
    loop {
        let answer = timeout(PATIENCE * patience(), say(&mut stream, number))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no echo in time")));
        set(&|state| match (&mut *state, &answer) {
            (State::Opening, Ok(backend)) => {
                let backend = backend.clone();
                *state = State::Open(LongConnection { local, backend, echoes: 1, broken: None });
            }
            (State::Opening, Err(error)) => *state = State::Refused(error.to_string()),
            (State::Open(connection), Ok(backend)) if *backend == connection.backend => {
                connection.echoes += 1;
            }
            (State::Open(connection), Ok(other)) => {
                connection.broken = Some((Instant::now(), format!("{other} answered")));
            }
            (State::Open(connection), Err(error)) => {
                connection.broken = Some((Instant::now(), error.to_string()));
            }
            (State::Refused(_), _) => {}
        });
        if answer.is_err() {
            return;
        }
        number += 1;
        pace.next().await;
    }
}

/// Sends a line and returns who echoed it.
async fn say(stream: &mut BufReader<TcpStream>, number: u64) -> io::Result<String> {
    stream.write_all(format!("{number}\n").as_bytes()).await?;
    let mut answer = String::new();
    if stream.read_line(&mut answer).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other side"));
    }
    match answer.trim_end().split_once(' ') {
        Some((name, echoed)) if echoed == number.to_string() => Ok(name.to_owned()),
        _ => Err(io::Error::other(format!("echoed `{}` for {number}", answer.trim_end()))),
    }
}
