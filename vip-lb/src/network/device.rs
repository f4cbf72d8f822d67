//! What the kernel says of a device at once, without a netlink connection: for code that is not asynchronous.

use std::{ffi::CStr, os::fd::AsRawFd};

use socket2::{Domain, Socket, Type};

/// The name of the interface with this index in the network namespace of the calling thread.
#[must_use]
pub fn interface_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IFNAMSIZ];
    // SAFETY: the buffer has the length that the call asks for.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    CStr::from_bytes_until_nul(&name).ok()?.to_str().ok().map(str::to_owned)
}

/// Whether the interface with this name in the network namespace of the calling thread is up and has a link (`IFF_UP` and `IFF_RUNNING`,
/// netdevice(7)). One that is not there has none.
#[must_use]
pub fn interface_runs(name: &str) -> bool {
    let runs = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the call leaves the flags there.
    ask(name, libc::SIOCGIFFLAGS).is_some_and(|answer| unsafe { answer.ifr_ifru.ifru_flags } & runs == runs)
}

/// The MTU of the interface with this name in the network namespace of the calling thread, in bytes.
#[must_use]
pub fn interface_mtu(name: &str) -> Option<u32> {
    // SAFETY: the call leaves the MTU there.
    u32::try_from(unsafe { ask(name, libc::SIOCGIFMTU)?.ifr_ifru.ifru_mtu }).ok()
}

/// What a request about an interface leaves behind; nothing if it fails.
fn ask(name: &str, what: libc::Ioctl) -> Option<libc::ifreq> {
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 } };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).ok()?;
    // SAFETY: the request lives through the call, which writes only into it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    (result >= 0).then_some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_a_name_and_an_mtu_and_what_is_not_there_has_none() {
        assert_eq!(interface_name(1).as_deref(), Some("lo"));
        assert!(interface_mtu("lo").is_some_and(|mtu| mtu >= 1280));
        assert_eq!(interface_name(1_000_000), None);
        assert!(interface_runs("lo") && !interface_runs("no-such-device"));
        assert_eq!(interface_mtu("no-such-device"), None);
        assert_eq!(interface_mtu("a-name-that-is-too-long"), None);
    }
}
