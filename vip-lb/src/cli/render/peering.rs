//! The other nodes of the group, as a table and in words.

use super::{
    Style, Tone, Toned,
    event::peer_name,
    quantity,
    table::{Align, Cell, Table},
};
use crate::api::model::{PeerStatus, PeeringStatus};

/// The peers, and under them what they do otherwise; `now` is in Unix seconds.
pub(in crate::cli) fn peers(peering: &PeeringStatus, now: u64, style: Style) -> String {
    let mut table = Table::new([
        ("PEER", Align::Left),
        ("ADDRESS", Align::Left),
        ("CONNECTED", Align::Right),
        ("VERSION", Align::Left),
        ("AGREES", Align::Left),
    ]);
    for peer in &peering.peers {
        let since =
            peer.since.map_or_else(|| "no".to_owned(), |since| quantity::duration(now.saturating_sub(since)));
        let (agrees, tone) = agreement(peer);
        table.row([
            peer.name.as_deref().unwrap_or("-").into(),
            peer.address.to_string().into(),
            if peer.connected { since.into() } else { Cell::toned(since, Tone::Bad) },
            peer.version.as_deref().unwrap_or("-").into(),
            Cell::toned(agrees, tone),
        ]);
    }
    let mut text = table.render("", style);
    if let Some(problem) = &peering.problem {
        text.push_str(&format!("{} {problem}\n", Toned("!", Tone::Bad, style)));
        return text;
    }
    for peer in &peering.peers {
        for line in lines(peer, now) {
            text.push_str(&format!("{} {line}\n", Toned("!", Tone::Bad, style)));
        }
    }
    let flows = peering.flows.unwrap_or_default();
    if flows.learning {
        text.push_str("this node is learning which flows its peers have recorded\n");
    }
    if flows.missed > 0 {
        text.push_str(&format!(
            "{} {} of {} flows that peers have recorded could not be taken in\n",
            Toned("!", Tone::Doubtful, style),
            flows.missed,
            flows.heard + flows.missed
        ));
    }
    text
}

fn agreement(peer: &PeerStatus) -> (&'static str, Tone) {
    match peer.agrees {
        Some(true) => ("yes", Tone::Good),
        Some(false) => ("no", Tone::Bad),
        None => ("unknown", Tone::Doubtful),
    }
}

/// What is wrong with it.
fn lines(peer: &PeerStatus, now: u64) -> Vec<String> {
    let name = peer_name(peer.address, peer.name.as_ref());
    let mut lines = Vec::new();
    match (&peer.not_told, &peer.not_heard) {
        (Some(told), Some(heard)) if told == heard => lines.push(format!("{name}: {told}")),
        (told, heard) => {
            lines.extend(told.iter().map(|why| format!("{name} does not hear this node: {why}")));
            lines.extend(heard.iter().map(|why| format!("{name} is not heard: {why}")));
        }
    }
    for mismatch in &peer.mismatches {
        let since = quantity::duration(now.saturating_sub(mismatch.since_ms / 1000));
        lines.push(format!("{name}: {}, for {since}", mismatch.what));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{PeerMismatch, SharedFlows};

    #[test]
    fn each_peer_has_its_row_and_what_is_wrong_its_line() {
        let lost = PeerStatus {
            address: "192.0.2.12".parse().unwrap(),
            name: None,
            connected: false,
            since: None,
            not_told: Some("its secret is another one".to_owned()),
            not_heard: Some("its secret is another one".to_owned()),
            version: None,
            started: None,
            agrees: None,
            mismatches: Vec::new(),
            routers: Vec::new(),
        };
        let fine = PeerStatus {
            address: "192.0.2.13".parse().unwrap(),
            name: Some("lb-3".to_owned()),
            connected: true,
            since: Some(1000),
            not_told: None,
            not_heard: None,
            version: Some("0.1.0".to_owned()),
            started: Some(900),
            agrees: Some(true),
            mismatches: Vec::new(),
            routers: Vec::new(),
        };
        let mut peering = PeeringStatus {
            secret_file: "/etc/vip-lb/peers".into(),
            port: 7112,
            share: Vec::new(),
            problem: None,
            peers: vec![lost, fine],
            flows: Some(SharedFlows::default()),
            refused: [].into(),
        };
        assert!(!peering.all_agree());
        assert_eq!(
            peers(&peering, 1061, Style::Plain),
            "PEER  ADDRESS     CONNECTED  VERSION  AGREES\n\
             -     192.0.2.12         no  -        unknown\n\
             lb-3  192.0.2.13      1m 1s  0.1.0    yes\n\
             ! 192.0.2.12: its secret is another one\n"
        );
        peering.peers.remove(0);
        assert!(peering.all_agree());
        peering.peers[0].agrees = Some(false);
        let what = "service web: idle_timeout is 5m here and 10m there".to_owned();
        peering.peers[0].mismatches = vec![PeerMismatch { what, since_ms: 1_049_000 }];
        assert!(
            peers(&peering, 1061, Style::Plain).ends_with(
                "! lb-3 (192.0.2.13): service web: idle_timeout is 5m here and 10m there, for 12s\n"
            )
        );
        peering.peers[0].not_heard = Some("it was silent for 5 s".to_owned());
        assert!(
            peers(&peering, 1061, Style::Plain)
                .contains("! lb-3 (192.0.2.13) is not heard: it was silent for 5 s\n")
        );
        peering.flows = Some(SharedFlows { told: 7, heard: 5, missed: 2, learning: true });
        assert!(peers(&peering, 1061, Style::Plain).ends_with(
            "this node is learning which flows its peers have recorded\n! 2 of 7 flows that peers have recorded could not be taken in\n"
        ));
        peering.problem = Some("cannot read the secret".to_owned());
        assert!(peers(&peering, 1061, Style::Plain).ends_with("! cannot read the secret\n"));
        assert!(!peering.all_agree());
    }
}
