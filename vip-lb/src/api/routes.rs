//! One definition of each route, from which both its handler and its description are made.

use std::{future::Future, sync::Arc};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, FromRequest, Query, Request, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::Stream;
use hyper::body::Body as _;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use super::{
    Control,
    document::{Description, Document},
    events::Subscription,
    model::{ApiError, ErrorKind, Event, EventsRequest, WatchRequest, Watched},
};

/// Routes to a daemon and what there is to know of them.
pub(super) struct Routes<C> {
    router: Router<Arc<C>>,
    document: Document,
}

/// What a handler answers.
type Answer<T> = Result<T, ApiError>;

impl<C: Control> Routes<C> {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), document: Document::new() }
    }

    /// `GET`: a question without arguments.
    pub(super) fn get<A, F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<C>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        A: Serialize + JsonSchema,
        F: Future<Output = Answer<A>> + Send,
    {
        self.document.add(Description::get(path, summary).answers_json::<A>());
        let handler = async move |State(control): State<Arc<C>>| answer(handler(control).await);
        self.route(path, get(handler))
    }

    /// `GET` with a query.
    pub(super) fn ask<Q, A, F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<C>, Q) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema,
        F: Future<Output = Answer<A>> + Send,
    {
        self.document.add(Description::get(path, summary).takes_query::<Q>().answers_json::<A>());
        let handler = async move |State(control): State<Arc<C>>, query: Result<Query<Q>, QueryRejection>| {
            answer(handler(control, query?.0).await)
        };
        self.route(path, get(handler))
    }

    /// `POST` with a body: an order.
    pub(super) fn order<B, A, F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<C>, B) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema,
        F: Future<Output = Answer<A>> + Send,
    {
        self.document.add(Description::post(path, summary).takes_json::<B>().answers_json::<A>());
        let handler = async move |State(control): State<Arc<C>>, body: Result<Json<B>, JsonRejection>| {
            answer(handler(control, body?.0).await)
        };
        self.route(path, post(handler))
    }

    /// `POST` with a body that may be missing and may have up to `limit` bytes: an order that may need many words, or none.
    pub(super) fn wordy_order<B, A, F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        limit: usize,
        handler: impl Fn(Arc<C>, B) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        B: DeserializeOwned + Default + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema,
        F: Future<Output = Answer<A>> + Send,
    {
        self.document.add(Description::post(path, summary).may_take_json::<B>().answers_json::<A>());
        let handler = async move |State(control): State<Arc<C>>, body: Result<OrDefault<B>, Refusal>| {
            answer(handler(control, body?.0).await)
        };
        self.route(path, post(handler).layer(DefaultBodyLimit::max(limit)))
    }

    /// `POST` without a body: an order that needs no words.
    pub(super) fn command<A, F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<C>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        A: Serialize + JsonSchema,
        F: Future<Output = Answer<A>> + Send,
    {
        self.document.add(Description::post(path, summary).answers_json::<A>());
        let handler = async move |State(control): State<Arc<C>>| answer(handler(control).await);
        self.route(path, post(handler))
    }

    /// `GET` of the stream of events: server-sent events, each with the JSON of an [`Event`] as its data.
    pub(super) fn events<F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        subscribe: impl Fn(Arc<C>, EventsRequest) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer<Subscription>> + Send,
    {
        self.document
            .add(Description::get(path, summary).takes_query::<EventsRequest>().answers_events::<Event>());
        let handler = async move |State(control): State<Arc<C>>,
                                  headers: HeaderMap,
                                  query: Result<Query<EventsRequest>, QueryRejection>| {
            // What a browser sends when it connects again.
            let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
            let query = query?.0;
            let request = EventsRequest { after: query.after.or(seen), ..query };
            let subscription = subscribe(control, request).await?;
            Ok::<_, Refusal>(Sse::new(stream(subscription)).keep_alive(KeepAlive::new()))
        };
        self.route(path, get(handler))
    }

    /// `GET` of a page of text.
    pub(super) fn text<F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        content_type: &'static str,
        handler: impl Fn(Arc<C>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer<String>> + Send,
    {
        self.document.add(Description::get(path, summary).answers_text());
        let handler = async move |State(control): State<Arc<C>>| {
            let text = handler(control).await?;
            Ok::<_, Refusal>(([(header::CONTENT_TYPE, content_type)], text))
        };
        self.route(path, get(handler))
    }

    /// `GET` of the stream of packets that somebody watches: server-sent events, each with the JSON of a [`Watched`] as its data. What the reader
    /// leaves waits, as far as there is room.
    pub(super) fn watch<F>(
        mut self,
        path: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<C>, WatchRequest) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer<mpsc::Receiver<Watched>>> + Send,
    {
        self.document
            .add(Description::get(path, summary).takes_query::<WatchRequest>().answers_events::<Watched>());
        let handler = async move |State(control): State<Arc<C>>,
                                  query: Result<Query<WatchRequest>, QueryRejection>| {
            let watched = handler(control, query?.0).await?;
            let stream = futures_util::stream::unfold(watched, async |mut watched| {
                let heard = watched.recv().await?;
                Some((sse::Event::default().json_data(heard), watched))
            });
            Ok::<_, Refusal>(Sse::new(stream).keep_alive(KeepAlive::new()))
        };
        self.route(path, get(handler))
    }

    /// `GET` of the description of all routes, this one included.
    pub(super) fn described_at(mut self, path: &'static str, summary: &'static str) -> Router<Arc<C>> {
        self.document.add(
            Description::get(path, summary).answers_json::<serde_json::Map<String, serde_json::Value>>(),
        );
        let text: Arc<str> = self.document.finish().to_string().into();
        let handler = async move || ([(header::CONTENT_TYPE, "application/json")], text.to_string());
        self.router.route(path, get(handler))
    }

    fn route(self, path: &'static str, handler: axum::routing::MethodRouter<Arc<C>>) -> Self {
        Self { router: self.router.route(path, handler), document: self.document }
    }
}

/// A body that may be missing, or `null`.
struct OrDefault<B>(B);

impl<S: Send + Sync, B: DeserializeOwned + Default> FromRequest<S> for OrDefault<B> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.body().size_hint().exact() == Some(0) {
            return Ok(Self(B::default()));
        }
        let Json(body) = Json::<Option<B>>::from_request(request, state).await?;
        Ok(Self(body.unwrap_or_default()))
    }
}

fn answer<T: Serialize>(answer: Answer<T>) -> Result<Json<T>, Refusal> {
    Ok(Json(answer?))
}

/// Events in the form of the stream. Pulled only as fast as the reader takes them.
fn stream(subscription: Subscription) -> impl Stream<Item = Result<sse::Event, axum::Error>> {
    futures_util::stream::unfold(subscription, async |mut subscription| {
        let event = subscription.next().await?;
        let message = sse::Event::default().id(event.id.to_string()).json_data(event);
        Some((message, subscription))
    })
}

/// An error on its way out: the status says to HTTP what the kind says to vip-lb.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: ApiError,
}

impl From<ApiError> for Refusal {
    fn from(body: ApiError) -> Self {
        let status = match body.kind {
            ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
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
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: whoever is refused is told what would help.
            let scheme = HeaderValue::from_static("Bearer realm=\"vip-lb\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
