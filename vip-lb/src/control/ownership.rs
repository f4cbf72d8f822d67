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
}

impl Claim {
    /// The claim to a VIP of a node that is drained for a reason, or is not.
    #[must_use]
    pub fn of(node: Option<Withdrawal>) -> Self {
        node.map_or(Self::Wanted, Self::Withdrawn)
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
        })
    }
}
