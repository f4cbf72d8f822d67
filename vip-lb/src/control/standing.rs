//! Where a backend stands: what configuration, operator and health together say of it.

use std::fmt;

use crate::{
    config::model::{AdminState, OnDown},
    health::{Connections, DownCause, State},
    state::OrderKind,
};

/// What a backend may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Takes its share of new flows.
    Serving,
    /// Keeps the flows it has, gets no new ones.
    Draining(Cause),
    /// Out: the flows it had are lost.
    Out(Cause),
}

/// Why a backend is not serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// `state: drain` in the configuration.
    Configured,
    /// `vip-lb drain`.
    Operator,
    /// `vip-lb drain --force`.
    Cut,
    /// `state: disabled` in the configuration.
    Disabled,
    /// Its check found it answering, but not well.
    Unhealthy,
    /// Its check could not reach it.
    Unreachable,
    /// Its check has no result yet.
    NotChecked,
    /// Backends of an earlier tier are enough.
    Standby,
    /// Too few backends are healthy, and the service fails closed.
    Closed,
    /// No longer in the configuration.
    Removed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "drained in the configuration",
            Self::Operator => "drained by the operator",
            Self::Cut => "cut by the operator",
            Self::Disabled => "disabled in the configuration",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
            Self::NotChecked => "not checked yet",
            Self::Standby => "standby: an earlier tier is enough",
            Self::Closed => "too few backends are healthy, and the service fails closed",
            Self::Removed => "removed from the configuration",
        })
    }
}

impl Standing {
    /// The standing of a configured backend. `health` is `None` where nothing is checked.
    #[must_use]
    pub fn of(admin: AdminState, order: Option<OrderKind>, health: Option<&State>, on_down: OnDown) -> Self {
        if admin == AdminState::Disabled {
            return Self::Out(Cause::Disabled);
        }
        if order == Some(OrderKind::Cut) {
            return Self::Out(Cause::Cut);
        }
        match health {
            Some(State::Down(down)) => {
                let cause = match down.cause {
                    DownCause::Unhealthy => Cause::Unhealthy,
                    DownCause::Unreachable => Cause::Unreachable,
                };
                match down.cause.connections(on_down) {
                    Connections::Cut => Self::Out(cause),
                    Connections::Drain => Self::Draining(cause),
                }
            }
            _ if admin == AdminState::Drain => Self::Draining(Cause::Configured),
            _ if order == Some(OrderKind::Drain) => Self::Draining(Cause::Operator),
            Some(State::Unknown) => Self::Draining(Cause::NotChecked),
            Some(State::Up) | None => Self::Serving,
        }
    }

    /// Whether its flows stay.
    #[must_use]
    pub fn is_alive(self) -> bool {
        !matches!(self, Self::Out(_))
    }

    /// Why it is not serving.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Serving => None,
            Self::Draining(cause) | Self::Out(cause) => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Down;

    #[test]
    fn every_combination_has_its_standing() {
        let down = |cause| Some(State::Down(Down { cause, reason: "x".into() }));
        let (up, unknown) = (Some(State::Up), Some(State::Unknown));
        let unhealthy = down(DownCause::Unhealthy);
        let unreachable = down(DownCause::Unreachable);
        use AdminState::{Disabled, Drain, Enabled};
        use Standing::{Draining, Out, Serving};
        let (drain, cut) = (Some(OrderKind::Drain), Some(OrderKind::Cut));
        let table = [
            ("healthy", Enabled, None, &up, OnDown::Auto, Serving),
            ("unchecked", Enabled, None, &None, OnDown::Auto, Serving),
            ("new", Enabled, None, &unknown, OnDown::Auto, Draining(Cause::NotChecked)),
            ("operator's drain", Enabled, drain, &up, OnDown::Auto, Draining(Cause::Operator)),
            (
                "operator's drain of a dead one",
                Enabled,
                drain,
                &unreachable,
                OnDown::Auto,
                Out(Cause::Unreachable),
            ),
            ("configured drain", Drain, None, &up, OnDown::Auto, Draining(Cause::Configured)),
            (
                "configured drain of a dead one",
                Drain,
                None,
                &unreachable,
                OnDown::Auto,
                Out(Cause::Unreachable),
            ),
            ("disabled though up", Disabled, None, &up, OnDown::Drain, Out(Cause::Disabled)),
            ("answers badly", Enabled, None, &unhealthy, OnDown::Auto, Draining(Cause::Unhealthy)),
            ("does not answer", Enabled, None, &unreachable, OnDown::Auto, Out(Cause::Unreachable)),
            ("answers badly, cut", Enabled, None, &unhealthy, OnDown::Cut, Out(Cause::Unhealthy)),
            (
                "does not answer, drain",
                Enabled,
                None,
                &unreachable,
                OnDown::Drain,
                Draining(Cause::Unreachable),
            ),
            ("operator's cut", Enabled, cut, &up, OnDown::Drain, Out(Cause::Cut)),
            ("operator's cut of an unchecked one", Drain, cut, &None, OnDown::Auto, Out(Cause::Cut)),
            ("disabled and cut", Disabled, cut, &up, OnDown::Auto, Out(Cause::Disabled)),
        ];
        for (name, admin, order, health, on_down, expected) in table {
            assert_eq!(Standing::of(admin, order, health.as_ref(), on_down), expected, "{name}");
        }
    }
}
