//! The API's end of the daemon: every request becomes an order to the task that owns the maps. Events come without one.

use tokio::sync::{mpsc, oneshot};

use crate::api::{
    Control,
    events::{Events, Subscription},
    model::{
        ApiError, BackendSelector, ConfigRequest, Counters, DrainReport, DrainRequest, ErrorKind,
        EventsRequest, ExplainRequest, Explanation, HandoverReport, HandoverRequest, NodeReport, Plan,
        ReloadReport, Revisions, Status, TakeBackRequest, UpgradeReport, WatchRequest, Watched,
    },
};
use crate::{metrics::Facts, state::History};

pub(super) type Answer<T> = oneshot::Sender<Result<T, ApiError>>;

/// An order to the daemon.
pub(super) enum Order {
    Status(Answer<Status>),
    Counters(Answer<Counters>),
    Metrics(Answer<Facts>),
    Explain(ExplainRequest, Answer<Explanation>),
    Watch(WatchRequest, Answer<mpsc::Receiver<Watched>>),
    Drain(DrainRequest, Answer<DrainReport>),
    Undrain(BackendSelector, Answer<DrainReport>),
    Remaining(BackendSelector, Answer<DrainReport>),
    DrainNode(bool, Answer<NodeReport>),
    NodeRemaining(Answer<NodeReport>),
    HandOver(HandoverRequest, Answer<HandoverReport>),
    TakeBack(TakeBackRequest, Answer<HandoverReport>),
    Plan(ConfigRequest, Answer<Plan>),
    Reload(ConfigRequest, Answer<ReloadReport>),
    Revisions(Answer<Revisions>),
}

/// Hands orders to the daemon.
pub(super) struct Handle {
    orders: mpsc::Sender<Order>,
    events: Events,
    history: History,
    successors: mpsc::Sender<Answer<UpgradeReport>>,
}

impl Handle {
    /// Orders go to one end, and who asks for a successor to the other.
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        successors: mpsc::Sender<Answer<UpgradeReport>>,
        events: Events,
        history: History,
    ) -> Self {
        Self { orders, events, history, successors }
    }

    async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, ApiError> {
        let (answer, result) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| stopping())?;
        result.await.map_err(|_| stopping())?
    }
}

impl Control for Handle {
    async fn status(&self) -> Result<Status, ApiError> {
        self.ask(Order::Status).await
    }

    async fn counters(&self) -> Result<Counters, ApiError> {
        self.ask(Order::Counters).await
    }

    async fn metrics(&self) -> Result<Facts, ApiError> {
        self.ask(Order::Metrics).await
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        self.ask(|answer| Order::Explain(request, answer)).await
    }

    async fn events(&self, request: EventsRequest) -> Result<Subscription, ApiError> {
        let subscription = match request {
            EventsRequest { after: None, since_ms: Some(since), .. } => {
                let history = self.history.clone();
                let read = tokio::task::spawn_blocking(move || history.since(since)).await;
                let past =
                    read.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
                        ApiError::new(ErrorKind::Unavailable, format!("cannot read what happened: {error}"))
                    })?;
                self.events.since(since, past)
            }
            EventsRequest { after, .. } => self.events.subscribe(after),
        };
        Ok(if request.follow == Some(false) { subscription.ending_now() } else { subscription })
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<Watched>, ApiError> {
        self.ask(|answer| Order::Watch(request, answer)).await
    }

    async fn drain(&self, request: DrainRequest) -> Result<DrainReport, ApiError> {
        self.ask(|answer| Order::Drain(request, answer)).await
    }

    async fn remaining(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        self.ask(|answer| Order::Remaining(backend, answer)).await
    }

    async fn undrain(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        self.ask(|answer| Order::Undrain(backend, answer)).await
    }

    async fn drain_node(&self, drain: bool) -> Result<NodeReport, ApiError> {
        self.ask(|answer| Order::DrainNode(drain, answer)).await
    }

    async fn node_remaining(&self) -> Result<NodeReport, ApiError> {
        self.ask(Order::NodeRemaining).await
    }

    async fn hand_over(&self, request: HandoverRequest) -> Result<HandoverReport, ApiError> {
        self.ask(|answer| Order::HandOver(request, answer)).await
    }

    async fn take_back(&self, request: TakeBackRequest) -> Result<HandoverReport, ApiError> {
        self.ask(|answer| Order::TakeBack(request, answer)).await
    }

    async fn plan(&self, request: ConfigRequest) -> Result<Plan, ApiError> {
        self.ask(|answer| Order::Plan(request, answer)).await
    }

    async fn reload(&self, request: ConfigRequest) -> Result<ReloadReport, ApiError> {
        self.ask(|answer| Order::Reload(request, answer)).await
    }

    async fn revisions(&self) -> Result<Revisions, ApiError> {
        self.ask(Order::Revisions).await
    }

    async fn upgrade(&self) -> Result<UpgradeReport, ApiError> {
        let (answer, result) = oneshot::channel();
        self.successors.send(answer).await.map_err(|_| stopping())?;
        result.await.map_err(|_| stopping())?
    }
}

fn stopping() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the daemon is stopping")
}
