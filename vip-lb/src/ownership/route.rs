//! Routes that lead packets for VIPs to this node: which there should be, what to do for that, and what became of them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::SystemTime,
};

use crate::network::HostRoute;

/// As many changes of a VIP are remembered.
const REMEMBERED: usize = 10;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add this route.
    Add(HostRoute),
    /// Put it in the place of the one with the same destination, table and metric.
    Replace(HostRoute),
    /// Remove it.
    Remove(HostRoute),
}

/// What makes of the routes that are found those that are wanted, at most one for each destination. A right one is not touched, and what is
/// new comes before what is old goes, so that routers see no gap.
#[must_use]
pub fn steps(wanted: &BTreeSet<HostRoute>, found: &BTreeSet<HostRoute>) -> Vec<Step> {
    let place = |route: &HostRoute| (route.destination, route.table, route.metric);
    let mut surplus: BTreeSet<HostRoute> = found.difference(wanted).copied().collect();
    let mut steps = Vec::new();
    for route in wanted.difference(found) {
        let former = surplus.iter().find(|former| place(former) == place(route)).copied();
        steps.push(match former {
            Some(former) => {
                surplus.remove(&former);
                Step::Replace(*route)
            }
            None => Step::Add(*route),
        });
    }
    steps.extend(surplus.into_iter().map(Step::Remove));
    steps
}

/// How the route of a VIP is, after the kernel was asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, as it was before.
    Found,
    /// It was put there just now.
    Made,
    /// It is not to be there, and why, a lower-case phrase.
    Withdrawn(String),
    /// It should be there and is not, and why, a lower-case phrase.
    Hindered(String),
}

/// What there is to tell of the route of a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Whether it is there.
    pub published: bool,
    /// What keeps it away that should not, a lower-case phrase.
    pub hindrance: Option<String>,
    /// How often somebody else removed or changed it, and it was put back.
    pub restored: u64,
    /// When it came and went, the newest last.
    pub changes: Vec<RouteChange>,
    /// Whether somebody else has removed it, and it could not be put back so far.
    taken: bool,
}

/// The route of a VIP came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// When.
    pub at: SystemTime,
    /// Whether it is there since.
    pub published: bool,
    /// Why, a lower-case phrase.
    pub why: String,
}

/// Something to tell at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The route came or went.
    Changed,
    /// Somebody else had removed or changed it, and it was put back, be it that something hindered that for a while.
    Restored,
}

/// The routes of all VIPs.
#[derive(Clone, Debug, Default)]
pub struct Publications(BTreeMap<IpAddr, Publication>);

impl Publications {
    /// What there is to tell of a VIP's; nothing before it was looked at first.
    #[must_use]
    pub fn get(&self, vip: IpAddr) -> Option<&Publication> {
        self.0.get(&vip)
    }

    /// Whether a VIP's route is there.
    #[must_use]
    pub fn is_published(&self, vip: IpAddr) -> bool {
        self.get(vip).is_some_and(|publication| publication.published)
    }

    /// Forgets VIPs that have no routes any more.
    pub fn retain(&mut self, has_route: impl Fn(IpAddr) -> bool) {
        self.0.retain(|vip, _| has_route(*vip));
    }

    /// Takes note of how a VIP's route is now. `meant` says that the configuration asks for another route than before, so that nobody else has
    /// changed it.
    pub fn note(&mut self, vip: IpAddr, outcome: Outcome, meant: bool, at: SystemTime) -> Option<News> {
        let (is_first, made) = (!self.0.contains_key(&vip), outcome == Outcome::Made);
        let publication = self.0.entry(vip).or_default();
        let was_there = publication.published || publication.taken;
        publication.taken = was_there && !meant && matches!(outcome, Outcome::Hindered(_));
        let put_back = made && was_there && !meant;
        let (published, why, hindrance) = match outcome {
            Outcome::Found if is_first => {
                (true, "a daemon before has published it, and it is still right".to_owned(), None)
            }
            Outcome::Found => (true, "it is there again".to_owned(), None),
            Outcome::Made => (true, "this node is able to forward".to_owned(), None),
            Outcome::Withdrawn(why) => (false, why, None),
            Outcome::Hindered(why) => (false, why.clone(), Some(why)),
        };
        let was = std::mem::replace(&mut publication.published, published);
        publication.hindrance = hindrance;
        if is_first || was != published {
            publication.changes.push(RouteChange { at, published, why });
            let surplus = publication.changes.len().saturating_sub(REMEMBERED);
            publication.changes.drain(..surplus);
            if !put_back {
                return Some(News::Changed);
            }
        }
        publication.restored += u64::from(put_back);
        put_back.then_some(News::Restored)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn route(vip: u8, table: u32, device: u32) -> HostRoute {
        HostRoute { destination: IpAddr::from([192, 0, 2, vip]), table, metric: 1024, device }
    }

    fn after(wanted: &[HostRoute], found: &[HostRoute]) -> Vec<Step> {
        steps(&wanted.iter().copied().collect(), &found.iter().copied().collect())
    }

    #[test]
    fn what_is_right_is_not_touched_and_what_is_not_wanted_goes() {
        assert_eq!(after(&[route(1, 254, 7)], &[route(1, 254, 7)]), []);
        assert_eq!(
            after(&[route(1, 254, 7), route(2, 254, 7)], &[route(1, 254, 7), route(3, 254, 7)]),
            [Step::Add(route(2, 254, 7)), Step::Remove(route(3, 254, 7))]
        );
        assert_eq!(after(&[], &[route(1, 254, 7)]), [Step::Remove(route(1, 254, 7))]);
    }

    #[test]
    fn another_device_takes_the_place_at_once_and_another_table_before_the_former_one_goes() {
        assert_eq!(after(&[route(1, 254, 8)], &[route(1, 254, 7)]), [Step::Replace(route(1, 254, 8))]);
        assert_eq!(
            after(&[route(1, 100, 7)], &[route(1, 254, 7)]),
            [Step::Add(route(1, 100, 7)), Step::Remove(route(1, 254, 7))]
        );
        let metric = HostRoute { metric: 5, ..route(1, 254, 7) };
        assert_eq!(
            after(&[metric], &[route(1, 254, 7)]),
            [Step::Add(metric), Step::Remove(route(1, 254, 7))]
        );
    }

    #[test]
    fn every_set_becomes_every_other() {
        let all: Vec<HostRoute> = [1, 2]
            .into_iter()
            .flat_map(|vip| [254, 100].map(|table| (vip, table)))
            .flat_map(|(vip, table)| [7, 8].map(|device| route(vip, table, device)))
            .collect();
        let place = |route: &HostRoute| (route.destination, route.table, route.metric);
        // The kernel has one route for each place, and one is wanted for each destination.
        let sets = |key: fn(&HostRoute) -> (IpAddr, u32)| {
            let all = all.clone();
            (0_u32..1 << all.len()).filter_map(move |chosen| {
                let set: BTreeSet<_> =
                    (0..all.len()).filter(|index| chosen >> index & 1 == 1).map(|index| all[index]).collect();
                let keys: BTreeSet<_> = set.iter().map(key).collect();
                (keys.len() == set.len()).then_some(set)
            })
        };
        for wanted in sets(|route| (route.destination, 0)) {
            for found in sets(|route| (route.destination, route.table)) {
                let mut kernel = found.clone();
                for step in steps(&wanted, &found) {
                    match step {
                        Step::Add(route) => {
                            assert!(!kernel.iter().any(|known| place(known) == place(&route)), "{route:?}");
                            kernel.insert(route);
                        }
                        Step::Replace(route) => {
                            kernel.retain(|known| place(known) != place(&route));
                            kernel.insert(route);
                        }
                        Step::Remove(route) => assert!(kernel.remove(&route), "{route:?}"),
                    }
                    // Once there, a destination never goes out of reach on the way to where it is wanted.
                    for route in &wanted {
                        let had = found.iter().any(|known| known.destination == route.destination);
                        let has = kernel.iter().any(|known| known.destination == route.destination);
                        assert!(has || !had, "{wanted:?} from {found:?}");
                    }
                }
                assert_eq!(kernel, wanted, "from {found:?}");
            }
        }
    }

    #[test]
    fn what_becomes_of_a_route_is_told_with_reasons() {
        let vip = IpAddr::from([192, 0, 2, 1]);
        let mut all = Publications::default();
        let withdrawn = || Outcome::Withdrawn("the daemon ends".to_owned());
        let hindered = || Outcome::Hindered("the device is down".to_owned());
        for (outcome, meant, news, published) in [
            (Outcome::Found, false, Some(News::Changed), true),
            (Outcome::Found, false, None, true),
            (Outcome::Made, false, Some(News::Restored), true),
            (Outcome::Made, true, None, true),
            (hindered(), false, Some(News::Changed), false),
            (hindered(), false, None, false),
            (Outcome::Made, false, Some(News::Restored), true),
            (hindered(), true, Some(News::Changed), false),
            (Outcome::Made, false, Some(News::Changed), true),
            (withdrawn(), false, Some(News::Changed), false),
            (withdrawn(), false, None, false),
            (hindered(), false, None, false),
            (Outcome::Made, false, Some(News::Changed), true),
        ] {
            assert_eq!(all.note(vip, outcome.clone(), meant, UNIX_EPOCH), news, "{outcome:?}");
            assert_eq!(all.is_published(vip), published, "{outcome:?}");
            let hindrance = all.get(vip).unwrap().hindrance.as_deref();
            assert_eq!(hindrance, (outcome == hindered()).then_some("the device is down"));
        }
        let known = all.get(vip).unwrap();
        assert_eq!(known.restored, 2);
        let whys: Vec<_> = known.changes.iter().map(|change| change.why.as_str()).collect();
        assert_eq!(
            whys,
            [
                "a daemon before has published it, and it is still right",
                "the device is down",
                "this node is able to forward",
                "the device is down",
                "this node is able to forward",
                "the daemon ends",
                "this node is able to forward",
            ]
        );
        all.retain(|_| false);
        assert_eq!(all.get(vip), None);
    }

    #[test]
    fn changes_do_not_fill_the_memory() {
        let vip = IpAddr::from([192, 0, 2, 1]);
        let mut all = Publications::default();
        for _ in 0..REMEMBERED {
            all.note(vip, Outcome::Made, false, UNIX_EPOCH);
            all.note(vip, Outcome::Withdrawn("drained".to_owned()), false, UNIX_EPOCH);
        }
        assert_eq!(all.get(vip).unwrap().changes.len(), REMEMBERED);
    }
}
