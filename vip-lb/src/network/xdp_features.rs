//! What an interface's driver can do with XDP, asked of the generic netlink family `netdev` (kernel 6.3).
//!
//! Without it the kernel says of a redirect that cannot be sent nothing at all: the packet is dropped and counted by a tracepoint.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

// linux/genetlink.h: the controller tells the numbers of families.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/netdev.h.
const FAMILY: &[u8] = b"netdev\0";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;
const NETDEV_XDP_ACT_NDO_XMIT_SG: u64 = 64;

/// Bytes of `struct nlmsghdr` and of the `struct genlmsghdr` behind it.
const HEADERS_LEN: usize = 16 + 4;

/// What the driver of an interface says it can do at the moment. Some can do more once a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// From the bits of `enum netdev_xdp_act` (linux/netdev.h).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether it runs programs itself: native mode.
    #[must_use]
    pub fn runs_programs(self) -> bool {
        self.0 & NETDEV_XDP_ACT_BASIC != 0
    }

    /// Whether it sends what a program of another interface redirects to it.
    #[must_use]
    pub fn sends_redirected(self) -> bool {
        self.0 & NETDEV_XDP_ACT_NDO_XMIT != 0
    }

    /// Whether it hands programs frames that lie in several buffers.
    #[must_use]
    pub fn receives_fragments(self) -> bool {
        self.0 & NETDEV_XDP_ACT_RX_SG != 0
    }

    /// Whether it sends redirected frames that lie in several buffers.
    #[must_use]
    pub fn sends_redirected_fragments(self) -> bool {
        self.0 & NETDEV_XDP_ACT_NDO_XMIT_SG != 0
    }
}

/// Asks the kernel about an interface of the calling thread's network namespace. `None` where the kernel is older than 6.3, does not know
/// the interface, or does not answer: then nothing is known. Needs no privileges.
#[must_use]
pub fn xdp_features(ifindex: u32) -> Option<XdpFeatures> {
    ask(ifindex).ok().flatten()
}

fn ask(ifindex: u32) -> io::Result<Option<XdpFeatures>> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let family = request(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, FAMILY)?;
    let Some(family) = attribute(&family, CTRL_ATTR_FAMILY_ID).and_then(|value| value.try_into().ok()) else {
        return Ok(None);
    };
    let family = u16::from_ne_bytes(family);
    let device = request(&socket, family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes())?;
    let features = attribute(&device, NETDEV_A_DEV_XDP_FEATURES).and_then(|value| value.try_into().ok());
    Ok(features.map(|bits| XdpFeatures::from_bits(u64::from_ne_bytes(bits))))
}

/// Sends a request with one attribute and returns the attributes of the answer, which the kernel has put into the socket by the time that the
/// request is sent.
fn request(socket: &Socket, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(&message(family, command, attribute, value), 0)?;
    let mut answer = Vec::with_capacity(8192);
    socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
    attributes_of(&answer, family)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the kernel refuses the request"))
}

fn message(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_len = 4 + value.len();
    let len = HEADERS_LEN + attribute_len.next_multiple_of(4);
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Sequence number and port: one request at a time, on a connected socket.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend((attribute_len as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(len, 0);
    message
}

/// The attributes of an answer; `None` if it is an error.
fn attributes_of(answer: &[u8], family: u16) -> Option<&[u8]> {
    let len = u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != family {
        return None;
    }
    answer.get(HEADERS_LEN..len)
}

/// The value of an attribute.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// The flags in the upper bits of an attribute's number (`NLA_TYPE_MASK`).
    const NUMBER: u16 = 0x3fff;
    loop {
        let len = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let number = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if number & NUMBER == wanted {
            return attributes.get(4..len);
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others_and_missed_at_any_cut() {
        let attributes =
            [&[7, 0, 1, 0, b'a', b'b', b'c', 0][..], &[12, 0, 3, 0x80, 5, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(attribute(&attributes, 1), Some(&b"abc"[..]));
        assert_eq!(attribute(&attributes, 3), Some(&[5, 0, 0, 0, 0, 0, 0, 0][..]));
        assert_eq!(attribute(&attributes, 2), None);
        for len in 0..attributes.len() {
            assert_eq!(attribute(&attributes[..len], 3), None, "cut to {len}");
        }
        assert_eq!(attribute(&[0; 8], 3), None, "lengths of 0 end");
    }

    #[test]
    fn an_error_has_no_attributes() {
        let own = message(30, 1, 3, &[5; 8]);
        assert_eq!(attribute(attributes_of(&own, 30).unwrap(), 3), Some(&[5; 8][..]));
        assert_eq!(attributes_of(&own, 31), None);
        assert_eq!(attributes_of(&own[..own.len() - 1], 30), None);
        assert_eq!(attributes_of(&[], 30), None);
    }

    #[test]
    fn features_are_bits() {
        let features = XdpFeatures(NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_RX_SG);
        assert!(features.runs_programs() && features.receives_fragments());
        assert!(!features.sends_redirected() && !features.sends_redirected_fragments());
    }
}
