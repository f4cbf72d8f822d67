//! Orders to hand VIPs over to another node, and to take them back.

use std::{collections::BTreeSet, net::IpAddr, time::UNIX_EPOCH};

use tracing::info;
use vip_lb_common::abi::NatMarks;

use super::{Daemon, handle::Answer, now, ownership::groups, wall_clock};
use crate::{
    api::model::{
        ApiError, ErrorKind, HandoverEnd, HandoverReport, HandoverRequest, Occurrence, TakeBackRequest,
    },
    config::model::Ownership,
    control::desired::ServiceKey,
    ownership::{HandedOver, RouterReport, RouterSetup, vrrp::State},
    state::Kept,
};

impl Daemon {
    /// Hands VIPs over, and answers once the order is kept. What comes of it is in the status.
    pub(super) async fn order_hand_over(
        &mut self,
        request: &HandoverRequest,
        answer: Answer<HandoverReport>,
    ) {
        match self.hand_over(request).await {
            Ok((report, kept)) => finish(report, kept, answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Takes VIPs back, likewise. The node that has them first tells which flows it has recorded, if peers share that.
    pub(super) fn order_take_back(&mut self, request: TakeBackRequest, answer: Answer<HandoverReport>) {
        // Whoever is asked records nothing for a while.
        if let Err(error) = self.vips_to_take_back(request.vip) {
            return drop(answer.send(Err(error)));
        }
        let active = self.router_of(request.vip).and_then(|report| speaker(&report));
        match self.ask_to_prepare(active) {
            Some((peer, until)) => {
                self.sharing.taking_back.0.push(PendingTakeBack { request, answer, peer, until });
            }
            None => self.finish_take_back(&request, answer),
        }
    }

    /// Goes on with those orders whose node that has the VIPs has told all of it, or does not answer.
    pub(super) fn go_on_taking_back(&mut self, waits_no_more: impl Fn(&PendingTakeBack) -> bool) {
        for PendingTakeBack { request, answer, .. } in self.sharing.taking_back.take(waits_no_more) {
            self.finish_take_back(&request, answer);
        }
    }

    fn finish_take_back(&mut self, request: &TakeBackRequest, answer: Answer<HandoverReport>) {
        match self.take_back(request.vip) {
            Ok((report, kept)) => finish(report, Some(kept), answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    async fn hand_over(
        &mut self,
        HandoverRequest { vip, to, yes }: &HandoverRequest,
    ) -> Result<(HandoverReport, Option<Kept<()>>), ApiError> {
        let (vip, yes) = (*vip, *yes);
        let (routers, report) = self.routers_with(vip)?;
        let vips: Vec<IpAddr> = routers.iter().flat_map(|router| &router.vips).copied().collect();
        let mut answer = HandoverReport {
            translated: self.translated(&vips)?,
            vips,
            changed: false,
            handed_over: true,
            heirs: Vec::new(),
            differences: Vec::new(),
            warnings: Vec::new(),
        };
        if answer.vips.iter().all(|vip| self.orders.handed_over().contains_key(vip)) {
            return Ok((answer, None));
        }
        if report.state != State::Active {
            return Err(conflict(match speaker(&report) {
                Some(other) => format!("this node is not active for {vip}: {other} is, hand it over there"),
                None => format!("this node is not active for {vip}: there is nothing to hand over"),
            }));
        }
        if let Some(to) = to {
            answer.heirs = self.heirs(&routers, to).map_err(conflict)?;
        }
        answer.differences = self.differences_at(&answer.vips, &answer.heirs);
        if (answer.translated > 0 || !answer.differences.is_empty()) && !yes {
            answer.handed_over = false;
            return Ok((answer, None));
        }
        answer.changed = true;
        for peer in self.prepare_move().await {
            answer.warnings.push(format!(
                "{peer} does not know all flows that are recorded here: connections in open slots may break there"
            ));
        }
        let since_ms = wall_clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        info!(?answer.vips, ?to, "handing over, as the operator ordered");
        self.orders.hand_over(&answer.vips, since_ms);
        self.tell(Occurrence::HandedOver { vips: answer.vips.clone(), to: to.clone() });
        self.tell_handed_over(&answer.heirs);
        Ok((answer, Some(self.keeper.keep_orders(self.orders.clone()))))
    }

    fn take_back(&mut self, vip: IpAddr) -> Result<(HandoverReport, Kept<()>), ApiError> {
        let vips = self.vips_to_take_back(vip)?;
        info!(?vips, "taking back, as the operator ordered");
        self.end_hand_over(&vips, HandoverEnd::TakenBack);
        let answer = HandoverReport {
            vips,
            changed: true,
            handed_over: false,
            translated: 0,
            heirs: Vec::new(),
            differences: Vec::new(),
            warnings: Vec::new(),
        };
        Ok((answer, self.keeper.keep_orders(self.orders.clone())))
    }

    /// All VIPs that come back with one, or why it cannot be taken back.
    fn vips_to_take_back(&self, vip: IpAddr) -> Result<Vec<IpAddr>, ApiError> {
        let (routers, report) = self.routers_with(vip)?;
        let vips: Vec<IpAddr> = routers.iter().flat_map(|router| &router.vips).copied().collect();
        if !vips.iter().any(|vip| self.orders.handed_over().contains_key(vip)) {
            return Err(conflict(format!(
                "this node has not handed {vip} over: to have it moved, run `vip-lb handover {vip}` on the node that answers for it"
            )));
        }
        if report.state == State::Initialize {
            let why = report.hindrance.or_else(|| {
                let withdrawal = vips.iter().find_map(|vip| self.claims.get(vip)?.withdrawal());
                withdrawal.map(|why| why.to_string())
            });
            let why = why.unwrap_or_else(|| "it is not able to forward".to_owned());
            return Err(conflict(format!("this node takes no part for {vip}: {why}")));
        }
        let higher = report.speaker.filter(|other| other.priority.get() >= report.priority);
        if let Some(other) = higher.filter(|_| report.state == State::Backup) {
            return Err(conflict(format!(
                "{} is active for {vip} with priority {}, and this node's is not higher but {}: run `vip-lb handover {vip}` there",
                other.address,
                other.priority.get(),
                report.priority
            )));
        }
        Ok(vips)
    }

    /// Notes which hand-overs have ended by themselves: this node is active again.
    pub(super) fn note_hand_overs(&mut self) {
        let reports = self.vrrp.as_ref().map(crate::ownership::Task::reports).unwrap_or_default();
        let ended = |report: &RouterReport| {
            let HandedOver { since_ms, is_over } = report.handed_over?;
            let given = report.vips.iter().filter_map(|vip| self.orders.handed_over().get(vip)).max();
            (is_over && given == Some(&since_ms)).then(|| report.vips.clone())
        };
        let vips: Vec<IpAddr> = reports.iter().filter_map(ended).flatten().collect();
        if !vips.is_empty() {
            info!(?vips, "what was handed over is here again");
            self.end_hand_over(&vips, HandoverEnd::Returned);
            // Nobody waits for that; if it fails, status says so.
            drop(self.keeper.keep_orders(self.orders.clone()));
        }
    }

    fn end_hand_over(&mut self, vips: &[IpAddr], end: HandoverEnd) {
        if self.orders.take_back(vips) {
            self.tell(Occurrence::HandoverEnded { vips: vips.to_vec(), end });
        }
        self.tell_handed_over(&[]);
    }

    /// Tells the thread that speaks VRRP; whose last word only these own addresses of another node are to hear, unless there are none.
    pub(super) fn tell_handed_over(&self, heirs: &[IpAddr]) {
        if let Some(task) = &self.vrrp {
            task.hand_over(self.orders.handed_over().clone(), heirs.to_vec());
        }
    }

    /// Forgets orders about VIPs that nobody is elected for any more. Tells whether there were any.
    pub(super) fn forget_hand_overs(&mut self) -> bool {
        let elected: BTreeSet<IpAddr> =
            self.config.vips.iter().filter(|vip| vip.vrrp.is_some()).map(|vip| vip.address).collect();
        let gone: Vec<IpAddr> =
            self.orders.handed_over().keys().filter(|vip| !elected.contains(vip)).copied().collect();
        self.orders.take_back(&gone)
    }

    /// All routers that move with a VIP, and how its own is.
    fn routers_with(&self, vip: IpAddr) -> Result<(Vec<RouterSetup>, RouterReport), ApiError> {
        let Some(configured) = self.config.vips.iter().find(|of| of.address == vip) else {
            return Err(ApiError::new(ErrorKind::NotFound, format!("there is no VIP {vip}")));
        };
        if let Some(why) = not_elected(vip, configured.ownership) {
            return Err(conflict(why));
        }
        let has = |router: &RouterSetup| router.vips.contains(&vip);
        let group = groups(&self.config).into_iter().find(|group| group.routers.iter().any(has));
        let routers = group.map(|group| group.routers).unwrap_or_default();
        let report = self.router_of(vip).ok_or_else(|| {
            ApiError::new(ErrorKind::Unavailable, format!("the virtual router of {vip} is being set up"))
        })?;
        Ok((routers, report))
    }

    /// Translated connections of VIPs whose client has not said that it ends them.
    pub(super) fn translated(&self, vips: &[IpAddr]) -> Result<u64, ApiError> {
        let of_vip = |key: &ServiceKey| vips.contains(&key.vip);
        let services: BTreeSet<u16> = self
            .engine
            .services()
            .filter(|(key, _)| of_vip(key))
            .map(|(_, service)| service.reference.id)
            .collect();
        if services.is_empty() {
            return Ok(0);
        }
        let flows = self.dataplane.nat_flows().map_err(super::orders::internal)?;
        let goes_on = |marks: u16| marks & (NatMarks::FIN | NatMarks::RST) == 0;
        let count = flows.iter().filter(|(key, flow)| services.contains(&key.service) && goes_on(flow.marks));
        Ok(count.count() as u64)
    }
}

/// Orders to take VIPs back that wait.
#[derive(Default)]
pub(super) struct TakingBack(Vec<PendingTakeBack>);

impl TakingBack {
    fn take(&mut self, waits_no_more: impl Fn(&PendingTakeBack) -> bool) -> Vec<PendingTakeBack> {
        self.0.extract_if(.., |pending| waits_no_more(pending)).collect()
    }
}

/// An order to take VIPs back that waits for the node that has them.
pub(super) struct PendingTakeBack {
    request: TakeBackRequest,
    answer: Answer<HandoverReport>,
    /// Who has to tell what it has recorded.
    pub(super) peer: IpAddr,
    /// How long to wait for it.
    pub(super) until: std::time::Instant,
}

/// Answers once the disk has it, for which the daemon has no time to wait.
fn finish(mut report: HandoverReport, kept: Option<Kept<()>>, answer: Answer<HandoverReport>) {
    tokio::spawn(async move {
        if let Some(kept) = kept
            && let Err(error) = kept.wait().await
        {
            report.warnings.push(format!(
                "the order holds, but may not outlive the daemon, because it cannot be kept: {error}"
            ));
        }
        answer.send(Ok(report))
    });
}

/// Why a VIP cannot be handed over, and what does that instead; none where nodes elect one of them.
fn not_elected(vip: IpAddr, ownership: Ownership) -> Option<String> {
    match ownership {
        Ownership::Vrrp => None,
        Ownership::Always => Some(format!(
            "nobody is elected for {vip}: this node always answers for it, unless it is in maintenance"
        )),
        Ownership::Route => Some(format!(
            "nobody is elected for {vip}: routers choose among the nodes that publish a route to it. To have its packets go to the others, run \
             `vip-lb maintenance on` here: this node withdraws the routes to its VIPs, and forwards what still comes; `vip-lb maintenance \
             off` publishes them again"
        )),
    }
}

fn conflict(why: String) -> ApiError {
    ApiError::new(ErrorKind::Conflict, why)
}

/// The other node that is active, if it is not silent.
pub(super) fn speaker(report: &RouterReport) -> Option<IpAddr> {
    report.speaker.filter(|speaker| now() < speaker.until).map(|speaker| speaker.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one that was given first was forgotten, and whoever gave it was told that the daemon ended.
    #[test]
    fn an_order_to_take_back_waits_beside_another() {
        let mut taking_back = TakingBack::default();
        let vip = |last| IpAddr::from([198, 51, 100, last]);
        let peer = |last| IpAddr::from([192, 0, 2, last]);
        for (of, from) in [(10, 11), (20, 12), (30, 11)] {
            let (answer, _) = tokio::sync::oneshot::channel();
            let request = TakeBackRequest { vip: vip(of) };
            taking_back.0.push(PendingTakeBack { request, answer, peer: peer(from), until: now() });
        }
        let taken =
            |taken: Vec<PendingTakeBack>| taken.into_iter().map(|of| of.request.vip).collect::<Vec<_>>();
        assert_eq!(taken(taking_back.take(|pending| pending.peer == peer(11))), [vip(10), vip(30)]);
        assert_eq!(taken(taking_back.take(|_| true)), [vip(20)]);
    }

    #[test]
    fn what_cannot_be_handed_over_says_what_to_do_instead() {
        let vip = IpAddr::from([198, 51, 100, 10]);
        assert_eq!(not_elected(vip, Ownership::Vrrp), None);
        for ownership in [Ownership::Always, Ownership::Route] {
            let why = not_elected(vip, ownership).expect("nobody is elected");
            assert!(why.starts_with("nobody is elected for 198.51.100.10: "), "{why}");
            assert!(why.contains("maintenance"), "{why}");
        }
        let routed = not_elected(vip, Ownership::Route).expect("nobody is elected");
        assert!(routed.contains("`vip-lb maintenance on`") && !routed.contains("always answers"), "{routed}");
    }
}
