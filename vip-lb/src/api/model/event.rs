//! What happens while somebody watches.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttachedMode, FloorStatus, ForwardingState, HealthState, SecondOwner};
use crate::health::passive::Question;

/// Query of `GET /v1/events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsRequest {
    /// Begin behind the event of this number, as far as it is remembered; 0 for all that are. Absent: with what happens
    /// from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Begin with what happened since this moment, milliseconds since the Unix epoch, as far as it is kept on disk; 0 for all
    /// that is. Without `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Go on with what happens, until the daemon ends. Absent: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number, from 1. A daemon goes on behind the last one that is kept on disk. Of events that were lost, the number of
    /// the last of them.
    pub id: u64,
    /// When it was noticed, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: Occurrence,
}

/// What a verdict of health rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Kind of the check, and whom it asks: `http 192.0.2.7:80`.
    pub check: String,
    /// Good results in a row up to now.
    pub successes: u32,
    /// Bad results in a row up to now.
    pub failures: u32,
    /// How long the last good probe took, microseconds; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_latency_us: Option<u64>,
}

/// How an order to hand over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HandoverEnd {
    /// An operator took the VIPs back.
    TakenBack,
    /// This node is active again: no other node took over, or the one that did was silent or resigned.
    Returned,
}

/// What can happen. Programs must expect words that they do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Occurrence {
    /// The daemon is ready.
    DaemonReady {
        /// Its version.
        version: String,
        /// Its process id.
        pid: u32,
    },
    /// The daemon is about to end; nothing follows.
    DaemonStopping {
        /// Its process id.
        pid: u32,
    },
    /// This node began or ceased to answer for a VIP.
    Ownership {
        /// The VIP.
        vip: IpAddr,
        /// Whether it answers now.
        answering: bool,
        /// Why, a lower-case phrase; absent where ownership is `always`, and where the VIP was removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Somebody else removed or changed the route of a VIP, and it was put back.
    RouteRestored {
        /// The VIP.
        vip: IpAddr,
    },
    /// Somebody else answers for a VIP of this node, too.
    SecondOwner {
        /// The VIP.
        vip: IpAddr,
        /// Who.
        #[serde(flatten)]
        owner: SecondOwner,
    },
    /// What was told of a second owner is past.
    SecondOwnerGone {
        /// The VIP.
        vip: IpAddr,
        /// Who it was.
        #[serde(flatten)]
        owner: SecondOwner,
        /// Why, a lower-case phrase.
        why: String,
    },
    /// The checks of a backend came to another verdict.
    HealthChanged {
        /// Name of the service.
        service: String,
        /// Name of the backend in it.
        backend: String,
        /// What it was taken for; absent if it is new in the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<HealthState>,
        /// What it is taken for now.
        to: HealthState,
        /// What led to it, a lower-case phrase.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// For how long it was as before, milliseconds; absent if this daemon does not know since when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lasted_ms: Option<u64>,
        /// What the verdict rests on; absent where nothing is checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Evidence>,
    },
    /// A backend went into the ring, out of it, or began to drain.
    ForwardingChanged {
        /// Name of the service.
        service: String,
        /// Name of the backend in it.
        backend: String,
        /// How it was; absent if it is new in the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<ForwardingState>,
        /// How it is now; absent if it was removed from the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<ForwardingState>,
        /// Why it is not in the ring, a lower-case phrase.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// For how long it was as before, milliseconds; absent if this daemon does not know since when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lasted_ms: Option<u64>,
    },
    /// A service has too few healthy backends, or enough again; another tier is in use; or checks failed for more backends than may be
    /// removed at once.
    FloorChanged {
        /// Name of the service.
        service: String,
        /// How it is now.
        #[serde(flatten)]
        floor: FloorStatus,
    },
    /// A backend seems not to answer clients, while others of its service do. Its probes decide.
    Suspected {
        /// Name of the service.
        service: String,
        /// Name of the backend in it.
        backend: String,
        /// What it does not answer.
        question: Question,
        /// How many of these in a row, among those of sampled connections.
        unanswered: u32,
        /// How many of them came again.
        again: u32,
        /// Networks of clients that they came from: /24 of IPv4, /48 of IPv6.
        networks: u32,
        /// Since when it does not answer, milliseconds ago.
        for_ms: u64,
        /// The same question to other backends of the service in that time.
        others: u32,
        /// How many of those were answered.
        others_answered: u32,
        /// Whether it is probed at once; if not, it is only told.
        probed: bool,
    },
    /// An operator ordered a backend to drain.
    Drain {
        /// Name of the service.
        service: String,
        /// Name of the backend in it.
        backend: String,
        /// Whether its connections are cut.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
        /// The node where the order was given, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An operator withdrew an order to drain.
    Undrain {
        /// Name of the service.
        service: String,
        /// Name of the backend in it.
        backend: String,
        /// The node where the order was given, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An operator ordered all that is at an address to drain, or will be.
    HostDrain {
        /// The address.
        host: IpAddr,
        /// Whether connections are cut.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
        /// The node where the order was given, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An operator withdrew such an order.
    HostUndrain {
        /// The address.
        host: IpAddr,
        /// The node where the order was given, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An operator ordered this node to give up its VIPs.
    NodeDrain,
    /// An operator withdrew that.
    NodeUndrain,
    /// What a virtual router depends on is not well, or is again.
    TrackerChanged {
        /// The VIPs of the router.
        vips: Vec<IpAddr>,
        /// What it depends on, as in the status.
        tracker: String,
        /// Whether it is not well.
        failing: bool,
        /// Why, a lower-case phrase.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What is added to the priority meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<i16>,
        /// Whether this node takes no part meanwhile.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fault: bool,
    },
    /// An operator handed VIPs over to another node.
    HandedOver {
        /// All that move.
        vips: Vec<IpAddr>,
        /// The node that is to take over, as the operator called it; absent for the one of the highest priority.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Such an order holds no more.
    HandoverEnded {
        /// All that it was about.
        vips: Vec<IpAddr>,
        /// How it came to that.
        end: HandoverEnd,
    },
    /// This node and a peer hear each other.
    PeerConnected {
        /// Its address in `node.peers`.
        peer: IpAddr,
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// They do no longer.
    PeerLost {
        /// Its address in `node.peers`.
        peer: IpAddr,
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Why, a lower-case phrase.
        why: String,
    },
    /// A peer does something otherwise than this node.
    PeerMismatch {
        /// Its address in `node.peers`.
        peer: IpAddr,
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// A lower-case phrase, in which the other node is `there`.
        what: String,
    },
    /// A peer does all as this node does.
    PeerAgrees {
        /// Its address in `node.peers`.
        peer: IpAddr,
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A configuration came into force.
    ConfigReloaded {
        /// Its fingerprint.
        hash: String,
        /// What it changed, one line each.
        changes: Vec<String>,
        /// What it says that is valid but doubtful, one line each.
        warnings: Vec<String>,
    },
    /// A configuration was refused; nothing was changed.
    ReloadRefused {
        /// Why, a lower-case phrase.
        error: String,
        /// One line per mistake.
        details: Vec<String>,
    },
    /// The packet program is on an interface, or its mode changed.
    InterfaceAttached {
        /// Kernel name of the interface.
        interface: String,
        /// Where in the receive path the program runs.
        mode: AttachedMode,
    },
    /// The packet program is no longer on an interface.
    InterfaceDetached {
        /// Kernel name of the interface.
        interface: String,
    },
    /// What an operator should know, as in the status.
    Warning {
        /// A lower-case phrase.
        text: String,
    },
    /// What a warning told of has passed.
    WarningEnded {
        /// The phrase of the warning.
        text: String,
    },
    /// Events that this reader was too slow for, or that are no longer remembered.
    Lost {
        /// How many.
        events: u64,
    },
}
