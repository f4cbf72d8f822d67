//! Where the kernel says that it dropped packets of a lab: on its links, in its stacks.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;

use super::{Lab, StackCounters, stack};

/// Counters of the stacks for packets that were thrown away.
const OF_STACK: [&str; 6] = [
    "IpInDiscards",
    "IpOutDiscards",
    "IpInHdrErrors",
    "IpInAddrErrors",
    "IpOutNoRoutes",
    "IpInUnknownProtos",
];

/// Packets dropped so far, by place; those places alone that dropped any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    places: BTreeMap<String, i64>,
}

impl Drops {
    /// Reads what the devices and stacks of a lab's namespaces have counted.
    ///
    /// A pair of virtual Ethernet devices has a ring of 256 packets in each direction. What does not fit is dropped, and counted by the
    /// device as `rx` or `tx`. What a program dropped by its verdict is not among it.
    ///
    /// # Errors
    ///
    /// The files under `/proc` cannot be read.
    pub fn read(lab: &Lab) -> Result<Self> {
        let nodes = || [&lab.client].into_iter().chain(&lab.edges).chain(&lab.backends);
        let mut places = BTreeMap::new();
        let links = nodes().map(|node| (node.name.as_str(), &node.namespace));
        for (name, namespace) in links.chain([("switch", lab.switch.namespace())]) {
            for (device, rx, tx) in stack::device_drops(namespace)? {
                places.insert(format!("{name} {device} rx"), rx);
                places.insert(format!("{name} {device} tx"), tx);
            }
        }
        for node in nodes() {
            let counters = StackCounters::read(&node.namespace)?;
            for counter in OF_STACK {
                places.insert(format!("{} {counter}", node.name), counters.get(counter)?);
            }
        }
        places.retain(|_, packets| *packets > 0);
        Ok(Self { places })
    }

    /// What was dropped since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let grew = self.places.iter().map(|(place, now)| {
            let before = earlier.places.get(place).copied().unwrap_or_default();
            (place.clone(), now - before)
        });
        Self { places: grew.filter(|(_, more)| *more > 0).collect() }
    }
}

impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.places.is_empty() {
            return write!(f, "no link and no stack dropped any");
        }
        let places: Vec<_> =
            self.places.iter().map(|(place, packets)| format!("{packets} by {place}")).collect();
        write!(f, "dropped {}", places.join(", "))
    }
}
