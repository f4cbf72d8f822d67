//! Questions to the kernel's routing netlink (rtnetlink(7)), one at a time.
//!
//! The socket is a blocking one: the kernel answers such questions while they are asked, and what a lease needs must be there before it.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use socket2::{Domain, Protocol, Socket, Type};

/// The kernel answers at once; this is for a kernel that does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks one thing, and waits for the end of the answer.
///
/// # Errors
///
/// The kernel refuses it, or says nothing in time.
pub(super) fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW.cloexec(),
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    // Unconnected, a netlink socket sends to the kernel.
    socket.send(&bytes)?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = (&socket).read(&mut buffer)?;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(invalid)?;
            // Messages begin at multiples of four bytes (NLMSG_ALIGN).
            let step = (answer.header.length as usize).max(1).next_multiple_of(4);
            rest = rest.get(step..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}
