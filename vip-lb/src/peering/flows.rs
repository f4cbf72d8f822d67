//! What nodes tell each other of open slots and of the flows that are recorded in them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vip_lb_common::abi::{FlowEntry, FlowKey};

use crate::{control::desired::ServiceKey, steering::Report};

/// Records in a message at most, and slots likewise: it has to fit into a frame.
const ROWS: usize = 4000;
const SLOTS: usize = 60_000;

/// A part of what a node knows of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flows {
    /// By service.
    pub services: Vec<ServiceFlows>,
    /// Whether with this all was told that there is.
    pub whole: bool,
}

/// What a node knows of flows of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFlows {
    /// What clients dial.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// Slots of its ring.
    #[serde(default)]
    pub ring: u32,
    /// Whether flows are told apart by their clients alone, or have no visible beginning: what is recorded has another meaning then.
    #[serde(default)]
    pub hidden: bool,
    /// Whether the node has its traffic.
    #[serde(default)]
    pub serves: bool,
    /// Stands for who gets new connections, slot by slot.
    #[serde(default)]
    pub shares: u64,
    /// Slots that are open there; nothing where that is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenSlots>,
    /// Flows that are recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Row>,
    /// Flows that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<RowKey>,
}

/// Open slots of a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenSlots {
    /// Whether these are the first ones; the others follow.
    pub first: bool,
    /// Whether these are the last ones.
    pub last: bool,
    /// The identities of the backends that slots remember, each with the slots, of which all but the first one are counted from the one before.
    pub remembered: Vec<(u64, Vec<u32>)>,
}

/// A client, its port, and the port that it dialled.
pub type RowKey = (IpAddr, u16, u16);

/// A record: the flow, the identity of its backend, its slot, ticks of silence, and what it is: 0 a flow, 1 one that closes, 2 a handshake.
pub type Row = (IpAddr, u16, u16, u64, u32, u32, u8);

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A flow.
    Established = 0,
    /// Its client has said that it ends it.
    Closing = 1,
    /// A handshake that was not answered yet.
    Newborn = 2,
}

impl OpenSlots {
    /// Slots and what they remember, in parts that fit into a frame. There is one at least.
    #[must_use]
    pub fn parts(open: &[(u32, u64)]) -> Vec<Self> {
        let mut parts: Vec<Self> = open.chunks(SLOTS).map(Self::part).collect();
        if parts.is_empty() {
            parts.push(Self::default());
        }
        if let Some(first) = parts.first_mut() {
            first.first = true;
        }
        if let Some(last) = parts.last_mut() {
            last.last = true;
        }
        parts
    }

    fn part(open: &[(u32, u64)]) -> Self {
        let mut remembered = std::collections::BTreeMap::<u64, (u32, Vec<u32>)>::new();
        for &(index, identity) in open {
            let (last, gaps) = remembered.entry(identity).or_default();
            gaps.push(index - *last);
            *last = index;
        }
        let remembered = remembered.into_iter().map(|(identity, (_, gaps))| (identity, gaps)).collect();
        Self { first: false, last: false, remembered }
    }

    /// The slots, and what they remember. Those that no ring can have are left out.
    pub fn slots(&self) -> impl Iterator<Item = (u32, u64)> {
        self.remembered.iter().flat_map(|(identity, gaps)| {
            let mut index = 0_u32;
            gaps.iter().map_while(move |&gap| {
                index = index.checked_add(gap)?;
                Some((index, *identity))
            })
        })
    }
}

/// How a record is told of, whose backend has this identity.
#[must_use]
pub fn row(report: &Report, identity: u64) -> Row {
    let (source, source_port, destination_port) = row_key(&report.record.key);
    let FlowEntry { closing, slot, .. } = report.record.entry;
    let stage = match (report.newborn, closing) {
        (true, _) => Stage::Newborn,
        (false, 0) => Stage::Established,
        (false, _) => Stage::Closing,
    };
    (source, source_port, destination_port, identity, slot, report.silence, stage as u8)
}

/// The stage in a row; none that this release does not know.
#[must_use]
pub fn stage(row: &Row) -> Option<Stage> {
    [Stage::Established, Stage::Closing, Stage::Newborn].into_iter().find(|&stage| stage as u8 == row.6)
}

/// How a flow is named.
#[must_use]
pub fn row_key(key: &FlowKey) -> RowKey {
    (key.source.into(), key.source_port, key.destination_port)
}

/// The flow that is meant, of a service with this number here.
#[must_use]
pub fn flow_key(&(source, source_port, destination_port): &RowKey, service: u16) -> FlowKey {
    FlowKey { source: source.into(), source_port, destination_port, service, reserved: 0 }
}

/// Cuts what there is to tell of a service into messages that fit into a frame: slots before records.
#[must_use]
pub fn messages(of: ServiceFlows, open: Option<&[(u32, u64)]>) -> Vec<Flows> {
    let ServiceFlows { records, gone, .. } = of;
    let empty = ServiceFlows { open: None, records: Vec::new(), gone: Vec::new(), ..of };
    let open = open.map(OpenSlots::parts).unwrap_or_default();
    let slots = open.into_iter().map(|open| ServiceFlows { open: Some(open), ..empty.clone() });
    let gone = gone.chunks(ROWS).map(|gone| ServiceFlows { gone: gone.to_vec(), ..empty.clone() });
    let records =
        records.chunks(ROWS).map(|records| ServiceFlows { records: records.to_vec(), ..empty.clone() });
    slots.chain(gone).chain(records).map(|of| Flows { services: vec![of], whole: false }).collect()
}

#[cfg(test)]
mod tests {
    use vip_lb_common::abi::BackendRef;

    use super::*;
    use crate::{
        config::model::{Ports, Protocol},
        peering::{channel::LARGEST, message},
        steering::Record,
    };

    fn service() -> ServiceFlows {
        let key = ServiceKey {
            vip: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            ports: Ports::Range(10_000, 20_000),
            protocol: Protocol::Tcp,
        };
        let (records, gone) = (Vec::new(), Vec::new());
        ServiceFlows {
            key,
            ring: 131_071,
            hidden: false,
            serves: true,
            shares: u64::MAX,
            open: None,
            records,
            gone,
        }
    }

    #[test]
    fn the_largest_ring_and_many_flows_fit_into_frames_and_come_back() {
        let open: Vec<(u32, u64)> =
            (0..131_071).map(|index| (index, u64::MAX - u64::from(index % 50))).collect();
        let row: Row = (service().key.vip, 65_535, 65_535, u64::MAX, 131_070, u32::MAX, 2);
        let all =
            ServiceFlows { records: vec![row; 9000], gone: vec![(row.0, row.1, row.2); 9000], ..service() };
        let parts = messages(all, Some(&open));
        let (mut slots, mut records, mut gone) = (Vec::new(), 0, 0);
        for part in parts {
            let text = message::encode(u64::MAX, Some(&message::Message::Flows(Box::new(part.clone()))));
            assert!(text.len() <= LARGEST, "{}", text.len());
            let Ok(message::Understood::Message(_, message::Message::Flows(read))) = message::decode(&text)
            else {
                panic!("it is not understood")
            };
            assert_eq!(*read, part);
            let of = &read.services[0];
            slots.extend(of.open.iter().flat_map(OpenSlots::slots));
            records += of.records.len();
            gone += of.gone.len();
        }
        slots.sort_unstable();
        assert!(slots == open && (records, gone) == (9000, 9000));
    }

    #[test]
    fn that_no_slot_is_open_is_said() {
        let parts = messages(service(), Some(&[]));
        let open = parts[0].services[0].open.as_ref().unwrap();
        assert!(open.first && open.last && open.slots().next().is_none());
        assert_eq!(messages(service(), None), []);
    }

    #[test]
    fn slots_beyond_all_numbers_are_left_out() {
        let strange = OpenSlots { remembered: vec![(7, vec![5, u32::MAX, 1])], ..OpenSlots::default() };
        assert_eq!(strange.slots().collect::<Vec<_>>(), [(5, 7)]);
    }

    #[test]
    fn a_record_comes_back_from_its_row() {
        let key = flow_key(&("192.0.2.7".parse().unwrap(), 40_000, 443), 3);
        for (newborn, closing, expected) in
            [(false, 0, Stage::Established), (false, 1, Stage::Closing), (true, 0, Stage::Newborn)]
        {
            let entry = FlowEntry { backend: BackendRef::NONE, epoch: 1, closing, seen: 7, slot: 12 };
            let report = Report { record: Record { key, entry }, newborn, silence: 5 };
            let row = row(&report, 99);
            assert_eq!((stage(&row), row.3, row.4, row.5), (Some(expected), 99, 12, 5));
            assert_eq!(flow_key(&(row.0, row.1, row.2), 3), key);
        }
    }
}
