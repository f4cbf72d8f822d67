//! The control API: HTTP/JSON over a unix socket, and over TCP on loopback with a token, as types, a server generic over the daemon, and a client.
//!
//! | route | question or order | answer |
//! |---|---|---|
//! | `GET /v1/health` | does the process answer | [`Liveness`](model::Liveness) |
//! | `GET /v1/status` | what runs and how it is | [`Status`](model::Status) |
//! | `GET /v1/counters` | how packets ended | [`Counters`](model::Counters) |
//! | `GET /v1/explain?source=..&destination=..&destination_port=..&protocol=..[&source_port=..]` | what would happen to a packet | [`Explanation`](model::Explanation) |
//! | `GET /v1/watch[?source=..&..]` | packets on their way, as in [`WatchRequest`](model::WatchRequest) | a stream of [`Watched`](model::Watched), as server-sent events |
//! | `GET /v1/events[?after=..]` | what happens | a stream of [`Event`](model::Event) |
//! | `GET /metrics` | what Prometheus collects | [`metrics`](crate::metrics) |
//! | `GET /openapi.json` | what can be asked | OpenAPI 3.1 |
//! | `POST /v1/drain` | [`DrainRequest`](model::DrainRequest) | [`DrainReport`](model::DrainReport) |
//! | `GET /v1/remaining?backend=..` | what backends still have | [`DrainReport`](model::DrainReport) |
//! | `POST /v1/undrain` | [`BackendRequest`](model::BackendRequest) | [`DrainReport`](model::DrainReport) |
//! | `POST /v1/handover` | [`HandoverRequest`](model::HandoverRequest) | [`HandoverReport`](model::HandoverReport) |
//! | `POST /v1/handover/back` | [`TakeBackRequest`](model::TakeBackRequest) | the same |
//! | `POST /v1/plan` | [`ConfigRequest`](model::ConfigRequest), or none for the file | [`Plan`](model::Plan) |
//! | `POST /v1/reload` | the same, to be brought in force | [`ReloadReport`](model::ReloadReport) |
//! | `GET /v1/revisions` | what was in force and is kept | [`Revisions`](model::Revisions) |
//! | `POST /v1/upgrade` | start the binary again and hand over to it | [`UpgradeReport`](model::UpgradeReport) |
//!
//! The routes are in [`server::router`]; each is defined once, and the document at `/openapi.json` is made of the same types.
//! Whatever is refused is answered with an [`ApiError`](model::ApiError). Nothing here decides anything about
//! packets or backends: that is [`crate::control`], behind the trait [`Control`].

pub mod client;
pub mod control;
mod document;
pub mod events;
pub mod limited;
pub mod model;
mod routes;
#[cfg(test)]
pub(crate) mod samples;
pub mod server;
pub mod socket;
pub mod token;

pub use client::{Client, ClientError, EventStream};
pub use control::Control;
