//! What orders changed.

use super::{
    Style,
    quantity::{count, duration},
    status::given_at,
    table::{Align, Table},
};
use crate::api::model::{
    BackendChange, DrainReport, HostChange, NodeReport, OrderKind, Outcome, ReloadReport, Revisions,
};

/// One line for a host, one per backend, one for what it still has, then the warnings.
pub(in crate::cli) fn drain(report: &DrainReport, now: u64) -> String {
    let mut text: String = report.host.iter().map(|change| host(change, now)).collect();
    text.extend(report.backends.iter().map(|change| backend(change, now)));
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

fn host(change: &HostChange, now: u64) -> String {
    let unchanged = if change.changed { "" } else { " (unchanged)" };
    let order = match &change.order {
        None => "in service".to_owned(),
        Some(order) => {
            let does = match order.order {
                OrderKind::Drain => "drained",
                OrderKind::Cut => "cut",
            };
            format!(
                "{does} with all that is there or will be, ordered {} ago{}",
                duration(now.saturating_sub(order.since)),
                given_at(order)
            )
        }
    };
    format!("host {}: {order}{unchanged}\n", change.address)
}

fn backend(change: &BackendChange, now: u64) -> String {
    let since = change.order.as_ref().map_or_else(String::new, |order| {
        format!(", ordered {} ago{}", duration(now.saturating_sub(order.since)), given_at(order))
    });
    let unchanged = if change.changed { "" } else { " (unchanged)" };
    let mut text = format!("{}/{}: {}{since}{unchanged}\n", change.service, change.backend, change.now);
    let left = &change.remaining;
    if left.drained || left.current_slots > 0 {
        return text;
    }
    let mut parts = vec![format!("{} open slots", left.open_slots)];
    parts.push(format!("{} recorded connections", left.recorded));
    if left.translated > 0 {
        parts.push(format!("{} translated ones", left.translated));
    }
    parts.push(format!("about {} older ones (an estimate)", left.settled_estimate));
    text.push_str(&format!("  still named by {}", parts.join(", ")));
    if let Some(seconds) = left.seconds_left {
        text.push_str(&format!("; drained in {} at the earliest", duration(seconds.into())));
    }
    text.push('\n');
    text
}

/// The node, then what still comes, then the warnings.
pub(in crate::cli) fn node(report: &NodeReport, now: u64) -> String {
    let unchanged = if report.changed { "" } else { " (unchanged)" };
    let mut text = match super::status::node_drain(&report.admin, now) {
        None => format!("{}: this node is in service{unchanged}\n", report.node),
        Some(drained) if report.quiet => {
            format!("{}: {drained}; nothing comes any more{unchanged}\n", report.node)
        }
        Some(drained) => format!("{}: {drained}{unchanged}\n", report.node),
    };
    for of in &report.vips {
        match of.active {
            Some(node) => text.push_str(&format!("  {}: {node} answers\n", of.vip)),
            None => text.push_str(&format!("  {}: no other node is heard to answer\n", of.vip)),
        }
    }
    if report.admin.is_drained() && !report.quiet {
        for of in report.services.iter().filter(|of| of.seconds_left() > 0) {
            text.push_str(&format!(
                "  {}, {}: {} packets/s, quiet for {} of {}\n",
                of.service,
                of.vip,
                super::quantity::scaled(of.packets_per_second),
                duration(of.quiet_for),
                duration(of.idle_timeout),
            ));
        }
        if let Some(seconds) = report.seconds_left {
            text.push_str(&format!("  over in {} at the earliest\n", duration(seconds)));
        }
    }
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// One line per change, then the warnings.
pub(in crate::cli) fn reload(report: &ReloadReport) -> String {
    let plan = &report.plan;
    let mut text = String::new();
    if plan.outcome == Outcome::Nothing {
        text.push_str("reloaded, nothing changed\n");
    } else {
        text.push_str("reloaded\n");
    }
    for change in &plan.changes {
        text.push_str(&format!("  {change}\n"));
    }
    text.push_str(&super::plan::consequences(plan));
    text
}

/// The configurations that are kept.
pub(in crate::cli) fn revisions(revisions: &Revisions, now: u64) -> String {
    if revisions.revisions.is_empty() {
        return format!("no configuration is kept in {}\n", revisions.folder.display());
    }
    let mut table = Table::new([
        ("REVISION", Align::Right),
        ("CAME IN FORCE", Align::Left),
        ("HASH", Align::Left),
        ("BYTES", Align::Right),
        ("", Align::Left),
    ]);
    for revision in revisions.revisions.iter().rev() {
        table.row([
            revision.number.to_string().into(),
            format!("{} ago", duration(now.saturating_sub(revision.since))).into(),
            revision.hash.as_str().into(),
            count(revision.bytes).into(),
            if revision.in_force { "in force" } else { "" }.into(),
        ]);
    }
    table.render("", Style::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::model::{
            Change, ChangeAction, NodeAdmin, OperatorOrder, OrderKind, Plan, Remaining, RevisionInfo,
            ServiceQuiet, Subject, VipElsewhere,
        },
        config::model::NodeState,
    };

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn draining_names_each_backend_and_what_it_has() {
        let order = Some(OperatorOrder { order: OrderKind::Drain, since: NOW - 65, host: false, by: None });
        let change = |service: &str, changed, now: &str, remaining| BackendChange {
            service: service.into(),
            backend: "b1".into(),
            changed,
            now: now.into(),
            order: order.clone(),
            remaining,
        };
        let left = Remaining {
            open_slots: 41,
            recorded: 3,
            settled_estimate: 12,
            seconds_left: Some(535),
            ..Remaining::default()
        };
        let translated = Remaining { translated: 7, seconds_left: None, ..left };
        let drained = Remaining { drained: true, ..Remaining::default() };
        let draining = "draining (drained by the operator)";
        let report = DrainReport {
            host: None,
            backends: vec![
                change("web", true, draining, left),
                change("mail", false, draining, translated),
                change("old", false, "drained (drained by the operator)", drained),
                BackendChange {
                    order: None,
                    ..change("new", true, "in ring", Remaining { current_slots: 9, ..drained })
                },
            ],
            warnings: vec!["the order may not outlive the daemon".into()],
        };
        assert_eq!(
            drain(&report, NOW),
            "web/b1: draining (drained by the operator), ordered 1m 5s ago\n  \
             still named by 41 open slots, 3 recorded connections, about 12 older ones (an estimate); drained in 8m 55s at the earliest\n\
             mail/b1: draining (drained by the operator), ordered 1m 5s ago (unchanged)\n  \
             still named by 41 open slots, 3 recorded connections, 7 translated ones, about 12 older ones (an estimate)\n\
             old/b1: drained (drained by the operator), ordered 1m 5s ago (unchanged)\n\
             new/b1: in ring\n\
             warning: the order may not outlive the daemon\n"
        );
    }

    #[test]
    fn a_host_comes_before_what_is_there() {
        let order = Some(OperatorOrder {
            order: OrderKind::Drain,
            since: NOW - 65,
            host: true,
            by: Some("lb-2".into()),
        });
        let host = HostChange { address: "10.0.0.11".parse().unwrap(), changed: true, order };
        let report = |host| DrainReport { host: Some(host), backends: Vec::new(), warnings: Vec::new() };
        assert_eq!(
            drain(&report(host.clone()), NOW),
            "host 10.0.0.11: drained with all that is there or will be, ordered 1m 5s ago at lb-2\n"
        );
        let back = HostChange { changed: false, order: None, ..host };
        assert_eq!(drain(&report(back), NOW), "host 10.0.0.11: in service (unchanged)\n");
    }

    #[test]
    fn a_node_is_told_with_what_still_comes() {
        let of = |service: &str, packets_per_second, quiet_for| ServiceQuiet {
            service: service.into(),
            vip: "192.0.2.10".parse().unwrap(),
            packets_per_second,
            quiet_for,
            idle_timeout: 600,
        };
        let report = NodeReport {
            node: "edge-1".into(),
            changed: true,
            admin: NodeAdmin { admin: NodeState::Enabled, ordered_since: Some(NOW - 65) },
            quiet: false,
            seconds_left: Some(600),
            vips: Vec::new(),
            translated: 0,
            services: vec![of("web", 5.5, 0), of("mail", 0.0, 65), of("old", 0.0, 600)],
            warnings: vec!["no other node is configured".into()],
        };
        let drained = "edge-1: this node is drained by the operator 1m 5s ago: it gives up its VIPs, and forwards what comes";
        assert_eq!(
            node(&report, NOW),
            format!(
                "{drained}\n  web, 192.0.2.10: 5.5 packets/s, quiet for 0s of 10m 0s\n  mail, 192.0.2.10: 0 packets/s, quiet for 1m 5s of 10m \
                 0s\n  over in 10m 0s at the earliest\nwarning: no other node is configured\n"
            )
        );
        let elsewhere = |active: Option<&str>| VipElsewhere {
            vip: "192.0.2.10".parse().unwrap(),
            active: active.map(|active| active.parse().unwrap()),
        };
        let vips = vec![elsewhere(Some("192.0.2.2")), elsewhere(None)];
        let text = node(&NodeReport { vips, ..report.clone() }, NOW);
        let lines = "  192.0.2.10: 192.0.2.2 answers\n  192.0.2.10: no other node is heard to answer\n";
        assert!(text.starts_with(&format!("{drained}\n{lines}")), "{text}");
        let quiet = NodeReport {
            changed: false,
            quiet: true,
            seconds_left: Some(0),
            warnings: Vec::new(),
            ..report.clone()
        };
        assert_eq!(node(&quiet, NOW), format!("{drained}; nothing comes any more (unchanged)\n"));
        let admin = NodeAdmin { admin: NodeState::Enabled, ordered_since: None };
        let back = NodeReport { admin, quiet: false, seconds_left: None, warnings: Vec::new(), ..report };
        assert_eq!(node(&back, NOW), "edge-1: this node is in service\n");
    }

    #[test]
    fn reloading_lists_changes_and_warnings() {
        let change = Change {
            subject: Subject::Backend,
            name: Some("web/b4".into()),
            action: ChangeAction::Added,
            key: None,
            from: None,
            to: None,
            note: None,
        };
        let plan = Plan {
            outcome: Outcome::Safe,
            changes: vec![change],
            warnings: vec!["vip-lb.yaml:3:5: doubtful".into()],
            ..Plan::nothing()
        };
        let report = ReloadReport { plan, revision: Some(3) };
        assert_eq!(
            reload(&report),
            "reloaded\n  backend web/b4: added\nwarning: vip-lb.yaml:3:5: doubtful\n"
        );
        let report = ReloadReport { plan: Plan::nothing(), revision: None };
        assert_eq!(reload(&report), "reloaded, nothing changed\n");
    }

    #[test]
    fn revisions_are_listed_from_the_newest() {
        let revision = |number, age, in_force| RevisionInfo {
            number,
            since: NOW - age,
            hash: "3f9a12bc00000000".into(),
            bytes: 812,
            in_force,
        };
        let mut kept = Revisions {
            revisions: vec![revision(9, 7300, false), revision(10, 5, true)],
            folder: "/var/lib/vip-lb".into(),
        };
        assert_eq!(
            revisions(&kept, NOW),
            "REVISION  CAME IN FORCE  HASH              BYTES\n      \
             10  5s ago         3f9a12bc00000000    812  in force\n       \
             9  2h 1m ago      3f9a12bc00000000    812\n"
        );
        kept.revisions.clear();
        assert_eq!(revisions(&kept, NOW), "no configuration is kept in /var/lib/vip-lb\n");
    }
}
