//! The tables of translated connections, as whoever collects in them needs them.

use std::io;

use anyhow::Context as _;
use vip_lb_common::abi::{FlowKey, NatFlow, NatReply, NatReplyKey};

use super::{maps::Dataplane, raw};
use crate::nat::NatTables;

impl Dataplane {
    /// All entries of NAT_FLOWS.
    pub fn nat_flows(&self) -> anyhow::Result<Vec<(FlowKey, NatFlow)>> {
        raw::entries(self.nat_flow_table().fd()).context("cannot read NAT_FLOWS")
    }

    /// All entries of NAT_REPLIES.
    pub fn nat_replies(&self) -> anyhow::Result<Vec<(NatReplyKey, NatReply)>> {
        raw::entries(self.nat_reply_table().fd()).context("cannot read NAT_REPLIES")
    }
}

impl NatTables for Dataplane {
    type Error = anyhow::Error;

    fn flow(&self, key: &FlowKey) -> anyhow::Result<Option<NatFlow>> {
        in_flows(raw::lookup(self.nat_flow_table().fd(), *key))
    }

    fn take_flow(&self, key: &FlowKey) -> anyhow::Result<Option<NatFlow>> {
        in_flows(raw::take(self.nat_flow_table().fd(), *key))
    }

    fn put_flow(&self, key: &FlowKey, flow: &NatFlow) -> anyhow::Result<bool> {
        in_flows(raw::insert_new(self.nat_flow_table().fd(), *key, *flow))
    }

    fn reply(&self, key: &NatReplyKey) -> anyhow::Result<Option<NatReply>> {
        in_replies(raw::lookup(self.nat_reply_table().fd(), *key))
    }

    fn take_reply(&self, key: &NatReplyKey) -> anyhow::Result<Option<NatReply>> {
        in_replies(raw::take(self.nat_reply_table().fd(), *key))
    }

    fn put_reply(&self, key: &NatReplyKey, reply: &NatReply) -> anyhow::Result<bool> {
        in_replies(raw::insert_new(self.nat_reply_table().fd(), *key, *reply))
    }
}

fn in_flows<T>(result: io::Result<T>) -> anyhow::Result<T> {
    result.context("cannot remove from NAT_FLOWS")
}

fn in_replies<T>(result: io::Result<T>) -> anyhow::Result<T> {
    result.context("cannot remove from NAT_REPLIES")
}
