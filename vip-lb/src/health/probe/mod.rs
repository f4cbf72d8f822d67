//! One probe of one backend: from a check to an [`Outcome`], within the check's timeout.

pub mod dial;
mod dns;
mod exec;
mod grpc;
mod http;
mod icmp;
mod tcp;
mod tls;
mod udp;

use std::{io, sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};

pub use self::{dial::Dial, exec::run_command};
use self::{http::Patterns, tls::Authorities, udp::Refusals};
use crate::{
    config::model::{CheckKind, TlsCheck},
    health::{Outcome, Target},
};

#[cfg(test)]
mod tests;

/// Makes probes, and keeps what one of them needs of others.
#[derive(Debug, Default)]
pub struct Probes {
    authorities: Authorities,
    patterns: Patterns,
    refusals: Refusals,
}

impl Probes {
    /// Probes `target` once, by sockets of `dial`. Takes no longer than the timeout of its check, but for
    /// what commands wait for each other.
    pub async fn probe(&self, target: &Target, dial: &Dial) -> Outcome {
        // Reading authorities is not the backend's time.
        let client = match tls_of(&target.check.kind) {
            None => None,
            Some((tls, http2)) => match self.authorities.client(&tls.trust, http2).await {
                Ok(client) => Some((client, tls)),
                Err(outcome) => return outcome,
            },
        };
        let limit = Limit::from_now(target.check.timeout);
        let result = match &target.check.kind {
            CheckKind::Tcp(dialogue) => tcp::ask(dial, dialogue, limit).await,
            CheckKind::Http(check) => match connect(dial, client, check.http2, limit).await {
                Ok((stream, connect)) => {
                    let answered = http::ask(stream, check, &self.patterns, limit).await;
                    answered.map(|latency| Took { latency, connect: Some(connect) })
                }
                Err(outcome) => Err(outcome),
            },
            CheckKind::Grpc(check) => match connect(dial, client, true, limit).await {
                Ok((stream, connect)) => {
                    let answered = grpc::ask(stream, check, limit).await;
                    answered.map(|latency| Took { latency, connect: Some(connect) })
                }
                Err(outcome) => Err(outcome),
            },
            CheckKind::Dns(check) => dns::ask(dial, check, limit).await,
            CheckKind::Udp(dialogue) => {
                udp::ask(dial, dialogue, &self.refusals, limit).await.map(Took::whole)
            }
            CheckKind::Icmp => icmp::ask(dial, limit).await.map(Took::whole),
            CheckKind::Exec(command) => exec::run(command, target, dial, limit).await.map(Took::whole),
        };
        match result {
            Ok(Took { latency, connect }) => Outcome::Healthy { latency, connect },
            Err(outcome) => outcome,
        }
    }
}

/// What a check asks of TLS, and whether HTTP/2 is spoken over it; nothing if it has none.
fn tls_of(kind: &CheckKind) -> Option<(&TlsCheck, bool)> {
    match kind {
        CheckKind::Http(check) => Some((check.tls.as_ref()?, check.http2)),
        CheckKind::Grpc(check) => Some((check.tls.as_ref()?, true)),
        _ => None,
    }
}

/// How long a good probe took.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// From its start to the answer.
    latency: Duration,
    /// From its start to the accepted connection, if its kind connects.
    connect: Option<Duration>,
}

impl Took {
    /// Of a kind that does not connect.
    fn whole(latency: Duration) -> Self {
        Self { latency, connect: None }
    }
}

/// A connection for HTTP, over TLS if there is a client for it, and how long it took until it was accepted.
async fn connect(
    dial: &Dial,
    client: Option<(Arc<ClientConfig>, &TlsCheck)>,
    http2: bool,
    limit: Limit,
) -> Result<(Box<dyn Stream>, Duration), Outcome> {
    let stream = dial.tcp(limit).await?;
    let connect = limit.spent();
    let stream: Box<dyn Stream> = match client {
        None => Box::new(stream),
        Some((client, tls)) => Box::new(tls::handshake(stream, client, tls, http2, limit).await?),
    };
    Ok((stream, connect))
}

/// What HTTP is spoken over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for TcpStream {}
impl Stream for tokio_rustls::client::TlsStream<TcpStream> {}

/// The time a probe may take.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// When it began.
    started: Instant,
    /// When it ends.
    deadline: Instant,
    /// Its length, for messages.
    timeout: Duration,
}

impl Limit {
    fn from_now(timeout: Duration) -> Self {
        let started = Instant::now();
        Self { started, deadline: started + timeout, timeout }
    }

    /// How long the probe has taken.
    fn spent(self) -> Duration {
        self.started.elapsed()
    }

    /// That a backend which accepts did not answer in time.
    fn no_answer(self) -> Outcome {
        Outcome::Unhealthy { reason: format!("no answer within {:?}", self.timeout) }
    }
}

/// Bytes as a reason shows them, cut where they are long.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let more = if bytes.len() > MOST { "..." } else { "" };
    format!("\"{}\"{more}", bytes[..bytes.len().min(MOST)].escape_ascii())
}

/// Where `part` is in `whole`.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}

/// The system's words for an error, such as `connection refused`.
fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}
