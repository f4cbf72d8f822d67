//! What the API asks of the daemon.

use std::future::Future;

use tokio::sync::mpsc;

use super::{
    events::Subscription,
    model::{
        ApiError, BackendSelector, ConfigRequest, Counters, DrainReport, DrainRequest, EventsRequest,
        ExplainRequest, Explanation, HandoverReport, HandoverRequest, NodeReport, Plan, ReloadReport,
        Revisions, Status, TakeBackRequest, UpgradeReport, WatchRequest, Watched,
    },
};
use crate::metrics::Facts;

/// The daemon, as the API sees it.
///
/// Requests arrive concurrently. A caller that hangs up cancels its future, so an implementation hands orders to
/// the task that owns them rather than carrying them out inside the future.
pub trait Control: Send + Sync + 'static {
    /// Everything `vip-lb status` shows, at this moment.
    fn status(&self) -> impl Future<Output = Result<Status, ApiError>> + Send;

    /// Every verdict with the packets that ended so, in the order of the verdicts, zero ones included.
    fn counters(&self) -> impl Future<Output = Result<Counters, ApiError>> + Send;

    /// What would happen to a packet of this flow now. Changes nothing.
    fn explain(&self, request: ExplainRequest) -> impl Future<Output = Result<Explanation, ApiError>> + Send;

    /// What Prometheus collects, at this moment.
    fn metrics(&self) -> impl Future<Output = Result<Facts, ApiError>> + Send;

    /// A reader of the events that are asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](super::model::ErrorKind::Unavailable) if what is kept cannot be read.
    fn events(&self, request: EventsRequest) -> impl Future<Output = Result<Subscription, ApiError>> + Send;

    /// Takes a backend out of the rings and lets its connections end, or cuts them. Draining twice changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](super::model::ErrorKind::NotFound) if the selector matches no backend.
    fn drain(&self, request: DrainRequest) -> impl Future<Output = Result<DrainReport, ApiError>> + Send;

    /// What backends still have. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](super::model::ErrorKind::NotFound) if the selector matches no backend.
    fn remaining(
        &self,
        backend: BackendSelector,
    ) -> impl Future<Output = Result<DrainReport, ApiError>> + Send;

    /// Withdraws [`drain`](Self::drain); what the configuration says of the backend holds again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](super::model::ErrorKind::NotFound) if the selector matches no backend.
    fn undrain(&self, backend: BackendSelector)
    -> impl Future<Output = Result<DrainReport, ApiError>> + Send;

    /// Drains this node, or no longer: it gives up its VIPs, and forwards what comes all the same. Twice changes nothing.
    fn drain_node(&self, drain: bool) -> impl Future<Output = Result<NodeReport, ApiError>> + Send;

    /// What still comes to this node. Changes nothing.
    fn node_remaining(&self) -> impl Future<Output = Result<NodeReport, ApiError>> + Send;

    /// Hands a VIP over to another node, with all that move along. What comes of it is in the status.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](super::model::ErrorKind::NotFound) if there is no such VIP,
    /// [`ErrorKind::Conflict`](super::model::ErrorKind::Conflict) where it is not this node's to hand over, or not to that node.
    fn hand_over(
        &self,
        request: HandoverRequest,
    ) -> impl Future<Output = Result<HandoverReport, ApiError>> + Send;

    /// Withdraws [`hand_over`](Self::hand_over), and takes the VIPs back.
    ///
    /// # Errors
    ///
    /// As [`hand_over`](Self::hand_over), and [`ErrorKind::Conflict`](super::model::ErrorKind::Conflict) where the node that has them is not to give way.
    fn take_back(
        &self,
        request: TakeBackRequest,
    ) -> impl Future<Output = Result<HandoverReport, ApiError>> + Send;

    /// Lets somebody watch packets, until the receiver is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadRequest`](super::model::ErrorKind::BadRequest) with what is wrong with the request,
    /// [`ErrorKind::Conflict`](super::model::ErrorKind::Conflict) where as many watch already as can.
    fn watch(
        &self,
        request: WatchRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Watched>, ApiError>> + Send;

    /// What a configuration would change. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload).
    fn plan(&self, request: ConfigRequest) -> impl Future<Output = Result<Plan, ApiError>> + Send;

    /// Reads the configuration file again, or takes another configuration, and applies what changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](super::model::ErrorKind::InvalidConfig) with one line per mistake in
    /// [`ApiError::details`]; then nothing was changed.
    fn reload(&self, request: ConfigRequest) -> impl Future<Output = Result<ReloadReport, ApiError>> + Send;

    /// The configurations that were in force and are kept.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn revisions(&self) -> impl Future<Output = Result<Revisions, ApiError>> + Send;

    /// Starts the daemon's own binary again, as it is now at its path, and hands over to it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](super::model::ErrorKind::Conflict) if it cannot take over; then the daemon goes on.
    fn upgrade(&self) -> impl Future<Output = Result<UpgradeReport, ApiError>> + Send;
}
