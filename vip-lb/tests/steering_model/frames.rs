//! Frames of clients.

use vip_lb_common::headers::protocol;

pub(crate) const FIN: u8 = 0x11;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// The VIP of the model.
pub(crate) const VIP: [u8; 4] = [10, 0, 0, 1];
/// The port of its service.
pub(crate) const PORT: u16 = 80;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) address: [u8; 4],
    pub(crate) port: u16,
}

/// A TCP segment with these flags, or a UDP datagram, from a client to the service.
pub(crate) fn frame(client: Client, flags: Option<u8>) -> Vec<u8> {
    let transport_len: u16 = if flags.is_some() { 20 } else { 8 };
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + transport_len).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64]);
    frame.push(if flags.is_some() { protocol::TCP } else { protocol::UDP });
    frame.extend([0, 0]);
    frame.extend(client.address);
    frame.extend(VIP);
    frame.extend(client.port.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    match flags {
        Some(flags) => {
            frame.extend([0; 8]);
            frame.extend([0x50, flags]);
            frame.extend([0; 6]);
        }
        None => {
            frame.extend(transport_len.to_be_bytes());
            frame.extend([0, 0]);
        }
    }
    frame
}
