//! Whether backends can be reached: what routes and drivers say, for status and the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tracing::warn;

use super::Daemon;
use crate::{
    api::model::Occurrence,
    config::model::AttachMode,
    control::desired::Facts as _,
    dataplane::XdpMode,
    network::{NextHop, XdpFeatures, xdp_features},
};

impl Daemon {
    /// What an operator should know and what passes by itself: found anew each time.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.interfaces.problems();
        problems.extend(self.api_problem.clone());
        problems.extend(self.peering_problem());
        problems.extend(self.conflicts());
        problems.extend(self.probes.problem.clone());
        let mut egress: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for (name, address) in self.backends() {
            if let Some(reason) = self.unreachable.get(&address) {
                problems.push(format!("backend {name} gets no packets: {reason}"));
            }
            if let Some(NextHop::Via(via)) = self.next_hop(address) {
                egress.entry(via.ifindex).or_default().insert(name);
            }
        }
        for (index, backends) in egress {
            if self.is_redirected_to(index)
                && let Some(features) = xdp_features(index)
            {
                let backends: Vec<&str> = backends.into_iter().collect();
                problems.extend(egress_problem(&self.interface_name(index), &backends, features));
            }
        }
        problems
    }

    /// Tells the log what is new of [`Self::problems`].
    pub(super) fn report_problems(&mut self) {
        let problems: BTreeSet<String> = self.problems().into_iter().collect();
        for problem in problems.difference(&self.reported) {
            warn!("{problem}");
            self.tell(Occurrence::Warning { text: problem.clone() });
        }
        for passed in self.reported.difference(&problems) {
            self.tell(Occurrence::WarningEnded { text: passed.clone() });
        }
        self.reported = problems;
    }

    /// Whether a program in native mode sends to the interface what came in by another one. Generic mode can send by any.
    fn is_redirected_to(&self, egress: u32) -> bool {
        let native = |attached: &super::interfaces::Attached| attached.attachment.mode == XdpMode::Native;
        self.interfaces.iter().any(|attached| native(attached) && attached.interface.index != egress)
    }

    fn backends(&self) -> BTreeSet<(&str, IpAddr)> {
        let services = self.config.vips.iter().flat_map(|vip| &vip.services);
        services
            .flat_map(|service| &service.backends)
            .map(|backend| (backend.name.as_str(), backend.address))
            .collect()
    }
}

/// What is wrong with an interface that redirected frames leave by.
fn egress_problem(interface: &str, backends: &[&str], features: XdpFeatures) -> Option<String> {
    if features.sends_redirected() {
        return None;
    }
    let backends = match backends {
        [backend] => format!("backend {backend} is"),
        _ => format!("backends {} are", backends.join(", ")),
    };
    Some(format!(
        "{backends} reached by {interface}, whose driver does not take redirected packets now, so they are dropped: add \
         {interface} to `node.interfaces` if its driver needs a program for that, or use `attach: {}` where packets come in",
        AttachMode::Generic
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_does_not_send_is_told_with_the_backends_it_concerns() {
        let basic = XdpFeatures::from_bits(1);
        let sends = XdpFeatures::from_bits(1 | 4);
        assert_eq!(egress_problem("eth1", &["b1"], sends), None);
        let one = egress_problem("eth1", &["b1"], basic).unwrap();
        assert!(one.starts_with("backend b1 is reached by eth1, whose driver"), "{one}");
        let two = egress_problem("eth1", &["b1", "b2"], basic).unwrap();
        assert!(two.starts_with("backends b1, b2 are reached by eth1"), "{two}");
        assert!(two.ends_with("use `attach: generic` where packets come in"), "{two}");
    }
}
