//! `vip-lb handover` and `vip-lb maintenance`: VIPs move to another node, and the command stays until it has them.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    arguments::{DrainArgs, HandoverArgs, MaintenanceArgs, Switch},
    drain,
    exit::Exit,
    output,
    remote::ask,
    render,
};
use crate::api::{
    Client, ClientError,
    model::{HandoverReport, HandoverRequest, NodeReport, TakeBackRequest, VipStatus, VrrpState},
};

/// Time between two looks.
const PACE: Duration = Duration::from_millis(50);
/// Longer than any hand-over takes: at the longest interval between adverts a node waits 164 seconds for a silent one.
const LIMIT: Duration = Duration::from_secs(180);
/// Another node that is there takes over within one interval between adverts, mostly a second at most.
const OTHERS: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    /// What the daemon answered.
    #[serde(flatten)]
    pub(super) report: HandoverReport,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// The other node that answers for the VIP, by its own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) active: Option<IpAddr>,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Nothing was done: connections may be lost.
    Refused,
    /// Another node answers.
    Moved,
    /// Another node answers, and not the one that was wanted.
    Elsewhere,
    /// No other node took over: this one answers as before.
    Kept,
    /// This node answers again.
    Back,
    /// Nobody is seen to answer.
    Unknown,
}

pub(super) fn hand_over(client: &Client, args: &HandoverArgs) -> anyhow::Result<Exit> {
    let report = if args.back {
        ask(client.take_back(&TakeBackRequest { vip: args.vip }))?
    } else {
        let request = HandoverRequest { vip: args.vip, to: args.to.clone(), yes: args.yes };
        ask(client.hand_over(&request))?
    };
    let (outcome, active) = if args.back {
        (wait(client, &report, came_back)?, None)
    } else if report.handed_over {
        let moved = wait(client, &report, moved)?;
        let heirs = &report.heirs;
        let heir =
            |found: &Found| heirs.is_empty() || found.active.iter().any(|active| heirs.contains(active));
        match moved {
            Some(found) if !found.active.is_empty() && heir(&found) => {
                (Some(Outcome::Moved), found.active.first().copied())
            }
            Some(found) if !found.active.is_empty() => {
                (Some(Outcome::Elsewhere), found.active.first().copied())
            }
            Some(_) => (Some(Outcome::Kept), None),
            None => (None, None),
        }
    } else {
        (Some(Outcome::Refused), None)
    };
    let moved = Moved { report, outcome: outcome.unwrap_or(Outcome::Unknown), active };
    if args.json {
        output::print_json(&moved)?;
    } else {
        output::print(&render::moved(&moved, args.vip, args.to.as_deref()))?;
    }
    Ok(match moved.outcome {
        Outcome::Moved | Outcome::Back => Exit::Success,
        Outcome::Refused => Exit::LossyChange,
        Outcome::Elsewhere | Outcome::Kept | Outcome::Unknown => Exit::NotTaken,
    })
}

/// Where VIPs are.
struct Found {
    /// The other nodes that answer for them; none if this one does.
    active: Vec<IpAddr>,
}

/// Whether all VIPs are with another node, or with this one again; nothing while it is undecided.
fn moved(vips: &[VipStatus]) -> anyhow::Result<Option<Found>> {
    let routers = || vips.iter().filter_map(|vip| vip.vrrp.as_ref());
    if routers().any(|router| router.handed_over.is_none()) {
        if routers().all(|router| router.state == VrrpState::Active) {
            return Ok(Some(Found { active: Vec::new() }));
        }
        anyhow::bail!("somebody has withdrawn the order");
    }
    let active: Vec<IpAddr> =
        routers().filter_map(|router| router.active).map(|active| active.address).collect();
    Ok((active.len() == vips.len()).then_some(Found { active }))
}

fn came_back(vips: &[VipStatus]) -> anyhow::Result<Option<Outcome>> {
    if vips.iter().filter_map(|vip| vip.vrrp.as_ref()).any(|router| router.handed_over.is_some()) {
        anyhow::bail!("somebody has handed it over again");
    }
    Ok(vips.iter().all(|vip| vip.answering).then_some(Outcome::Back))
}

/// Looks at the VIPs until something is decided, or it is too late for that.
#[expect(clippy::disallowed_methods, reason = "an operator waits by the clock")]
fn wait<T>(
    client: &Client,
    report: &HandoverReport,
    decide: impl Fn(&[VipStatus]) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let begun = Instant::now();
    loop {
        let answer = ask(client.status());
        let is_late = begun.elapsed() > LIMIT;
        match answer {
            Ok(status) => {
                let vips: Vec<_> =
                    status.vips.into_iter().filter(|vip| report.vips.contains(&vip.address)).collect();
                if let Some(decided) = decide(&vips)? {
                    return Ok(Some(decided));
                }
            }
            // The order outlives the daemon, so it is worth waiting for it.
            Err(
                ClientError::NotRunning { .. } | ClientError::BrokenOff { .. } | ClientError::Silent { .. },
            ) if !is_late => {}
            Err(error) => return Err(error.into()),
        }
        if is_late {
            return Ok(None);
        }
        std::thread::sleep(PACE);
    }
}

pub(super) fn maintenance(client: &Client, args: &MaintenanceArgs) -> anyhow::Result<Exit> {
    let node = DrainArgs {
        backend: None,
        node: true,
        wait: args.wait,
        deadline: args.deadline,
        force: false,
        json: args.json,
    };
    if args.switch == Switch::Off {
        drain::show(&ask(client.drain_node(false))?, args.json)?;
        return Ok(Exit::Success);
    }
    if !args.yes {
        let before = ask(client.node_remaining())?;
        if before.translated > 0 && !before.admin.is_drained() {
            let count = before.translated;
            output::remark(&format!(
                "nothing was done: {count} translated connections of mode nat live on this node, and end when their VIPs leave it: --yes \
                 accepts that\n"
            ));
            return Ok(Exit::LossyChange);
        }
    }
    let ordered = ask(client.drain_node(true))?;
    let mut report = taken(client, ordered.clone())?;
    (report.changed, report.warnings) = (ordered.changed, ordered.warnings);
    let is_taken = report.is_taken();
    let exit = drain::finish_node(client, report, &node)?;
    Ok(if exit == Exit::Success && !is_taken { Exit::NotTaken } else { exit })
}

/// Gives other nodes the time to take over.
#[expect(clippy::disallowed_methods, reason = "an operator waits by the clock")]
fn taken(client: &Client, mut report: NodeReport) -> anyhow::Result<NodeReport> {
    let begun = Instant::now();
    while !report.is_taken() && begun.elapsed() < OTHERS {
        std::thread::sleep(PACE);
        report = ask(client.node_remaining())?;
    }
    Ok(report)
}
