//! The predecessor's view: the process that is to take over.

use std::{
    env,
    ffi::OsString,
    io,
    os::fd::{AsRawFd as _, RawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

use super::{Channel, Descriptors, PATIENCE, Prepared, State, ToPredecessor, ToSuccessor};
use crate::api::socket::SocketClaim;

/// The argument that tells a successor what it inherits.
const ARGUMENT: &str = "--hand-over=";

/// How this process was started, and its successor will be.
#[derive(Clone, Debug)]
pub struct Relaunch {
    binary: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
}

impl Relaunch {
    /// How this process was started. To be asked at its start: later the file may be another one, which is the point of it.
    ///
    /// # Errors
    ///
    /// The path of the binary cannot be found out.
    pub fn of_this_process() -> anyhow::Result<Self> {
        Ok(Self {
            binary: env::current_exe().context("cannot find out where this binary is")?,
            arguments: env::args_os()
                .skip(1)
                .filter(|argument| !argument.as_encoded_bytes().starts_with(ARGUMENT.as_bytes()))
                .collect(),
            folder: env::current_dir().context("cannot find out the working folder")?,
        })
    }

    /// The binary that is started.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }
}

/// A process that prepares to take over. Dropped, it is killed.
pub struct Successor {
    child: Child,
    channel: Channel,
    /// Until then it has to be prepared.
    deadline: Instant,
}

impl Successor {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// There is no such binary any more, or it cannot be run.
    pub fn start(relaunch: &Relaunch, claim: &SocketClaim) -> anyhow::Result<Self> {
        let (own, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make a socket pair")?;
        own.set_nonblocking(true)?;
        let [listener, lock] = claim.descriptors().map(|descriptor| descriptor.as_raw_fd());
        let descriptors = Descriptors { channel: theirs.as_raw_fd(), listener, lock };
        let mut command = Command::new(&relaunch.binary);
        command
            .args(&relaunch.arguments)
            .arg(format!("{ARGUMENT}{descriptors}"))
            .current_dir(&relaunch.folder)
            .kill_on_drop(true);
        // SAFETY: the closure makes system calls that are allowed after a fork, on descriptors that stay open until after it.
        unsafe {
            command.pre_exec(move || {
                let Descriptors { channel, listener, lock } = descriptors;
                [channel, listener, lock].into_iter().try_for_each(keep_on_exec)
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", relaunch.binary.display()))?;
        drop(theirs);
        let channel = Channel::new(UnixStream::from_std(own)?);
        Ok(Self { child, channel, deadline: Instant::now() + PATIENCE })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Waits until it is prepared. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// It cannot take over, and why.
    pub async fn prepared(&mut self) -> anyhow::Result<Prepared> {
        match timeout_at(self.deadline, self.channel.receive()).await.context("it is silent")?? {
            Some(ToPredecessor::Prepared(prepared)) => Ok(prepared),
            Some(ToPredecessor::Failed(reason)) => bail!(reason),
            Some(ToPredecessor::TookOver) => bail!("it says that it took over, unasked"),
            None => Err(self.ended().await),
        }
    }

    /// Hands over to it, and waits until it has taken over. Before this the caller has written its last map.
    ///
    /// # Errors
    ///
    /// It did not, and why. It does not run any more then; the maps may be as it left them.
    pub async fn hand_over(&mut self, state: State) -> anyhow::Result<()> {
        let outcome = self.try_hand_over(state).await;
        if outcome.is_err() {
            // It must not write maps when its predecessor does again.
            let _ = self.child.kill().await;
        }
        outcome
    }

    /// Takes leave of it, once it has taken over: it is not this process's any more.
    pub async fn farewell(mut self) {
        // It goes on without it, when it has waited for long enough.
        let _ = self.channel.send(&ToSuccessor::Farewell).await;
        // Dropped, it would be killed.
        std::mem::forget(self.child);
    }

    async fn try_hand_over(&mut self, state: State) -> anyhow::Result<()> {
        self.channel.send(&ToSuccessor::State(state)).await?;
        match timeout(PATIENCE, self.channel.receive()).await.context("it is silent")?? {
            Some(ToPredecessor::TookOver) => Ok(()),
            Some(ToPredecessor::Failed(reason)) => bail!(reason),
            Some(ToPredecessor::Prepared(_)) => bail!("it says that it is prepared, again"),
            None => Err(self.ended().await),
        }
    }

    /// It said nothing any more: how it ended.
    async fn ended(&mut self) -> anyhow::Error {
        let _ = self.child.start_kill();
        match self.child.wait().await {
            Ok(status) => anyhow::anyhow!("it ended with {status}; the log says why"),
            Err(error) => anyhow::Error::new(error).context("cannot wait for it"),
        }
    }
}

/// Lets the program that is about to be executed have a descriptor.
fn keep_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: fcntl with these commands touches no memory.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
