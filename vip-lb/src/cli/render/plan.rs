//! A plan: what changes, what moves, what is lost.

use super::{
    Style, Tone, Toned,
    quantity::{count, duration, percent, scaled},
    table::{Align, Cell, Table},
};
use crate::api::model::{ChangeAction, ConnectionFate, Loss, Outcome, Plan, ServicePlan};

/// The whole plan.
pub(in crate::cli) fn plan(plan: &Plan, style: Style) -> String {
    let mut text = String::new();
    for change in &plan.changes {
        text.push_str(&format!("{change}\n"));
    }
    for service in &plan.services {
        text.push('\n');
        text.push_str(&self::service(service, style));
    }
    if !plan.changes.is_empty() {
        text.push('\n');
    }
    text.push_str(&consequences(plan));
    let (verdict, tone) = match plan.outcome {
        Outcome::Nothing => ("nothing changes", Tone::Neutral),
        Outcome::Safe => ("safe: every connection stays", Tone::Good),
        Outcome::LosesConnections => ("loses connections", Tone::Bad),
    };
    text.push_str(&format!("{}\n", Toned(verdict, tone, style)));
    text
}

/// What a change does to connections, what is taken for granted, and the warnings.
pub(super) fn consequences(plan: &Plan) -> String {
    let lost = plan.lost.iter().map(|loss| format!("lost: {}\n", self::loss(loss)));
    let assumed = plan.assumptions.iter().map(|assumption| format!("assumed: {assumption}\n"));
    let warnings = plan.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    lost.chain(assumed).chain(warnings).collect()
}

fn service(service: &ServicePlan, style: Style) -> String {
    let mut text = match service.action {
        ChangeAction::Added => format!("service {} is new\n", service.name),
        ChangeAction::Removed => format!("service {} goes\n", service.name),
        ChangeAction::Changed => format!(
            "service {}: {} of its slots move ({} of {})\n",
            service.name,
            percent(service.moved_share),
            service.moved_slots,
            service.ring_slots
        ),
    };
    if service.remembering_slots > 0 {
        let span = duration(service.idle_timeout);
        text.push_str(&match service.recorded_estimate {
            Some(estimate) => format!(
                "  about {} new connections will be recorded at a time (an estimate: {} connections/s for {span})\n",
                count(estimate),
                scaled(service.new_connections_per_second)
            ),
            None => format!(
                "  every flow of these slots will be recorded: their beginnings are not visible, nor is their number; for {span} at least\n"
            ),
        });
    }
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("ADDRESS", Align::Left),
        ("SHARE", Align::Right),
        ("THEN", Align::Right),
        ("CONNECTIONS", Align::Left),
    ]);
    let share = |slots: u32| percent(f64::from(slots) / f64::from(service.ring_slots.max(1)));
    for backend in &service.backends {
        table.row([
            backend.name.as_str().into(),
            backend.address.map_or_else(String::new, |address| address.to_string()).into(),
            share(backend.slots_before).into(),
            share(backend.slots_after).into(),
            match backend.connections {
                ConnectionFate::None => "none".into(),
                ConnectionFate::Kept => "stay".into(),
                ConnectionFate::Lost => Cell::toned("lost", Tone::Bad),
            },
        ]);
    }
    text.push_str(&table.render("  ", style));
    text
}

fn loss(loss: &Loss) -> String {
    let Loss { of, reason, recorded, translated, new_connections_per_second } = loss;
    if of.starts_with("interface ") {
        return format!("{of}: {reason}");
    }
    format!(
        "all connections of {of}, {reason}: {recorded} recorded ones, {translated} translated ones, and settled ones, which are not counted \
         ({} connections/s began there lately)",
        scaled(*new_connections_per_second)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::model::{BackendPlan, Change, Subject},
        config::model::{Ports, Protocol},
    };

    fn sample() -> Plan {
        let backend = |name: &str, number, slots_before, slots_after, connections| BackendPlan {
            name: name.into(),
            address: Some(std::net::Ipv4Addr::new(10, 0, 0, number).into()),
            slots_before,
            slots_after,
            connections,
        };
        Plan {
            outcome: Outcome::LosesConnections,
            changes: vec![Change {
                subject: Subject::Backend,
                name: Some("web/b1".into()),
                action: ChangeAction::Changed,
                key: Some("state".into()),
                from: Some("enabled".into()),
                to: Some("disabled".into()),
                note: None,
            }],
            services: vec![ServicePlan {
                name: "web".into(),
                vip: "192.0.2.10".parse().unwrap(),
                port: Ports::One(80),
                protocol: Protocol::Tcp,
                action: ChangeAction::Changed,
                ring_slots: 1000,
                moved_slots: 510,
                moved_share: 0.51,
                remembering_slots: 10,
                new_connections_per_second: 277.0,
                recorded_estimate: Some(1662),
                idle_timeout: 600,
                backends: vec![
                    backend("b1", 11, 500, 0, ConnectionFate::Lost),
                    backend("b2", 12, 500, 500, ConnectionFate::Kept),
                    backend("b3", 13, 0, 500, ConnectionFate::None),
                ],
            }],
            lost: vec![Loss {
                of: "web/b1".into(),
                reason: "disabled in the configuration".into(),
                recorded: 12,
                translated: 0,
                new_connections_per_second: 130.2,
            }],
            assumptions: vec!["b3, 10.0.0.13, passes its check, which has no result yet".into()],
            warnings: vec!["c.yaml:3:5: doubtful".into()],
        }
    }

    #[test]
    fn a_plan_says_what_moves_and_what_is_lost() {
        let text = plan(&sample(), Style::Plain);
        assert_eq!(
            text,
            "backend web/b1: state enabled -> disabled\n\n\
             service web: 51.0% of its slots move (510 of 1000)\n  \
             about 1.7k new connections will be recorded at a time (an estimate: 277 connections/s for 10m 0s)\n  \
             BACKEND  ADDRESS    SHARE   THEN  CONNECTIONS\n  \
             b1       10.0.0.11  50.0%   0.0%  lost\n  \
             b2       10.0.0.12  50.0%  50.0%  stay\n  \
             b3       10.0.0.13   0.0%  50.0%  none\n\n\
             lost: all connections of web/b1, disabled in the configuration: 12 recorded ones, 0 translated ones, and settled ones, which are not \
             counted (130 connections/s began there lately)\n\
             assumed: b3, 10.0.0.13, passes its check, which has no result yet\n\
             warning: c.yaml:3:5: doubtful\n\
             loses connections\n"
        );
        assert!(plan(&sample(), Style::Coloured).ends_with("\x1b[31mloses connections\x1b[0m\n"));
    }

    #[test]
    fn nothing_is_one_line() {
        assert_eq!(plan(&Plan::nothing(), Style::Plain), "nothing changes\n");
    }

    #[test]
    fn services_that_come_and_go_and_hidden_beginnings_have_their_words() {
        let mut it = sample();
        it.services[0].action = ChangeAction::Added;
        assert!(plan(&it, Style::Plain).contains("\nservice web is new\n"));
        it.services[0].action = ChangeAction::Removed;
        assert!(plan(&it, Style::Plain).contains("\nservice web goes\n"));
        it.services[0].recorded_estimate = None;
        assert!(plan(&it, Style::Plain).contains("every flow of these slots will be recorded"));
        it.lost[0].of = "interface eth1".into();
        it.lost[0].reason = "gone".into();
        assert!(plan(&it, Style::Plain).contains("\nlost: interface eth1: gone\n"));
    }
}
