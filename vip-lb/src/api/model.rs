//! What the API asks and answers. Times are seconds since the Unix epoch, rates are per second, sizes are bytes.

mod change;
mod error;
mod event;
mod explain;
mod status;

pub use change::{BackendChange, BackendSelector, DrainReport, DrainRequest, EmptySelector, ReloadReport};
pub use error::{ApiError, ErrorKind};
pub use event::{Event, EventsRequest, Occurrence};
pub use explain::{
    ChosenBackend, ExplainRequest, ExplainedService, Explanation, FlowHash, NotAFlowHash, Slot, SlotState,
    Step,
};
pub use status::{
    Action, AttachedMode, BackendStatus, BondMemberState, BondMemberStatus, BondStatus, ConfigInfo, Counters,
    Forwarding, ForwardingState, Health, HealthState, InterfaceStatus, Liveness, ServiceStatus, Status,
    TableStatus, Traffic, Verdict, VerdictCount, VipStatus,
};

#[cfg(test)]
mod tests;
