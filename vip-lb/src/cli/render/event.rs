//! An event as a line.

use std::{fmt, net::IpAddr, time::Duration};

use super::{Style, Tone, Toned, status::floor_in_words};
use crate::{
    api::model::{
        AttachedMode, Event, Evidence, FloorState, ForwardingState, HandoverEnd, HealthState, Occurrence,
    },
    health::passive::Question,
};

/// One line: the time of day in UTC, and what happened; lines of details follow, indented.
pub(in crate::cli) fn event(event: &Event, style: Style) -> String {
    let (text, tone, details) = words(&event.what);
    let mut lines = format!("{} {}\n", Moment(event.time_ms), Toned(&text, tone, style));
    for detail in details {
        lines.push_str(&format!("  {detail}\n"));
    }
    lines
}

/// At which other node.
fn at(node: Option<&String>) -> String {
    node.map_or_else(String::new, |node| format!(" at {node}"))
}

/// A peer as it is known to people.
pub(super) fn peer_name(address: IpAddr, name: Option<&String>) -> String {
    name.map_or_else(|| address.to_string(), |name| format!("{name} ({address})"))
}

fn words(what: &Occurrence) -> (String, Tone, &[String]) {
    let (text, tone) = match what {
        Occurrence::DaemonReady { version, pid } => {
            (format!("vip-lb {version}, pid {pid}, is ready"), Tone::Good)
        }
        Occurrence::DaemonStopping { pid } => (format!("the daemon, pid {pid}, stops"), Tone::Doubtful),
        Occurrence::Ownership { vip, answering, why } => {
            let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let (text, tone) =
                if *answering { ("answers", Tone::Good) } else { ("no longer answers", Tone::Bad) };
            (format!("VIP {vip}: this node {text} for it{why}"), tone)
        }
        Occurrence::SecondOwner { vip, owner } => {
            (format!("VIP {vip}: it is also held by {owner}"), Tone::Bad)
        }
        Occurrence::SecondOwnerGone { vip, owner, why } => {
            (format!("VIP {vip}: no longer held by {owner}: {why}"), Tone::Neutral)
        }
        Occurrence::PeerConnected { peer, name } => (
            format!("peer {}: it and this node hear each other", peer_name(*peer, name.as_ref())),
            Tone::Good,
        ),
        Occurrence::PeerLost { peer, name, why } => {
            (format!("peer {}: lost: {why}", peer_name(*peer, name.as_ref())), Tone::Bad)
        }
        Occurrence::PeerMismatch { peer, name, what } => {
            (format!("peer {}: {what}", peer_name(*peer, name.as_ref())), Tone::Bad)
        }
        Occurrence::PeerAgrees { peer, name } => {
            (format!("peer {}: it does the same as this node", peer_name(*peer, name.as_ref())), Tone::Good)
        }
        Occurrence::RouteRestored { vip } => (
            format!("VIP {vip}: somebody else removed or changed its route, which is back now"),
            Tone::Doubtful,
        ),
        Occurrence::HealthChanged { service, backend, from, to, reason, lasted_ms, evidence } => {
            let mut change = changed(from.map(health), Some(health(*to)), reason.as_deref());
            change.push_str(&after(*lasted_ms));
            if let Some(evidence) = evidence {
                change.push_str(&found(evidence));
            }
            let tone = match to {
                HealthState::Up | HealthState::Unchecked => Tone::Good,
                HealthState::Down => Tone::Bad,
                HealthState::Unknown => Tone::Doubtful,
            };
            (format!("{service}/{backend}: health {change}"), tone)
        }
        Occurrence::ForwardingChanged { service, backend, from, to, reason, lasted_ms } => {
            let mut change = changed(from.map(forwarding), to.map(forwarding), reason.as_deref());
            change.push_str(&after(*lasted_ms));
            let tone = match to {
                Some(ForwardingState::InRing) => Tone::Good,
                Some(ForwardingState::Draining) | None => Tone::Doubtful,
                Some(ForwardingState::Out) => Tone::Bad,
            };
            (format!("{service}/{backend}: {change}"), tone)
        }
        Occurrence::FloorChanged { service, floor } => {
            let tone = match floor.state {
                FloorState::Met if floor.held == 0 => Tone::Neutral,
                _ => Tone::Bad,
            };
            (format!("{service}: {}", floor_in_words(floor)), tone)
        }
        Occurrence::Suspected {
            service,
            backend,
            question,
            unanswered,
            again,
            networks,
            for_ms,
            others,
            others_answered,
            probed,
        } => {
            let asked = match question {
                Question::Handshake => "SYNs",
                Question::Data => "requests",
            };
            let again = if *again == 0 { String::new() } else { format!(", {again} of them asked again") };
            let then = if *probed { "it is probed" } else { "only told" };
            let text = format!(
                "{service}/{backend}: answers none of {unanswered} {asked} in {for_ms}ms from {networks} client networks{again}, \
                 others {others_answered} of {others}; {then}"
            );
            (text, Tone::Doubtful)
        }
        Occurrence::Drain { service, backend, force, by } => {
            let does = if *force { "cuts" } else { "drains" };
            (format!("{service}/{backend}: an operator{} {does} it", at(by.as_ref())), Tone::Neutral)
        }
        Occurrence::Undrain { service, backend, by } => (
            format!("{service}/{backend}: an operator{} no longer drains it", at(by.as_ref())),
            Tone::Neutral,
        ),
        Occurrence::HostDrain { host, force, by } => {
            let does = if *force { "cuts" } else { "drains" };
            (format!("host {host}: an operator{} {does} all that is there", at(by.as_ref())), Tone::Neutral)
        }
        Occurrence::HostUndrain { host, by } => {
            (format!("host {host}: an operator{} no longer drains it", at(by.as_ref())), Tone::Neutral)
        }
        Occurrence::NodeDrain => ("this node: an operator drains it".to_owned(), Tone::Neutral),
        Occurrence::NodeUndrain => ("this node: an operator no longer drains it".to_owned(), Tone::Neutral),
        Occurrence::TrackerChanged { vips, tracker, failing: true, reason, priority, fault: _ } => {
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            let effect = priority.map_or_else(
                || "this node takes no part".to_owned(),
                |priority| format!("priority {priority}"),
            );
            (format!("VIP {}: {tracker} fails{reason}: {effect}", listed(vips)), Tone::Bad)
        }
        Occurrence::TrackerChanged { vips, tracker, .. } => {
            (format!("VIP {}: {tracker} is well again", listed(vips)), Tone::Good)
        }
        Occurrence::HandedOver { vips, to } => {
            let to = to.as_deref().unwrap_or("another node");
            (format!("VIP {}: an operator hands over to {to}", listed(vips)), Tone::Neutral)
        }
        Occurrence::HandoverEnded { vips, end } => {
            let end = match end {
                HandoverEnd::TakenBack => "an operator takes it back",
                HandoverEnd::Returned => "it is here again, and not handed over any more",
            };
            (format!("VIP {}: {end}", listed(vips)), Tone::Neutral)
        }
        Occurrence::ConfigReloaded { hash, changes, .. } if changes.is_empty() => {
            (format!("configuration reloaded, hash {hash}, nothing changed"), Tone::Neutral)
        }
        Occurrence::ConfigReloaded { hash, changes, .. } => {
            return (format!("configuration reloaded, hash {hash}"), Tone::Good, changes);
        }
        Occurrence::ReloadRefused { error, details } => {
            return (format!("reload refused: {error}"), Tone::Bad, details);
        }
        Occurrence::InterfaceAttached { interface, mode } => {
            let mode = match mode {
                AttachedMode::Native => "native",
                AttachedMode::Generic => "generic",
            };
            (format!("{interface}: attached in {mode} mode"), Tone::Neutral)
        }
        Occurrence::InterfaceDetached { interface } => (format!("{interface}: detached"), Tone::Doubtful),
        Occurrence::Warning { text } => (format!("warning: {text}"), Tone::Doubtful),
        Occurrence::WarningEnded { text } => (format!("no longer: {text}"), Tone::Good),
        Occurrence::Lost { events } => {
            (format!("{events} events are not shown: too many at once"), Tone::Bad)
        }
    };
    (text, tone, &[])
}

/// `up -> down (connection refused)`, or where it began or ended.
fn changed(from: Option<&str>, to: Option<&str>, reason: Option<&str>) -> String {
    let change = match (from, to) {
        (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
        (_, Some(to)) => to.to_owned(),
        (Some(from), None) => format!("{from} -> removed"),
        (None, None) => "removed".to_owned(),
    };
    match reason {
        Some(reason) => format!("{change} ({reason})"),
        None => change,
    }
}

/// For how long it was as before.
fn after(lasted_ms: Option<u64>) -> String {
    let Some(lasted) = lasted_ms.map(Duration::from_millis) else { return String::new() };
    // Nobody wants milliseconds of an hour.
    let rounded = if lasted.as_secs() < 10 { lasted } else { Duration::from_secs(lasted.as_secs()) };
    format!(" after {rounded:?}")
}

/// What a verdict rests on.
fn found(Evidence { check, successes, failures, .. }: &Evidence) -> String {
    match (successes, failures) {
        (0, 0) => format!(", {check}"),
        (0, failures) => format!(", {failures} bad in a row of {check}"),
        (successes, _) => format!(", {successes} good in a row of {check}"),
    }
}

fn health(state: HealthState) -> &'static str {
    match state {
        HealthState::Up => "up",
        HealthState::Down => "down",
        HealthState::Unknown => "unknown",
        HealthState::Unchecked => "unchecked",
    }
}

fn forwarding(state: ForwardingState) -> &'static str {
    match state {
        ForwardingState::InRing => "in ring",
        ForwardingState::Draining => "draining",
        ForwardingState::Out => "out",
    }
}

/// Unix milliseconds as RFC 3339 in UTC: `2027-01-15T08:00:00.250Z`.
pub(super) struct Moment(pub(super) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = date(days);
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, millisecond) = (of_day / 1000 % 60, of_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Counted in years that begin in
/// March, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    const FROM_0000_03_01_TO_1970: u64 = 719_468;
    let days = days + FROM_0000_03_01_TO_1970;
    let (era, of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months have 153 days, beginning in March as well as in August.
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn listed(vips: &[IpAddr]) -> String {
    vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_in_rfc_3339() {
        for (time_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_704_067_199_000, "2023-12-31T23:59:59.000Z"),
            (1_800_000_000_250, "2027-01-15T08:00:00.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Moment(time_ms).to_string(), expected);
        }
    }

    #[test]
    fn events_are_lines_with_their_details_below() {
        let line = |what| {
            let event = Event { id: 7, time_ms: 1_800_000_000_250, what };
            super::event(&event, Style::Plain).replace("2027-01-15T08:00:00.250Z ", "")
        };
        let (service, backend) = ("web".to_owned(), "b1".to_owned());
        assert_eq!(
            line(Occurrence::HealthChanged {
                service: service.clone(),
                backend: backend.clone(),
                from: Some(HealthState::Up),
                to: HealthState::Down,
                reason: Some("connection refused".into()),
                lasted_ms: Some(192_250),
                evidence: Some(Evidence {
                    check: "tcp 192.0.2.7:80".into(),
                    successes: 0,
                    failures: 3,
                    last_latency_us: Some(740),
                }),
            }),
            "web/b1: health up -> down (connection refused) after 192s, 3 bad in a row of tcp 192.0.2.7:80\n"
        );
        assert_eq!(
            line(Occurrence::ForwardingChanged {
                service,
                backend,
                from: Some(ForwardingState::InRing),
                to: None,
                reason: None,
                lasted_ms: Some(2500),
            }),
            "web/b1: in ring -> removed after 2.5s\n"
        );
        assert_eq!(
            line(Occurrence::ReloadRefused {
                error: "cannot reload a.yaml".into(),
                details: vec!["line 3: one".into(), "line 9: two".into()],
            }),
            "reload refused: cannot reload a.yaml\n  line 3: one\n  line 9: two\n"
        );
        let tracked = |failing, priority| Occurrence::TrackerChanged {
            vips: vec!["192.0.2.10".parse().unwrap(), "192.0.2.11".parse().unwrap()],
            tracker: "interface eth1".into(),
            failing,
            reason: failing.then(|| "it is down".into()),
            priority,
            fault: priority.is_none(),
        };
        let of = "VIP 192.0.2.10, 192.0.2.11: interface eth1";
        assert_eq!(line(tracked(true, Some(-50))), format!("{of} fails (it is down): priority -50\n"));
        assert_eq!(line(tracked(true, None)), format!("{of} fails (it is down): this node takes no part\n"));
        assert_eq!(line(tracked(false, None)), format!("{of} is well again\n"));
        assert_eq!(line(Occurrence::Lost { events: 12 }), "12 events are not shown: too many at once\n");
    }
}
