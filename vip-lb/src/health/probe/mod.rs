//! One probe of one backend: from a check to an [`Outcome`], within the check's timeout.

mod http;
mod tcp;

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    config::model::CheckKind,
    health::{Outcome, Target},
};

#[cfg(test)]
mod tests;

/// How a probe travels to its backend. Whatever is asked, the connection is opened in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// To the backend's own address, by this host's routes.
    Direct,
}

/// Probes `target` once. Takes no longer than the timeout of its check.
pub async fn probe(target: &Target, via: Via) -> Outcome {
    let check = &target.check;
    let started = Instant::now();
    let limit = Limit { deadline: started + check.timeout, timeout: check.timeout };
    let stream = match via.connect(target.socket_address(), limit).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    match &check.kind {
        CheckKind::Tcp => {
            let latency = started.elapsed();
            tcp::close(stream, limit).await;
            Outcome::Healthy { latency }
        }
        CheckKind::Http { path, host, expected_status } => {
            match http::get(stream, path, host, expected_status, limit).await {
                Ok(()) => Outcome::Healthy { latency: started.elapsed() },
                Err(outcome) => outcome,
            }
        }
    }
}

/// The time a probe may take.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// When it ends.
    deadline: Instant,
    /// Its length, for messages.
    timeout: Duration,
}

impl Via {
    async fn connect(self, address: SocketAddr, limit: Limit) -> Result<TcpStream, Outcome> {
        let Self::Direct = self;
        let Ok(connected) = timeout_at(limit.deadline, TcpStream::connect(address)).await else {
            return Err(Outcome::Unreachable { reason: format!("no connection within {:?}", limit.timeout) });
        };
        let stream = connected.map_err(|error| connect_failed(&error))?;
        if is_self_connected(&stream, address) {
            return Err(Outcome::Unreachable { reason: "connection refused".to_owned() });
        }
        Ok(stream)
    }
}

/// A local port that nobody listens on can be the very one a connecting socket was given: TCP's simultaneous open
/// (RFC 9293, section 3.5) then connects it to itself.
fn is_self_connected(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|local| local == address)
}

fn connect_failed(error: &io::Error) -> Outcome {
    let reason = io_reason(error);
    match error.raw_os_error() {
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EAGAIN
            | libc::EADDRNOTAVAIL
            | libc::EAFNOSUPPORT
            | libc::EACCES
            | libc::EPERM,
        ) => Outcome::NotProbed { reason },
        _ => Outcome::Unreachable { reason },
    }
}

/// The system's words for an error, such as `connection refused`.
fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}
