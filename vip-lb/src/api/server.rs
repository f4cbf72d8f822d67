//! The server: routes, limits, and JSON for every refusal.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
};
use tokio::{net::UnixListener, sync::oneshot};

use super::{
    Control,
    model::{ApiError, DrainRequest, ErrorKind, ExplainRequest, Liveness},
    routes::{Refusal, Routes},
};

/// Bytes of a request body that are read at most; a sensible one has a hundred.
pub const BODY_LIMIT: usize = 64 * 1024;

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
    serve_with_grace(listener, control, shutdown, SHUTDOWN_GRACE).await
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
            daemon.explain(of_one_family(request)?).await
        })
        .events("/v1/events", "What happens, as it happens", |daemon: Arc<C>, after| daemon.events(after))
        .order(
            "/v1/drain",
            "Give a backend no new connections",
            async |daemon: Arc<C>, request: DrainRequest| daemon.drain(request.backend).await,
        )
        .order("/v1/undrain", "Withdraw an order to drain", async |daemon: Arc<C>, request: DrainRequest| {
            daemon.undrain(request.backend).await
        })
        .command("/v1/reload", "Read the configuration file again", async |daemon: Arc<C>| {
            daemon.reload().await
        })
        .described_at("/openapi.json", "This document")
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(control)
}

async fn serve_with_grace<C: Control>(
    listener: UnixListener,
    control: Arc<C>,
    shutdown: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, router(control)).with_graceful_shutdown(async move {
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

fn of_one_family(request: ExplainRequest) -> Result<ExplainRequest, ApiError> {
    if request.source.is_ipv4() != request.destination.is_ipv4() {
        let error = format!("{} and {} are of different families", request.source, request.destination);
        return Err(ApiError::new(ErrorKind::BadRequest, error));
    }
    Ok(request)
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
