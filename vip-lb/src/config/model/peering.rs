//! How nodes of a group speak with each other.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

/// Where nodes expect each other, over TCP. IANA has given it to nobody.
pub const DEFAULT_PEERING_PORT: u16 = 7112;

/// How this node speaks with its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// File with the secret that all nodes of the group have.
    pub secret_file: PathBuf,
    /// The port of all of them, by default 7112.
    pub port: u16,
    /// The address of this node that peers connect to, and from which it connects to them; whichever the host chooses where absent.
    pub listen: Option<IpAddr>,
    /// What they have in common, beside what each decides by itself; by default all there is.
    pub share: BTreeSet<Share>,
}

/// What nodes can have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Orders of operators about backends and hosts: given at one node, they hold at all.
    Orders,
    /// What open slots remember, so that a VIP can move while backends change.
    Flows,
}
