//! Entries in the multicast filters of network cards that outlive the process which made them.
//!
//! A group joined by a socket ([`SolicitedNodeMemberships`](super::SolicitedNodeMemberships)) is announced by MLD, which
//! switches that snoop need to hear, but the kernel leaves it when the process ends, however it ends. The program in
//! the kernel goes on answering for its VIPs then, if the card still lets their solicitations through. That is what an
//! entry in the interface's link-layer list does, the one `ip maddress add` makes: it is not announced, and it stays.
//! So an IPv6 VIP needs both.
//!
//! The kernel keeps one such entry for each address and interface and does not count who asked for it
//! (`global_use`, net/core/dev_addr_lists.c); memberships are counted apart. Whoever removes an entry must therefore
//! know that it was its own: see [`HostChanges`](super::HostChanges).

use std::{collections::BTreeSet, io, net::Ipv6Addr, os::fd::AsRawFd};

use socket2::{Domain, Socket, Type};
use thiserror::Error;

use super::multicast::solicited_node;

/// The multicast lists of all interfaces in the network namespace of the calling thread (`/proc/net` would be the
/// process's).
const LIST: &str = "/proc/thread-self/net/dev_mcast";

/// A filter that cannot be read or changed.
#[derive(Debug, Error)]
#[error("cannot {attempt} the multicast filter of interface `{interface}`")]
pub struct FilterError {
    attempt: &'static str,
    /// The interface's name.
    pub interface: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// Lets neighbour solicitations for these addresses in, whatever becomes of this process. Returns the solicited-node
/// groups that were not let in that way before, for [`dismiss`]. Needs `CAP_NET_ADMIN` if there are any.
///
/// A device without a filter takes every multicast: then there is nothing to do.
pub fn admit(interface: &str, addresses: &[Ipv6Addr]) -> Result<Vec<Ipv6Addr>, FilterError> {
    let mut added = Vec::new();
    for group in missing(interface, addresses)? {
        match change(interface, libc::SIOCADDMULTI, group) {
            Ok(()) => added.push(group),
            Err(error) if has_no_filter(&error) => return Ok(Vec::new()),
            Err(source) => return Err(failed("extend", interface, source)),
        }
    }
    Ok(added)
}

/// The solicited-node groups of these addresses that no entry of the kind that stays lets in.
pub(super) fn missing(interface: &str, addresses: &[Ipv6Addr]) -> Result<BTreeSet<Ipv6Addr>, FilterError> {
    let present = admitted(interface)?;
    let groups = addresses.iter().copied().map(solicited_node);
    Ok(groups.filter(|group| !present.contains(&link_address(*group))).collect())
}

/// Takes back what [`admit`] let in; `groups` are what it returned. One that is gone already is no error.
pub fn dismiss(interface: &str, groups: &[Ipv6Addr]) -> Result<(), FilterError> {
    for group in groups {
        match change(interface, libc::SIOCDELMULTI, *group) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) || has_no_filter(&error) => {}
            result => result.map_err(|source| failed("shrink", interface, source))?,
        }
    }
    Ok(())
}

/// The addresses that are let in on an interface by entries of the kind that stay.
fn admitted(interface: &str) -> Result<BTreeSet<[u8; 6]>, FilterError> {
    let list = std::fs::read_to_string(LIST).map_err(|source| failed("read", interface, source))?;
    Ok(lasting_entries(&list, interface))
}

/// Reads lines of index, name, number of users, whether one of them is an entry that stays, address in hexadecimal.
fn lasting_entries(list: &str, interface: &str) -> BTreeSet<[u8; 6]> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (name, _, lasting) = (fields.next()?, fields.next()?, fields.next()?);
        let address = u64::from_str_radix(fields.next().filter(|digits| digits.len() == 12)?, 16).ok()?;
        let [_, _, address @ ..] = address.to_be_bytes();
        (name == interface && lasting != "0").then_some(address)
    };
    list.lines().filter_map(entry).collect()
}

/// The Ethernet address that packets to a group are sent to (RFC 2464, section 7).
fn link_address(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn change(interface: &str, request: libc::Ioctl, group: Ipv6Addr) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    if interface.is_empty() || interface.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let mut address = libc::sockaddr {
        // Neither multicast ioctl takes another family.
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    for (to, from) in address.sa_data.iter_mut().zip(link_address(group)) {
        *to = from as libc::c_char;
    }
    let mut argument =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_hwaddr: address } };
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // SAFETY: the request lives through the call, which reads a name and an address from it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the driver has no call to change its filter (net/core/dev_ioctl.c).
fn has_no_filter(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

fn failed(attempt: &'static str, interface: &str, source: io::Error) -> FilterError {
    FilterError { attempt, interface: interface.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_sent_to_by_its_last_four_bytes() {
        let group = solicited_node("2001:db8::12:3456".parse().unwrap());
        assert_eq!(link_address(group), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn only_lasting_entries_of_that_interface_count() {
        let list = "\
2    eth0            1     0     333300000001
2    eth0            2     1     3333ff000007
2    eth0            1     0     3333ff000008
3    eth1            1     1     3333ff000009
4    ib0             1     1     00ffffffff12401bffff000000000000ffffffff
";
        let entries = lasting_entries(list, "eth0");
        assert_eq!(entries.into_iter().collect::<Vec<_>>(), [[0x33, 0x33, 0xff, 0, 0, 7]]);
        assert_eq!(lasting_entries(list, "ib0"), BTreeSet::new());
    }
}
