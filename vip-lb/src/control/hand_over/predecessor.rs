//! The successor's view: the daemon that it takes over from.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{Channel, Descriptors, PATIENCE, Prepared, State, ToPredecessor, ToSuccessor};
use crate::api::socket::SocketClaim;

/// The daemon that started this one to be its successor.
pub struct Predecessor {
    channel: Channel,
    /// The control socket and its locked file, until they are claimed.
    socket: Option<[OwnedFd; 2]>,
}

impl Predecessor {
    /// Takes what was inherited.
    ///
    /// # Errors
    ///
    /// The descriptors are not open, or not what they should be.
    pub fn inherit(descriptors: Descriptors) -> anyhow::Result<Self> {
        let open = |number| own(number).with_context(|| format!("descriptor {number} was not inherited"));
        let Descriptors { channel, listener, lock } = descriptors;
        let stream = std::os::unix::net::UnixStream::from(open(channel)?);
        stream.set_nonblocking(true)?;
        let channel = Channel::new(UnixStream::from_std(stream)?);
        Ok(Self { channel, socket: Some([open(listener)?, open(lock)?]) })
    }

    /// The claim to the control socket, which this configuration wants to be at `path`.
    ///
    /// # Errors
    ///
    /// It is no socket that one can listen on, or was claimed before.
    pub fn claim(&mut self, path: &Path) -> anyhow::Result<(UnixListener, SocketClaim)> {
        let descriptors = self.socket.take().context("the control socket is claimed already")?;
        SocketClaim::inherit(path, descriptors).context("cannot listen on the inherited socket")
    }

    /// Says that all is prepared, and waits for what the predecessor knows. From then on it writes no map.
    ///
    /// # Errors
    ///
    /// It has ended, or its socket is another one than ours.
    pub async fn state(&mut self, socket: &Path) -> anyhow::Result<State> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.channel.send(&ToPredecessor::Prepared(Prepared { version })).await?;
        let state =
            match timeout(PATIENCE, self.channel.receive()).await.context("the predecessor is silent")?? {
                Some(ToSuccessor::State(state)) => state,
                Some(ToSuccessor::Farewell) | None => bail!("the predecessor has ended"),
            };
        ensure!(
            state.socket == socket,
            "the running daemon serves {}, and another `node.socket` needs a restart",
            state.socket.display()
        );
        Ok(state)
    }

    /// Says that the take-over is done, and waits until the predecessor has told the service manager. If it has ended before, that is as good.
    pub async fn took_over(mut self) {
        if self.channel.send(&ToPredecessor::TookOver).await.is_ok() {
            let _ = timeout(PATIENCE, self.channel.receive::<ToSuccessor>()).await;
        }
    }

    /// Says why it was not.
    pub async fn failed(mut self, reason: String) {
        // Whoever does not hear it sees this process end.
        let _ = self.channel.send(&ToPredecessor::Failed(reason)).await;
    }
}

/// Takes an inherited descriptor, which this process's own children do not inherit again.
fn own(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with these commands touches no memory; a number that is not open is an error.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, the predecessor opened it for this process, and nothing here has used it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
