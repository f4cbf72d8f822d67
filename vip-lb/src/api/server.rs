//! The server: routes, limits, and JSON for every refusal.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::UnixListener, sync::oneshot};

use super::{
    Control,
    model::{
        ApiError, Counters, DrainReport, DrainRequest, ErrorKind, ExplainRequest, Explanation, Liveness,
        ReloadReport, Status,
    },
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
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/status", get(status::<C>))
        .route("/v1/counters", get(counters::<C>))
        .route("/v1/explain", get(explain::<C>))
        .route("/v1/drain", post(drain::<C>))
        .route("/v1/undrain", post(undrain::<C>))
        .route("/v1/reload", post(reload::<C>))
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

type Answer<T> = Result<Json<T>, Refusal>;

/// Asks nothing of the daemon's core, so that it answers while the core is busy.
async fn health() -> Json<Liveness> {
    Json(Liveness { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() })
}

async fn status<C: Control>(State(control): State<Arc<C>>) -> Answer<Status> {
    Ok(Json(control.status().await?))
}

async fn counters<C: Control>(State(control): State<Arc<C>>) -> Answer<Counters> {
    Ok(Json(control.counters().await?))
}

async fn explain<C: Control>(
    State(control): State<Arc<C>>,
    request: Result<Query<ExplainRequest>, QueryRejection>,
) -> Answer<Explanation> {
    let Query(request) = request?;
    if request.source.is_ipv4() != request.destination.is_ipv4() {
        return Err(ApiError::new(
            ErrorKind::BadRequest,
            format!("{} and {} are of different families", request.source, request.destination),
        )
        .into());
    }
    Ok(Json(control.explain(request).await?))
}

async fn drain<C: Control>(
    State(control): State<Arc<C>>,
    request: Result<Json<DrainRequest>, JsonRejection>,
) -> Answer<DrainReport> {
    Ok(Json(control.drain(request?.0.backend).await?))
}

async fn undrain<C: Control>(
    State(control): State<Arc<C>>,
    request: Result<Json<DrainRequest>, JsonRejection>,
) -> Answer<DrainReport> {
    Ok(Json(control.undrain(request?.0.backend).await?))
}

async fn reload<C: Control>(State(control): State<Arc<C>>) -> Answer<ReloadReport> {
    Ok(Json(control.reload().await?))
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

/// An error on its way out: the status says to HTTP what the kind says to vip-lb.
struct Refusal {
    status: StatusCode,
    body: ApiError,
}

impl From<ApiError> for Refusal {
    fn from(body: ApiError) -> Self {
        let status = match body.kind {
            ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::InvalidConfig => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, body }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        // The status is kept: 413 and 415 say more than 400.
        Self { status: rejection.status(), body: ApiError::new(ErrorKind::BadRequest, rejection.body_text()) }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self { status: rejection.status(), body: ApiError::new(ErrorKind::BadRequest, rejection.body_text()) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

#[cfg(test)]
mod tests;
