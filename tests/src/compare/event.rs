//! The events that both balancers go through.

use anyhow::Result;

use super::{Balancer, WEIGHTS, lead_through};
use crate::lab::Mode;

const SECOND: &str = "backend-2";

/// Something that happens while connections are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing: the same requests work.
    Steady,
    /// The client's packets come through the other edge node, after a long time without a change.
    Failover,
    /// A fourth backend joins.
    Add,
    /// The first backend gets no new connections.
    Drain,
    /// All weights change.
    Reweight,
    /// The servers of the second backend die.
    Death,
    /// The process that controls the balancer is killed, and started again.
    ControlKilled,
    /// The whole configuration is read again.
    Reload,
    /// A fourth backend joins, and then the other edge node takes over what was begun before.
    AddThenFailover,
    /// The other edge node takes over what was begun a moment after a fourth backend had joined.
    FailoverAfterAdd,
}

impl Event {
    /// In the order in which they are played.
    pub const ALL: [Self; 10] = [
        Self::Steady,
        Self::Failover,
        Self::Add,
        Self::Drain,
        Self::Reweight,
        Self::Death,
        Self::ControlKilled,
        Self::Reload,
        Self::AddThenFailover,
        Self::FailoverAfterAdd,
    ];

    /// As in the names of figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Failover => "failover",
            Self::Add => "add",
            Self::Drain => "drain",
            Self::Reweight => "reweight",
            Self::Death => "death",
            Self::ControlKilled => "control_killed",
            Self::Reload => "reload",
            Self::AddThenFailover => "add_then_failover",
            Self::FailoverAfterAdd => "failover_after_add",
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Steady => "nothing happens",
            Self::Failover => "another node takes over",
            Self::Add => "a backend is added",
            Self::Drain => "a backend is drained",
            Self::Reweight => "weights change",
            Self::Death => "a backend dies",
            Self::ControlKilled => "the control process is killed",
            Self::Reload => "the configuration is reloaded",
            Self::AddThenFailover => "a backend is added, another node takes over",
            Self::FailoverAfterAdd => "the same, of connections begun in between",
        }
    }

    /// Whether vip-lb promises that it breaks nothing. What is known to one node only, and lost with it: translated connections, and
    /// in the other modes those of open slots.
    #[must_use]
    pub fn is_promised(self, mode: Mode) -> bool {
        match self {
            Self::AddThenFailover | Self::FailoverAfterAdd => false,
            Self::Failover => mode != Mode::Nat,
            Self::Steady
            | Self::Add
            | Self::Drain
            | Self::Reweight
            | Self::Death
            | Self::ControlKilled
            | Self::Reload => true,
        }
    }

    /// The client's packets come through the second edge node. Nothing is then left from the events before.
    pub(super) fn fails_over(self) -> bool {
        matches!(self, Self::Failover | Self::AddThenFailover | Self::FailoverAfterAdd)
    }

    /// What comes before the connections are opened.
    pub(super) fn prepare(self, balancer: &mut dyn Balancer) -> Result<()> {
        match self {
            Self::FailoverAfterAdd => balancer.set_weights(&ADDED),
            _ => Ok(()),
        }
    }

    /// Makes it happen, and returns the name of the backend that died of it, if one did; `None` where there is no such thing.
    pub(super) fn happen(self, balancer: &mut dyn Balancer) -> Result<Option<Option<&'static str>>> {
        match self {
            Self::Steady => {}
            Self::Failover | Self::FailoverAfterAdd => lead_through(balancer, 1)?,
            Self::AddThenFailover => {
                balancer.set_weights(&ADDED)?;
                lead_through(balancer, 1)?;
            }
            Self::Add => balancer.set_weights(&ADDED)?,
            Self::Drain => balancer.drain_first(true)?,
            Self::Reweight => balancer.set_weights(&[300, 100, 50])?,
            Self::Death => {
                balancer.site().kill_servers(SECOND);
                balancer.set_second_dead(true)?;
                return Ok(Some(Some(SECOND)));
            }
            Self::ControlKilled => {
                if !balancer.kill_control()? {
                    return Ok(None);
                }
            }
            Self::Reload => balancer.reload()?,
        }
        Ok(Some(None))
    }

    /// Returns to where it began.
    pub(super) fn undo(self, balancer: &mut dyn Balancer) -> Result<()> {
        match self {
            Self::Steady | Self::Reload => Ok(()),
            Self::Failover => lead_through(balancer, 0),
            Self::AddThenFailover | Self::FailoverAfterAdd => {
                lead_through(balancer, 0)?;
                balancer.set_weights(&WEIGHTS)
            }
            Self::Add | Self::Reweight => balancer.set_weights(&WEIGHTS),
            Self::Drain => balancer.drain_first(false),
            Self::Death => {
                balancer.site().start_servers(SECOND)?;
                balancer.set_second_dead(false)
            }
            Self::ControlKilled => balancer.start_control(),
        }
    }
}

/// With a fourth backend.
const ADDED: [u16; 4] = [100, 100, 200, 200];
