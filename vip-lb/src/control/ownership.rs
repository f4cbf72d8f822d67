//! Whether this node wants to be found at a VIP. This is the one place that says so; who answers and announces goes by it.
//!
//! A claim is not yet possession: it says what configuration, operator and health want of this node alone.

use std::fmt;

/// What this node wants of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Packets for it are to come here.
    Wanted,
    /// They are to go elsewhere. Those that come all the same are forwarded.
    Withdrawn(Withdrawal),
}

/// Why a node wants no packets for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// `node.state: drain` in the configuration.
    NodeConfigured,
    /// `vip-lb drain --node`.
    NodeOrdered,
    /// It has just started, and peers know of flows that it would break.
    Learning,
    /// All of its services have too few healthy backends and fail closed.
    Closed,
}

impl Claim {
    /// The claim to a VIP of a node that is drained for a reason, or is not. `closed` tells of each of its services whether it is closed: one
    /// that works keeps the VIP here, because taking it away would fail that one as well.
    #[must_use]
    pub fn of(node: Option<Withdrawal>, closed: impl IntoIterator<Item = bool>) -> Self {
        let mut closed = closed.into_iter().peekable();
        let all_closed = closed.peek().is_some() && closed.all(|closed| closed);
        node.or(all_closed.then_some(Withdrawal::Closed)).map_or(Self::Wanted, Self::Withdrawn)
    }

    /// Whether packets are to come here.
    #[must_use]
    pub fn is_wanted(self) -> bool {
        self == Self::Wanted
    }

    /// Why they are not.
    #[must_use]
    pub fn withdrawal(self) -> Option<Withdrawal> {
        match self {
            Self::Wanted => None,
            Self::Withdrawn(why) => Some(why),
        }
    }
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeConfigured => "this node is drained in the configuration",
            Self::NodeOrdered => "this node is drained by the operator",
            Self::Learning => "this node is learning which flows its peers have recorded",
            Self::Closed => "all of its services have too few healthy backends and fail closed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_is_withdrawn_with_its_last_service() {
        assert_eq!(Claim::of(None, []), Claim::Wanted, "it has none that could be closed");
        assert_eq!(Claim::of(None, [false, true]), Claim::Wanted);
        assert_eq!(Claim::of(None, [true, true]), Claim::Withdrawn(Withdrawal::Closed));
        let drained = Claim::of(Some(Withdrawal::NodeOrdered), [true]);
        assert_eq!(drained.withdrawal(), Some(Withdrawal::NodeOrdered));
    }
}
