//! The server: routes, limits, and JSON for every refusal.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    serve::Listener,
};
use tokio::{net::UnixListener, sync::oneshot};

use super::{
    Control,
    limited::Limited,
    model::{
        ApiError, BackendRequest, ErrorKind, ExplainRequest, HandoverRequest, Liveness, TakeBackRequest,
    },
    routes::{Refusal, Routes},
    token::Token,
};
use crate::metrics;

/// Bytes of a request body that are read at most; a sensible one has a hundred.
pub const BODY_LIMIT: usize = 64 * 1024;

/// The same of a request that brings a configuration along. The largest valid one, 65535 backends, has some six million.
pub const CONFIG_LIMIT: usize = 16 * 1024 * 1024;

/// How long requests under way may go on after the shutdown was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Answers requests until `shutdown` completes, then lets those under way finish, within two seconds.
///
/// # Errors
///
/// None in practice: an error of a connection ends that connection only.
pub async fn serve<C: Control>(
    listener: UnixListener,
    control: Arc<C>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_with_grace(listener, router(control), shutdown, SHUTDOWN_GRACE).await
}

/// Who may ask over TCP.
#[derive(Clone, Debug)]
pub struct Access {
    /// What requests must carry.
    pub token: Token,
    /// Whether `/metrics` is for everybody.
    pub open_metrics: bool,
}

/// The access that is asked for at every request, so that it can change. Clones are the same gate; a new one lets nobody in.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<Option<Access>>>);

impl Gate {
    /// From now on, this access; without one nobody gets in.
    pub fn set(&self, access: Option<Access>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    fn access(&self) -> Option<Access> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// As [`serve`], over TCP, and only to those that carry the token.
///
/// # Errors
///
/// None in practice: an error of a connection ends that connection only.
pub async fn serve_tcp<C: Control>(
    listener: Limited,
    control: Arc<C>,
    gate: Gate,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let guard = middleware::from_fn(move |request, next| guard(gate.clone(), request, next));
    serve_with_grace(listener, router(control).layer(guard), shutdown, SHUTDOWN_GRACE).await
}

/// Lets pass what carries the token: `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
async fn guard(gate: Gate, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let lets_in = |access: &Access| {
        let open = access.open_metrics && request.uri().path() == "/metrics";
        open || token.is_some_and(|token| access.token.is(token))
    };
    if gate.access().as_ref().is_some_and(lets_in) {
        return next.run(request).await;
    }
    let error = if given.is_some() {
        "this is not the token"
    } else {
        "a token is needed: Authorization: Bearer TOKEN"
    };
    Refusal::from(ApiError::new(ErrorKind::Unauthorized, error)).into_response()
}

/// The routes, as listed in [`crate::api`].
pub fn router<C: Control>(control: Arc<C>) -> Router {
    Routes::new()
        .get(
            "/v1/health",
            "Whether the process answers, whatever its state",
            async |_: Arc<C>| Ok(liveness()),
        )
        .get("/v1/status", "What runs and how it is", async |daemon: Arc<C>| daemon.status().await)
        .get("/v1/counters", "How packets ended", async |daemon: Arc<C>| daemon.counters().await)
        .ask("/v1/explain", "What would happen to a packet, and why", async |daemon: Arc<C>, request| {
            daemon.explain(possible(request)?).await
        })
        .text("/metrics", "What Prometheus collects", metrics::CONTENT_TYPE, async |daemon: Arc<C>| {
            Ok(metrics::render(&daemon.metrics().await?))
        })
        .events(
            "/v1/events",
            "What happens, as it happens, and what happened",
            async |daemon: Arc<C>, request| daemon.events(request).await,
        )
        .watch("/v1/watch", "Packets on their way", async |daemon: Arc<C>, request| {
            daemon.watch(request).await
        })
        .order(
            "/v1/drain",
            "Give backends no new connections, or cut them",
            async |daemon: Arc<C>, request| daemon.drain(request).await,
        )
        .ask("/v1/remaining", "What backends still have", async |daemon: Arc<C>, request: BackendRequest| {
            daemon.remaining(request.backend).await
        })
        .order("/v1/undrain", "Withdraw an order", async |daemon: Arc<C>, request: BackendRequest| {
            daemon.undrain(request.backend).await
        })
        .command("/v1/node/drain", "Give up the VIPs of this node", async |daemon: Arc<C>| {
            daemon.drain_node(true).await
        })
        .command("/v1/node/undrain", "Withdraw that", async |daemon: Arc<C>| daemon.drain_node(false).await)
        .get("/v1/node/remaining", "What still comes to this node", async |daemon: Arc<C>| {
            daemon.node_remaining().await
        })
        .order(
            "/v1/handover",
            "Hand a VIP over to another node",
            async |daemon: Arc<C>, request: HandoverRequest| daemon.hand_over(request).await,
        )
        .order(
            "/v1/handover/back",
            "Take a VIP back that was handed over",
            async |daemon: Arc<C>, request: TakeBackRequest| daemon.take_back(request).await,
        )
        .wordy_order(
            "/v1/plan",
            "What a configuration would change",
            CONFIG_LIMIT,
            async |daemon: Arc<C>, request| daemon.plan(request).await,
        )
        .wordy_order(
            "/v1/reload",
            "Read the configuration file again, or take another configuration",
            CONFIG_LIMIT,
            async |daemon: Arc<C>, request| daemon.reload(request).await,
        )
        .get("/v1/revisions", "The configurations that were in force", async |daemon: Arc<C>| {
            daemon.revisions().await
        })
        .command(
            "/v1/upgrade",
            "Start the binary again, as it is now, and hand over to it",
            async |daemon: Arc<C>| daemon.upgrade().await,
        )
        .described_at("/openapi.json", "This document")
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(control)
}

async fn serve_with_grace<L>(
    listener: L,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        let _ = stopping.send(());
    });
    // A client that sent half a request would hold up the shutdown for ever.
    let too_late = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        result = server => result,
        () = too_late => Ok(()),
    }
}

/// Asks nothing of the daemon's core, so that it answers while the core is busy.
fn liveness() -> Liveness {
    Liveness { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
}

fn possible(request: ExplainRequest) -> Result<ExplainRequest, ApiError> {
    match request.check() {
        Ok(()) => Ok(request),
        Err(error) => Err(ApiError::new(ErrorKind::BadRequest, error.to_string())),
    }
}

async fn unknown_route(uri: Uri) -> Refusal {
    Refusal {
        status: StatusCode::NOT_FOUND,
        body: ApiError::new(ErrorKind::BadRequest, format!("there is no route {}", uri.path())),
    }
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal {
        status: StatusCode::METHOD_NOT_ALLOWED,
        body: ApiError::new(ErrorKind::BadRequest, format!("{} does not take {method}", uri.path())),
    }
}

#[cfg(test)]
mod tests;
