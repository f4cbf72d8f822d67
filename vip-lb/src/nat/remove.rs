//! Removes a connection without ever leaving half of one that lives.

use vip_lb_common::abi::{FlowKey, NatFlow, NatReply, NatReplyKey};

use super::Ended;

/// The two tables, for whoever removes from them while packets write to them.
pub trait NatTables {
    /// Why a table cannot be read or written.
    type Error;

    /// The entry of NAT_FLOWS as it is now.
    fn flow(&self, key: &FlowKey) -> Result<Option<NatFlow>, Self::Error>;

    /// Removes an entry of NAT_FLOWS and tells, in the same step, what it was.
    fn take_flow(&self, key: &FlowKey) -> Result<Option<NatFlow>, Self::Error>;

    /// Inserts an entry into NAT_FLOWS. False if there is one.
    fn put_flow(&self, key: &FlowKey, flow: &NatFlow) -> Result<bool, Self::Error>;

    /// The entry of NAT_REPLIES as it is now.
    fn reply(&self, key: &NatReplyKey) -> Result<Option<NatReply>, Self::Error>;

    /// Removes an entry of NAT_REPLIES and tells, in the same step, what it was.
    fn take_reply(&self, key: &NatReplyKey) -> Result<Option<NatReply>, Self::Error>;

    /// Inserts an entry into NAT_REPLIES. False if there is one.
    fn put_reply(&self, key: &NatReplyKey, reply: &NatReply) -> Result<bool, Self::Error>;
}

/// Removes a connection that has ended, unless a packet of it came by since it was read. Tells whether it is gone.
///
/// The client's side goes first: from then on no packet of the client's finds the connection, and the backend's side, which holds
/// the port, goes after it. What was touched since is put back, so that a packet that came at the last moment finds its connection as it was, or,
/// between two steps, is lost and sent again.
///
/// # Errors
///
/// Why a table cannot be read or written; then what is left is half a connection at most, which a later look finds.
pub fn remove<T: NatTables>(tables: &T, ended: &Ended) -> Result<bool, T::Error> {
    match ended {
        Ended::Flow(key, read) => Ok(take_flow(tables, key, read)?.is_gone()),
        Ended::Reply(key, read) => Ok(take_reply(tables, key, read)?.is_gone()),
        Ended::Whole { flow: (flow_key, flow), reply: (reply_key, reply) } => {
            // Looking costs a packet nothing, taking away may.
            if tables.reply(reply_key)?.is_some_and(|now| now != *reply) {
                return Ok(false);
            }
            let of_client = take_flow(tables, flow_key, flow)?;
            if !of_client.is_gone() {
                return Ok(false);
            }
            let of_backend = take_reply(tables, reply_key, reply)?;
            if let Taken::Back = of_backend
                && let Taken::Gone(Some(flow)) = of_client
            {
                // If the client began anew in between, that connection stays, and the reply is alone.
                tables.put_flow(flow_key, &flow)?;
            }
            Ok(of_backend.is_gone())
        }
    }
}

/// What became of an entry.
enum Taken<T> {
    /// It is not there any more; this is what it was, unless it had gone before.
    Gone(Option<T>),
    /// A packet had touched it, and it is where it was.
    Back,
}

impl<T> Taken<T> {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }
}

fn take_flow<T: NatTables>(tables: &T, key: &FlowKey, read: &NatFlow) -> Result<Taken<NatFlow>, T::Error> {
    if tables.flow(key)?.is_some_and(|now| now != *read) {
        return Ok(Taken::Back);
    }
    match tables.take_flow(key)? {
        Some(now) if now != *read => {
            Ok(if tables.put_flow(key, &now)? { Taken::Back } else { Taken::Gone(Some(now)) })
        }
        taken => Ok(Taken::Gone(taken)),
    }
}

fn take_reply<T: NatTables>(
    tables: &T,
    key: &NatReplyKey,
    read: &NatReply,
) -> Result<Taken<NatReply>, T::Error> {
    if tables.reply(key)?.is_some_and(|now| now != *read) {
        return Ok(Taken::Back);
    }
    match tables.take_reply(key)? {
        Some(now) if now != *read => {
            Ok(if tables.put_reply(key, &now)? { Taken::Back } else { Taken::Gone(Some(now)) })
        }
        taken => Ok(Taken::Gone(taken)),
    }
}

#[cfg(test)]
mod tests;
