//! The solicited-node multicast groups of IPv6 VIPs (RFC 4291, section 2.7.1).
//!
//! A neighbour solicitation for an address goes to the address's group, and network cards drop the multicast
//! that nobody joined. No socket owns a VIP, so the groups have to be joined by hand. ARP is broadcast and
//! needs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv6Addr,
};

use socket2::{Domain, Socket, Type};
use thiserror::Error;

/// The group to which neighbour solicitations for an address are sent: `ff02::1:ff` and the address's last
/// 24 bits.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | (address.to_bits() & 0x00ff_ffff))
}

/// The groups that a [`SolicitedNodeMemberships::set`] joined and left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// Newly joined groups.
    pub joined: Vec<Ipv6Addr>,
    /// Groups left.
    pub left: Vec<Ipv6Addr>,
}

/// A group that cannot be joined or left. What was done before it stays done; setting the same addresses
/// again tries the rest.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// The group cannot be joined.
    #[error("cannot join multicast group {group} on interface #{ifindex}")]
    Join {
        /// The group.
        group: Ipv6Addr,
        /// The interface's index.
        ifindex: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The group cannot be left.
    #[error("cannot leave multicast group {group} on interface #{ifindex}")]
    Leave {
        /// The group.
        group: Ipv6Addr,
        /// The interface's index.
        ifindex: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Memberships in solicited-node groups, in the network namespace of the thread that sets them. Dropping it
/// leaves them all.
#[derive(Debug, Default)]
pub struct SolicitedNodeMemberships {
    // How many memberships fit one socket is a matter of `net.core.optmem_max`, so there may be several.
    sockets: Vec<Socket>,
    /// The number of the socket that holds a membership.
    members: BTreeMap<(u32, Ipv6Addr), usize>,
}

impl SolicitedNodeMemberships {
    /// No memberships yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the groups of these addresses the ones joined on an interface: joins what is new, leaves what is
    /// gone. Addresses with the same last 24 bits share a group. Needs no privileges.
    pub fn set(&mut self, ifindex: u32, addresses: &[Ipv6Addr]) -> Result<MembershipChange, MembershipError> {
        let wanted: BTreeSet<Ipv6Addr> = addresses.iter().copied().map(solicited_node).collect();
        let present: BTreeSet<Ipv6Addr> = self.groups(ifindex).collect();
        let mut change = MembershipChange::default();
        // Leaving first makes room in the sockets.
        for group in present.difference(&wanted) {
            self.leave(ifindex, *group).map_err(|source| MembershipError::Leave {
                group: *group,
                ifindex,
                source,
            })?;
            change.left.push(*group);
        }
        for group in wanted.difference(&present) {
            self.join(ifindex, *group).map_err(|source| MembershipError::Join {
                group: *group,
                ifindex,
                source,
            })?;
            change.joined.push(*group);
        }
        Ok(change)
    }

    /// The groups joined on an interface.
    pub fn groups(&self, ifindex: u32) -> impl Iterator<Item = Ipv6Addr> {
        self.members
            .range((ifindex, Ipv6Addr::UNSPECIFIED)..)
            .take_while(move |((member, _), _)| *member == ifindex)
            .map(|((_, group), _)| *group)
    }

    /// How many sockets the memberships are spread over.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    fn join(&mut self, ifindex: u32, group: Ipv6Addr) -> io::Result<()> {
        let mut joined = None;
        for (number, socket) in self.sockets.iter().enumerate() {
            match socket.join_multicast_v6(&group, ifindex) {
                Ok(()) => joined = Some(number),
                Err(error) if is_full(&error) => continue,
                Err(error) => return Err(error),
            }
            break;
        }
        let number = match joined {
            Some(number) => number,
            None => {
                let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
                socket.join_multicast_v6(&group, ifindex)?;
                self.sockets.push(socket);
                self.sockets.len() - 1
            }
        };
        self.members.insert((ifindex, group), number);
        Ok(())
    }

    fn leave(&mut self, ifindex: u32, group: Ipv6Addr) -> io::Result<()> {
        let Some(socket) = self.members.get(&(ifindex, group)).and_then(|number| self.sockets.get(*number))
        else {
            return Ok(());
        };
        match socket.leave_multicast_v6(&group, ifindex) {
            // An interface that goes takes its memberships along.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
                Err(error)
            }
            _ => {
                self.members.remove(&(ifindex, group));
                Ok(())
            }
        }
    }
}

/// Whether a socket's option memory is used up.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_keeps_the_last_24_bits() {
        for (address, group) in [
            // RFC 4291, section 2.7.1.
            ("4037::1:800:200e:8c6c", "ff02::1:ff0e:8c6c"),
            ("2001:db8::1", "ff02::1:ff00:1"),
            ("2001:db8::ffff:ffff", "ff02::1:ffff:ffff"),
        ] {
            assert_eq!(solicited_node(address.parse().unwrap()), group.parse::<Ipv6Addr>().unwrap());
        }
    }
}
