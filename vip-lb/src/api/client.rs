//! The typed client that the command line uses.

mod query;

use std::{
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

use super::model::{
    ApiError, BackendRequest, BackendSelector, ConfigRequest, Counters, DrainReport, DrainRequest, Event,
    EventsRequest, ExplainRequest, Explanation, HandoverReport, HandoverRequest, Liveness, NodeReport, Plan,
    ReloadReport, Revisions, Status, TakeBackRequest, UpgradeReport, WatchRequest, Watched,
};

/// A daemon that has said nothing for so long is not going to. Reloading thousands of services takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a request that a daemon could not take any more is made again, for its successor.
const AGAIN_AT_MOST: usize = 40;
/// Time before each.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no answer, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket, or nobody behind it.
    #[error(
        "no vip-lb daemon answers on {}: start it with `vip-lb run --config FILE`, or name its socket with --socket or VIP_LB_SOCKET",
        socket.display()
    )]
    NotRunning {
        /// Path of the socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket's mode, or that of a folder above it, keeps this user out.
    #[error("not allowed to use {}: run as root, or as a member of the group that owns it", socket.display())]
    NotAllowed {
        /// Path of the socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Connecting failed in another way.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// Path of the socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("the exchange with the daemon on {} broke off before the answer was complete; its log may say why", socket.display())]
    BrokenOff {
        /// Path of the socket.
        socket: PathBuf,
        /// What happened.
        #[source]
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("the daemon on {} did not answer within {} seconds; its log may say why", socket.display(), PATIENCE.as_secs())]
    Silent {
        /// Path of the socket.
        socket: PathBuf,
    },
    /// What came is not what this version understands.
    #[error(
        "what answers on {} (status {status}) is not understood; is the daemon of another version than {}?",
        socket.display(),
        env!("CARGO_PKG_VERSION")
    )]
    NotUnderstood {
        /// Path of the socket.
        socket: PathBuf,
        /// HTTP status of the answer.
        status: StatusCode,
        /// What was wrong with its body.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon understood and said no.
    #[error("{0}")]
    Refused(ApiError),
}

/// Talks to the daemon behind one socket; a new connection for every request.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `socket`. Connects to nothing yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Whether the process answers, whatever its state.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; so for every method here.
    pub async fn health(&self) -> Result<Liveness, ClientError> {
        self.get("/v1/health").await
    }

    /// Everything the daemon runs and how it is.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// Every verdict and its count.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn counters(&self) -> Result<Counters, ClientError> {
        self.get("/v1/counters").await
    }

    /// What would happen to a packet of this flow.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/explain?{}", query::explain(request))).await
    }

    /// What happens, and what happened.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn events(&self, wanted: EventsRequest) -> Result<EventStream, ClientError> {
        let EventsRequest { after, since_ms, follow } = wanted;
        let number = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let follow = follow.map(|follow| format!("follow={follow}"));
        let query: Vec<String> =
            [number("after", after), number("since_ms", since_ms), follow].into_iter().flatten().collect();
        self.stream(&format!("/v1/events?{}", query.join("&"))).await
    }

    /// Packets on their way through the program, until the stream is dropped.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn watch(&self, request: &WatchRequest) -> Result<EventStream<Watched>, ClientError> {
        self.stream(&format!("/v1/watch?{}", query::watch(request))).await
    }

    async fn stream<T>(&self, target: &str) -> Result<EventStream<T>, ClientError> {
        let request = request(Method::GET, target, Bytes::new());
        let connect = async {
            let (mut sender, connection) = self.connect().await?;
            // It carries the stream and ends with it; what breaks it is reported to the stream.
            let connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
            let response = sender.send_request(request).await.map_err(|error| self.broken_off(error))?;
            Ok((sender, connection, response))
        };
        let (sender, connection, response) =
            timeout(PATIENCE, connect).await.map_err(|_| self.silent())??;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await.map_err(|error| self.broken_off(error))?;
            return Err(self.refused(status, &body.to_bytes()));
        }
        Ok(EventStream {
            client: self.clone(),
            body: response.into_body(),
            lines: Lines::default(),
            of: PhantomData,
            _sender: sender,
            _connection: connection,
        })
    }

    /// Takes backends out of the rings and lets their connections end, or cuts them.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn drain(&self, request: &DrainRequest) -> Result<DrainReport, ClientError> {
        self.post("/v1/drain", request).await
    }

    /// What backends still have.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn remaining(&self, backend: &BackendSelector) -> Result<DrainReport, ClientError> {
        self.get(&format!("/v1/remaining?backend={}", escaped(&backend.to_string()))).await
    }

    /// Withdraws [`drain`](Self::drain).
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn undrain(&self, backend: BackendSelector) -> Result<DrainReport, ClientError> {
        self.post("/v1/undrain", &BackendRequest { backend }).await
    }

    /// Drains the node itself, or no longer.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn drain_node(&self, drain: bool) -> Result<NodeReport, ClientError> {
        self.post(if drain { "/v1/node/drain" } else { "/v1/node/undrain" }, &()).await
    }

    /// Hands a VIP over to another node.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn hand_over(&self, request: &HandoverRequest) -> Result<HandoverReport, ClientError> {
        self.post("/v1/handover", request).await
    }

    /// Takes a VIP back that was handed over.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn take_back(&self, request: &TakeBackRequest) -> Result<HandoverReport, ClientError> {
        self.post("/v1/handover/back", request).await
    }

    /// What still comes to the node.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn node_remaining(&self) -> Result<NodeReport, ClientError> {
        self.get("/v1/node/remaining").await
    }

    /// What a configuration would change.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload).
    pub async fn plan(&self, request: &ConfigRequest) -> Result<Plan, ClientError> {
        self.post("/v1/plan", request).await
    }

    /// Makes the daemon read its configuration file again, or take another configuration.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; a configuration with mistakes is [`ClientError::Refused`].
    pub async fn reload(&self, request: &ConfigRequest) -> Result<ReloadReport, ClientError> {
        self.post("/v1/reload", request).await
    }

    /// The configurations that were in force and are kept.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn revisions(&self) -> Result<Revisions, ClientError> {
        self.get("/v1/revisions").await
    }

    /// Makes the daemon hand over to its binary, as it is now.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn upgrade(&self) -> Result<UpgradeReport, ClientError> {
        self.post("/v1/upgrade", &()).await
    }

    async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.request(Method::GET, target, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("requests are plain data");
        self.request(Method::POST, target, body.into()).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let request = request(method, target, body);
        let answered = async {
            for _ in 0..AGAIN_AT_MOST {
                match self.exchange(request.clone()).await? {
                    // It was not done, because the daemon hands over or ends: who comes after it can.
                    (StatusCode::SERVICE_UNAVAILABLE, _) => sleep(PAUSE).await,
                    answer => return Ok(answer),
                }
            }
            self.exchange(request).await
        };
        let (status, body) = timeout(PATIENCE, answered).await.map_err(|_| self.silent())??;
        if status.is_success() {
            serde_json::from_slice(&body).map_err(|source| self.not_understood(status, source))
        } else {
            Err(self.refused(status, &body))
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(|error| self.broken_off(error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| self.broken_off(error))?;
            Ok((status, body.to_bytes()))
        };
        // The connection carries the exchange and ends with it; what breaks it is reported to the exchange.
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }

    async fn connect(&self) -> Result<(Sender, Connection), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(error))?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken_off(error))
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent { socket: self.socket.clone() }
    }

    fn broken_off(&self, source: hyper::Error) -> ClientError {
        ClientError::BrokenOff { socket: self.socket.clone(), source }
    }

    fn not_understood(&self, status: StatusCode, source: serde_json::Error) -> ClientError {
        ClientError::NotUnderstood { socket: self.socket.clone(), status, source }
    }

    /// What an answer that is no success says.
    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice(body) {
            Ok(refusal) => ClientError::Refused(refusal),
            Err(source) => self.not_understood(status, source),
        }
    }

    fn not_connected(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket, source }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { socket, source },
            _ => ClientError::Connect { socket, source },
        }
    }
}

fn request(method: Method, target: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "vip-lb")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .expect("routes and addresses make a valid target")
}

type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// What a daemon streams, as it comes.
#[derive(Debug)]
pub struct EventStream<T = Event> {
    client: Client,
    body: hyper::body::Incoming,
    lines: Lines,
    of: PhantomData<T>,
    /// Without it the connection would end.
    _sender: Sender,
    _connection: AbortOnDrop,
}

impl<T: DeserializeOwned> EventStream<T> {
    /// The next one, as soon as there is one; `None` when the daemon ends.
    ///
    /// # Errors
    ///
    /// [`ClientError::BrokenOff`] if the daemon was killed, [`ClientError::NotUnderstood`] if it is of another version.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            while let Some(line) = self.lines.next() {
                // An event's number is in its data, too, and all data are one line.
                let Some(data) = line.strip_prefix("data:") else { continue };
                let event = serde_json::from_str(data);
                return event.map(Some).map_err(|source| self.client.not_understood(StatusCode::OK, source));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(|error| self.client.broken_off(error))?;
                    self.lines.push(frame.data_ref().map_or(&[][..], |data| data));
                }
            }
        }
    }
}

/// Bytes that come in pieces, line by line.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A text as the value of a query: what has a meaning there is written in hexadecimal digits (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests;
