//! From one daemon process to the next, with somebody in control at every moment.
//!
//! ```text
//! predecessor                                   successor
//!   starts its own binary again  ------------->   reads the configuration, loads the program on the pinned maps
//!   goes on                      <-- Prepared --
//!   writes no map any more       -- State ----->  adopts what is in the maps, goes on with the checks, swaps the program in
//!   waits                        <-- TookOver --
//!   tells the service manager    -- Farewell -->  answers on the control socket, which is the same one, says that it is ready
//!   ends
//! ```
//!
//! Each message is a line of JSON on a socket that the successor inherits, with the control socket and its locked file. When the successor
//! fails, at whatever point, the predecessor goes on: before `State` as if nothing had been, after it by adopting the maps itself.

mod predecessor;
mod successor;

use std::{
    collections::BTreeMap, fmt, net::IpAddr, os::fd::RawFd, path::PathBuf, str::FromStr, time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{desired::ServiceKey, floor::FloorMemory};
use crate::{health::Memory, state::Orders};

pub use predecessor::Predecessor;
pub use successor::{Relaunch, Successor};

/// How long each of the two waits for the other's next message.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the maps do not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where the API is served, which cannot change on the way.
    pub socket: PathBuf,
    /// The checks, with their counters.
    pub checks: Vec<Memory>,
    /// What became of each service's backends.
    #[serde(default)]
    pub services: Vec<ServiceMemory>,
    /// The orders of operators, which a disk that takes nothing does not have.
    pub orders: Option<Orders>,
    /// Number of the last event that was told; they are numbered on.
    #[serde(default)]
    pub last_event: u64,
}

/// What was decided of a service beyond what its checks say, as the next decision rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMemory {
    /// Which one.
    pub service: ServiceKey,
    /// Whom checks removed, and when.
    pub floor: FloorMemory,
    /// Who is on its way to its whole weight, and for how many milliseconds.
    pub slow_start: BTreeMap<IpAddr, u64>,
}

/// What a predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToSuccessor {
    /// It will not write maps any more.
    State(State),
    /// It ends.
    Farewell,
}

/// What a successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToPredecessor {
    /// It can take over.
    Prepared(Prepared),
    /// It has.
    TookOver,
    /// It cannot.
    Failed(String),
}

/// Who is about to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its release.
    pub version: String,
}

/// Descriptors that a successor inherits, as its argument `--hand-over` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// For the messages.
    channel: RawFd,
    /// The control socket.
    listener: RawFd,
    /// The locked file beside it.
    lock: RawFd,
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.channel, self.listener, self.lock)
    }
}

impl FromStr for Descriptors {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Those of the standard streams are never handed over.
        let numbers: Option<Vec<RawFd>> =
            text.split(',').map(|word| word.parse().ok().filter(|number| *number > 2)).collect();
        match numbers.as_deref() {
            Some(&[channel, listener, lock])
                if channel != listener && channel != lock && listener != lock =>
            {
                Ok(Self { channel, listener, lock })
            }
            _ => Err("only a running daemon starts its successor, and knows what to say here"),
        }
    }
}

/// Messages in both directions.
struct Channel {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Channel {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { lines: BufReader::new(reader).lines(), writer }
    }

    async fn send(&mut self, message: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(message).context("cannot write a message")?;
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await.context("cannot send a message")
    }

    /// The next message; `None` when the other side has ended. Nothing is lost if the future is dropped.
    async fn receive<M: DeserializeOwned>(&mut self) -> anyhow::Result<Option<M>> {
        let Some(line) = self.lines.next_line().await.context("cannot receive a message")? else {
            return Ok(None);
        };
        serde_json::from_str(&line)
            .map(Some)
            .context("cannot understand a message: is it of another release?")
    }
}

#[cfg(test)]
mod tests;
