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

/// The MTU of the interface with this name in the network namespace of the calling thread, in bytes.
#[must_use]
pub fn interface_mtu(name: &str) -> Option<u32> {
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
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    if result < 0 {
        return None;
    }
    // SAFETY: the call succeeded and left the MTU there.
    u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_a_name_and_an_mtu_and_what_is_not_there_has_none() {
        assert_eq!(interface_name(1).as_deref(), Some("lo"));
        assert!(interface_mtu("lo").is_some_and(|mtu| mtu >= 1280));
        assert_eq!(interface_name(1_000_000), None);
        assert_eq!(interface_mtu("no-such-device"), None);
        assert_eq!(interface_mtu("a-name-that-is-too-long"), None);
    }
}
