//! Which node is to take over: what an operator calls it, and what it is called on the links of the routers that move.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{ownership::RouterSetup, peering::statement::Statement};

/// A peer, as far as it is known.
pub(super) struct Known<'p> {
    /// Its name, once it has said so.
    pub(super) name: Option<&'p str>,
    /// Its address in `node.peers`.
    pub(super) address: IpAddr,
    /// How it says that it is; none of one that is not heard.
    pub(super) statement: Option<&'p Statement>,
}

impl Known<'_> {
    /// Its own addresses on the links of these routers, or why it would not take over, or is not known to.
    fn addresses(&self, routers: &[RouterSetup]) -> Result<BTreeSet<IpAddr>, String> {
        let name = self.name.map_or_else(|| self.address.to_string(), str::to_owned);
        let Some(statement) = self.statement else {
            return Err(format!("{name} is not heard: `vip-lb peers` says why"));
        };
        let mut addresses = BTreeSet::new();
        for router in routers {
            let vip = router.vips[0];
            let Some(stated) = statement.router_of(vip) else {
                return Err(format!("{name} takes no part in the virtual router of {vip}"));
            };
            if let Some(why) = &stated.hindrance {
                return Err(format!("{name} would not take {vip} over, as it says: {why}"));
            }
            addresses.extend(stated.address);
        }
        Ok(addresses)
    }
}

/// The own addresses, on the links of these routers, of the node that is called so: by its name, or by one of these addresses. A last word is sent to
/// them alone.
pub(super) fn heirs(routers: &[RouterSetup], to: &str, known: &[Known<'_>]) -> Result<Vec<IpAddr>, String> {
    let address: Option<IpAddr> = to.parse().ok();
    let by_name = known.iter().find(|peer| peer.name == Some(to));
    let named = by_name
        .or_else(|| known.iter().find(|peer| address.is_some_and(|address| is_at(peer, routers, address))));
    let listed: BTreeSet<IpAddr> = routers.iter().flat_map(|router| &router.peers).copied().collect();
    let Some(named) = named else {
        return unknown(to, address, &listed, known);
    };
    let addresses = named.addresses(routers)?;
    if let Some(missing) = addresses.iter().find(|address| !listed.is_empty() && !listed.contains(address)) {
        return Err(format!(
            "{missing}, from which {to} speaks, is none of the `peers` in `vrrp` of this router"
        ));
    }
    Ok(addresses.into_iter().collect())
}

/// Whether a peer speaks from an address on a link of these routers, or is known by it.
fn is_at(peer: &Known<'_>, routers: &[RouterSetup], address: IpAddr) -> bool {
    let speaks = |statement: &Statement| {
        let own = routers.iter().filter_map(|router| statement.router_of(router.vips[0])?.address);
        own.into_iter().any(|own| own == address)
    };
    peer.address == address || peer.statement.is_some_and(speaks)
}

/// A node that is no peer, or says nothing.
fn unknown(
    to: &str,
    address: Option<IpAddr>,
    listed: &BTreeSet<IpAddr>,
    known: &[Known<'_>],
) -> Result<Vec<IpAddr>, String> {
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let Some(address) = address else {
        let names = known.iter().filter_map(|peer| peer.name.map(str::to_owned)).collect();
        return Err(format!("no peer of this node is called {to}: known are {}", list(names)));
    };
    if listed.contains(&address) {
        return Ok(vec![address]);
    }
    if listed.is_empty() {
        return Err(format!(
            "{to} cannot be chosen: adverts go to all nodes at once, and the one of the highest priority takes over; a node that this one \
             speaks with (`node.peering`) can be chosen, or one of `peers` in `vrrp`"
        ));
    }
    let known = listed.iter().map(ToString::to_string).collect();
    Err(format!("{to} is none of the peers of this router: known are {}", list(known)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ownership::vrrp::{Interval, Priority, Profile, PseudoHeader, Router},
        peering::statement::RouterStatement,
    };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn router(vip: &str, peers: &[&str]) -> RouterSetup {
        RouterSetup {
            router: Router::of(51, address(vip)),
            interface: "eth0".to_owned(),
            profile: Profile {
                priority: Priority::DEFAULT,
                interval: Interval::DEFAULT,
                preempt: true,
                preempt_delay: std::time::Duration::ZERO,
                source: address(vip),
            },
            peers: peers.iter().copied().map(address).collect(),
            pseudo_header: PseudoHeader::Included,
            virtual_mac: false,
            refresh: None,
            vips: vec![address(vip)],
            addresses: std::collections::BTreeMap::new(),
        }
    }

    fn statement(routers: &[(&str, &str, Option<&str>)]) -> Statement {
        let stated = |(vip, own, hindrance): &(&str, &str, Option<&str>)| RouterStatement {
            id: 51,
            vips: vec![address(vip)],
            address: Some(address(own)),
            active: false,
            hindrance: hindrance.map(str::to_owned),
        };
        Statement { routers: routers.iter().map(stated).collect(), ..Statement::default() }
    }

    #[test]
    fn a_node_is_called_by_its_name_or_by_an_address_of_its_own() {
        const VIP: &str = "192.0.2.10";
        const VIP6: &str = "2001:db8::10";
        let able = statement(&[(VIP, "192.0.2.12", None), (VIP6, "fe80::12", None)]);
        let faulty = statement(&[(VIP, "192.0.2.13", Some("eth1 is down"))]);
        let stranger = statement(&[]);
        let known = [
            Known { name: Some("lb-2"), address: address("10.0.0.2"), statement: Some(&able) },
            Known { name: Some("lb-3"), address: address("10.0.0.3"), statement: Some(&faulty) },
            Known { name: Some("lb-4"), address: address("10.0.0.4"), statement: Some(&stranger) },
            Known { name: Some("lb-5"), address: address("10.0.0.5"), statement: None },
            Known { name: None, address: address("10.0.0.6"), statement: None },
        ];
        let (all, both) = (vec![router(VIP, &[])], vec![router(VIP, &[]), router(VIP6, &[])]);
        let listed = vec![router(VIP, &["192.0.2.12", "192.0.2.13"])];
        let elsewhere = vec![router(VIP, &["192.0.2.99"])];
        for (case, routers, to, expected) in [
            ("by name", &all, "lb-2", Ok(&["192.0.2.12"][..])),
            ("both families", &both, "lb-2", Ok(&["192.0.2.12", "fe80::12"])),
            ("by its address there", &both, "192.0.2.12", Ok(&["192.0.2.12", "fe80::12"])),
            ("by the other one", &both, "fe80::12", Ok(&["192.0.2.12", "fe80::12"])),
            ("by its address as a peer", &all, "10.0.0.2", Ok(&["192.0.2.12"])),
            ("where peers are listed", &listed, "lb-2", Ok(&["192.0.2.12"])),
            ("an address that is only listed", &elsewhere, "192.0.2.99", Ok(&["192.0.2.99"])),
            ("listed otherwise", &elsewhere, "lb-2", Err("is none of the `peers` in `vrrp` of this router")),
            (
                "not able to",
                &all,
                "lb-3",
                Err("lb-3 would not take 192.0.2.10 over, as it says: eth1 is down"),
            ),
            (
                "not able to, by address",
                &all,
                "192.0.2.13",
                Err("would not take 192.0.2.10 over, as it says: eth1 is down"),
            ),
            ("without part", &all, "lb-4", Err("lb-4 takes no part in the virtual router of 192.0.2.10")),
            ("not heard", &all, "lb-5", Err("lb-5 is not heard: `vip-lb peers` says why")),
            ("never heard", &all, "10.0.0.6", Err("10.0.0.6 is not heard")),
            (
                "unknown",
                &all,
                "lb-9",
                Err("no peer of this node is called lb-9: known are lb-2, lb-3, lb-4, lb-5"),
            ),
            ("unknown by address", &all, "192.0.2.99", Err("adverts go to all nodes at once")),
            ("not listed", &elsewhere, "192.0.2.98", Err("known are 192.0.2.99")),
        ] {
            match (heirs(routers, to, &known), expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(found, expected.iter().copied().map(address).collect::<Vec<_>>(), "{case}");
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{case}: {found}"),
                (found, _) => panic!("{case}: {found:?}"),
            }
        }
    }
}
