//! The daemon's claim to its control socket: one daemon per path, no stale socket in the way of a new one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Access to the socket: the owner and its group.
const SOCKET_MODE: u32 = 0o660;
/// Access to a parent folder that had to be made.
const FOLDER_MODE: u32 = 0o755;

/// Why a control socket could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another vip-lb daemon is running{}, and answers on {}", pid.map(|pid| format!(", pid {pid}")).unwrap_or_default(), path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Process that listens, as the kernel knows it; absent if it holds the lock but does not listen (yet).
        pid: Option<i32>,
    },
    /// Something that is no socket is in the way; it is left alone.
    #[error("{} exists and is not a socket; remove it, or choose another path", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The system refused a step.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was attempted.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The claim to a socket's path. Dropping it removes the socket and lets another daemon claim the path.
#[derive(Debug)]
pub struct SocketClaim {
    path: PathBuf,
    /// The socket once more, for who is to listen on it next.
    listener: OwnedFd,
    /// Locked for as long as the claim, or a copy of this descriptor, lasts. The file itself stays: removing a lock file is a race.
    lock: File,
    /// The socket is removed with the claim.
    is_own: bool,
}

impl SocketClaim {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What another process needs to have the same claim: the listening socket and the locked file.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.lock.as_fd()]
    }

    /// The same claim as the process that these [`descriptors`](Self::descriptors) are from. Dropping it leaves the socket, until
    /// [`SocketClaim::make_own`].
    ///
    /// # Errors
    ///
    /// The first one is no listening socket.
    pub fn inherit(path: &Path, [listener, lock]: [OwnedFd; 2]) -> io::Result<(UnixListener, Self)> {
        let socket = std::os::unix::net::UnixListener::from(listener.try_clone()?);
        socket.set_nonblocking(true)?;
        let claim = Self { path: path.to_owned(), listener, lock: lock.into(), is_own: false };
        Ok((UnixListener::from_std(socket)?, claim))
    }

    /// From now on the socket is removed with the claim.
    pub fn make_own(&mut self) {
        self.is_own = true;
    }

    /// Refuses connections from now on, of this and every process that has the claim.
    pub fn refuse(&self) {
        // Where it fails the socket ends with the process, a moment later.
        let _ = socket2::SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
    }

    /// Ends the claim of this process alone: another one has it, too.
    pub fn leave(mut self) {
        self.is_own = false;
    }
}

impl Drop for SocketClaim {
    fn drop(&mut self) {
        if self.is_own {
            // Nothing is lost if it fails: the next claim removes a stale socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path` with mode 0660, and holds `path` with the suffix `.lock` locked meanwhile.
///
/// Makes the parent folder (0755) if there is none, and replaces a socket that nobody answers on.
///
/// # Errors
///
/// [`SocketError::InUse`] if a daemon holds the path; see the other variants for the rest.
pub async fn claim(path: &Path) -> Result<(UnixListener, SocketClaim), SocketError> {
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::Io { step, path, source }
    };
    make_parent(path)?;

    let lock_path = suffixed(path, ".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(failed("open the lock file", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = listening_process(path).await.ok().flatten();
            return Err(SocketError::InUse { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
    }

    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        // The lock is ours, yet whoever removed the lock file may still listen.
        Ok(_) => match listening_process(path).await {
            Ok(pid) => {
                return Err(SocketError::InUse { path: path.to_owned(), pid });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(source) => return Err(failed("find out whether a daemon answers on", path)(source)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("look at", path)(source)),
    }

    // Bound under another name first, so that the path appears with its final mode and replaces a stale socket at once.
    let fresh = suffixed(path, ".new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the left-over", &fresh)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed("listen on", &fresh))?;
    fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(failed("put the control socket at", path))?;
    let again = listener.as_fd().try_clone_to_owned().map_err(failed("hold", path))?;
    Ok((listener, SocketClaim { path: path.to_owned(), listener: again, lock, is_own: true }))
}

/// Makes the folder of the socket, and leaves one that exists as it is.
fn make_parent(path: &Path) -> Result<(), SocketError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    if parent.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(parent)
        // The umask may have taken bits away that clients need.
        .and_then(|()| fs::set_permissions(parent, Permissions::from_mode(FOLDER_MODE)))
        .map_err(|source| SocketError::Io { step: "make the folder", path: parent.to_owned(), source })
}

/// Process id of the listener, from the kernel (SO_PEERCRED); an error if nobody listens.
async fn listening_process(path: &Path) -> io::Result<Option<i32>> {
    UnixStream::connect(path).await?.peer_cred().map(|credentials| credentials.pid())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;
