//! What the API asks and answers. Times are seconds since the Unix epoch, rates are per second, sizes are bytes.

mod change;
mod error;
mod event;
mod explain;
mod handover;
mod node;
mod packet;
mod peering;
mod plan;
mod route;
mod second_owner;
mod status;
mod vrrp;
mod watch;

pub use change::{
    BackendChange, BackendRequest, BackendSelector, DrainReport, DrainRequest, EmptySelector, HostChange,
    OperatorOrder, OrderKind, ReloadReport, Remaining, UpgradeReport,
};
pub use error::{ApiError, ErrorKind};
pub use event::{Event, EventsRequest, Evidence, HandoverEnd, Occurrence};
pub use explain::{
    ChosenBackend, ExplainRequest, ExplainedService, Explanation, FlowHash, NotAFlowHash, Slot, SlotState,
    Step,
};
pub use handover::{HandoverReport, HandoverRequest, TakeBackRequest};
pub use node::{NodeAdmin, NodeReport, ServiceQuiet, VipElsewhere};
pub use packet::{NoSuchPacket, PacketKind};
pub use peering::{PeerMismatch, PeerRouter, PeerStatus, PeeringStatus, SharedFlows};
pub use plan::{
    BackendPlan, Change, ChangeAction, ConfigRequest, ConfigText, ConnectionFate, Loss, Outcome, Plan,
    RevisionInfo, Revisions, ServicePlan, Subject,
};
pub use route::{RouteChange, RouteDeviceKind, RouteStatus};
pub use second_owner::{SecondOwner, SecondOwnerStatus};
pub use status::{
    Action, AttachedMode, BackendStatus, BondMemberState, BondMemberStatus, BondStatus, ConfigInfo, Counters,
    FloorState, FloorStatus, Forwarding, ForwardingState, Health, HealthState, HostStatus, InterfaceStatus,
    Liveness, PassiveStatus, Percentiles, ServiceStatus, Slower, Status, TableStatus, Traffic, Verdict,
    VerdictCount, VipStatus, WatchdogStatus,
};
pub use vrrp::{
    HandedOverStatus, TrackerStatus, VirtualMacStatus, VrrpChange, VrrpSpeaker, VrrpState, VrrpStatus,
};
pub use watch::{DEFAULT_RATE, Frame, WatchRequest, Watched, WatchedPacket};

#[cfg(test)]
mod tests;
