//! The service manager's end: what a service tells it, and which process says so (sd_notify(3)).

use std::{
    fs, io,
    io::IoSliceMut,
    mem,
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// How long one look takes at most.
const LOOK: Duration = Duration::from_millis(20);

/// The socket that `NOTIFY_SOCKET` names.
#[derive(Debug)]
pub(super) struct Notifications {
    socket: UnixDatagram,
}

/// What was said in one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The sender, as the kernel knows it (unix(7), SCM_CREDENTIALS).
    pub(super) pid: u32,
    /// Lines such as `READY=1`.
    pub(super) text: String,
}

impl Notifications {
    /// Listens at this path, instead of whoever did.
    pub(super) fn listen(path: &Path) -> Result<Self> {
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).context("make the socket for notifications")?;
        socket.set_read_timeout(Some(LOOK))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option's value is an int that is as long as it says.
        let outcome = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PASSCRED,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error()).context("ask for the senders of notifications");
        }
        Ok(Self { socket })
    }

    /// The next message; `None` if there is none for a moment.
    pub(super) fn next(&self) -> Result<Option<Message>> {
        let mut text = [0; 4096];
        // Aligned for the header that lies in it, and with room for the credentials behind it.
        let mut control = [0_u64; 8];
        let mut parts = [IoSliceMut::new(&mut text)];
        // SAFETY: a header of zeros is one without a name, parts or control data.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        // IoSliceMut has the layout of an iovec.
        header.msg_iov = parts.as_mut_ptr().cast();
        header.msg_iovlen = parts.len();
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header's buffers live until after the call and are as long as it says.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error).context("receive a notification"),
            };
        };
        let pid = sender(&header).context("a notification without a sender")?;
        Ok(Some(Message { pid, text: String::from_utf8_lossy(&text[..length]).into_owned() }))
    }
}

/// The process id in the credentials of a message that was received.
fn sender(header: &libc::msghdr) -> Option<u32> {
    // SAFETY: the kernel has filled in the control data, and its length, which the macro looks at.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    if (first.cmsg_level, first.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) {
        return None;
    }
    // SAFETY: data of this type are a `ucred`, which need not be aligned.
    let credentials = unsafe { libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned() };
    u32::try_from(credentials.pid).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_sender() {
        let path = std::env::temp_dir().join(format!("vip-lb-notify-{}", std::process::id()));
        let notifications = Notifications::listen(&path).unwrap();
        assert_eq!(notifications.next().unwrap(), None);
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
        let expected = Message { pid: std::process::id(), text: "READY=1".to_owned() };
        assert_eq!(notifications.next().unwrap(), Some(expected));
        fs::remove_file(&path).unwrap();
    }
}
