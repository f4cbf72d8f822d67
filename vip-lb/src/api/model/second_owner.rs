//! Who else is at a VIP.

use std::{fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Somebody else who answers for a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecondOwner {
    /// Its hardware address, with colons.
    pub mac: String,
    /// The interface of this node on which it was heard.
    pub interface: String,
    /// The VLAN that it is in; absent without a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// An address of its own, where this node has it among its neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
}

/// The same at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecondOwnerStatus {
    /// Who.
    #[serde(flatten)]
    pub owner: SecondOwner,
    /// When it was heard first, milliseconds since 1970.
    pub since_ms: u64,
    /// When it was heard last, milliseconds since 1970.
    pub last_ms: u64,
}

impl fmt::Display for SecondOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mac, interface, vlan, host } = self;
        f.write_str(mac)?;
        if let Some(host) = host {
            write!(f, " ({host})")?;
        }
        write!(f, " on {interface}")?;
        match vlan {
            Some(vlan) => write!(f, ", VLAN {vlan}"),
            None => Ok(()),
        }
    }
}
