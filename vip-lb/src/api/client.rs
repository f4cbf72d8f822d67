//! The typed client that the command line uses.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::model::{
    ApiError, BackendSelector, Counters, DrainReport, DrainRequest, ExplainRequest, Explanation, Liveness,
    ReloadReport, Status,
};
use crate::config::model::Protocol;

/// A daemon that has said nothing for so long is not going to. Reloading thousands of services takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let ExplainRequest { source, source_port, destination, destination_port, protocol } = request;
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        // Addresses and numbers have no character that a query would have to escape.
        let mut target = format!(
            "/v1/explain?source={source}&destination={destination}&destination_port={destination_port}&protocol={protocol}"
        );
        if let Some(port) = source_port {
            target.push_str(&format!("&source_port={port}"));
        }
        self.get(&target).await
    }

    /// Takes backends out of the rings and lets their connections end.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn drain(&self, backend: BackendSelector) -> Result<DrainReport, ClientError> {
        self.post("/v1/drain", &DrainRequest { backend }).await
    }

    /// Withdraws [`drain`](Self::drain).
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn undrain(&self, backend: BackendSelector) -> Result<DrainReport, ClientError> {
        self.post("/v1/undrain", &DrainRequest { backend }).await
    }

    /// Makes the daemon read its configuration file again.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; a file with mistakes is [`ClientError::Refused`].
    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.post("/v1/reload", &()).await
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
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "vip-lb")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("routes and addresses make a valid target");
        let (status, body) = timeout(PATIENCE, self.exchange(request))
            .await
            .map_err(|_| ClientError::Silent { socket: self.socket.clone() })??;
        let not_understood =
            |source| ClientError::NotUnderstood { socket: self.socket.clone(), status, source };
        if status.is_success() {
            serde_json::from_slice(&body).map_err(not_understood)
        } else {
            Err(ClientError::Refused(serde_json::from_slice(&body).map_err(not_understood)?))
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let broken_off =
            |source: hyper::Error| ClientError::BrokenOff { socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken_off)?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(broken_off)?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(broken_off)?;
            Ok((status, body.to_bytes()))
        };
        // The connection carries the exchange and ends with it; what breaks it is reported to the exchange.
        let (answer, _) = tokio::join!(exchange, connection);
        answer
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

#[cfg(test)]
mod tests;
